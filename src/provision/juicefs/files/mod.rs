//! What is done with files within a mounted filesystem, and in which process?
//!
//! A mounted filesystem may stop to answer, and whoever waits for it then can't be ended. So a process of its own does each
//! job: the hidden subcommand `volume-files` of the driver's program. It reads one [`Task`] from its standard input and
//! prints one [`Outcome`]; both are JSON.

mod layout;
mod paths;
pub(super) mod record;
mod snapshots;
mod trash;
mod volumes;

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nix::sys::statfs::{FUSE_SUPER_MAGIC, statfs};
use serde::{Deserialize, Serialize};

use self::layout::Tree;
use self::record::{SnapshotRecord, VolumeRecord};
use super::super::StoreError;

pub(super) use self::layout::{Trash, new_snapshot_data, snapshot_data, volume_in_the_making};
pub(super) use self::volumes::{Found, Progress, ToDelete};

/// The hidden subcommand that does this work.
pub const FILES_COMMAND: &str = "volume-files";
/// A task is a record and a few names.
const TASK_BYTES_MAX: u64 = 1 << 20;

/// What a process is to do, and where.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Task {
    /// Where the filesystem is mounted.
    pub(super) mount: PathBuf,
    /// What to do.
    pub(super) job: Job,
}

/// One step, which may be repeated; each says what it answers with.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Job {
    /// `Option<Found>`: what is recorded of a volume.
    FindVolume { name: String },
    /// `Progress`: writes the first record of a volume and makes it as far as it can be made here.
    BeginVolume { record: Box<VolumeRecord> },
    /// `Progress`: goes on with a volume that has a record.
    AdvanceVolume { name: String },
    /// `()`: the volume is ready.
    FinishVolume { name: String },
    /// `()`: this much is promised from now on.
    PromiseVolume { name: String, capacity_bytes: u64 },
    /// `Option<ToDelete>`: nobody is to find the volume from here on; `None` when there is none.
    BeginDeletion { name: String },
    /// `bool`: moves all that is the volume's to the trash; is there anything in it now?
    TrashVolume { name: String },
    /// `()`: what was in the trash is gone; forgets the volume.
    EndDeletion { name: String },
    /// `Option<SnapshotRecord>`: a snapshot that is complete.
    FindSnapshot { name: String },
    /// `Vec<SnapshotRecord>`: all that are complete.
    ListSnapshots,
    /// `bool`: lays a snapshot's place in the making; is its data there already?
    BeginSnapshot { record: Box<SnapshotRecord> },
    /// `()`: the snapshot is complete, if its data is there.
    PlaceSnapshot { name: String },
    /// `bool`: moves all that is the snapshot's to the trash; is there anything in it now?
    TrashSnapshot { name: String },
    /// `()`: what was in the trash is gone.
    EndTrash { name: String },
}

/// What became of a task.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Outcome {
    /// The job's own answer.
    Done(serde_json::Value),
    /// A system call failed, or a record can't be understood.
    Failed {
        /// What was tried.
        what: String,
        /// The system's number for the failure, when it has one.
        errno: Option<i32>,
        /// In words.
        why: String,
    },
}

impl From<StoreError> for Outcome {
    fn from(error: StoreError) -> Self {
        let errno = error.source.raw_os_error();
        Self::Failed { what: error.what, errno, why: error.source.to_string() }
    }
}

impl Outcome {
    /// The answer, or the error as it was.
    pub(super) fn into_result(self) -> Result<serde_json::Value, StoreError> {
        match self {
            Self::Done(answer) => Ok(answer),
            Self::Failed { what, errno: Some(errno), .. } => {
                Err(StoreError::new(what, io::Error::from_raw_os_error(errno)))
            }
            Self::Failed { what, errno: None, why } => Err(StoreError::new(what, io::Error::other(why))),
        }
    }
}

/// The helper process: does the task that it is given, prints what became of it.
#[must_use]
pub fn run() -> ExitCode {
    let outcome = given().and_then(do_task).unwrap_or_else(Outcome::from);
    let printed = serde_json::to_vec(&outcome)
        .map_err(io::Error::other)
        .and_then(|answer| io::stdout().write_all(&answer));
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn given() -> Result<Task, StoreError> {
    let failed = |error: io::Error| StoreError::new("reading the task", error);
    let mut text = Vec::new();
    io::stdin().take(TASK_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    serde_json::from_slice(&text).map_err(|error| failed(error.into()))
}

fn do_task(task: Task) -> Result<Outcome, StoreError> {
    refuse_unmounted(&task.mount)?;
    let tree = Tree::open(&task.mount)?;
    let answer = task.job.answer(&tree)?;
    Ok(Outcome::Done(answer))
}

/// Without the mount, all would be written into the empty directory below it.
fn refuse_unmounted(mount: &Path) -> Result<(), StoreError> {
    let what = || format!("looking at {}", mount.display());
    let seen = statfs(mount).map_err(|errno| StoreError::new(what(), errno))?;
    if seen.filesystem_type() == FUSE_SUPER_MAGIC {
        return Ok(());
    }
    Err(StoreError::new(what(), io::Error::other("the filesystem is not mounted there")))
}

impl Job {
    fn answer(self, tree: &Tree) -> Result<serde_json::Value, StoreError> {
        match self {
            Self::FindVolume { name } => told(volumes::find(tree, &name)?),
            Self::BeginVolume { record } => told(volumes::begin(tree, *record)?),
            Self::AdvanceVolume { name } => told(volumes::advance(tree, &name)?),
            Self::FinishVolume { name } => told(volumes::finish(tree, &name)?),
            Self::PromiseVolume { name, capacity_bytes } => {
                told(volumes::promise(tree, &name, capacity_bytes)?)
            }
            Self::BeginDeletion { name } => told(volumes::begin_deletion(tree, &name)?),
            Self::TrashVolume { name } => told(volumes::trash(tree, &name)?),
            Self::EndDeletion { name } => told(volumes::end_deletion(tree, &name)?),
            Self::FindSnapshot { name } => told(snapshots::find(tree, &name)?),
            Self::ListSnapshots => told(snapshots::list(tree)?),
            Self::BeginSnapshot { record } => told(snapshots::begin(tree, &record)?),
            Self::PlaceSnapshot { name } => told(snapshots::place(tree, &name)?),
            Self::TrashSnapshot { name } => told(snapshots::trash(tree, &name)?),
            Self::EndTrash { name } => told(snapshots::end_trash(tree, &name)?),
        }
    }

    /// What it is, for errors.
    pub(super) fn doing(&self) -> &'static str {
        match self {
            Self::FindVolume { .. } => "looking for the volume",
            Self::BeginVolume { .. } | Self::AdvanceVolume { .. } => "making the volume's directory",
            Self::FinishVolume { .. } | Self::PromiseVolume { .. } => "writing the volume's record",
            Self::BeginDeletion { .. } | Self::TrashVolume { .. } | Self::EndDeletion { .. } => {
                "removing the volume's directory"
            }
            Self::FindSnapshot { .. } | Self::ListSnapshots => "looking for snapshots",
            Self::BeginSnapshot { .. } | Self::PlaceSnapshot { .. } => "making the snapshot's directory",
            Self::TrashSnapshot { .. } | Self::EndTrash { .. } => "removing the snapshot's directory",
        }
    }
}

fn told(answer: impl Serialize) -> Result<serde_json::Value, StoreError> {
    serde_json::to_value(answer)
        .map_err(|error| StoreError::new("telling the answer", io::Error::other(error)))
}
