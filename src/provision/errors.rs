//! Why could a volume or a snapshot not be made, changed, removed or found?

use std::io;

use super::Source;
use crate::config::capacity::UnsupportedRange;
use crate::volume::{FilesystemName, SnapshotId, VolumeId};

/// The machine refused an operation on files.
#[derive(Debug, thiserror::Error)]
#[error("{what} failed")]
pub struct StoreError {
    /// What was asked of it.
    pub what: String,
    /// Why.
    #[source]
    pub source: io::Error,
}

/// Is a failure due to a full disk or quota?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// Yes: it can succeed once there is room.
    Yes,
    /// No.
    No,
}

impl StoreError {
    /// An error of the system call that was to do `what`.
    pub fn new(what: impl Into<String>, source: impl Into<io::Error>) -> Self {
        Self { what: what.into(), source: source.into() }
    }

    /// Is the disk or a quota full?
    #[must_use]
    pub fn full(&self) -> Full {
        match self.source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => Full::Yes,
            _ => Full::No,
        }
    }
}

/// Why a tree could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// A mount inside the tree: its data belongs to somebody else.
    #[error("something is mounted at {path:?} in the source; unmount it, or copy without it")]
    MountInside {
        /// Below the source.
        path: String,
    },
    /// The driver is being stopped.
    #[error("the copy was given up, because the driver is being stopped")]
    Stopped,
    /// The machine refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a volume could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CreateVolumeError {
    /// The name is taken by a volume with other properties.
    #[error("a volume of this name exists as {id}, but {difference}")]
    Exists {
        /// The volume.
        id: VolumeId,
        /// What is different.
        difference: String,
    },
    /// Something that this driver did not make has the volume's place.
    #[error(
        "filesystem {filesystem} holds {name:?}, which this driver did not make; remove it or choose another name"
    )]
    Foreign {
        /// Where.
        filesystem: FilesystemName,
        /// Its name.
        name: String,
    },
    /// There is no such filesystem.
    #[error("there is no filesystem {0}")]
    NoSuchFilesystem(FilesystemName),
    /// There is no such source.
    #[error("the source {} does not exist", source_id(.0))]
    NoSuchSource(Source),
    /// The range can't be honoured.
    #[error(transparent)]
    Range(#[from] UnsupportedRange),
    /// The source could not be copied.
    #[error("the volume could not be filled from its source")]
    Copy(#[source] CopyError),
    /// The machine refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn source_id(source: &Source) -> String {
    match source {
        Source::Snapshot(id) => format!("snapshot {id}"),
        Source::Volume(id) => format!("volume {id}"),
    }
}

/// Why a volume or snapshot could not be removed.
#[derive(Debug, thiserror::Error)]
pub enum DeleteError {
    /// A mount inside the tree: its data belongs to somebody else.
    #[error("something is mounted inside the volume's directory, now {path}; unmount it and delete again")]
    MountInside {
        /// Below the root.
        path: String,
    },
    /// The driver is being stopped; the next try goes on from here.
    #[error("the removal was interrupted, because the driver is being stopped")]
    Stopped,
    /// The machine refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a volume could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangeError {
    /// There is no such volume.
    #[error("there is no volume {0}")]
    NoSuchVolume(VolumeId),
    /// The range can't be honoured.
    #[error(transparent)]
    Range(#[from] UnsupportedRange),
    /// The machine refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a snapshot could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum CreateSnapshotError {
    /// The name is taken by a snapshot of another volume.
    #[error("a snapshot of this name exists as {id}, but it is of volume {source_volume}")]
    Exists {
        /// The snapshot.
        id: SnapshotId,
        /// Its source.
        source_volume: VolumeId,
    },
    /// There is no such volume.
    #[error("there is no volume {0}")]
    NoSuchVolume(VolumeId),
    /// The volume could not be copied.
    #[error("volume {id} could not be copied")]
    Copy {
        /// The volume.
        id: VolumeId,
        /// Why.
        #[source]
        source: CopyError,
    },
    /// The machine refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why something could not be found.
#[derive(Debug, thiserror::Error)]
pub enum FindError {
    /// There is no such volume.
    #[error("there is no volume {0}")]
    NoSuchVolume(VolumeId),
    /// There is no such snapshot.
    #[error("there is no snapshot {0}")]
    NoSuchSnapshot(SnapshotId),
    /// The machine refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}
