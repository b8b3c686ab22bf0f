//! What does a workload see while its client dies?
//!
//! A process of its own, as a workload is: it writes numbered blocks with fsync and never retries. When its standard
//! input ends it reads everything back and says on standard output, in JSON, what it saw.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// Bytes of one block.
const BLOCK: usize = 4096;
/// Blocks in the file; the writer goes round.
const BLOCKS: u64 = 4096;
/// Every that many blocks an fsync.
const SYNC_EVERY: u64 = 16;

/// Arguments of the hidden `demo-writer` program.
#[derive(Debug, clap::Args)]
pub struct WriterOptions {
    /// The file to write; it is created.
    file: PathBuf,
}

/// What the writer saw.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Seen {
    /// Blocks written.
    pub blocks: u64,
    /// Calls that failed, each with its error; the writer never retries.
    pub errors: Vec<String>,
    /// Blocks that did not read back as written.
    pub mismatches: u64,
    /// The longest single call, in milliseconds.
    pub longest_call_ms: f64,
}

/// Writes until standard input ends.
#[must_use]
pub fn run(options: &WriterOptions) -> ExitCode {
    static STOP: AtomicBool = AtomicBool::new(false);
    std::thread::spawn(|| {
        // Whatever ends the input ends the writing: a byte, its end, an error.
        let ended = std::io::stdin().read(&mut [0]);
        STOP.store(ended.is_ok() || ended.is_err(), Ordering::Release);
    });
    let seen = write_until(&options.file, || STOP.load(Ordering::Acquire));
    let told = serde_json::to_string(&seen).map(|text| writeln!(std::io::stdout(), "{text}"));
    if matches!(told, Ok(Ok(()))) { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn write_until(path: &Path, stop: impl Fn() -> bool) -> Seen {
    let mut seen = Seen { blocks: 0, errors: Vec::new(), mismatches: 0, longest_call_ms: 0.0 };
    let opened = OpenOptions::new().read(true).write(true).create(true).truncate(true).open(path);
    let Some(file) = seen.note("open", Duration::ZERO, opened) else { return seen };
    while !stop() && seen.errors.is_empty() {
        let number = seen.blocks;
        seen.timed("write", || file.write_all_at(&block(number), place(number)));
        if number % SYNC_EVERY == SYNC_EVERY - 1 {
            seen.timed("fsync", || file.sync_data());
        }
        seen.blocks += 1;
    }
    for number in seen.blocks.saturating_sub(BLOCKS)..seen.blocks {
        let mut got = vec![0; BLOCK];
        seen.timed("read", || file.read_exact_at(&mut got, place(number)));
        seen.mismatches += u64::from(got != block(number));
    }
    seen
}

impl Seen {
    fn timed<T>(&mut self, what: &str, call: impl FnOnce() -> std::io::Result<T>) {
        let begun = Instant::now();
        let result = call();
        self.note(what, begun.elapsed(), result);
    }

    fn note<T>(&mut self, what: &str, took: Duration, result: std::io::Result<T>) -> Option<T> {
        self.longest_call_ms = self.longest_call_ms.max(took.as_secs_f64() * 1e3);
        result.map_err(|error| self.errors.push(format!("{what}: {error}"))).ok()
    }
}

fn block(number: u64) -> Vec<u8> {
    number.to_le_bytes().repeat(BLOCK / size_of::<u64>())
}

fn place(number: u64) -> u64 {
    number % BLOCKS * BLOCK as u64
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn a_file_that_changes_under_the_writer_is_noticed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let calls = std::cell::Cell::new(0);
        let seen = write_until(&path, || {
            calls.set(calls.get() + 1);
            if calls.get() == 40 {
                OpenOptions::new()
                    .write(true)
                    .open(&path)
                    .unwrap()
                    .write_all_at(b"x", 5 * BLOCK as u64)
                    .unwrap();
            }
            calls.get() == 64
        });
        assert_eq!((seen.blocks, seen.mismatches, seen.errors.len()), (63, 1, 0));
    }

    #[test]
    fn an_error_is_told() {
        let seen = write_until(Path::new("/proc/none/file"), || true);
        assert_eq!(seen.errors.len(), 1);
        assert!(seen.errors[0].starts_with("open: "), "{:?}", seen.errors);
    }
}
