//! How is the story told on a terminal?
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a demo speaks to a person at a terminal")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use tokio::time::Instant;

use crate::telemetry::chain;

/// Tells steps as they happen, with the time that each took.
#[derive(Debug)]
pub(super) struct Narrator {
    begun: Instant,
}

impl Narrator {
    pub(super) fn start() -> Self {
        println!("Mountpod demo: a volume, two workloads, and clients that die under them");
        println!();
        Self { begun: Instant::now() }
    }

    /// A sentence that was checked, and how long it took to become true.
    pub(super) fn held(&self, sentence: &str, took: Duration) {
        println!("  ok  {sentence:<88} {:>8.1} ms", took.as_secs_f64() * 1e3);
    }

    /// A sentence that only explains.
    pub(super) fn says(&self, sentence: &str) {
        println!("      {sentence}");
    }

    pub(super) fn chapter(&self, title: &str) {
        println!("{title}");
    }

    pub(super) fn done(&self) -> ExitCode {
        println!();
        println!("All of it held, and nothing is left. {:.1} s", self.begun.elapsed().as_secs_f64());
        ExitCode::SUCCESS
    }

    pub(super) fn failed(&self, error: &dyn Error) -> ExitCode {
        eprintln!();
        eprintln!("demo: {}", chain(error));
        ExitCode::FAILURE
    }
}
