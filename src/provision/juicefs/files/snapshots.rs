//! How does a snapshot's directory come to be and go?
//!
//! It is made in `new/` and moved to its place when its data is there: what is in `snapshots/` is ready to use.

use std::os::fd::AsFd;
use std::path::Path;

use nix::errno::Errno;

use super::super::super::StoreError;
use super::super::super::files::{below, place, record};
use super::layout::{DATA, DIRECTORY, Tree, open_or_make, snapshot_label};
use super::record::SnapshotRecord;
use super::trash::{holds, refuse_left, throw_away};

const RECORD: &str = "record";

/// A snapshot that is complete.
pub(super) fn find(tree: &Tree, name: &str) -> Result<Option<SnapshotRecord>, StoreError> {
    match below::open(tree.snapshots.as_fd(), name.as_bytes(), DIRECTORY) {
        Ok(directory) => record::read(directory.as_fd(), RECORD),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(StoreError::new(format!("opening snapshot {name}"), errno)),
    }
}

/// All that are complete, in no order.
pub(super) fn list(tree: &Tree) -> Result<Vec<SnapshotRecord>, StoreError> {
    let names = below::names(tree.snapshots.as_fd(), &"the snapshots")?;
    names.iter().filter_map(|name| find(tree, name).transpose()).collect()
}

/// Lays a snapshot's place in the making; says whether its data is there. A clone is there as a whole or not at all, and
/// belongs to the record beside it: an earlier try may have come so far.
pub(super) fn begin(tree: &Tree, record: &SnapshotRecord) -> Result<bool, StoreError> {
    let directory = open_or_make(tree.new.as_fd(), &snapshot_label(record.id.name()))?;
    let filled = place::exists(directory.as_fd(), DATA)
        .map_err(|errno| StoreError::new("looking at the snapshot's data", errno))?;
    if !filled {
        record::write(directory.as_fd(), RECORD, record)?;
    }
    Ok(filled)
}

/// The snapshot is complete. Of some failures the client says nothing, so its data is looked for.
pub(super) fn place(tree: &Tree, name: &str) -> Result<(), StoreError> {
    let data = Path::new(&snapshot_label(name)).join(DATA);
    below::open(tree.new.as_fd(), data.as_os_str().as_encoded_bytes(), DIRECTORY)
        .map_err(|errno| StoreError::new("opening the snapshot's data", errno))?;
    place::move_into_place(tree.new.as_fd(), &snapshot_label(name), tree.snapshots.as_fd(), name)
        .map_err(|errno| StoreError::new("moving the snapshot to its place", errno))
}

/// Moves all that is the snapshot's to the trash; says whether anything is in it.
pub(super) fn trash(tree: &Tree, name: &str) -> Result<bool, StoreError> {
    let label = snapshot_label(name);
    throw_away(tree, &label, tree.snapshots.as_fd(), name)?;
    throw_away(tree, &label, tree.new.as_fd(), &label)?;
    holds(tree, &label)
}

/// What was in the trash is gone.
pub(super) fn end_trash(tree: &Tree, name: &str) -> Result<(), StoreError> {
    refuse_left(tree, &snapshot_label(name))
}
