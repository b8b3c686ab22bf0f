//! Why could a volume or a snapshot not be made, changed, removed or found?

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use super::Source;
use crate::config::capacity::UnsupportedRange;
use crate::config::field::InvalidField;
use crate::juicefs::words::Trouble;
use crate::mountpod::service::MountError;
use crate::telemetry::chain;
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

/// Which parameter names the Secret that a call carries?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecretsOf {
    /// To make and delete volumes.
    Provisioner,
    /// To expand volumes.
    Expansion,
    /// To take and delete snapshots.
    Snapshotter,
    /// To look at snapshots.
    SnapshotList,
    /// Callers that are no sidecars of Kubernetes: no parameter leads a Secret to this call there.
    Nobody,
}

impl fmt::Display for SecretsOf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Provisioner => {
                "name their Secret in csi.storage.k8s.io/provisioner-secret-name and -namespace of the StorageClass"
            }
            Self::Expansion => {
                "name their Secret in csi.storage.k8s.io/controller-expand-secret-name and -namespace of the StorageClass"
            }
            Self::Snapshotter => {
                "name their Secret in csi.storage.k8s.io/snapshotter-secret-name and -namespace of the \
                 VolumeSnapshotClass"
            }
            Self::SnapshotList => {
                "name their Secret in csi.storage.k8s.io/snapshotter-list-secret-name and -namespace of the \
                 VolumeSnapshotClass"
            }
            Self::Nobody => "CSI has no secrets for this call",
        })
    }
}

/// Why nothing can be done in a filesystem that a client serves.
#[derive(Debug, thiserror::Error)]
pub enum FilesystemError {
    /// The call carries no credentials.
    #[error("a JuiceFS filesystem is reached with credentials, which the call does not carry: {wanted}")]
    NoSecrets {
        /// What would have brought them.
        wanted: SecretsOf,
    },
    /// A key of the Secret can't be used.
    #[error(transparent)]
    Secret(#[from] InvalidField),
    /// What was begun has failed, and could not be removed: the next call for it finds what is left.
    #[error("{why}; what was made until then could not be removed yet")]
    LeftBehind {
        /// Why it failed.
        why: String,
        /// Why it could not be removed.
        #[source]
        left: Box<FilesystemError>,
    },
    /// This driver has no program for the client.
    #[error(
        "this driver was given no JuiceFS client: start it with --juicefs-program (in the chart: juicefs.enabled=true)"
    )]
    NoClient,
    /// The filesystem could not be mounted.
    #[error("filesystem {filesystem} could not be mounted")]
    Mount {
        /// The filesystem.
        filesystem: FilesystemName,
        /// Why; several calls may have waited for the same mount.
        #[source]
        source: Arc<MountError>,
    },
    /// The client refused a command, or died of it.
    #[error("{doing} failed: {}", of_client(*trouble, words))]
    Client {
        /// What it was to do.
        doing: String,
        /// What its words mean.
        trouble: Trouble,
        /// Secrets removed.
        words: String,
    },
    /// Not done in time. A process that waits for the filesystem can't be ended before it answers.
    #[error("{doing} was not done within {} s: the filesystem does not answer", limit.as_secs())]
    Silent {
        /// What was to be done.
        doing: String,
        /// For how long it was waited.
        limit: Duration,
    },
    /// The client answers, but one of its servers does not.
    #[error("the client of filesystem {filesystem} can't reach its metadata engine or its object storage")]
    OutOfReach {
        /// The filesystem.
        filesystem: FilesystemName,
        /// What it was asked.
        #[source]
        source: StoreError,
    },
    /// An earlier operation still waits.
    #[error("an earlier operation still waits for filesystem {0}; nothing more is asked of it meanwhile")]
    StillWaiting(FilesystemName),
    /// The driver is being stopped.
    #[error("the driver is being stopped")]
    Stopping,
    /// The filesystem, or the machine, refused an operation on files.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn of_client(trouble: Trouble, words: &str) -> String {
    let said = if words.is_empty() { "it said nothing".to_owned() } else { format!("it said: {words}") };
    if trouble == Trouble::Unknown {
        format!("the client failed; {said}")
    } else {
        format!("{trouble}; {said}")
    }
}

impl FilesystemError {
    /// What was begun has failed, and so has its removal.
    pub(super) fn left_behind(why: &dyn std::error::Error, left: Self) -> Self {
        Self::LeftBehind { why: chain(why), left: Box::new(left) }
    }

    /// Can what was begun be taken back now? Not while a process may still be at it, nor while the filesystem is out of
    /// reach: the next call goes on from there.
    #[must_use]
    pub fn allows_taking_back(&self) -> bool {
        match self {
            Self::Silent { .. }
            | Self::OutOfReach { .. }
            | Self::StillWaiting(_)
            | Self::LeftBehind { .. }
            | Self::Stopping => false,
            Self::Client { trouble, .. } => *trouble != Trouble::Unreachable,
            Self::Mount { .. }
            | Self::NoSecrets { .. }
            | Self::Secret(_)
            | Self::NoClient
            | Self::Store(_) => true,
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
    /// Another volume has its path, or one around it.
    #[error(
        "the path {path:?} in filesystem {filesystem} belongs to volume {owner:?}; no two volumes share files"
    )]
    PathTaken {
        /// Where.
        filesystem: FilesystemName,
        /// The path that both would have, or the one of the volume around it.
        path: String,
        /// The name of the volume that has it.
        owner: String,
    },
    /// A parameter that does not fit this claim or this source.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// What a parameter needs of the cluster could not be asked for now.
    #[error("{field} {why}")]
    ClusterSilent {
        /// The parameter.
        field: String,
        /// What it needs, and why there was no answer.
        why: String,
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
    /// The filesystem can't be worked in.
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
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
    /// The filesystem can't be worked in.
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
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
    /// Such a volume's limits stand in its context, which nobody can write anew.
    #[error(
        "mutable_parameters can't change the limits of volume {0}: those of a JuiceFS volume are taken when it is made; \
         make a clone of it with the class that you want"
    )]
    Unchangeable(VolumeId),
    /// The range can't be honoured.
    #[error(transparent)]
    Range(#[from] UnsupportedRange),
    /// The filesystem can't be worked in.
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
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
    /// The filesystem can't be worked in.
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
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
    /// The filesystem can't be worked in.
    #[error(transparent)]
    Filesystem(#[from] FilesystemError),
    /// The machine refused something.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl FindError {
    /// The same as the error of another operation, which has a word of its own for what is not there.
    pub(super) fn or_missing<E: From<FilesystemError> + From<StoreError>>(
        self,
        missing: impl FnOnce() -> E,
    ) -> E {
        match self {
            Self::NoSuchVolume(_) | Self::NoSuchSnapshot(_) => missing(),
            Self::Filesystem(error) => error.into(),
            Self::Store(error) => error.into(),
        }
    }
}
