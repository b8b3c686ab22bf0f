//! A load that keeps files open, tries nothing twice, and tells every error and the longest wait.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use crate::session_support::node::{Node, eventually, in_time};

/// Set for the process of the load: the directory that it works in, and the one for its reports.
pub const DIRECTORY: &str = "MOUNTPOD_TEST_JUICEFS_LOAD";
pub const REPORTS: &str = "MOUNTPOD_TEST_JUICEFS_REPORTS";

/// What a load has seen.
#[derive(Debug, Default, serde::Serialize, serde::Deserialize)]
pub struct Report {
    pub rounds: u64,
    pub operations: u64,
    pub longest_ms: u64,
    /// `operation errno`, and how often.
    pub errors: BTreeMap<String, u64>,
    pub mismatches: u64,
}

struct Work {
    directory: PathBuf,
    report: Report,
}

impl Work {
    /// One operation: timed, and its error counted.
    fn op<T>(&mut self, what: &str, work: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let start = Instant::now();
        let result = work();
        let took = u64::try_from(start.elapsed().as_millis()).unwrap();
        self.report.longest_ms = self.report.longest_ms.max(took);
        self.report.operations += 1;
        result
            .inspect_err(|error| {
                let key = format!("{what} {}", error.raw_os_error().unwrap_or(0));
                *self.report.errors.entry(key).or_default() += 1;
            })
            .ok()
    }

    fn open_held(&mut self) -> Option<File> {
        let path = self.directory.join("held");
        self.op("open", || OpenOptions::new().read(true).append(true).create(true).open(path))
    }

    /// Writes a file, makes it durable, and reads it back by another name.
    fn write_and_read(&mut self, round: u64) {
        let (new, name) = (self.directory.join("new"), self.directory.join(format!("file-{}", round % 8)));
        let text = format!("{round:>4096}");
        let Some(mut file) = self.op("create", || File::create(&new)) else { return };
        let written = self.op("write", || file.write_all(text.as_bytes()));
        let synced = self.op("fsync", || file.sync_all());
        drop(file);
        if written.is_none() || synced.is_none() || self.op("rename", || fs::rename(&new, &name)).is_none() {
            return;
        }
        if let Some(read) = self.op("read", || fs::read_to_string(&name)) {
            self.report.mismatches += u64::from(read != text);
        }
        if round.is_multiple_of(3) {
            self.op("unlink", || fs::remove_file(&name));
        }
    }

    fn go_on(&mut self, reports: &Path) {
        let reader = {
            let path = self.directory.join("steady");
            fs::write(&path, vec![7; 1 << 20]).unwrap();
            File::open(path).unwrap()
        };
        let mut held = self.open_held();
        let mut at = 0;
        while !reports.join("stop").exists() {
            self.report.rounds += 1;
            let round = self.report.rounds;
            let entry = round.to_le_bytes();
            let appended = match &mut held {
                Some(file) => self.op("append", || file.write_all(&entry)),
                None => None,
            };
            if appended.is_none() {
                held = self.open_held();
                at = held
                    .as_ref()
                    .and_then(|file| self.op("stat", || file.metadata()))
                    .map_or(0, |facts| facts.len());
            } else if let Some(file) = &held {
                let mut back = [0; 8];
                if self.op("pread", || file.read_exact_at(&mut back, at)).is_some() {
                    self.report.mismatches += u64::from(back != entry);
                }
                at += 8;
            }
            let mut page = [0; 4096];
            if self.op("read held", || reader.read_exact_at(&mut page, (round % 256) * 4096)).is_some() {
                self.report.mismatches += u64::from(page != [7; 4096]);
            }
            self.write_and_read(round);
            self.tell(reports);
        }
    }

    fn tell(&self, reports: &Path) {
        let new = reports.join("report.new");
        fs::write(&new, serde_json::to_vec(&self.report).unwrap()).unwrap();
        fs::rename(new, reports.join("report")).unwrap();
    }
}

/// The load itself; does nothing in a process that [`Load::start`] has not started.
pub fn run_if_asked() {
    let (Some(directory), Some(reports)) = (std::env::var_os(DIRECTORY), std::env::var_os(REPORTS)) else {
        return;
    };
    let mut work = Work { directory: directory.into(), report: Report::default() };
    work.go_on(Path::new(&reports));
}

/// The process of a load.
pub struct Load {
    reports: PathBuf,
    process: Child,
}

impl Load {
    /// Starts a load in a directory of a volume. `test` is the name of the test function that calls [`run_if_asked`].
    pub fn start(node: &Node, directory: &Path, test: &str) -> Self {
        let reports = node.path("reports");
        fs::create_dir_all(&reports).unwrap();
        let process = Command::new(std::env::current_exe().unwrap())
            .args([test, "--exact", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(REPORTS, &reports)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { reports, process }
    }

    pub fn report(&self) -> Report {
        let report = fs::read(self.reports.join("report")).unwrap_or_default();
        serde_json::from_slice(&report).unwrap_or_default()
    }

    /// Waits until the load has gone on for so many rounds.
    pub async fn goes_on(&mut self, rounds: u64, after: &str) -> Duration {
        let (before, start) = (self.report().rounds, Instant::now());
        eventually(&format!("the load goes on after {after}"), || {
            let ended = self.process.try_wait().unwrap();
            assert_eq!(ended, None, "the load broke off after {after}");
            let now = self.report().rounds;
            if now > before + rounds { Ok(()) } else { Err(format!("round {now}")) }
        })
        .await;
        start.elapsed()
    }

    pub async fn finish(mut self) -> Report {
        fs::write(self.reports.join("stop"), "").unwrap();
        let status = in_time("the end of the load", self.process.wait()).await.unwrap();
        assert!(status.success(), "{status}");
        self.report()
    }
}
