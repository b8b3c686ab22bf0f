//! When does the mount table change?

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use super::syscalls::watched;

/// Tells of changes of the mount table; the kernel says nothing of what they are (proc(5), "mountinfo": POLLPRI).
#[derive(Debug)]
pub struct MountWatch(AsyncFd<OwnedFd>);

impl MountWatch {
    /// Begins to watch the table of this process's mount namespace.
    ///
    /// # Errors
    /// When /proc can't be read, or outside of a tokio runtime.
    pub fn new() -> io::Result<Self> {
        let table = File::open("/proc/self/mountinfo")?;
        Ok(Self(watched(table.into(), Interest::PRIORITY)?))
    }

    /// Returns after the next change. Changes between two calls are told at once, as one.
    ///
    /// # Errors
    /// When the runtime is shutting down.
    pub async fn changed(&self) -> io::Result<()> {
        self.0.ready(Interest::PRIORITY).await?.clear_ready();
        Ok(())
    }
}
