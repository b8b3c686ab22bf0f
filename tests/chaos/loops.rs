//! What do the applications of the load do?

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{PosixFadviseAdvice, posix_fadvise};

use super::Reporter;

/// A loop that runs until it is told to stop.
type Run = Box<dyn FnOnce(&Reporter) + Send>;

/// One application.
pub(super) struct Application {
    pub(super) name: &'static str,
    /// Whether it uses a file that only an open descriptor reaches.
    pub(super) needs_descriptors: bool,
    /// Makes its files in a directory of its own.
    pub(super) prepare: fn(&Path) -> Run,
}

const fn named(name: &'static str, prepare: fn(&Path) -> Run) -> Application {
    Application { name, needs_descriptors: false, prepare }
}

pub(super) const ALL: &[Application] = &[
    named("writer", writer),
    named("reader", reader),
    named("appender", appender),
    named("large-writer", large_writer),
    named("metadata-a", metadata),
    named("metadata-b", metadata),
    named("deep-directory", deep_directory),
    Application { name: "unlinked-file", needs_descriptors: true, prepare: unlinked_file },
];

const BLOCK: usize = 4096;
const BLOCKS: u64 = 2048;
const REST: Duration = Duration::from_micros(300);

fn block(seed: u64) -> [u8; BLOCK] {
    let word = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_le_bytes();
    std::array::from_fn(|at| word[at % 8])
}

fn open_new(path: &Path) -> File {
    OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path).unwrap()
}

/// Writes blocks round and round with fsync, then compares the last round.
fn writer(dir: &Path) -> Run {
    let file = open_new(&dir.join("blocks"));
    Box::new(move |report| {
        let mut count = 0_u64;
        while report.goes_on() {
            report.run("write", || file.write_all_at(&block(count), count % BLOCKS * BLOCK as u64));
            if count % 16 == 15 {
                report.run("fsync", || file.sync_data());
            }
            count += 1;
        }
        drop_cache(&file);
        for written in count.saturating_sub(BLOCKS)..count {
            let mut found = [0; BLOCK];
            report.run("read back", || file.read_exact_at(&mut found, written % BLOCKS * BLOCK as u64));
            report.check("a written block", found == block(written));
        }
    })
}

/// Reads known blocks in random order, with the page cache dropped now and then.
fn reader(dir: &Path) -> Run {
    let file = open_new(&dir.join("known"));
    (0..BLOCKS).for_each(|at| file.write_all_at(&block(at), at * BLOCK as u64).unwrap());
    file.sync_all().unwrap();
    Box::new(move |report| {
        let mut random = 1_u64;
        while report.goes_on() {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let at = (random >> 33) % BLOCKS;
            if at.is_multiple_of(64) {
                drop_cache(&file);
            }
            let mut found = [0; BLOCK];
            report.run("read", || file.read_exact_at(&mut found, at * BLOCK as u64));
            report.check("a known block", found == block(at));
        }
    })
}

/// Appends numbered lines, then compares all of them: none missing, none twice.
fn appender(dir: &Path) -> Run {
    let path = dir.join("lines");
    let mut file = OpenOptions::new().append(true).create(true).open(&path).unwrap();
    Box::new(move |report| {
        let line = |number: u64| format!("{number:015}\n");
        let mut count = 0;
        while report.goes_on() {
            report.run("append", || file.write_all(line(count).as_bytes()));
            count += 1;
        }
        let expected: String = (0..count).map(line).collect();
        let found = report.run("read all lines", || fs::read(&path));
        report.check("the file of lines", found.as_deref() == Some(expected.as_bytes()));
    })
}

/// Writes the largest requests: they are copied into the client's buffers in many pages.
fn large_writer(dir: &Path) -> Run {
    const LEN: usize = 1 << 20;
    let file = open_new(&dir.join("large"));
    Box::new(move |report| {
        let mut count = 0_u8;
        let mut found = vec![0; LEN];
        while report.goes_on() {
            count = count.wrapping_add(1);
            let written = vec![count; LEN];
            report.run("write 1 MiB", || file.write_all_at(&written, 0));
            drop_cache(&file);
            report.run("read 1 MiB", || file.read_exact_at(&mut found, 0));
            report.check("a large block", found == written);
        }
    })
}

/// Makes, links, moves, lists and removes: each step fails when the one before was lost or done twice.
fn metadata(dir: &Path) -> Run {
    let dir = dir.to_owned();
    Box::new(move |report| {
        let mut round = 0_u64;
        while report.goes_on() {
            one_round(report, &dir.join(format!("x{round}")), &dir.join(format!("y{round}")));
            round += 1;
        }
        let left = report.run("list", || Ok(fs::read_dir(&dir)?.count()));
        report.check("the emptied directory", left == Some(0));
    })
}

fn one_round(report: &Reporter, x: &Path, y: &Path) {
    let in_x = |name: &str| x.join(name);
    let in_y = |name: &str| y.join(name);
    report.run("mkdir", || fs::create_dir(x));
    let created = OpenOptions::new().write(true).create_new(true).to_owned();
    if let Some(mut file) = report.run("create", || created.open(in_x("f"))) {
        report.run("write", || file.write_all(b"hello"));
    }
    report.run("link", || fs::hard_link(in_x("f"), in_x("g")));
    report.run("symlink", || symlink("h", in_x("s")));
    report.run("rename file", || fs::rename(in_x("f"), in_x("h")));
    report.run("rename directory", || fs::rename(x, y));
    let found = report.run("read", || fs::read(in_y("s")));
    report.check("the moved file", found.as_deref() == Some(b"hello"));
    let links = report.run("stat", || Ok(fs::metadata(in_y("g"))?.nlink()));
    report.check("the link count", links == Some(2));
    report.run("replace", || fs::rename(in_y("s"), in_y("g")));
    let target = report.run("read link", || fs::read_link(in_y("g")));
    report.check("the link's target", target == Some(PathBuf::from("h")));
    report.run("truncate", || OpenOptions::new().write(true).open(in_y("h"))?.set_len(2));
    report.run("unlink", || fs::remove_file(in_y("h")));
    report.run("unlink", || fs::remove_file(in_y("g")));
    let left = report.run("list", || Ok(fs::read_dir(y)?.count()));
    report.check("the emptied directory", left == Some(0));
    report.run("rmdir", || fs::remove_dir(y));
}

/// Works below a directory that stays open, in files that come and go.
fn deep_directory(dir: &Path) -> Run {
    let deep = dir.join("a/b/c");
    fs::create_dir_all(&deep).unwrap();
    let open = File::open(&deep).unwrap();
    Box::new(move |report| {
        let path = PathBuf::from(format!("/proc/self/fd/{}/file", open.as_raw_fd()));
        let mut count = 0_u64;
        while report.goes_on() {
            report.run("write", || fs::write(&path, count.to_le_bytes()));
            let found = report.run("read", || fs::read(&path));
            report.check("the file", found.as_deref() == Some(count.to_le_bytes().as_slice()));
            report.run("fsync directory", || open.sync_all());
            count += 1;
            std::thread::sleep(REST);
        }
    })
}

/// Uses a file that has lost its name.
fn unlinked_file(dir: &Path) -> Run {
    let path = dir.join("gone");
    let file = open_new(&path);
    fs::remove_file(&path).unwrap();
    Box::new(move |report| {
        let mut count = 0_u64;
        while report.goes_on() {
            report.run("write", || file.write_all_at(&count.to_le_bytes(), 0));
            drop_cache(&file);
            let mut found = [0; 8];
            report.run("read", || file.read_exact_at(&mut found, 0));
            report.check("the file", u64::from_le_bytes(found) == count);
            let links = report.run("fstat", || Ok(file.metadata()?.nlink()));
            report.check("the link count", links == Some(0));
            count += 1;
            std::thread::sleep(REST);
        }
    })
}

/// Lets the next read ask the client. Only advice, so that its failure means nothing.
fn drop_cache(file: &File) {
    let _advice: nix::Result<()> = posix_fadvise(file, 0, 0, PosixFadviseAdvice::POSIX_FADV_DONTNEED);
}
