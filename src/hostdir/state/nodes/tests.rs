#![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

use std::os::fd::AsRawFd;

use super::*;
use crate::hostdir::state::journal::Journal;
use crate::hostdir::state::layout::testing::fresh_layout;

/// A table whose nodes lie below a directory that is a node itself (the root's descriptor is a fixed number, which a
/// test program cannot have).
struct Table {
    scratch: tempfile::TempDir,
    layout: &'static Layout,
    nodes: Nodes,
    entry: Entry,
    top: u64,
}

impl Table {
    fn new(open_max: usize) -> Self {
        let scratch = tempfile::tempdir().unwrap();
        let layout = fresh_layout();
        layout.nodes[1].make_root(&sys::attr_at(libc::AT_FDCWD, c"/proc").unwrap());
        let nodes = Nodes::load(layout, open_max);
        let entry = Journal::new(layout).free_entries(1)[0];
        entry.begin(1, 1);
        let path = std::ffi::CString::new(scratch.path().to_str().unwrap()).unwrap();
        let fd = sys::open_path(libc::AT_FDCWD, &path).unwrap();
        let attr = sys::attr(fd.as_raw_fd()).unwrap();
        let found = Found { parent: ROOT_ID, name: c"top", attr: &attr, fd: Some(fd) };
        let top = nodes.remember(found, entry).unwrap();
        Self { scratch, layout, nodes, entry, top }
    }

    fn lookup(&self, name: &CStr) -> Result<u64, Errno> {
        self.entry.begin(1, 1);
        let top = self.nodes.pin(self.top)?;
        let fd = sys::open_path(top.fd(), name)?;
        let attr = sys::attr(fd.as_raw_fd())?;
        self.nodes.remember(Found { parent: self.top, name, attr: &attr, fd: Some(fd) }, self.entry)
    }

    fn file(&self, name: &CStr) -> u64 {
        std::fs::write(self.scratch.path().join(name.to_str().unwrap()), name.to_bytes()).unwrap();
        self.lookup(name).unwrap()
    }

    fn ino(&self, id: u64) -> Result<u64, Errno> {
        Ok(sys::attr(self.nodes.pin(id)?.fd())?.inode.ino)
    }

    fn close(&self, id: u64) {
        let fd = self.layout.nodes[slots::slot(id)].fd.swap(CLOSED, AcqRel);
        sys::close(fd).unwrap();
    }
}

#[test]
fn a_node_lives_until_its_last_lookup_is_forgotten_and_its_id_never_returns() {
    let table = Table::new(64);
    let first = table.file(c"a");
    assert_eq!(table.lookup(c"a"), Ok(first));
    table.nodes.forget(first, 1);
    assert!(table.ino(first).is_ok());
    table.nodes.forget(first, 1);
    assert_eq!(table.ino(first), Err(Errno::ESTALE));
    let second = table.lookup(c"a").unwrap();
    assert_eq!(slots::slot(first), slots::slot(second), "the slot is reused");
    assert_ne!(first, second);
    assert_eq!(table.ino(first), Err(Errno::ESTALE));
}

#[test]
fn made_up_ids_are_stale_and_forgetting_them_does_nothing() {
    let table = Table::new(64);
    for id in [0, 3, 99, u64::MAX, 1 << 24, slots::id(2, 9)] {
        assert_eq!(table.ino(id), Err(Errno::ESTALE));
        table.nodes.forget(id, u64::MAX);
    }
    assert_eq!(table.nodes.census().0, 2, "root and top are still there");
}

#[test]
fn a_closed_node_is_found_again_by_its_place_also_after_a_move() {
    let table = Table::new(64);
    let id = table.file(c"a");
    let ino = table.ino(id).unwrap();
    std::fs::rename(table.scratch.path().join("a"), table.scratch.path().join("b")).unwrap();
    let attr = sys::attr(table.nodes.pin(id).unwrap().fd()).unwrap();
    table.nodes.moved(&attr, table.top, c"b");
    table.close(id);
    assert_eq!(table.ino(id), Ok(ino));
}

#[test]
fn another_file_under_the_old_name_is_refused() {
    let table = Table::new(64);
    let id = table.file(c"a");
    table.close(id);
    std::fs::remove_file(table.scratch.path().join("a")).unwrap();
    assert_eq!(table.ino(id), Err(Errno::ESTALE));
    std::fs::write(table.scratch.path().join("a"), b"other").unwrap(); // may well get the same inode number
    assert_eq!(table.ino(id), Err(Errno::ESTALE));
    let new = table.lookup(c"a").unwrap();
    assert_ne!(new, id);
    assert!(table.ino(new).is_ok());
}

#[test]
fn descriptors_stay_below_the_limit_and_every_node_still_works() {
    const LIMIT: usize = 40;
    let table = Table::new(LIMIT);
    let names: Vec<_> =
        (0..500).map(|number| std::ffi::CString::new(format!("f{number}")).unwrap()).collect();
    let ids: Vec<u64> = names.iter().map(|name| table.file(name)).collect();
    let (known, open) = table.nodes.census();
    assert_eq!(known, 502);
    assert!(open <= LIMIT + 1, "{open} descriptors");
    assert!(ids.iter().all(|id| table.ino(*id).is_ok()));
    assert!(table.nodes.census().1 <= LIMIT + 1);
}

#[test]
fn a_file_without_a_name_keeps_its_descriptor() {
    let table = Table::new(16);
    let id = table.file(c"gone");
    std::fs::remove_file(table.scratch.path().join("gone")).unwrap();
    for number in 0..200 {
        table.file(&std::ffi::CString::new(format!("f{number}")).unwrap());
    }
    assert!(table.ino(id).is_ok());
}

#[test]
fn a_pinned_descriptor_outlives_forget() {
    let table = Table::new(64);
    let id = table.file(c"a");
    let pinned = table.nodes.pin(id).unwrap();
    table.nodes.forget(id, 1);
    assert!(sys::attr(pinned.fd()).is_ok());
    let fd = pinned.fd();
    drop(pinned);
    assert!(sys::attr(fd).is_err() || table.ino(id).is_err());
}

#[test]
fn the_next_server_finds_the_same_nodes() {
    let table = Table::new(64);
    let kept = table.file(c"kept");
    let forgotten = table.file(c"forgotten");
    table.nodes.forget(forgotten, 1);
    let next = Table { nodes: Nodes::load(table.layout, 64), ..table };
    assert_eq!(next.lookup(c"kept"), Ok(kept));
    let new = next.file(c"new");
    assert_eq!(slots::slot(new), slots::slot(forgotten));
    assert_ne!(new, forgotten);
}

#[test]
fn a_closed_file_with_several_names_is_found_by_any_that_is_left() {
    let table = Table::new(64);
    let id = table.file(c"a");
    let path = |name: &str| table.scratch.path().join(name);
    std::fs::hard_link(path("a"), path("b")).unwrap();
    assert_eq!((table.lookup(c"b"), table.lookup(c"a"), table.lookup(c"b")), (Ok(id), Ok(id), Ok(id)));
    std::fs::remove_file(path("b")).unwrap();
    table.close(id);
    assert!(table.ino(id).is_ok());
}
