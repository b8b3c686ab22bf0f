//! How many processes work in one filesystem at a time?
//!
//! What takes moments and what takes a tree's time wait apart: nobody who makes a volume waits until millions of files of
//! another one are removed.

use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::super::FilesystemError;
use super::process::Abandoned;
use crate::volume::FilesystemName;

/// Processes of each kind at a time; a client's command takes about 50 MiB, and more would only make each slower.
pub(super) const AT_A_TIME: usize = 4;

/// Longest waits for a turn. Who asked asks again. While a server is away a turn ends at its process's own limit, and all who
/// wait are refused then.
const MOMENTS_LIMIT: Duration = Duration::from_secs(60);
const TREE_LIMIT: Duration = Duration::from_secs(3600);

/// What a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    /// It is done in moments, unless a server is away.
    Moments,
    /// It goes through a tree, which may have millions of files.
    Tree,
}

/// Who may work in a filesystem now.
#[derive(Debug)]
pub(super) struct Turns {
    filesystem: FilesystemName,
    abandoned: Abandoned,
    moments: Semaphore,
    trees: Semaphore,
}

impl Turns {
    pub(super) fn new(filesystem: FilesystemName) -> Self {
        let [moments, trees] = [Semaphore::new(AT_A_TIME), Semaphore::new(AT_A_TIME)];
        Self { filesystem, abandoned: Abandoned::default(), moments, trees }
    }

    /// Processes that were given up.
    pub(super) fn abandoned(&self) -> &Abandoned {
        &self.abandoned
    }

    /// Refuses while a process that was given up waits: what it may yet do must not meet what would be done now.
    pub(super) fn refuse_beside_abandoned(&self) -> Result<(), FilesystemError> {
        if self.abandoned.is_any() {
            return Err(FilesystemError::StillWaiting(self.filesystem.clone()));
        }
        Ok(())
    }

    /// Waits for a turn, which lasts until it is dropped.
    pub(super) async fn take(&self, work: Work) -> Result<SemaphorePermit<'_>, FilesystemError> {
        let (turns, limit) = match work {
            Work::Moments => (&self.moments, MOMENTS_LIMIT),
            Work::Tree => (&self.trees, TREE_LIMIT),
        };
        let turn = match timeout(limit, turns.acquire()).await {
            Ok(turn) => turn.map_err(|_| FilesystemError::Stopping)?,
            Err(_) => {
                let doing = format!("waiting for earlier work in {}", self.filesystem);
                return Err(FilesystemError::Silent { doing, limit });
            }
        };
        // It may have fallen silent meanwhile.
        self.refuse_beside_abandoned()?;
        Ok(turn)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn trees_hold_up_trees_alone() {
        let turns = Turns::new("a".parse().unwrap());
        let mut trees = Vec::new();
        for _ in 0..AT_A_TIME {
            trees.push(turns.take(Work::Tree).await.unwrap());
        }
        let late = turns.take(Work::Tree).await.unwrap_err();
        assert!(matches!(late, FilesystemError::Silent { limit, .. } if limit == TREE_LIMIT), "{late}");
        let mut moments = Vec::new();
        for _ in 0..AT_A_TIME {
            moments.push(turns.take(Work::Moments).await.unwrap());
        }
        assert!(turns.take(Work::Moments).await.is_err());
        trees.pop();
        assert!(turns.take(Work::Tree).await.is_ok());
    }
}
