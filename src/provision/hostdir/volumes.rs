//! How does a volume come to be, change and go, so that any step may be the last before a crash?
//!
//! A record is written before anything is made, the directory is filled in `new/` and then moved to its place, and the
//! record says `ready` last. Whoever comes next, with the same call or with a deletion, finds from record and directory
//! how far it went.

use std::os::fd::{AsFd, OwnedFd};

use nix::fcntl::OFlag;
use nix::sys::stat::{Mode, fchmod, mkdirat};
use nix::unistd::{fsync, syncfs};

use super::super::files::record::VolumeState;
use super::super::files::{below, place, record};
use super::super::{
    ChangeError, CopyError, CreateVolumeError, DataCondition, DeleteError, FindError, Lifetime, NewDirectory,
    Source, StoreError, Volume,
};
use super::copy::copy_tree;
use super::record::VolumeRecord;
use super::root::OpenRoot;
use super::snapshots::open_data;
use super::{Roots, Stop, remove};
use crate::config::capacity::{CapacityRange, UnsupportedRange};
use crate::config::parameters::{overlaid, root_context};
use crate::volume::{Resources, VolumeId};

/// Mode of a new, empty volume: anyone may write. Without Kubernetes nobody says which user a workload runs as (there
/// is no fsGroup), and a volume that its user can't write to is of no use. What is in a volume has modes of its own.
const EMPTY_VOLUME_MODE: u32 = 0o777;

/// Makes a volume.
pub(super) fn create(roots: &Roots, new: &NewDirectory, stop: &Stop) -> Result<Volume, CreateVolumeError> {
    refuse_name_in_other_root(roots, new)?;
    let root = roots
        .get(&new.filesystem)
        .ok_or_else(|| CreateVolumeError::NoSuchFilesystem(new.filesystem.clone()))?
        .open()?;
    let id = VolumeId::for_csi_name(new.filesystem.clone(), &new.csi_name);
    let found: Option<VolumeRecord> = record::read(root.volumes.as_fd(), id.name())?;
    match found {
        Some(VolumeRecord { state: VolumeState::Deleting { inode }, .. }) => {
            finish_deletion(&root, &id, inode, stop).map_err(deletion_failed)?;
        }
        Some(record) => {
            compare(&id, &record, new)?;
            return complete(roots, &root, &id, record, stop);
        }
        None => {}
    }
    if place::exists(root.dir.as_fd(), id.name())
        .map_err(|e| StoreError::new("looking at the volume's place", e))?
    {
        return Err(foreign(&id));
    }
    let least = source_bytes(roots, new.source.as_ref())?;
    let capacity_bytes = possible(&root, new.capacity, new.capacity.choose(least)?)?;
    let record = VolumeRecord::new(new, capacity_bytes);
    record::write(root.volumes.as_fd(), id.name(), &record)?;
    complete(roots, &root, &id, record, stop)
}

/// Carries a volume from whatever state it is in to `ready`; if that fails, takes back what was begun.
fn complete(
    roots: &Roots,
    root: &OpenRoot,
    id: &VolumeId,
    mut record: VolumeRecord,
    stop: &Stop,
) -> Result<Volume, CreateVolumeError> {
    if record.state == VolumeState::Ready {
        return Ok(volume(id, record));
    }
    match advance(roots, root, id, &mut record, stop) {
        Ok(()) => Ok(volume(id, record)),
        Err(error) => {
            // The error of the making is the one to tell. What can't be taken back now, the next call finds.
            // A place without an inode of ours is not touched.
            if let Err(left) = take_back(root, id, &record, &Stop::default()) {
                tracing::warn!(volume = %id, %left, "parts of a volume that could not be made are left");
            }
            Err(error)
        }
    }
}

fn advance(
    roots: &Roots,
    root: &OpenRoot,
    id: &VolumeId,
    record: &mut VolumeRecord,
    stop: &Stop,
) -> Result<(), CreateVolumeError> {
    let looked = |errno| StoreError::new("looking at the volume's directory", errno);
    if let VolumeState::Placing { inode } = record.state
        && place::inode(root.dir.as_fd(), id.name()).map_err(looked)? == Some(inode)
    {
        return set_state(root, id, record, VolumeState::Ready);
    }
    let made = make_directory(roots, root, id, record.source.as_ref(), stop)?;
    let inode = nix::sys::stat::fstat(&made).map_err(looked)?.st_ino;
    set_state(root, id, record, VolumeState::Placing { inode })?;
    match place::move_into_place(root.new.as_fd(), &label(id), root.dir.as_fd(), id.name()) {
        Ok(()) => {}
        Err(nix::errno::Errno::EEXIST | nix::errno::Errno::ENOTEMPTY | nix::errno::Errno::ENOTDIR) => {
            return Err(foreign(id));
        }
        Err(errno) => return Err(StoreError::new("moving the volume to its place", errno).into()),
    }
    set_state(root, id, record, VolumeState::Ready)
}

fn set_state(
    root: &OpenRoot,
    id: &VolumeId,
    record: &mut VolumeRecord,
    state: VolumeState,
) -> Result<(), CreateVolumeError> {
    let next = VolumeRecord { state, ..record.clone() };
    record::write(root.volumes.as_fd(), id.name(), &next)?;
    *record = next;
    Ok(())
}

/// Makes the directory in `new/`, filled from its source; what an earlier try left there is thrown away.
fn make_directory(
    roots: &Roots,
    root: &OpenRoot,
    id: &VolumeId,
    source: Option<&Source>,
    stop: &Stop,
) -> Result<OwnedFd, CreateVolumeError> {
    remove::discard_new(root, &label(id))?;
    let failed = |errno| StoreError::new("making the volume's directory", errno);
    mkdirat(&root.new, label(id).as_str(), Mode::S_IRWXU).map_err(failed)?;
    let made = below::open(root.new.as_fd(), label(id).as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        .map_err(failed)?;
    match source {
        None => fchmod(&made, Mode::from_bits_truncate(EMPTY_VOLUME_MODE)).map_err(failed)?,
        Some(source) => {
            let data = open_source(roots, source)?;
            copy_tree(data.as_fd(), made.as_fd(), stop).map_err(CreateVolumeError::Copy)?;
            syncfs(&made)
                .map_err(|e| CreateVolumeError::Copy(StoreError::new("syncing the copy", e).into()))?;
        }
    }
    fsync(&made).map_err(failed)?;
    Ok(made)
}

fn open_source(roots: &Roots, source: &Source) -> Result<OwnedFd, CreateVolumeError> {
    let gone = || CreateVolumeError::NoSuchSource(source.clone());
    match source {
        Source::Snapshot(id) => open_data(roots, id)?.ok_or_else(gone),
        Source::Volume(id) => open_volume(roots, id)?.ok_or_else(gone),
    }
}

/// The directory of a volume that is ready.
pub(super) fn open_volume(roots: &Roots, id: &VolumeId) -> Result<Option<OwnedFd>, StoreError> {
    let Some(root) = roots.get(id.filesystem()) else { return Ok(None) };
    let root = root.open()?;
    if ready_record(&root, id)?.is_none() {
        return Ok(None);
    }
    below::open(root.dir.as_fd(), id.name().as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
        .map(Some)
        .map_err(|errno| StoreError::new(format!("opening the directory of volume {id}"), errno))
}

/// Removes a volume.
pub(super) fn delete(roots: &Roots, id: &VolumeId, stop: &Stop) -> Result<(), DeleteError> {
    let Some(root) = roots.get(id.filesystem()) else { return Ok(()) };
    let root = root.open()?;
    let found: Option<VolumeRecord> = record::read(root.volumes.as_fd(), id.name())?;
    // Without a record there is nothing of ours: a directory of that name is somebody else's.
    let Some(record) = found else { return Ok(()) };
    take_back(&root, id, &record, stop)
}

/// The inline volumes of this name, in whatever state.
pub(super) fn inline(roots: &Roots, csi_name: &str) -> Result<Vec<VolumeId>, StoreError> {
    let mut found = Vec::new();
    for root in roots.iter() {
        let id = VolumeId::for_csi_name(root.name().clone(), csi_name);
        if inline_record(&root.open()?, &id)?.is_some_and(|record| record.csi_name == csi_name) {
            found.push(id);
        }
    }
    Ok(found)
}

fn inline_record(root: &OpenRoot, id: &VolumeId) -> Result<Option<VolumeRecord>, StoreError> {
    let found: Option<VolumeRecord> = record::read(root.volumes.as_fd(), id.name())?;
    Ok(found.filter(|record| record.lifetime == Lifetime::Pod))
}

/// Removes a volume, if it is an inline one.
pub(super) fn delete_inline(roots: &Roots, id: &VolumeId, stop: &Stop) -> Result<(), DeleteError> {
    let Some(root) = roots.get(id.filesystem()) else { return Ok(()) };
    let root = root.open()?;
    match inline_record(&root, id)? {
        Some(record) => take_back(&root, id, &record, stop),
        None => Ok(()),
    }
}

/// Removes a volume in whatever state its record tells.
fn take_back(root: &OpenRoot, id: &VolumeId, record: &VolumeRecord, stop: &Stop) -> Result<(), DeleteError> {
    let place = place::inode(root.dir.as_fd(), id.name());
    let place = place.map_err(|e| StoreError::new("looking at the volume's directory", e))?;
    let ours = match record.state {
        VolumeState::Ready => {
            let inode = place.unwrap_or(0);
            // From here on nobody is to find the volume.
            let deleting = VolumeRecord { state: VolumeState::Deleting { inode }, ..record.clone() };
            record::write(root.volumes.as_fd(), id.name(), &deleting)?;
            inode
        }
        VolumeState::Placing { inode } | VolumeState::Deleting { inode } => inode,
        VolumeState::Creating => 0,
    };
    finish_deletion(root, id, ours, stop)
}

/// Removes the directory with this inode number from the volume's place, and all that was in the making; the record
/// goes last. Called again, it goes on.
fn finish_deletion(root: &OpenRoot, id: &VolumeId, inode: u64, stop: &Stop) -> Result<(), DeleteError> {
    let seen = place::inode(root.dir.as_fd(), id.name());
    if seen.map_err(|e| StoreError::new("looking at the volume's directory", e))? == Some(inode) {
        remove::throw_away(root.dir.as_fd(), id.name(), root.trash.as_fd(), &label(id))?;
    }
    remove::throw_away(root.new.as_fd(), &label(id), root.trash.as_fd(), &label(id))?;
    fsync(&root.dir).map_err(|errno| StoreError::new("syncing the root", errno))?;
    remove::empty_trash(root.trash.as_fd(), &label(id), stop)?;
    Ok(record::remove(root.volumes.as_fd(), id.name())?)
}

/// The volume, if it is ready.
pub(super) fn find(roots: &Roots, id: &VolumeId) -> Result<Volume, FindError> {
    let none = || FindError::NoSuchVolume(id.clone());
    let root = roots.get(id.filesystem()).ok_or_else(none)?.open()?;
    let record = ready_record(&root, id)?.ok_or_else(none)?;
    Ok(volume(id, record))
}

/// Is the volume's directory where its record says?
pub(super) fn condition(roots: &Roots, id: &VolumeId) -> Result<DataCondition, FindError> {
    find(roots, id)?;
    Ok(match open_volume(roots, id) {
        Ok(_) => DataCondition::Present,
        Err(error) => DataCondition::Missing { message: format!("{error}: {}", error.source) },
    })
}

/// Promises more bytes.
pub(super) fn expand(roots: &Roots, id: &VolumeId, range: CapacityRange) -> Result<u64, ChangeError> {
    change(roots, id, |root, record| {
        let grown = range.grown(record.capacity_bytes)?;
        if grown > record.capacity_bytes {
            record.capacity_bytes = possible(root, range, grown)?;
        }
        Ok(record.capacity_bytes)
    })
}

/// Changes limits.
pub(super) fn modify(roots: &Roots, id: &VolumeId, limits: Resources) -> Result<(), ChangeError> {
    change(roots, id, |_, record| {
        record.resources = overlaid(record.resources, limits);
        Ok(())
    })
}

fn change<T>(
    roots: &Roots,
    id: &VolumeId,
    change: impl FnOnce(&OpenRoot, &mut VolumeRecord) -> Result<T, ChangeError>,
) -> Result<T, ChangeError> {
    let none = || ChangeError::NoSuchVolume(id.clone());
    let root = roots.get(id.filesystem()).ok_or_else(none)?.open()?;
    let before = ready_record(&root, id)?.ok_or_else(none)?;
    let mut after = before.clone();
    let answer = change(&root, &mut after)?;
    if after != before {
        record::write(root.volumes.as_fd(), id.name(), &after)?;
    }
    Ok(answer)
}

/// Refuses a size that the root could not hold even if it were empty: a promise that can't be kept.
fn possible(root: &OpenRoot, range: CapacityRange, bytes: u64) -> Result<u64, UnsupportedRange> {
    // A root that does not tell its size is not asked again here: writing to the volume will tell.
    let Some(total) = total_bytes(root).ok().flatten() else { return Ok(bytes) };
    match range.required {
        Some(required) if required > total => {
            let why = format!("is {required}, but its root has {total} bytes in all");
            Err(UnsupportedRange { bound: "required_bytes", why })
        }
        Some(_) => Ok(bytes),
        None => Ok(bytes.min(total)),
    }
}

/// Bytes that the root's file system has in all; `None` when it does not tell.
pub(super) fn total_bytes(root: &OpenRoot) -> Result<Option<u64>, nix::errno::Errno> {
    let stat = nix::sys::statvfs::fstatvfs(&root.dir)?;
    let total = stat.blocks().saturating_mul(stat.fragment_size());
    Ok((total > 0).then_some(total))
}

/// The record of a volume that is ready.
pub(super) fn ready_record(root: &OpenRoot, id: &VolumeId) -> Result<Option<VolumeRecord>, StoreError> {
    let found: Option<VolumeRecord> = record::read(root.volumes.as_fd(), id.name())?;
    Ok(found.filter(|record| record.state == VolumeState::Ready))
}

pub(super) fn volume(id: &VolumeId, record: VolumeRecord) -> Volume {
    Volume {
        id: id.clone(),
        capacity_bytes: record.capacity_bytes,
        source: record.source,
        context: root_context(id.filesystem()),
        resources: record.resources,
    }
}

/// A name is one volume, whatever root is asked for (CSI spec, `CreateVolumeRequest.name`).
fn refuse_name_in_other_root(roots: &Roots, new: &NewDirectory) -> Result<(), CreateVolumeError> {
    for other in roots.iter().filter(|other| other.name() != &new.filesystem) {
        let id = VolumeId::for_csi_name(other.name().clone(), &new.csi_name);
        let found: Option<VolumeRecord> = record::read(other.open()?.volumes.as_fd(), id.name())?;
        if found.is_some_and(|record| record.csi_name == new.csi_name) {
            let difference = format!("in root {}, not {}", other.name(), new.filesystem);
            return Err(CreateVolumeError::Exists { id, difference });
        }
    }
    Ok(())
}

fn compare(id: &VolumeId, record: &VolumeRecord, new: &NewDirectory) -> Result<(), CreateVolumeError> {
    let difference = if record.csi_name != new.csi_name {
        "it was made for another name".to_owned()
    } else if !new.capacity.contains(record.capacity_bytes) {
        format!("its size, {} bytes, is not in capacity_range", record.capacity_bytes)
    } else if record.source != new.source {
        "it was filled from another volume_content_source".to_owned()
    } else if record.created_with != new.resources {
        "it was made with other limits".to_owned()
    } else if record.lifetime != new.lifetime {
        "only one of the two is an inline volume".to_owned()
    } else {
        return Ok(());
    };
    Err(CreateVolumeError::Exists { id: id.clone(), difference })
}

fn source_bytes(roots: &Roots, source: Option<&Source>) -> Result<u64, CreateVolumeError> {
    let found = match source {
        None => return Ok(0),
        Some(Source::Snapshot(id)) => super::snapshots::find(roots, id).map(|snapshot| snapshot.size_bytes),
        Some(Source::Volume(id)) => find(roots, id).map(|volume| volume.capacity_bytes),
    };
    found.map_err(|error| match (error, source) {
        (FindError::Store(error), _) => error.into(),
        (_, Some(source)) => CreateVolumeError::NoSuchSource(source.clone()),
        (error, None) => StoreError::new("looking for the source", std::io::Error::other(error)).into(),
    })
}

fn foreign(id: &VolumeId) -> CreateVolumeError {
    CreateVolumeError::Foreign { filesystem: id.filesystem().clone(), name: id.name().to_owned() }
}

fn deletion_failed(error: DeleteError) -> CreateVolumeError {
    match error {
        DeleteError::Store(error) => error.into(),
        DeleteError::Filesystem(error) => error.into(),
        DeleteError::Stopped => CreateVolumeError::Copy(CopyError::Stopped),
        DeleteError::MountInside { .. } => StoreError::new(
            "finishing the deletion of the volume that had this name",
            std::io::Error::other(error),
        )
        .into(),
    }
}

/// The name of a volume in `new/` and `trash/`, apart from a snapshot's.
fn label(id: &VolumeId) -> String {
    format!("volume-{}", id.name())
}
