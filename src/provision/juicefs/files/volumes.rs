//! How does a volume's directory come to be and go, so that any step may be the last before a crash?
//!
//! A record is written before anything is made. The directory is made in `new/`, by the client's clone when it has a source,
//! and then moved to its path; the record says `ready` last. Whoever comes next, with the same call or with a deletion, finds
//! from record and directory how far it went. Trees are removed by the client, from the trash.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::stat::{Mode, fchmod, fstat};
use serde::{Deserialize, Serialize};

use super::super::super::StoreError;
use super::super::super::files::record::VolumeState;
use super::super::super::files::{below, place, record};
use super::layout::{DIRECTORY, Tree, make_directory, volume_label};
use super::paths::{self, Taken};
use super::record::VolumeRecord;
use super::trash::{holds, refuse_left, throw_away};

/// Mode of a new, empty volume: anyone may write, as the JuiceFS CSI driver makes them. Whose workload it is tells fsGroup.
const EMPTY_VOLUME_MODE: u32 = 0o777;

/// A volume that is recorded.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct Found {
    pub(in super::super) record: VolumeRecord,
    /// Is there a directory at its path?
    pub(in super::super) present: bool,
}

/// How far a volume could be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in super::super) enum Progress {
    /// Its source is to be cloned to its place in the making.
    ToClone,
    /// It is at its path; its quota is to be set.
    Placed,
    /// Nothing is left to be done.
    Ready,
    /// Another volume has its path, or one around it.
    Taken { path: String, owner: String },
    /// Something that this driver did not make is at its path.
    Foreign,
}

impl From<Taken> for Progress {
    fn from(Taken { path, owner }: Taken) -> Self {
        Self::Taken { path, owner }
    }
}

/// A volume that is being removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct ToDelete {
    /// The path of its quota, from the filesystem's root; `None` when its directory is not at its path any more.
    pub(in super::super) quota: Option<String>,
}

fn looked(errno: Errno) -> StoreError {
    StoreError::new("looking at the volume's directory", errno)
}

/// What is recorded of a volume.
pub(super) fn find(tree: &Tree, name: &str) -> Result<Option<Found>, StoreError> {
    let Some(record) = read(tree, name)? else { return Ok(None) };
    let present = inode_at_path(tree, &record)?.is_some();
    Ok(Some(Found { record, present }))
}

fn read(tree: &Tree, name: &str) -> Result<Option<VolumeRecord>, StoreError> {
    record::read(tree.volumes.as_fd(), name)
}

fn write(tree: &Tree, record: &VolumeRecord) -> Result<(), StoreError> {
    record::write(tree.volumes.as_fd(), record.id.name(), record)
}

/// The record of a volume that must have one.
fn known(tree: &Tree, name: &str) -> Result<VolumeRecord, StoreError> {
    read(tree, name)?.ok_or_else(|| StoreError::new(format!("reading record {name}.json"), Errno::ENOENT))
}

fn inode_at_path(tree: &Tree, record: &VolumeRecord) -> Result<Option<u64>, StoreError> {
    let Some((parent, name)) = paths::open_parent(tree, &record.path)? else { return Ok(None) };
    place::inode(parent.as_fd(), name).map_err(looked)
}

/// Writes the first record of a volume, and goes on.
pub(super) fn begin(tree: &Tree, record: VolumeRecord) -> Result<Progress, StoreError> {
    write(tree, &record)?;
    go_on(tree, record)
}

/// Goes on with a volume that has a record.
pub(super) fn advance(tree: &Tree, name: &str) -> Result<Progress, StoreError> {
    go_on(tree, known(tree, name)?)
}

fn go_on(tree: &Tree, record: VolumeRecord) -> Result<Progress, StoreError> {
    match record.state {
        VolumeState::Ready => Ok(Progress::Ready),
        VolumeState::Deleting { .. } => {
            Err(StoreError::new("making the volume's directory", io::Error::other("it is being removed")))
        }
        VolumeState::Placing { inode } if inode_at_path(tree, &record)? == Some(inode) => {
            Ok(Progress::Placed)
        }
        VolumeState::Creating | VolumeState::Placing { .. } => make(tree, record),
    }
}

fn make(tree: &Tree, record: VolumeRecord) -> Result<Progress, StoreError> {
    let name = record.id.name().to_owned();
    if let Err(taken) = paths::claim(tree, &name, &record.path)? {
        return Ok(taken.into());
    }
    if inode_at_path(tree, &record)?.is_some() {
        return Ok(Progress::Foreign);
    }
    let label = volume_label(&name);
    let failed = |errno| StoreError::new("making the volume's directory", errno);
    let made = match below::open(tree.new.as_fd(), label.as_bytes(), DIRECTORY) {
        Ok(made) => made,
        Err(Errno::ENOENT) if record.source.is_some() => return Ok(Progress::ToClone),
        Err(Errno::ENOENT) => {
            make_directory(tree.new.as_fd(), &label, Mode::S_IRWXU).map_err(failed)?;
            below::open(tree.new.as_fd(), label.as_bytes(), DIRECTORY).map_err(failed)?
        }
        Err(errno) => return Err(failed(errno)),
    };
    if record.source.is_none() {
        fchmod(&made, Mode::from_bits_truncate(EMPTY_VOLUME_MODE)).map_err(failed)?;
    }
    to_its_path(tree, record, &made, &label)
}

fn to_its_path(
    tree: &Tree,
    record: VolumeRecord,
    made: &OwnedFd,
    label: &str,
) -> Result<Progress, StoreError> {
    let inode = fstat(made).map_err(looked)?.st_ino;
    let record = VolumeRecord { state: VolumeState::Placing { inode }, ..record };
    write(tree, &record)?;
    let (parent, name) = paths::make_parent(tree, &record.path)?;
    // Somebody may have claimed a directory on the way while it was made.
    if let Some(taken) = paths::around(tree, &record.path)? {
        return Ok(taken.into());
    }
    match place::move_into_place(tree.new.as_fd(), label, parent.as_fd(), name) {
        Ok(()) => Ok(Progress::Placed),
        Err(Errno::EEXIST | Errno::ENOTEMPTY | Errno::ENOTDIR) => Ok(Progress::Foreign),
        Err(errno) => Err(StoreError::new("moving the volume to its path", errno)),
    }
}

/// The volume is ready.
pub(super) fn finish(tree: &Tree, name: &str) -> Result<(), StoreError> {
    write(tree, &VolumeRecord { state: VolumeState::Ready, ..known(tree, name)? })
}

/// This much is promised from now on.
pub(super) fn promise(tree: &Tree, name: &str, capacity_bytes: u64) -> Result<(), StoreError> {
    write(tree, &VolumeRecord { capacity_bytes, ..known(tree, name)? })
}

/// Marks a volume as being removed.
pub(super) fn begin_deletion(tree: &Tree, name: &str) -> Result<Option<ToDelete>, StoreError> {
    // Without a record there is nothing of ours: a directory of that name is somebody else's.
    let Some(record) = read(tree, name)? else { return Ok(None) };
    let at_path = inode_at_path(tree, &record)?;
    let ours = match record.state {
        VolumeState::Ready => at_path.unwrap_or(0),
        VolumeState::Placing { inode } | VolumeState::Deleting { inode } => inode,
        VolumeState::Creating => 0,
    };
    let quota = (at_path == Some(ours)).then(|| format!("/{}", record.path));
    write(tree, &VolumeRecord { state: VolumeState::Deleting { inode: ours }, ..record })?;
    Ok(Some(ToDelete { quota }))
}

/// Moves all that is the volume's to the trash; says whether anything is in it.
pub(super) fn trash(tree: &Tree, name: &str) -> Result<bool, StoreError> {
    let record = known(tree, name)?;
    let label = volume_label(name);
    if let VolumeState::Deleting { inode } = record.state
        && inode_at_path(tree, &record)? == Some(inode)
        && let Some((parent, at)) = paths::open_parent(tree, &record.path)?
    {
        throw_away(tree, &label, parent.as_fd(), at)?;
    }
    throw_away(tree, &label, tree.new.as_fd(), &label)?;
    paths::unclaim(tree, name, &record.path)?;
    holds(tree, &label)
}

/// Forgets a volume whose trash is empty.
pub(super) fn end_deletion(tree: &Tree, name: &str) -> Result<(), StoreError> {
    refuse_left(tree, &volume_label(name))?;
    record::remove(tree.volumes.as_fd(), name)
}
