//! How is the mount table known without reading it each time?

use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::table::MountTable;

/// The mount table, read anew only when it has changed.
///
/// poll(2) on an open mountinfo tells whether the table has changed since the poll before (`mounts_poll` in the
/// kernel's fs/proc_namespace.c), so what is given back is never older than the call.
#[derive(Debug)]
pub struct MountCache(Mutex<Cached>);

#[derive(Debug)]
struct Cached {
    changes: File,
    table: Option<Arc<MountTable>>,
}

impl MountCache {
    /// An empty cache of the table of this process's mount namespace.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn new() -> io::Result<Self> {
        let changes = File::open("/proc/self/mountinfo")?;
        Ok(Self(Mutex::new(Cached { changes, table: None })))
    }

    /// The table, if it is known and has not changed, without blocking.
    #[must_use]
    pub fn unchanged(&self) -> Option<Arc<MountTable>> {
        let mut cached = self.0.try_lock().ok()?;
        // A change that this poll has seen is hidden from the next one: the table must be forgotten with it.
        if !has_changed(&cached.changes).is_ok_and(|changed| !changed) {
            cached.table = None;
        }
        cached.table.clone()
    }

    /// The table as it is now. It blocks while another thread reads it.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn table(&self) -> io::Result<Arc<MountTable>> {
        let mut cached = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Asked first, read second: a change in between is told by the next poll.
        let changed = has_changed(&cached.changes)?;
        match &cached.table {
            Some(table) if !changed => Ok(Arc::clone(table)),
            _ => {
                cached.table = None;
                let table = Arc::new(MountTable::read()?);
                cached.table = Some(Arc::clone(&table));
                Ok(table)
            }
        }
    }
}

fn has_changed(mountinfo: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(mountinfo.as_fd(), PollFlags::POLLPRI)];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds[0].revents().is_some_and(|seen| seen.intersects(PollFlags::POLLPRI | PollFlags::POLLERR)))
}
