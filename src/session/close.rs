//! How does a session end?

use std::io;
use std::path::Path;

use crate::mounts::syscalls::{Unmount, unmount};
use crate::mounts::table::MountTable;

/// The most mounts that are taken from a session's own mount point; there is one.
const STACK_MAX: usize = 16;

/// Takes the mount of a session away, if it still stands, and aborts its connection, so that every request that waits
/// for it fails now. No server is waited for.
///
/// The connection is named by its mount, never by its number: the kernel gives the number of an ended connection to the
/// next one at once, which may be another volume's.
///
/// # Errors
/// When the mount table can't be read or the mount can't be taken away.
pub fn abort_and_detach(mount_point: &Path) -> io::Result<()> {
    for _ in 0..STACK_MAX {
        if MountTable::read()?.stack_at(mount_point).is_empty() {
            return Ok(());
        }
        // MNT_FORCE aborts, and then unmounts if nobody uses the mount.
        if let Err(error) = unmount(mount_point, Unmount::Abort) {
            tracing::debug!(%error, mount_point = %mount_point.display(), "umount2 with MNT_FORCE; detaching");
            unmount(mount_point, Unmount::Detach)?;
        }
    }
    Err(io::Error::other(format!("{} is still mounted", mount_point.display())))
}
