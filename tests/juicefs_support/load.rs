//! The process of a load, as the tests of sessions run it.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tokio::process::{Child, Command};

use super::work::Report;
use super::work::{DIRECTORY, REPORTS, report_in};
use crate::session_support::node::{Node, eventually, in_time};

/// The process of a load.
pub struct Load {
    reports: PathBuf,
    process: Child,
}

impl Load {
    /// Starts a load in a directory of a volume. `test` is the name of the test function that calls `run_if_asked`.
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
        report_in(&self.reports)
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
