//! How far did a dead server come with a request that the kernel sends again?
//!
//! Every request writes its progress into one record: read, *started* (what the names meant before is recorded),
//! *done* (the result is recorded). A resent request that was done is answered from the record; one that was started
//! compares what the names mean now with what they meant before; anything else is executed for the first time.

use std::collections::HashMap;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use nix::errno::Errno;

use super::layout::{COUNTED_MAX, JournalRecord, Layout};
use crate::hostdir::attr::Inode;

mod phase {
    pub(super) const FREE: u32 = 0;
    pub(super) const READ: u32 = 1;
    pub(super) const STARTED: u32 = 2;
    pub(super) const DONE: u32 = 3;
}

/// What the names of a request meant before it was executed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Before {
    /// The file that is moved or linked.
    pub(crate) source: Option<Inode>,
    /// The file that is created, removed or replaced.
    pub(crate) target: Option<Inode>,
}

/// What an executed request has led to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    pub(crate) result: Result<(), Errno>,
    pub(crate) node: u64,
    pub(crate) handle: u64,
}

/// How far a dead server has come with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// No server has read it.
    None,
    /// Nothing has been changed.
    Read,
    Started(Before),
    Done(Recorded),
}

/// The record of one request.
#[derive(Clone, Copy)]
pub(crate) struct Entry {
    record: &'static JournalRecord,
}

/// All records.
#[derive(Clone, Copy)]
pub(crate) struct Journal {
    records: &'static [JournalRecord],
}

impl Journal {
    pub(crate) fn new(layout: &'static Layout) -> Self {
        Self { records: &layout.journal }
    }

    /// The records that dead servers have left, by request id.
    pub(crate) fn leftovers(&self) -> HashMap<u64, Entry> {
        self.entries()
            .filter(|entry| entry.record.phase.load(Acquire) != phase::FREE)
            .map(|entry| (entry.record.id.load(Relaxed), entry))
            .collect()
    }

    /// Up to `count` free records.
    pub(crate) fn free_entries(&self, count: usize) -> Vec<Entry> {
        self.entries().filter(|entry| entry.record.phase.load(Acquire) == phase::FREE).take(count).collect()
    }

    fn entries(&self) -> impl Iterator<Item = Entry> {
        self.records.iter().map(|record| Entry { record })
    }
}

impl Entry {
    /// A request has been read; nothing is changed yet.
    pub(crate) fn begin(&self, id: u64, opcode: u32) {
        let record = self.record;
        record.counted_len.store(0, Relaxed);
        record.node.store(0, Relaxed);
        record.handle.store(0, Relaxed);
        record.opcode.store(opcode, Relaxed);
        record.id.store(id, Relaxed);
        record.phase.store(phase::READ, Release);
    }

    /// The request is about to change something.
    pub(crate) fn start(&self, before: Before) {
        let (source, target) = (before.source.unwrap_or_default(), before.target.unwrap_or_default());
        self.record.source_dev.store(source.dev, Relaxed);
        self.record.source_ino.store(source.ino, Relaxed);
        self.record.target_dev.store(target.dev, Relaxed);
        self.record.target_ino.store(target.ino, Relaxed);
        self.record.phase.store(phase::STARTED, Release);
    }

    /// The request has been executed; from here on it is answered from the record.
    pub(crate) fn finish(&self, result: Result<(), Errno>) {
        let error = result.err().map_or(0, |errno| errno as i32);
        self.record.error.store(error, Relaxed);
        self.record.phase.store(phase::DONE, Release);
    }

    /// The answer has been taken by the kernel.
    pub(crate) fn free(&self) {
        self.record.phase.store(phase::FREE, Release);
    }

    pub(crate) fn progress(&self) -> Progress {
        let record = self.record;
        match record.phase.load(Acquire) {
            phase::STARTED => Progress::Started(Before {
                source: inode(record.source_dev.load(Relaxed), record.source_ino.load(Relaxed)),
                target: inode(record.target_dev.load(Relaxed), record.target_ino.load(Relaxed)),
            }),
            phase::DONE => Progress::Done(Recorded {
                result: match record.error.load(Relaxed) {
                    0 => Ok(()),
                    error => Err(Errno::from_raw(error)),
                },
                node: record.node.load(Relaxed),
                handle: record.handle.load(Relaxed),
            }),
            _ => Progress::Read,
        }
    }

    /// The node that the answer names.
    pub(crate) fn set_node(&self, node: u64) {
        self.record.node.store(node, Release);
    }

    /// The handle that the answer names: recorded before the handle exists, so that none leaks.
    pub(crate) fn set_handle(&self, handle: u64) {
        self.record.handle.store(handle, Release);
    }

    /// Takes back the handle that an unanswered attempt may have opened.
    pub(crate) fn take_handle(&self) -> Option<u64> {
        Some(self.record.handle.swap(0, Relaxed)).filter(|handle| *handle != 0)
    }

    /// Whether one more lookup can be counted.
    pub(crate) fn can_count(&self) -> bool {
        (self.record.counted_len.load(Relaxed) as usize) < COUNTED_MAX
    }

    /// Remembers that this request has raised a node's lookup count. Called right after the count went up: a kill in
    /// between leaks one count.
    pub(crate) fn counted(&self, node: u64) {
        let len = self.record.counted_len.load(Relaxed);
        if let Some(cell) = self.record.counted.get(len as usize) {
            cell.store(node, Relaxed);
            self.record.counted_len.store(len + 1, Release);
        }
    }

    /// Takes back one counted lookup of an attempt that was never answered.
    pub(crate) fn take_counted(&self) -> Option<u64> {
        let len = self.record.counted_len.load(Acquire).checked_sub(1)?;
        let node = self.record.counted.get(len as usize)?.load(Relaxed);
        self.record.counted_len.store(len, Release);
        Some(node)
    }
}

fn inode(dev: u64, ino: u64) -> Option<Inode> {
    (ino != 0).then_some(Inode { dev, ino })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use super::*;
    use crate::hostdir::state::layout::testing::fresh_layout;

    fn entry(journal: &Journal) -> Entry {
        journal.free_entries(1)[0]
    }

    #[test]
    fn a_finished_request_is_answered_from_the_record() {
        let journal = Journal::new(fresh_layout());
        let entry = entry(&journal);
        entry.begin(42, 9);
        entry.start(Before::default());
        entry.set_node(7);
        entry.finish(Err(Errno::ENOSPC));
        let found = journal.leftovers();
        let recorded = Recorded { result: Err(Errno::ENOSPC), node: 7, handle: 0 };
        assert_eq!(found[&42].progress(), Progress::Done(recorded));
    }

    #[test]
    fn a_started_request_knows_what_the_names_meant() {
        let journal = Journal::new(fresh_layout());
        let entry = entry(&journal);
        let before = Before { source: Some(Inode { dev: 1, ino: 2 }), target: None };
        entry.begin(42, 12);
        assert_eq!(entry.progress(), Progress::Read);
        entry.start(before);
        assert_eq!(journal.leftovers()[&42].progress(), Progress::Started(before));
    }

    #[test]
    fn a_freed_record_is_no_leftover_and_forgets_its_last_request() {
        let journal = Journal::new(fresh_layout());
        let entry = entry(&journal);
        entry.begin(1, 1);
        entry.counted(5);
        entry.set_handle(6);
        entry.free();
        assert!(journal.leftovers().is_empty());
        entry.begin(2, 1);
        assert_eq!((entry.take_counted(), entry.take_handle()), (None, None));
    }

    #[test]
    fn counted_lookups_are_taken_back_once_each() {
        let journal = Journal::new(fresh_layout());
        let entry = entry(&journal);
        entry.begin(1, 44);
        (1..=COUNTED_MAX as u64 + 9).for_each(|node| entry.counted(node));
        assert!(!entry.can_count());
        let taken: Vec<u64> = std::iter::from_fn(|| entry.take_counted()).collect();
        assert_eq!(taken.len(), COUNTED_MAX);
        assert_eq!(taken.last(), Some(&1));
    }
}
