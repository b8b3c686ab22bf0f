//! What does a load meet that keeps files of a volume open and tries nothing twice?
//!
//! It runs in a process of its own: one that starts clients must hold no file of a volume.
#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, unreachable_pub, reason = "each test program uses its own part")]

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

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

    /// The file that is kept open, and how much is in it.
    fn open_held(&mut self) -> Option<(File, u64)> {
        let path = self.directory.join("held");
        let file = self.op("open", || OpenOptions::new().read(true).append(true).create(true).open(path))?;
        let facts = self.op("stat", || file.metadata())?;
        Some((file, facts.len()))
    }

    /// Appends to the file that is kept open, and reads it back; a file that takes no more is opened anew.
    fn append_and_read(&mut self, held: &mut Option<(File, u64)>, round: u64) {
        let entry = round.to_le_bytes();
        let Some((file, end)) = held else {
            *held = self.open_held();
            return;
        };
        if self.op("append", || file.write_all(&entry)).is_none() {
            *held = self.open_held();
            return;
        }
        let mut back = [0; 8];
        if self.op("pread", || file.read_exact_at(&mut back, *end)).is_some() {
            self.report.mismatches += u64::from(back != entry);
        }
        *end += 8;
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
        while !reports.join("stop").exists() {
            self.report.rounds += 1;
            let round = self.report.rounds;
            self.append_and_read(&mut held, round);
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

/// The load itself; does nothing, and says so, in a process that was not started for it.
pub fn run_if_asked() -> bool {
    let (Some(directory), Some(reports)) = (std::env::var_os(DIRECTORY), std::env::var_os(REPORTS)) else {
        return false;
    };
    let mut work = Work { directory: directory.into(), report: Report::default() };
    work.go_on(Path::new(&reports));
    true
}

/// What the load has told so far.
pub fn report_in(reports: &Path) -> Report {
    let report = fs::read(reports.join("report")).unwrap_or_default();
    serde_json::from_slice(&report).unwrap_or_default()
}

/// What a client that is killed can't keep: handles that are open for writing (each later use is told EBADF), what was
/// written and not made durable (it can't be read any more: `pread` ends early), the first answer to a deletion or a
/// renaming that had happened already when it was asked for again, and the operation that the kernel was copying to it
/// when it died: that one is told EIO (`fuse_dev_do_read` in fs/fuse/dev.c). The load does one operation at a time, so
/// there is at most one of these for each of the `deaths`.
pub fn only_what_is_documented(report: &Report, deaths: usize) {
    let documented =
        ["append 9", "write 9", "fsync 9", "pread 9", "pread 0", "stat 9", "unlink 2", "rename 2"];
    let (cut_short, others): (Vec<_>, Vec<_>) = report
        .errors
        .iter()
        .filter(|(error, _)| !documented.contains(&error.as_str()))
        .partition(|(error, _)| error.ends_with(" 5"));
    assert!(others.is_empty(), "{report:?}");
    let cut_short: u64 = cut_short.into_iter().map(|(_, times)| times).sum();
    assert!(cut_short <= deaths as u64, "{report:?}");
    assert_eq!(report.mismatches, 0, "{report:?}");
}
