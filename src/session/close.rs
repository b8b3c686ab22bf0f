//! How does a session end?

use std::io;
use std::path::Path;

use crate::mountpod::facts::DeviceNumber;
use crate::mounts::syscalls::{Unmount, abort_connection, unmount};
use crate::mounts::table::MountTable;

/// The most mounts that are taken from a session's own mount point; there is one.
const STACK_MAX: usize = 16;

/// Aborts the connection of a session, so that every request that waits for it fails now, and takes its mount away.
/// No server is waited for.
///
/// # Errors
/// When the mount table can't be read or the mount can't be taken away.
pub fn abort_and_detach(mount_point: &Path, device: Option<DeviceNumber>) -> io::Result<()> {
    if let Some(device) = device
        && let Err(error) = abort_connection(device.minor)
    {
        tracing::warn!(%error, %device, "can't abort the connection by fusectl; trying by umount2");
        if let Err(error) = unmount(mount_point, Unmount::Abort) {
            tracing::debug!(%error, %device, "umount2 with MNT_FORCE");
        }
    }
    for _ in 0..STACK_MAX {
        if MountTable::read()?.stack_at(mount_point).is_empty() {
            return Ok(());
        }
        unmount(mount_point, Unmount::Detach)?;
    }
    Err(io::Error::other(format!("{} is still mounted", mount_point.display())))
}
