//! How is the story told on a terminal?

use std::error::Error;
use std::fmt::Arguments;
use std::io::Write;
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
        tell(format_args!("Mountpod demo: a volume, two workloads, and clients that die under them"));
        tell(format_args!(""));
        Self { begun: Instant::now() }
    }

    /// A sentence that was checked, and how long it took to become true.
    pub(super) fn held(&self, sentence: &str, took: Duration) {
        tell(format_args!("  ok  {sentence:<88} {:>8.1} ms", took.as_secs_f64() * 1e3));
    }

    /// A sentence that only explains.
    pub(super) fn says(&self, sentence: &str) {
        tell(format_args!("      {sentence}"));
    }

    pub(super) fn chapter(&self, title: &str) {
        tell(format_args!("{title}"));
    }

    pub(super) fn done(&self) -> ExitCode {
        tell(format_args!(""));
        tell(format_args!(
            "All of it held, and nothing is left. {:.1} s",
            self.begun.elapsed().as_secs_f64()
        ));
        ExitCode::SUCCESS
    }

    pub(super) fn failed(&self, error: &dyn Error) -> ExitCode {
        drop(writeln!(std::io::stderr(), "\ndemo: {}", chain(error)));
        ExitCode::FAILURE
    }
}

/// A reader that has gone (a closed pipe) does not stop the demo: it has things to take down.
fn tell(line: Arguments<'_>) {
    drop(writeln!(std::io::stdout(), "{line}"));
}
