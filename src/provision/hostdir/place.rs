//! How does a finished directory get to its place without replacing another?

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat, renameat2};
use nix::sys::stat::fstatat;
use nix::unistd::fsync;

use super::super::{DeleteError, StoreError};
use super::root::OpenRoot;
use super::{Stop, remove};

/// Moves `name` from one directory to `place` in another, where nothing of that name may be.
///
/// # Errors
/// `EEXIST` when something is there.
pub(super) fn move_into_place(
    from: BorrowedFd<'_>,
    name: &str,
    to: BorrowedFd<'_>,
    place: &str,
) -> Result<(), Errno> {
    match renameat2(from, name, to, place, RenameFlags::RENAME_NOREPLACE) {
        // NFS has no such flag. A plain rename replaces at most an empty directory, made since the look before.
        Err(Errno::EINVAL) => {
            if exists(to, place)? {
                return Err(Errno::EEXIST);
            }
            renameat(from, name, to, place)?;
        }
        other => other?,
    }
    fsync(from)?;
    fsync(to)
}

/// Is there anything of this name?
///
/// # Errors
/// When the directory can't be looked at.
pub(super) fn exists(dir: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
    inode(dir, name).map(|inode| inode.is_some())
}

/// The inode number of what has this name.
///
/// # Errors
/// When the directory can't be looked at.
pub(super) fn inode(dir: BorrowedFd<'_>, name: &str) -> Result<Option<u64>, Errno> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.st_ino)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// Removes what is in the making under this label; it is ours alone, so not even a stopping driver leaves it.
///
/// # Errors
/// When it can't be removed.
pub(super) fn discard_new(root: &OpenRoot, label: &str) -> Result<(), StoreError> {
    let discarded = remove::throw_away(root.new.as_fd(), label, root.trash.as_fd(), label)
        .and_then(|()| remove::empty_trash(root.trash.as_fd(), label, &Stop::default()));
    discarded.map_err(|error| match error {
        DeleteError::Store(error) => error,
        other => StoreError::new(format!("removing the unfinished {label}"), std::io::Error::other(other)),
    })
}
