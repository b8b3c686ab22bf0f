//! Can a driver serve? What Probe asks of each program.

use std::path::PathBuf;

use crate::csi::identity::{Health, Readiness};

/// A driver that can't write its records can publish nothing, so Probe must not say that it is ready.
pub(super) struct StateIsWritable(pub(super) PathBuf);

impl Health for StateIsWritable {
    async fn readiness(&self) -> Readiness {
        let probe = self.0.join("probe");
        let written = match tokio::fs::write(&probe, b"x").await {
            Ok(()) => tokio::fs::remove_file(&probe).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Readiness::Ready,
            Err(error) => {
                Readiness::Broken { why: format!("can't write and remove {}: {error}", probe.display()) }
            }
        }
    }
}

/// A controller that answers is well. A filesystem that can't be reached is told to who asks for it: starting the
/// program again would not bring it back.
pub(super) struct Answers;

impl Health for Answers {
    async fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}
