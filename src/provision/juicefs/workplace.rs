//! How is work done in one mounted filesystem?

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::super::{FilesystemError, StoreError};
use super::JuicefsConfig;
use super::commands::Commands;
use super::files::{FILES_COMMAND, Job, Outcome, Task};
use super::filesystems::Mounted;
use super::process::{End, Processes, Run};
use super::turns::Work;
use crate::juicefs::secret::JuicefsSecret;
use crate::mountpod::service::MountService;
use nix::errno::Errno;
use serde::de::DeserializeOwned;

/// A job is a dozen file operations, each some milliseconds with a metadata engine in another data centre. An object
/// storage that is slow to take a record is given the rest.
const FILES_LIMIT: Duration = Duration::from_secs(15);

/// A filesystem that is mounted, and what works in it.
pub(super) struct Workplace<'a, M: MountService> {
    pub(super) config: &'a JuicefsConfig,
    pub(super) processes: &'a Processes,
    pub(super) secret: JuicefsSecret,
    pub(super) mounted: Mounted<M>,
}

impl<M: MountService> Workplace<'_, M> {
    /// Does a job with its files. The type of the answer stands at each [`Job`].
    pub(super) async fn files<T: DeserializeOwned>(&self, job: Job) -> Result<T, FilesystemError> {
        let doing = job.doing();
        let broken = |error: std::io::Error| StoreError::new(doing, error);
        let task = Task { mount: self.mount().to_owned(), job };
        let run = Run {
            program: &self.config.helper_program,
            arguments: vec![FILES_COMMAND.to_owned()],
            environment: Vec::new(),
            input: serde_json::to_vec(&task).map_err(|error| broken(error.into()))?,
            limit: FILES_LIMIT,
        };
        let turns = self.mounted.turns();
        let _turn = turns.take(Work::Moments).await?;
        let end = self.processes.run(run, turns.abandoned()).await.map_err(broken)?;
        let (status, answer, words) = match end {
            End::Itself { status, answer, words } => (status, answer, words),
            End::Abandoned { .. } => {
                return Err(FilesystemError::Silent { doing: doing.to_owned(), limit: FILES_LIMIT });
            }
        };
        let unheard =
            |error: serde_json::Error| broken(std::io::Error::other(format!("{status}: {error}: {words}")));
        let outcome: Outcome = serde_json::from_slice(&answer).map_err(unheard)?;
        let answer = outcome.into_result().map_err(|error| self.of_client(error))?;
        Ok(serde_json::from_value(answer).map_err(unheard)?)
    }

    /// A client says EIO when a server of its own does not answer in time.
    fn of_client(&self, error: StoreError) -> FilesystemError {
        if error.source.raw_os_error() == Some(Errno::EIO as i32) {
            let filesystem = self.mounted.filesystem().clone();
            return FilesystemError::OutOfReach { filesystem, source: error };
        }
        error.into()
    }

    /// The client's commands.
    pub(super) fn commands(&self) -> Commands<'_> {
        Commands {
            program: &self.config.program,
            processes: self.processes,
            turns: self.mounted.turns(),
            secret: &self.secret,
        }
    }

    /// The path of something in the filesystem.
    pub(super) fn path(&self, below_root: impl AsRef<Path>) -> PathBuf {
        self.mount().join(below_root)
    }

    fn mount(&self) -> &Path {
        self.mounted.target().as_path()
    }
}
