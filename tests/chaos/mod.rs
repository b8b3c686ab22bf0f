//! Does an application notice that the program behind its volume dies? A load that never retries, and its verifier.
//!
//! Start a [`Load`] in a directory, kill what serves it as often as you like, then [`Load::finish`]: the [`Tally`]
//! says how many operations ran, how many failed, and how many read something else than was written.
//!
//! A test that starts the volume's client itself must run the load in another process ([`process`]): its forked
//! children would inherit the load's files, and closing one waits for the client that is being started.

#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::disallowed_methods,
    reason = "shared by several test programs; preparing the load must succeed"
)]

mod loops;
pub mod process;

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Which loops run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
pub enum Parts {
    /// All of them.
    All,
    /// All but the file without a name, which cannot be found again by a client that starts without descriptors.
    Named,
}

/// What came of a load.
#[derive(Clone, Debug, Default, serde::Deserialize, serde::Serialize)]
pub struct Tally {
    pub operations: u64,
    pub errors: u64,
    pub mismatches: u64,
    /// The longest single operation.
    pub longest: Duration,
    /// What failed, and how often.
    pub details: BTreeMap<String, u64>,
}

impl fmt::Display for Tally {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { operations, errors, mismatches, longest, details } = self;
        write!(out, "{operations} operations, {errors} errors, {mismatches} mismatches")?;
        write!(out, " (longest operation {} ms)", longest.as_millis())?;
        details.iter().try_for_each(|(what, count)| write!(out, "\n  {count} x {what}"))
    }
}

/// Running loops.
pub struct Load {
    shared: Arc<Shared>,
    loops: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    operations: AtomicU64,
    errors: AtomicU64,
    mismatches: AtomicU64,
    longest_micros: AtomicU64,
    details: Mutex<BTreeMap<String, u64>>,
}

/// What a loop reports to.
#[derive(Clone)]
pub struct Reporter {
    name: &'static str,
    shared: Arc<Shared>,
}

impl Reporter {
    /// Whether the loop should go on.
    fn goes_on(&self) -> bool {
        !self.shared.stop.load(Relaxed)
    }

    /// Runs one operation, once.
    fn run<T>(&self, what: &str, operation: impl FnOnce() -> io::Result<T>) -> Option<T> {
        let started = Instant::now();
        let result = operation();
        let micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.shared.longest_micros.fetch_max(micros, Relaxed);
        self.shared.operations.fetch_add(1, Relaxed);
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.shared.errors.fetch_add(1, Relaxed);
                self.note(format!("{}: {what}: {error}", self.name));
                None
            }
        }
    }

    /// Compares what was found with what must be there.
    fn check(&self, what: &str, holds: bool) {
        if !holds {
            self.shared.mismatches.fetch_add(1, Relaxed);
            self.note(format!("{}: {what} is wrong", self.name));
        }
    }

    fn note(&self, text: String) {
        *self.shared.details.lock().unwrap().entry(text).or_default() += 1;
    }
}

impl Load {
    /// Prepares files in an empty directory and starts the loops.
    pub fn start(dir: &Path, parts: Parts) -> Self {
        let shared = Arc::new(Shared::default());
        let chosen = loops::ALL.iter().filter(|one| parts == Parts::All || !one.needs_descriptors);
        let loops = chosen
            .map(|one| {
                let reporter = Reporter { name: one.name, shared: shared.clone() };
                let own_dir = dir.join(one.name);
                std::fs::create_dir(&own_dir).unwrap();
                let prepared = (one.prepare)(&own_dir);
                std::thread::Builder::new().name(one.name.into()).spawn(move || prepared(&reporter)).unwrap()
            })
            .collect();
        Self { shared, loops }
    }

    /// Ends the loops, verifies what they wrote, and counts.
    pub fn finish(self) -> Tally {
        self.shared.stop.store(true, Relaxed);
        for one in self.loops {
            if one.join().is_err() {
                self.shared.errors.fetch_add(1, Relaxed);
            }
        }
        Tally {
            operations: self.shared.operations.load(Relaxed),
            errors: self.shared.errors.load(Relaxed),
            mismatches: self.shared.mismatches.load(Relaxed),
            longest: Duration::from_micros(self.shared.longest_micros.load(Relaxed)),
            details: self.shared.details.lock().unwrap().clone(),
        }
    }
}
