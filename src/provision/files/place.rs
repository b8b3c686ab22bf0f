//! How does a finished directory get to its place without replacing another?

use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, RenameFlags, renameat, renameat2};
use nix::sys::stat::fstatat;
use nix::unistd::fsync;

/// Moves `name` from one directory to `place` in another, where nothing of that name may be.
///
/// # Errors
/// `EEXIST` when something is there.
pub(in crate::provision) fn move_into_place(
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
pub(in crate::provision) fn exists(dir: BorrowedFd<'_>, name: &str) -> Result<bool, Errno> {
    inode(dir, name).map(|inode| inode.is_some())
}

/// The inode number of what has this name.
///
/// # Errors
/// When the directory can't be looked at.
pub(in crate::provision) fn inode(dir: BorrowedFd<'_>, name: &str) -> Result<Option<u64>, Errno> {
    match fstatat(dir, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat.st_ino)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
    }
}
