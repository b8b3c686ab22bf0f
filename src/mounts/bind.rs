//! How does a session's mount come to a target, and go from it again?

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::path::Path;

use super::cache::MountCache;
use super::syscalls::{
    Unmount, attach, clone_tree, open_directory_below, open_plain_directory, restrict, unmount,
};
use super::table::{MountEntry, MountId};
use super::target::{Origin, Place, TargetError};
use crate::volume::{TargetPath, Writability};

/// The most mounts of one session that are taken from one target; a target has one, after a crash two.
const STACK_MAX: usize = 64;

/// Why a session could not be bound at a target.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The target can't be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// The session's mount is not there.
    #[error("the mount {mount_source} is not at {path} any more")]
    NoSession {
        /// The source of the mount that should be there.
        mount_source: String,
        /// Where it should be.
        path: String,
    },
    /// The kernel refused.
    #[error("can't {what} for target_path {target}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// The target.
        target: TargetPath,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Binds a directory of the mount with source `mount_source` that stands at `session_mount` at a target; an empty one is
/// all of it. Any other is looked up by the mount's own client, for which only a helper process may wait. `mounts` knows
/// the table.
///
/// The copy gets its flags before it is attached, so a read-only target is never writable, not even for a moment.
///
/// # Errors
/// See [`BindError`]; a target directory that was created is removed again.
pub fn bind(
    mounts: &MountCache,
    session_mount: &Path,
    mount_source: &str,
    directory: &str,
    target: &TargetPath,
    writability: Writability,
) -> Result<(), BindError> {
    let kernel = |what| move |source| BindError::Kernel { what, target: target.clone(), source };
    let root = open_plain_directory(session_mount).map_err(kernel("open the session's mount"))?;
    let stands = is_mounted(mounts, root.as_fd(), mount_source).map_err(kernel("read the mount table"))?;
    if !stands {
        let (mount_source, path) = (mount_source.to_owned(), session_mount.display().to_string());
        return Err(BindError::NoSession { mount_source, path });
    }
    let shown = match directory {
        "" => root,
        below => open_directory_below(root.as_fd(), Path::new(below))
            .map_err(kernel("open the volume's directory"))?,
    };
    let copy = clone_tree(shown.as_fd()).map_err(kernel("copy the session's mount"))?;
    restrict(copy.as_fd(), writability).map_err(kernel("restrict the mount"))?;
    let place = Place::find(target)?;
    let (stand, origin) = place.open_or_create()?;
    attach(copy.as_fd(), stand.as_fd()).map_err(|error| {
        if origin == Origin::Created
            && let Err(leftover) = place.remove()
        {
            tracing::warn!(%leftover, "a target directory of ours stays");
        }
        kernel("attach the mount")(error)
    })
}

/// Is what the descriptor shows the root of the mount with that source? Asked of /proc: a stat would be a request to
/// the FUSE server.
fn is_mounted(mounts: &MountCache, root: BorrowedFd<'_>, mount_source: &str) -> io::Result<bool> {
    let Some(id) = mount_id(root)? else { return Ok(false) };
    Ok(mounts.table()?.iter().any(|entry| entry.id == id && entry.source == mount_source))
}

/// The number of the mount that a descriptor lies on (proc(5), "fdinfo").
fn mount_id(fd: BorrowedFd<'_>) -> io::Result<Option<MountId>> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd()))?;
    let field = info.lines().find_map(|line| line.strip_prefix("mnt_id:"));
    Ok(field.and_then(|id| id.trim().parse().ok()).map(MountId))
}

/// Why a target could not be freed.
#[derive(Debug, thiserror::Error)]
pub enum UnbindError {
    /// The target can't be used.
    #[error(transparent)]
    Target(#[from] TargetError),
    /// Somebody else's mount lies over ours.
    #[error("{foreign} is mounted at {target} over the volume and is not ours; unmount it first")]
    Foreign {
        /// Its source and type.
        foreign: String,
        /// The target.
        target: TargetPath,
    },
    /// Ours is the last mount of a connection that lives: taking it away waits for its client.
    #[error("the mount at {target} is the last of its session")]
    LastOfSession {
        /// The target.
        target: TargetPath,
    },
    /// The kernel refused.
    #[error("can't {what} for target_path {target}")]
    Kernel {
        /// What was asked of it.
        what: &'static str,
        /// The target.
        target: TargetPath,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// What to do with the last mount of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastMount {
    /// Refuse: [`UnbindError::LastOfSession`].
    Keep,
    /// Take it away. For connections that are aborted, and for processes that may wait.
    Take,
}

/// Takes every mount that is `ours` from a target, and leaves its directory; `mounts` knows the table.
///
/// # Errors
/// See [`UnbindError`]; mounts of others are never touched.
pub fn unbind(
    mounts: &MountCache,
    target: &TargetPath,
    ours: impl Fn(&MountEntry) -> bool,
    last: LastMount,
) -> Result<(), UnbindError> {
    let kernel = |what| move |source| UnbindError::Kernel { what, target: target.clone(), source };
    for _ in 0..STACK_MAX {
        let table = mounts.table().map_err(kernel("read the mount table"))?;
        let stack = table.stack_at(target.as_path());
        if !stack.iter().any(|entry| ours(entry)) {
            return Ok(());
        }
        let Some(top) = stack.last() else { return Ok(()) };
        if !ours(top) {
            let foreign = format!("{} ({})", top.source, top.fs_type);
            return Err(UnbindError::Foreign { foreign, target: target.clone() });
        }
        if last == LastMount::Keep && table.count_of(top.device) == 1 {
            return Err(UnbindError::LastOfSession { target: target.clone() });
        }
        unmount_top(&Place::find(target)?).map_err(kernel("unmount"))?;
    }
    Err(kernel("unmount")(io::Error::other(format!("more than {STACK_MAX} mounts are stacked there"))))
}

/// Unmounts the top mount of a place, in use or not.
fn unmount_top(place: &Place) -> io::Result<()> {
    match unmount(&place.path(), Unmount::IfUnused) {
        Err(error) if error.kind() == io::ErrorKind::ResourceBusy => {
            tracing::warn!(
                target_path = %place.target(),
                "processes still use the volume there: the mount is detached and ends with the last of them"
            );
            unmount(&place.path(), Unmount::Detach)
        }
        done => done,
    }
}

/// Removes the directory of a target that nothing is mounted at; that it is missing already is no error.
///
/// # Errors
/// When it holds files, when something is mounted there, or when a symlink is on the way.
pub fn remove_target(target: &TargetPath) -> Result<(), TargetError> {
    let parent_is_gone = target.as_path().parent().is_some_and(|parent| {
        // Not followed: a dangling symlink is there, and refused by the walk below.
        std::fs::symlink_metadata(parent).is_err_and(|error| error.kind() == io::ErrorKind::NotFound)
    });
    if parent_is_gone { Ok(()) } else { Place::find(target)?.remove() }
}
