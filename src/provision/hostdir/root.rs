//! What lies in a root, and how is a root opened?
//!
//! ```text
//! <root>/<volume>/                      a volume: a directory that is its user's
//! <root>/.mountpod/                     the driver's, mode 0700
//!     volumes/<volume>.json             record of a volume
//!     snapshots/<snapshot>/record.json  record of a snapshot, and
//!     snapshots/<snapshot>/data/        its copy
//!     new/                              volumes and snapshots in the making
//!     trash/                            trees that are being removed
//! ```
//!
//! Volumes' names begin with a letter or digit, so none can be named `.mountpod`.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::mkdir;

use super::super::StoreError;
use super::super::files::below;
use crate::config::flags::{HostdirRoot, MissingRoot, Reach};

/// The driver's own directory in a root.
const OWN_DIR: &str = ".mountpod";
const VOLUMES_DIR: &str = "volumes";
const SNAPSHOTS_DIR: &str = "snapshots";
const NEW_DIR: &str = "new";
const TRASH_DIR: &str = "trash";

/// Why the roots can't be served.
#[derive(Debug, thiserror::Error)]
pub enum RootError {
    /// Two roots of one name.
    #[error("--hostdir-root {0} is given twice; give each root a name of its own")]
    SameName(String),
    /// One directory, or one inside the other: their volumes would mix.
    #[error(
        "--hostdir-root {inner} lies in --hostdir-root {outer}; volumes of one would be seen through the other"
    )]
    Nested {
        /// The name of the root inside.
        inner: String,
        /// The name of the root around it.
        outer: String,
    },
    /// Two drivers on one root would each delete what the other has published.
    #[error(
        "another driver serves --hostdir-root {name}={}; stop it first, or give this one a directory of its own",
        dir.display()
    )]
    InUse {
        /// The root's name.
        name: String,
        /// Its directory.
        dir: PathBuf,
    },
    /// It can't be used.
    #[error("--hostdir-root {name}={}: the directory can't be used", dir.display())]
    Unusable {
        /// The root's name.
        name: String,
        /// Its directory.
        dir: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A root opened for one operation. No path is resolved from '/' again while it lasts.
pub(super) struct OpenRoot {
    /// The root itself: volumes are its subdirectories.
    pub dir: OwnedFd,
    /// Records of volumes.
    pub volumes: OwnedFd,
    /// Snapshots.
    pub snapshots: OwnedFd,
    /// What is in the making.
    pub new: OwnedFd,
    /// What is being removed.
    pub trash: OwnedFd,
}

/// Opens a root and what is the driver's in it.
///
/// # Errors
/// When the root, or the driver's directory that was made in it at start, is not there: perhaps its disk is not
/// mounted any more, and what would be written now would lie below the mount point.
pub(super) fn open_root(root: &HostdirRoot) -> Result<OpenRoot, StoreError> {
    let dir = open_dir_at_path(&root.dir)
        .map_err(|e| StoreError::new(format!("opening root {} ({})", root.name, root.dir.display()), e))?;
    let own = |name: &str| {
        let path = format!("{OWN_DIR}/{name}");
        below::open(dir.as_fd(), path.as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(|e| {
            let what = format!(
                "opening {path} in root {} ({}; is its disk mounted?)",
                root.name,
                root.dir.display()
            );
            StoreError::new(what, e)
        })
    };
    let (volumes, snapshots) = (own(VOLUMES_DIR)?, own(SNAPSHOTS_DIR)?);
    let (new, trash) = (own(NEW_DIR)?, own(TRASH_DIR)?);
    Ok(OpenRoot { dir, volumes, snapshots, new, trash })
}

/// Makes the roots ready when the driver starts: checks them and makes the driver's directories in them.
///
/// # Errors
/// See [`RootError`].
pub(super) fn prepare(roots: &[HostdirRoot]) -> Result<(), RootError> {
    let mut seen: Vec<(&HostdirRoot, PathBuf)> = Vec::new();
    for root in roots {
        if seen.iter().any(|(other, _)| other.name == root.name) {
            return Err(RootError::SameName(root.name.to_string()));
        }
        make_if_ours(root).map_err(unusable(root))?;
        let real = root.dir.canonicalize().map_err(unusable(root))?;
        for (other, other_real) in &seen {
            let pair = |inner: &HostdirRoot, outer: &HostdirRoot| RootError::Nested {
                inner: inner.name.to_string(),
                outer: outer.name.to_string(),
            };
            if real.starts_with(other_real) {
                return Err(pair(root, other));
            }
            if other_real.starts_with(&real) {
                return Err(pair(other, root));
            }
        }
        seen.push((root, real));
    }
    // Only now: nothing is made in a root that is refused.
    roots.iter().try_for_each(|root| make_own_dirs(root).map_err(unusable(root)))
}

fn unusable<E: Into<io::Error>>(root: &HostdirRoot) -> impl FnOnce(E) -> RootError {
    move |error| RootError::Unusable {
        name: root.name.to_string(),
        dir: root.dir.clone(),
        source: error.into(),
    }
}

/// Takes the roots for this driver, but for those that other nodes serve, too.
///
/// # Errors
/// [`RootError::InUse`] when another driver has one of them.
pub(super) fn take(roots: &[HostdirRoot]) -> Result<Vec<Flock<File>>, RootError> {
    roots.iter().map(take_one).filter_map(Result::transpose).collect()
}

fn take_one(root: &HostdirRoot) -> Result<Option<Flock<File>>, RootError> {
    if root.reach == Reach::Shared {
        return Ok(None);
    }
    let own = File::open(root.dir.join(OWN_DIR)).map_err(unusable(root))?;
    match Flock::lock(own, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(Some(lock)),
        Err((_, Errno::EWOULDBLOCK)) => {
            Err(RootError::InUse { name: root.name.to_string(), dir: root.dir.clone() })
        }
        Err((_, errno)) => Err(unusable(root)(errno)),
    }
}

fn make_if_ours(root: &HostdirRoot) -> Result<(), Errno> {
    if root.missing == MissingRoot::Refuse {
        return Ok(());
    }
    // Others may look in: the volumes in it have modes of their own, the driver's directory is closed.
    match mkdir(&root.dir, Mode::from_bits_truncate(0o755)) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(errno) => Err(errno),
    }
}

fn make_own_dirs(root: &HostdirRoot) -> Result<(), Errno> {
    let dir = open_dir_at_path(&root.dir)?;
    let make = |path: &str| match mkdirat(&dir, path, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {
            below::open(dir.as_fd(), path.as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY).map(drop)
        }
        Err(errno) => Err(errno),
    };
    make(OWN_DIR)?;
    for name in [VOLUMES_DIR, SNAPSHOTS_DIR, NEW_DIR, TRASH_DIR] {
        make(&format!("{OWN_DIR}/{name}"))?;
    }
    Ok(())
}

/// Opens an administrator's path: links on the way are theirs to make, but the directory itself must be one.
fn open_dir_at_path(path: &Path) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let fd = open(path, flags, Mode::empty())?;
    // A first read shows a stale NFS handle here and not in the middle of an operation.
    Dir::from_fd(fd.try_clone().map_err(|_| Errno::EMFILE)?)?;
    Ok(fd)
}
