//! Which descriptor does a file handle mean?

use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::libc;

use super::journal::Entry;
use super::layout::{CLOSED, HANDLE_SLOTS, HandleRecord, Header, Layout};
use super::nodes::Nodes;
use super::slots::{self, FreeSlots};
use crate::hostdir::sys;

/// Locks that serialise listing, each for the handles of some slots: a directory's position is part of its open file.
const LISTING_LOCKS: usize = 64;

/// Flags that must not be repeated when a file is opened again.
const ONCE: i32 = libc::O_CREAT | libc::O_EXCL | libc::O_TRUNC;

/// The handle table.
pub(crate) struct Handles {
    header: &'static Header,
    records: &'static [HandleRecord],
    free: Mutex<FreeSlots>,
    listing: [Mutex<()>; LISTING_LOCKS],
}

impl Handles {
    /// Finds the free slots of the table.
    pub(crate) fn load(layout: &'static Layout) -> Self {
        let (header, records) = (&layout.header, &layout.handles);
        let end = header.handle_end.load(Acquire).max(1); // slot 0 stays empty
        let is_free = |slot: &u32| records[*slot as usize].id.load(Acquire) == 0;
        let free = FreeSlots::new((1..end).filter(is_free).collect(), end, HANDLE_SLOTS);
        Self { header, records, free: Mutex::new(free), listing: std::array::from_fn(|_| Mutex::new(())) }
    }

    fn record(&self, id: u64) -> Result<&'static HandleRecord, Errno> {
        let record = self.records.get(slots::slot(id));
        record.filter(|record| id != 0 && record.id.load(Acquire) == id).ok_or(Errno::EBADF)
    }

    /// Puts an open file into the table.
    ///
    /// # Errors
    /// `ENFILE` when the table is full.
    pub(crate) fn add(&self, fd: OwnedFd, node: u64, flags: i32, journal: Entry) -> Result<u64, Errno> {
        let taken = self.free.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (slot, end) = taken.ok_or(Errno::ENFILE)?;
        self.header.handle_end.fetch_max(end, AcqRel);
        let record = &self.records[slot as usize];
        let id = slots::id(slot as usize, record.uses.fetch_add(1, AcqRel) + 1);
        record.node.store(node, Relaxed);
        record.flags.store(flags & !ONCE, Relaxed);
        record.fd.store(fd.into_raw_fd(), Relaxed);
        journal.set_handle(id);
        record.id.store(id, Release);
        Ok(id)
    }

    /// A handle's descriptor, opened again by its node when a new keeper has none.
    ///
    /// # Errors
    /// `EBADF` for an unknown handle, `ESTALE` when its file cannot be found any more.
    pub(crate) fn fd(&self, id: u64, nodes: &Nodes) -> Result<RawFd, Errno> {
        let record = self.record(id)?;
        match record.fd.load(Acquire) {
            CLOSED => Self::open_again(record, nodes),
            fd => Ok(fd),
        }
    }

    fn open_again(record: &HandleRecord, nodes: &Nodes) -> Result<RawFd, Errno> {
        let node = nodes.pin(record.node.load(Relaxed))?;
        let flags = record.flags.load(Relaxed);
        let fd = nodes.with_room(|| sys::reopen(node.fd(), flags))?;
        match record.fd.compare_exchange(CLOSED, fd.as_raw_fd(), AcqRel, Acquire) {
            Ok(_) => Ok(fd.into_raw_fd()),
            Err(already) => Ok(already),
        }
    }

    /// Takes a handle out of the table and closes it. The id goes first, then the number, then the descriptor: a
    /// repeated release must never close a number that was given to another file.
    pub(crate) fn release(&self, id: u64) {
        let Ok(record) = self.record(id) else { return };
        if record.id.compare_exchange(id, 0, AcqRel, Acquire).is_err() {
            return;
        }
        let fd = record.fd.swap(CLOSED, AcqRel);
        if fd != CLOSED
            && let Err(error) = sys::close(fd)
        {
            tracing::warn!(fd, %error, "closing a released file failed");
        }
        let slot = u32::try_from(slots::slot(id)).unwrap_or(0);
        self.free.lock().unwrap_or_else(PoisonError::into_inner).give_back(slot);
    }

    /// Held while one handle is listed.
    pub(crate) fn listing_lock(&self, id: u64) -> MutexGuard<'_, ()> {
        self.listing[slots::slot(id) % LISTING_LOCKS].lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes the data of every file that is still open for writing durable.
    pub(crate) fn sync_all(&self) {
        let end = self.header.handle_end.load(Acquire) as usize;
        for record in self.records[..end].iter().filter(|record| record.id.load(Acquire) != 0) {
            let fd = record.fd.load(Acquire);
            let writable = record.flags.load(Relaxed) & libc::O_ACCMODE != libc::O_RDONLY;
            if fd != CLOSED
                && writable
                && let Err(error) = sys::sync(fd, false)
            {
                tracing::error!(fd, %error, "data of an open file may be lost");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use super::*;
    use crate::hostdir::state::journal::Journal;
    use crate::hostdir::state::layout::testing::fresh_layout;

    fn some_file() -> OwnedFd {
        sys::reopen(0, libc::O_RDONLY | libc::O_PATH).unwrap()
    }

    fn is_open(fd: RawFd) -> bool {
        sys::attr(fd).is_ok()
    }

    #[test]
    fn a_released_handle_is_unknown_and_its_id_never_comes_back() {
        let layout = fresh_layout();
        let (handles, nodes) = (Handles::load(layout), Nodes::load(layout, 8));
        let entry = Journal::new(layout).free_entries(1)[0];
        let first = handles.add(some_file(), 1, 0, entry).unwrap();
        let fd = handles.fd(first, &nodes).unwrap();
        assert!(is_open(fd));
        handles.release(first);
        handles.release(first);
        assert_eq!(handles.fd(first, &nodes), Err(Errno::EBADF));
        let second = handles.add(some_file(), 1, 0, entry).unwrap();
        assert_eq!(slots::slot(first), slots::slot(second));
        assert_ne!(first, second);
        handles.release(second);
    }

    #[test]
    fn handles_outlive_the_server_and_free_slots_are_found_again() {
        let layout = fresh_layout();
        let nodes = Nodes::load(layout, 8);
        let entry = Journal::new(layout).free_entries(1)[0];
        let before = Handles::load(layout);
        let ids: Vec<u64> = (0..10).map(|_| before.add(some_file(), 1, 0, entry).unwrap()).collect();
        before.release(ids[4]);
        let after = Handles::load(layout);
        assert!(after.fd(ids[3], &nodes).is_ok());
        let reused = after.add(some_file(), 1, 0, entry).unwrap();
        assert_eq!(slots::slot(reused), slots::slot(ids[4]));
        ids.iter().chain([&reused]).for_each(|id| after.release(*id));
    }

    #[test]
    fn made_up_handles_are_refused() {
        let layout = fresh_layout();
        let (handles, nodes) = (Handles::load(layout), Nodes::load(layout, 8));
        for id in [0, 1, 5, u64::MAX, 1 << 40] {
            assert_eq!(handles.fd(id, &nodes), Err(Errno::EBADF));
            handles.release(id);
        }
    }
}
