//! Which nodes give up their descriptors when there are more files than descriptors?

use std::sync::atomic::Ordering::{AcqRel, Acquire};

use nix::errno::Errno;

use super::{Index, Nodes, ROOT_ID, close_quietly};
use crate::hostdir::state::layout::{CLOSED, NodeRecord};
use crate::hostdir::state::names;
use crate::hostdir::{fds, sys};

/// How many descriptors one round of eviction looks at, so that the lock is held shortly.
const EVICTION_ROUND: usize = 128;

impl Nodes {
    /// Runs a call that opens a descriptor, and runs it again with fewer node descriptors when there was no room.
    pub(crate) fn with_room<T>(&self, mut open: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
        match open() {
            Err(Errno::EMFILE | Errno::ENFILE) => {
                let open_now = self.lock().open.len();
                self.evict_down_to(open_now / 2);
                open()
            }
            result => result,
        }
    }

    pub(super) fn make_room(&self) {
        if self.lock().open.len() > self.open_max {
            self.evict_down_to(self.open_max - self.open_max / 8);
        }
    }

    fn evict_down_to(&self, wanted: usize) {
        let rounds = self.lock().clock.len().div_ceil(EVICTION_ROUND) * 2;
        for _ in 0..rounds {
            let mut index = self.lock();
            for _ in 0..EVICTION_ROUND {
                if index.open.len() <= wanted {
                    return;
                }
                self.evict_one(&mut index);
            }
        }
    }

    /// Looks at one descriptor: closes it unless it is in use, was used lately, or could not be opened again.
    fn evict_one(&self, index: &mut Index) {
        let Some(slot) = index.clock.pop_front() else { return };
        let Some(used) = index.open.get_mut(&slot) else { return };
        let record = &self.records[slot as usize];
        let was_recent = std::mem::take(&mut used.recent);
        if was_recent || used.pins > 0 || !self.can_be_found_again(record) {
            index.clock.push_back(slot);
            return;
        }
        index.open.remove(&slot);
        let fd = record.fd.swap(CLOSED, AcqRel);
        if fd != CLOSED {
            close_quietly(fd);
        }
    }

    fn can_be_found_again(&self, record: &NodeRecord) -> bool {
        let Ok(attr) = sys::attr(record.fd.load(Acquire)) else { return true };
        if attr.nlink == 0 {
            return false;
        }
        let place = names::read(record);
        let Ok((_, parent)) = self.record(place.parent) else { return false };
        let parent_fd = if place.parent == ROOT_ID { fds::ROOT } else { parent.fd.load(Acquire) };
        // A parent that is itself closed was findable when it was closed.
        parent_fd == CLOSED || sys::inode_at(parent_fd, &place.name) == Ok(Some(attr.inode))
    }
}
