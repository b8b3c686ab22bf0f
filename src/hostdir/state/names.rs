//! Under which name was a node last seen? Names are written so that a kill in the middle is repaired at the next start.

use std::ffi::{CStr, CString};
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::layout::{Header, NAME_WORDS, NameCell, NodeRecord, OtherPlace};
use super::slots;

const WORD: usize = 8;

/// Parent node and name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) parent: u64,
    pub(crate) name: CString,
}

impl NameCell {
    fn put(&self, parent: u64, name: &CStr) {
        let bytes = name.to_bytes();
        for (cell, chunk) in self.words.iter().zip(bytes.chunks(WORD)) {
            let mut word = [0; WORD];
            word[..chunk.len()].copy_from_slice(chunk);
            cell.store(u64::from_ne_bytes(word), Relaxed);
        }
        self.parent.store(parent, Relaxed);
        self.len.store(u32::try_from(bytes.len()).unwrap_or(0), Release);
    }

    fn get(&self) -> Place {
        let len = (self.len.load(Acquire) as usize).min(NAME_WORDS * WORD - 1);
        let mut bytes: Vec<u8> = Vec::with_capacity(NAME_WORDS * WORD);
        for cell in &self.words[..len.div_ceil(WORD)] {
            bytes.extend_from_slice(&cell.load(Relaxed).to_ne_bytes());
        }
        bytes.truncate(len);
        Place { parent: self.parent.load(Relaxed), name: CString::new(bytes).unwrap_or_default() }
    }

    fn holds(&self, parent: u64, name: &CStr) -> bool {
        self.parent.load(Relaxed) == parent
            && self.len.load(Relaxed) as usize == name.count_bytes()
            && self.get().name.as_c_str() == name
    }
}

/// Writes a node's place by way of the staging cell. Callers hold the index lock: there is one staging cell.
pub(crate) fn write(header: &Header, node: &NodeRecord, id: u64, parent: u64, name: &CStr) {
    if node.name.holds(parent, name) {
        return;
    }
    header.staged.put(parent, name);
    header.naming.store(id, Release);
    node.name.put(parent, name);
    header.naming.store(0, Release);
}

/// Repeats the write that a dead server was in the middle of.
pub(crate) fn repair(header: &Header, nodes: &[NodeRecord]) {
    let id = header.naming.load(Acquire);
    let record = nodes.get(slots::slot(id)).filter(|_| id != 0);
    if let Some(record) = record {
        let Place { parent, name } = header.staged.get();
        record.name.put(parent, &name);
    }
    header.naming.store(0, Release);
}

/// Remembers the place that a node with several links is about to lose from its record. A torn entry does no harm:
/// what is found there is compared with the node. Callers hold the index lock.
pub(crate) fn keep_other(header: &Header, others: &[OtherPlace], node: &NodeRecord, id: u64) {
    let Place { parent, name } = node.name.get();
    let is_known = |other: &OtherPlace| other.node.load(Relaxed) == id && other.name.holds(parent, &name);
    if others.iter().any(is_known) {
        return;
    }
    let next = usize::try_from(header.other_next.fetch_add(1, Relaxed)).unwrap_or(0) % others.len();
    others[next].node.store(0, Release);
    others[next].name.put(parent, &name);
    others[next].node.store(id, Release);
}

/// The further places of a node.
pub(crate) fn others(others: &[OtherPlace], id: u64) -> Vec<Place> {
    let of_node = others.iter().filter(|other| other.node.load(Acquire) == id);
    of_node.map(|other| other.name.get()).collect()
}

/// Whether this is the place in a node's record.
pub(crate) fn is_at(node: &NodeRecord, parent: u64, name: &CStr) -> bool {
    node.name.holds(parent, name)
}

/// A node's place.
pub(crate) fn read(node: &NodeRecord) -> Place {
    node.name.get()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hostdir::state::layout::testing::fresh_layout;

    #[test]
    fn names_of_every_length_come_back() {
        let layout = fresh_layout();
        for len in [1, 7, 8, 9, 63, 254, 255] {
            let name =
                CString::new(vec![b'a' + u8::try_from(len % 26).unwrap_or(0); len]).unwrap_or_default();
            write(&layout.header, &layout.nodes[3], 3, 9, &name);
            assert_eq!(read(&layout.nodes[3]), Place { parent: 9, name });
        }
    }

    #[test]
    fn a_write_cut_short_is_repeated() {
        let layout = fresh_layout();
        write(&layout.header, &layout.nodes[3], 3, 9, c"before");
        layout.header.staged.put(10, c"after");
        layout.header.naming.store(3, Release);
        layout.nodes[3].name.words[0].store(u64::MAX, Relaxed);
        repair(&layout.header, &layout.nodes);
        assert_eq!(read(&layout.nodes[3]), Place { parent: 10, name: c"after".to_owned() });
        assert_eq!(layout.header.naming.load(Relaxed), 0);
    }
}
