//! How is a snapshot taken, found and removed?
//!
//! It is copied in `new/` and moved to its place when it is complete: what is in `snapshots/` is ready to use.

use std::os::fd::{AsFd, OwnedFd};
use std::time::SystemTime;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{fsync, syncfs};

use super::super::files::{below, place, record};
use super::super::{
    CopyError, CreateSnapshotError, DeleteError, FindError, NewSnapshot, Snapshot, StoreError,
};
use super::copy::copy_tree;
use super::record::SnapshotRecord;
use super::root::OpenRoot;
use super::{Roots, Stop, remove, volumes};
use crate::volume::{FilesystemName, SnapshotId, VolumeId};

const RECORD: &str = "record";
const DATA: &str = "data";
const DIRECTORY: OFlag = OFlag::O_RDONLY.union(OFlag::O_DIRECTORY);

/// Takes a snapshot, in the root of its source.
pub(super) fn create(roots: &Roots, new: &NewSnapshot, stop: &Stop) -> Result<Snapshot, CreateSnapshotError> {
    if let Some(found) = find_by_name(roots, &new.csi_name)? {
        return if found.source == new.source {
            Ok(found)
        } else {
            Err(CreateSnapshotError::Exists { id: found.id, source_volume: found.source })
        };
    }
    let none = || CreateSnapshotError::NoSuchVolume(new.source.clone());
    let source = volumes::find(roots, &new.source).map_err(|error| error.or_missing(none))?;
    let root = roots.get(new.source.filesystem()).ok_or_else(none)?.open()?;
    let id = SnapshotId::for_csi_name(new.source.filesystem().clone(), &new.csi_name);
    let record = SnapshotRecord {
        form: record::FORM,
        csi_name: new.csi_name.clone(),
        source: new.source.clone(),
        size_bytes: source.capacity_bytes,
        created: SystemTime::now(),
    };
    match fill(roots, &root, &id, &record, stop) {
        Ok(()) => Ok(snapshot(id, record)),
        Err(error) => {
            // The error of the making is the one to tell. What can't be removed now, the next call finds.
            if remove::discard_new(&root, &label(&id)).is_err() {
                tracing::warn!(snapshot = %id, "parts of a snapshot that could not be taken are left");
            }
            Err(error)
        }
    }
}

fn fill(
    roots: &Roots,
    root: &OpenRoot,
    id: &SnapshotId,
    record: &SnapshotRecord,
    stop: &Stop,
) -> Result<(), CreateSnapshotError> {
    remove::discard_new(root, &label(id))?;
    let failed = |errno| StoreError::new("making the snapshot's directory", errno);
    mkdirat(&root.new, label(id).as_str(), Mode::S_IRWXU).map_err(failed)?;
    let made = below::open(root.new.as_fd(), label(id).as_bytes(), DIRECTORY).map_err(failed)?;
    record::write(made.as_fd(), RECORD, record)?;
    mkdirat(&made, DATA, Mode::S_IRWXU).map_err(failed)?;
    let data = below::open(made.as_fd(), DATA.as_bytes(), DIRECTORY).map_err(failed)?;

    let copy_failed = |source| CreateSnapshotError::Copy { id: record.source.clone(), source };
    let volume = volumes::open_volume(roots, &record.source)?
        .ok_or_else(|| CreateSnapshotError::NoSuchVolume(record.source.clone()))?;
    copy_tree(volume.as_fd(), data.as_fd(), stop).map_err(copy_failed)?;
    let synced = syncfs(&data).and_then(|()| fsync(&made));
    synced.map_err(|e| copy_failed(CopyError::Store(StoreError::new("syncing the copy", e))))?;

    place::move_into_place(root.new.as_fd(), &label(id), root.snapshots.as_fd(), id.name())
        .map_err(|errno| StoreError::new("moving the snapshot to its place", errno).into())
}

/// Removes a snapshot.
pub(super) fn delete(roots: &Roots, id: &SnapshotId, stop: &Stop) -> Result<(), DeleteError> {
    let Some(root) = roots.get(id.filesystem()) else { return Ok(()) };
    let root = root.open()?;
    remove::discard_new(&root, &label(id))?;
    if !place::exists(root.snapshots.as_fd(), id.name())
        .map_err(|e| StoreError::new("looking at the snapshot", e))?
    {
        return remove::empty_trash(root.trash.as_fd(), &label(id), stop);
    }
    remove::throw_away(root.snapshots.as_fd(), id.name(), root.trash.as_fd(), &label(id))?;
    fsync(&root.snapshots).map_err(|errno| StoreError::new("syncing the snapshots", errno))?;
    remove::empty_trash(root.trash.as_fd(), &label(id), stop)
}

/// The snapshot with this id.
pub(super) fn find(roots: &Roots, id: &SnapshotId) -> Result<Snapshot, FindError> {
    let none = || FindError::NoSuchSnapshot(id.clone());
    let root = roots.get(id.filesystem()).ok_or_else(none)?.open()?;
    read(&root, id)?.map(|record| snapshot(id.clone(), record)).ok_or_else(none)
}

/// The copy that a snapshot is.
pub(super) fn open_data(roots: &Roots, id: &SnapshotId) -> Result<Option<OwnedFd>, StoreError> {
    let Some(root) = roots.get(id.filesystem()) else { return Ok(None) };
    let path = format!("{}/{DATA}", id.name());
    match below::open(root.open()?.snapshots.as_fd(), path.as_bytes(), DIRECTORY) {
        Ok(data) => Ok(Some(data)),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(StoreError::new(format!("opening snapshot {id}"), errno)),
    }
}

/// The names of the snapshots of a root, in no order.
pub(super) fn names(root: &OpenRoot) -> Result<Vec<String>, StoreError> {
    below::names(root.snapshots.as_fd(), &"the snapshots")
}

/// The record of a snapshot in an open root.
pub(super) fn read(root: &OpenRoot, id: &SnapshotId) -> Result<Option<SnapshotRecord>, StoreError> {
    match below::open(root.snapshots.as_fd(), id.name().as_bytes(), DIRECTORY) {
        Ok(dir) => record::read(dir.as_fd(), RECORD),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(StoreError::new(format!("opening snapshot {id}"), errno)),
    }
}

pub(super) fn snapshot(id: SnapshotId, record: SnapshotRecord) -> Snapshot {
    Snapshot { id, source: record.source, size_bytes: record.size_bytes, created: record.created }
}

/// A name is one snapshot, in whatever root (CSI spec, `CreateSnapshotRequest.name`).
fn find_by_name(roots: &Roots, csi_name: &str) -> Result<Option<Snapshot>, StoreError> {
    for root in roots.iter() {
        let filesystem: &FilesystemName = root.name();
        let id = SnapshotId::for_csi_name(filesystem.clone(), csi_name);
        if let Some(record) = read(&root.open()?, &id)?.filter(|record| record.csi_name == csi_name) {
            return Ok(Some(snapshot(id, record)));
        }
    }
    Ok(None)
}

/// Is this volume the one that a list asks for?
pub(super) fn is_of(record: &SnapshotRecord, source: Option<&VolumeId>) -> bool {
    source.is_none_or(|source| *source == record.source)
}

/// The name of a snapshot in `new/` and `trash/`, apart from a volume's.
fn label(id: &SnapshotId) -> String {
    format!("snapshot-{}", id.name())
}
