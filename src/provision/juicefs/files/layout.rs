//! What lies in a JuiceFS filesystem, and how is it opened?
//!
//! ```text
//! <path>/                                 a volume: a directory that is its user's
//! .mountpod/                              the driver's, mode 0700
//!     volumes/<volume>.json               record of a volume
//!     paths/<hash of path>                whose path that is: a symlink to the volume's name, made at once or not at all
//!     snapshots/<snapshot>/record.json    record of a snapshot, and
//!     snapshots/<snapshot>/data/          its copy
//!     new/                                volumes and snapshots in the making
//!     trash/                              trees that are being removed
//! ```
//!
//! No path of a volume begins with `.mountpod` (`config::juicefs::VolumePath`).

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::stat::{Mode, mkdirat};

use super::super::super::StoreError;
use super::super::super::files::below;

const OWN_DIR: &str = ".mountpod";
const VOLUMES_DIR: &str = "volumes";
const PATHS_DIR: &str = "paths";
const SNAPSHOTS_DIR: &str = "snapshots";
const NEW_DIR: &str = "new";
const TRASH_DIR: &str = "trash";
/// A snapshot's copy.
pub(super) const DATA: &str = "data";

/// To open a directory.
pub(super) const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// A filesystem opened for one job. No path is resolved from '/' again while it lasts.
pub(super) struct Tree {
    /// Its root.
    pub(super) root: OwnedFd,
    /// Records of volumes.
    pub(super) volumes: OwnedFd,
    /// Whose paths are whose.
    pub(super) paths: OwnedFd,
    /// Snapshots.
    pub(super) snapshots: OwnedFd,
    /// What is in the making.
    pub(super) new: OwnedFd,
    /// What is being removed.
    pub(super) trash: OwnedFd,
}

impl Tree {
    /// Opens the filesystem that is mounted here; makes what is missing of the driver's own directories.
    pub(super) fn open(mount: &Path) -> Result<Self, StoreError> {
        let flags = DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let root = open(mount, flags, Mode::empty())
            .map_err(|errno| StoreError::new(format!("opening {}", mount.display()), errno))?;
        let own = open_or_make(root.as_fd(), OWN_DIR)?;
        let directory = |name| open_or_make(own.as_fd(), name);
        Ok(Self {
            volumes: directory(VOLUMES_DIR)?,
            paths: directory(PATHS_DIR)?,
            snapshots: directory(SNAPSHOTS_DIR)?,
            new: directory(NEW_DIR)?,
            trash: directory(TRASH_DIR)?,
            root,
        })
    }
}

/// Opens a directory of the driver's own.
pub(super) fn open_or_make(parent: BorrowedFd<'_>, name: &str) -> Result<OwnedFd, StoreError> {
    let opened = match below::open(parent, name.as_bytes(), DIRECTORY) {
        Err(Errno::ENOENT) => make_directory(parent, name, Mode::S_IRWXU)
            .and_then(|()| below::open(parent, name.as_bytes(), DIRECTORY)),
        other => other,
    };
    opened.map_err(|errno| StoreError::new(format!("opening {name} of the driver"), errno))
}

/// Makes a directory; fine when it is there.
pub(super) fn make_directory(parent: BorrowedFd<'_>, name: &str, mode: Mode) -> Result<(), Errno> {
    match mkdirat(parent, name, mode) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// The name of a volume in `new/` and `trash/`, apart from a snapshot's.
pub(super) fn volume_label(name: &str) -> String {
    format!("volume-{name}")
}

/// The name of a snapshot in `new/` and `trash/`, apart from a volume's.
pub(super) fn snapshot_label(name: &str) -> String {
    format!("snapshot-{name}")
}

/// Where a volume is made, below the filesystem's root.
pub(in super::super) fn volume_in_the_making(name: &str) -> PathBuf {
    Path::new(OWN_DIR).join(NEW_DIR).join(volume_label(name))
}

/// Where a snapshot's copy is made, below the filesystem's root.
pub(in super::super) fn new_snapshot_data(name: &str) -> PathBuf {
    Path::new(OWN_DIR).join(NEW_DIR).join(snapshot_label(name)).join(DATA)
}

/// A snapshot's copy, below the filesystem's root.
pub(in super::super) fn snapshot_data(name: &str) -> PathBuf {
    Path::new(OWN_DIR).join(SNAPSHOTS_DIR).join(name).join(DATA)
}

/// What is being removed.
#[derive(Debug, Clone, Copy)]
pub(in super::super) enum Trash<'a> {
    /// Of the volume with this name.
    Volume(&'a str),
    /// Of the snapshot with this name.
    Snapshot(&'a str),
}

impl Trash<'_> {
    /// Where it is gathered, below the filesystem's root.
    pub(in super::super) fn path(self) -> PathBuf {
        let label = match self {
            Self::Volume(name) => volume_label(name),
            Self::Snapshot(name) => snapshot_label(name),
        };
        Path::new(OWN_DIR).join(TRASH_DIR).join(label)
    }
}
