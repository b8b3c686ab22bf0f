//! Which file does a node id mean, and which descriptor reaches it?
//!
//! The table in shared memory is the truth; an index in this process's memory finds a node by its inode and knows
//! which descriptors are in use. A node's `O_PATH` descriptor may be closed (there are more files than descriptors, or
//! a new keeper has none yet); it is then opened again by parent and name, and accepted only if it is the same file.

mod eviction;

use std::collections::{HashMap, VecDeque};
use std::ffi::CStr;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, Release};
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::errno::Errno;
use nix::libc;

use super::journal::Entry;
use super::layout::{CLOSED, Header, Layout, NODE_SLOTS, NodeRecord, OtherPlace};
use super::names::{self, Place};
use super::slots::{self, FreeSlots};
use crate::hostdir::attr::{Attr, Inode, Kind};
use crate::hostdir::{fds, sys};

/// The node id of the served directory.
pub(crate) const ROOT_ID: u64 = 1;

/// Slot 0 stays empty, slot 1 is the root's.
const FIRST_SLOT: u32 = 2;

/// How many parents are gone through to open a node again; a path has at most `PATH_MAX / 2` components.
const DEPTH_MAX: usize = 2048;

/// How many slots of forgotten nodes the clock may hold before it is made anew.
const CLOCK_SLACK: usize = 128;

/// Use of one open descriptor.
#[derive(Default)]
struct Use {
    pins: u32,
    recent: bool,
    /// The node is forgotten: close the descriptor with the last pin.
    forgotten: bool,
}

struct Index {
    by_inode: HashMap<Inode, u32>,
    free: FreeSlots,
    open: HashMap<u32, Use>,
    /// Open descriptors in the order in which eviction looks at them (second chance).
    clock: VecDeque<u32>,
}

/// The node table.
pub(crate) struct Nodes {
    header: &'static Header,
    records: &'static [NodeRecord],
    others: &'static [OtherPlace],
    index: Mutex<Index>,
    /// How many descriptors nodes may keep open.
    open_max: usize,
}

/// A descriptor that stays open while this exists.
pub(crate) struct Pinned<'a> {
    nodes: &'a Nodes,
    slot: u32,
    fd: RawFd,
}

impl Pinned<'_> {
    pub(crate) fn fd(&self) -> RawFd {
        self.fd
    }
}

impl Drop for Pinned<'_> {
    fn drop(&mut self) {
        self.nodes.unpin(self.slot, self.fd);
    }
}

/// A file just found under a name.
pub(crate) struct Found<'a> {
    pub(crate) parent: u64,
    pub(crate) name: &'a CStr,
    pub(crate) attr: &'a Attr,
    /// A descriptor of it, if there is one already.
    pub(crate) fd: Option<OwnedFd>,
}

impl Nodes {
    /// Builds the index from the table.
    pub(crate) fn load(layout: &'static Layout, open_max: usize) -> Self {
        let (header, records) = (&layout.header, &layout.nodes);
        names::repair(header, records);
        let end = header.node_end.load(Acquire).max(FIRST_SLOT);
        let mut index = Index {
            by_inode: HashMap::new(),
            free: FreeSlots::new(Vec::new(), end, NODE_SLOTS),
            open: HashMap::new(),
            clock: VecDeque::new(),
        };
        for (slot, record) in (0..end).zip(records).skip(FIRST_SLOT as usize) {
            if record.id.load(Acquire) == 0 {
                index.free.give_back(slot);
                continue;
            }
            index.by_inode.insert(record.inode(), slot);
            if record.fd.load(Acquire) != CLOSED {
                index.open.insert(slot, Use::default());
                index.clock.push_back(slot);
            }
        }
        index.by_inode.insert(records[1].inode(), 1);
        Self { header, records, others: &layout.other_places, index: Mutex::new(index), open_max }
    }

    fn lock(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, id: u64) -> Result<(u32, &'static NodeRecord), Errno> {
        let slot = slots::slot(id);
        let record = self.records.get(slot).filter(|record| id != 0 && record.id.load(Acquire) == id);
        Ok((u32::try_from(slot).map_err(|_| Errno::ESTALE)?, record.ok_or(Errno::ESTALE)?))
    }

    /// A node's descriptor, opened again when it was closed.
    ///
    /// # Errors
    /// `ESTALE` when the node is unknown or its file is no longer where it was seen last.
    pub(crate) fn pin(&self, id: u64) -> Result<Pinned<'_>, Errno> {
        self.pin_below(id, DEPTH_MAX)
    }

    fn pin_below(&self, id: u64, depth: usize) -> Result<Pinned<'_>, Errno> {
        let (slot, record) = self.record(id)?;
        if id == ROOT_ID {
            return Ok(Pinned { nodes: self, slot, fd: fds::ROOT });
        }
        if let Some(pinned) = self.pin_open(&mut self.lock(), slot, record, id)? {
            return Ok(pinned);
        }
        let fd = self.find_again(record, depth.checked_sub(1).ok_or(Errno::ESTALE)?)?;
        self.make_room();
        let mut index = self.lock();
        if record.id.load(Acquire) == id && record.fd.load(Acquire) == CLOSED {
            index.adopt(slot, record, fd);
        }
        self.pin_open(&mut index, slot, record, id)?.ok_or(Errno::ESTALE)
    }

    fn pin_open(
        &self,
        index: &mut Index,
        slot: u32,
        record: &NodeRecord,
        id: u64,
    ) -> Result<Option<Pinned<'_>>, Errno> {
        if record.id.load(Acquire) != id {
            return Err(Errno::ESTALE);
        }
        let fd = record.fd.load(Acquire);
        if fd == CLOSED {
            return Ok(None);
        }
        let used = index.open.entry(slot).or_default();
        used.pins += 1;
        used.recent = true;
        Ok(Some(Pinned { nodes: self, slot, fd }))
    }

    fn unpin(&self, slot: u32, fd: RawFd) {
        if u64::from(slot) == ROOT_ID {
            return;
        }
        let mut index = self.lock();
        let Some(used) = index.open.get_mut(&slot) else { return };
        used.pins = used.pins.saturating_sub(1);
        if used.pins == 0 && used.forgotten {
            index.open.remove(&slot);
            index.free.give_back(slot);
            drop(index);
            close_quietly(fd);
        }
    }

    /// Opens a node by the place where it was seen last, or by another of its names.
    fn find_again(&self, record: &NodeRecord, depth: usize) -> Result<OwnedFd, Errno> {
        let id = record.id.load(Acquire);
        let first = self.find_at(record, &names::read(record), depth);
        if first.is_ok() {
            return first;
        }
        let others = names::others(self.others, id);
        others.iter().find_map(|place| self.find_at(record, place, depth).ok()).map_or(first, Ok)
    }

    fn find_at(&self, record: &NodeRecord, place: &Place, depth: usize) -> Result<OwnedFd, Errno> {
        let parent = self.pin_below(place.parent, depth)?;
        let fd =
            self.with_room(|| sys::open_path(parent.fd(), &place.name)).map_err(|error| match error {
                Errno::ENOENT | Errno::ENOTDIR => Errno::ESTALE,
                other => other,
            })?;
        if record.is(&sys::attr(fd.as_raw_fd())?) { Ok(fd) } else { Err(Errno::ESTALE) }
    }

    fn place(&self, record: &NodeRecord, attr: &Attr, parent: u64, name: &CStr) {
        let id = record.id.load(Acquire);
        if attr.nlink > 1 && attr.kind() != Kind::Directory && !names::is_at(record, parent, name) {
            names::keep_other(self.header, self.others, record, id);
        }
        names::write(self.header, record, id, parent, name);
    }

    /// Counts one lookup of a file and answers its node id; a file not known yet gets a new node.
    ///
    /// # Errors
    /// `ENFILE` when the table is full.
    pub(crate) fn remember(&self, found: Found<'_>, journal: Entry) -> Result<u64, Errno> {
        self.make_room();
        let mut index = self.lock();
        let known = index.by_inode.get(&found.attr.inode).copied();
        let known = known.filter(|slot| self.records[*slot as usize].is_still(found.attr));
        let slot = match known {
            Some(slot) => slot,
            None => self.add(&mut index, &found)?,
        };
        let record = &self.records[slot as usize];
        let id = record.id.load(Acquire);
        if id == ROOT_ID {
            return Err(Errno::ELOOP);
        }
        record.lookups.fetch_add(1, AcqRel);
        journal.counted(id);
        self.place(record, found.attr, found.parent, found.name);
        match found.fd {
            Some(fd) if record.fd.load(Acquire) == CLOSED => index.adopt(slot, record, fd),
            spare => {
                drop(index);
                drop(spare);
            }
        }
        Ok(id)
    }

    fn add(&self, index: &mut Index, found: &Found<'_>) -> Result<u32, Errno> {
        let (slot, end) = index.free.take().ok_or(Errno::ENFILE)?;
        self.header.node_end.fetch_max(end, AcqRel);
        let record = &self.records[slot as usize];
        let uses = record.uses.fetch_add(1, AcqRel) + 1;
        record.lookups.store(0, Relaxed);
        record.identify(found.attr);
        record.fd.store(CLOSED, Relaxed);
        let id = slots::id(slot as usize, uses);
        names::write(self.header, record, id, found.parent, found.name);
        record.id.store(id, Release);
        index.by_inode.insert(found.attr.inode, slot);
        Ok(slot)
    }

    /// The kernel has dropped `count` lookups of a node; with the last one the node is gone.
    pub(crate) fn forget(&self, id: u64, count: u64) {
        if id == ROOT_ID {
            return;
        }
        let mut index = self.lock();
        let Ok((slot, record)) = self.record(id) else { return };
        let left = record.lookups.load(Acquire).saturating_sub(count);
        record.lookups.store(left, Release);
        if left > 0 {
            return;
        }
        if index.by_inode.get(&record.inode()) == Some(&slot) {
            index.by_inode.remove(&record.inode());
        }
        record.id.store(0, Release);
        let fd = record.fd.swap(CLOSED, AcqRel);
        match index.open.get_mut(&slot) {
            Some(used) if used.pins > 0 => {
                used.forgotten = true;
                return;
            }
            _ => index.open.remove(&slot),
        };
        index.free.give_back(slot);
        drop(index);
        if fd != CLOSED {
            close_quietly(fd);
        }
    }

    /// A file has been moved.
    pub(crate) fn moved(&self, attr: &Attr, parent: u64, name: &CStr) {
        let index = self.lock();
        if let Some(slot) = index.by_inode.get(&attr.inode) {
            self.place(&self.records[*slot as usize], attr, parent, name);
        }
    }

    /// Opens a known file before one of its names goes: afterwards it could not be found again.
    pub(crate) fn hold(&self, inode: Inode) -> Option<Pinned<'_>> {
        let slot = self.lock().by_inode.get(&inode).copied()?;
        self.pin(self.records[slot as usize].id.load(Acquire)).ok()
    }

    /// How many nodes are known and how many of them have an open descriptor.
    #[cfg(test)]
    pub(crate) fn census(&self) -> (usize, usize) {
        let index = self.lock();
        (index.by_inode.len(), index.open.len())
    }
}

impl Index {
    fn adopt(&mut self, slot: u32, record: &NodeRecord, fd: OwnedFd) {
        record.fd.store(fd.into_raw_fd(), Release);
        if self.open.insert(slot, Use { recent: true, ..Use::default() }).is_none() {
            self.clock.push_back(slot);
        }
        if self.clock.len() > 2 * self.open.len() + CLOCK_SLACK {
            self.clock = self.open.keys().copied().collect(); // forgotten nodes leave the clock only here
        }
    }
}

impl NodeRecord {
    fn inode(&self) -> Inode {
        Inode { dev: self.dev.load(Relaxed), ino: self.ino.load(Relaxed) }
    }

    fn identify(&self, attr: &Attr) {
        self.dev.store(attr.inode.dev, Relaxed);
        self.ino.store(attr.inode.ino, Relaxed);
        self.birth.store(attr.birth, Relaxed);
        self.kind.store(attr.mode & libc::S_IFMT, Relaxed);
    }

    /// Whether this record is of the file with these attributes.
    fn is(&self, attr: &Attr) -> bool {
        self.inode() == attr.inode
            && self.birth.load(Relaxed) == attr.birth
            && self.kind.load(Relaxed) == attr.mode & libc::S_IFMT
    }

    /// As `is`, for a file with the same inode number: an open descriptor keeps the number from being reused.
    fn is_still(&self, attr: &Attr) -> bool {
        self.id.load(Acquire) == ROOT_ID || self.fd.load(Acquire) != CLOSED || self.is(attr)
    }

    /// Makes this the record of the served directory.
    pub(crate) fn make_root(&self, attr: &Attr) {
        self.identify(attr);
        self.fd.store(fds::ROOT, Relaxed);
        self.lookups.store(1, Relaxed);
        self.id.store(ROOT_ID, Release);
    }

    /// Whether this is the record of the served directory with these attributes.
    pub(crate) fn is_root(&self, attr: &Attr) -> bool {
        self.id.load(Acquire) == ROOT_ID && self.inode() == attr.inode
    }
}

fn close_quietly(fd: RawFd) {
    if let Err(error) = sys::close(fd) {
        tracing::warn!(fd, %error, "closing a node's descriptor failed");
    }
}

#[cfg(test)]
mod tests;
