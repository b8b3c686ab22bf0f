//! Whose directory is a path, so that no two volumes ever share files?
//!
//! A volume claims its path before anything is made there. The claim is a symlink from the path's hash to the volume's name:
//! it is made at once or not at all, and is read by its name alone, however many volumes there are.

use std::os::fd::{AsFd, OwnedFd};

use data_encoding::HEXLOWER;
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, readlinkat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, symlinkat, unlinkat};
use sha2::{Digest, Sha256};

use super::super::super::StoreError;
use super::super::super::files::{below, record};
use super::layout::{DIRECTORY, Tree, make_directory};
use super::record::VolumeRecord;
use crate::config::juicefs::VolumePath;

/// Mode of the directories on the way to a volume: their users may pass, and change nothing.
const PARENT_MODE: u32 = 0o755;

/// Another volume has the path, or one around it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Taken {
    pub(super) path: String,
    pub(super) owner: String,
}

/// Takes a volume's path for it; fine when it has it already.
pub(super) fn claim(tree: &Tree, name: &str, path: &VolumePath) -> Result<Result<(), Taken>, StoreError> {
    if let Some(taken) = around(tree, path)? {
        return Ok(Err(taken));
    }
    let _alone = alone(tree)?;
    loop {
        match symlinkat(name, &tree.paths, key(path.as_str()).as_str()) {
            Ok(()) => return Ok(Ok(())),
            Err(Errno::EEXIST) => {}
            Err(errno) => return Err(StoreError::new("claiming the volume's path", errno)),
        }
        match owner(tree, path.as_str())? {
            Some(owner) if owner == name => return Ok(Ok(())),
            Some(owner) => return Ok(Err(Taken { path: path.to_string(), owner })),
            // It claimed what it no longer has, or gave it back just now.
            None => unclaim_any(tree, path)?,
        }
    }
}

/// The volume in whose directory a path would lie.
pub(super) fn around(tree: &Tree, path: &VolumePath) -> Result<Option<Taken>, StoreError> {
    let slashes = path.as_str().match_indices('/').map(|(at, _)| at);
    for outer in slashes.map(|at| &path.as_str()[..at]) {
        if let Some(owner) = owner(tree, outer)? {
            return Ok(Some(Taken { path: outer.to_owned(), owner }));
        }
    }
    Ok(None)
}

/// Gives a volume's path back, if it has it.
pub(super) fn unclaim(tree: &Tree, name: &str, path: &VolumePath) -> Result<(), StoreError> {
    let _alone = alone(tree)?;
    if claimed_by(tree, path.as_str())?.as_deref() == Some(name) { unclaim_any(tree, path) } else { Ok(()) }
}

/// Waits until nobody else takes or gives back a path: a claim is removed after a look at whose it is, and could be another's
/// by then. FUSE knows no locks of directories, so this one holds in one mount of the filesystem only.
fn alone(tree: &Tree) -> Result<Flock<OwnedFd>, StoreError> {
    let waiting = |error| StoreError::new("waiting for others who claim a path", error);
    let paths = below::open(tree.paths.as_fd(), b".", DIRECTORY).map_err(waiting)?;
    Flock::lock(paths, FlockArg::LockExclusive).map_err(|(_, errno)| waiting(errno))
}

fn unclaim_any(tree: &Tree, path: &VolumePath) -> Result<(), StoreError> {
    match unlinkat(&tree.paths, key(path.as_str()).as_str(), UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(StoreError::new("giving the volume's path back", errno)),
    }
}

/// The volume that has this path: it has claimed it, and its record says so.
fn owner(tree: &Tree, path: &str) -> Result<Option<String>, StoreError> {
    let Some(name) = claimed_by(tree, path)? else { return Ok(None) };
    let found: Option<VolumeRecord> = record::read(tree.volumes.as_fd(), &name)?;
    Ok(found.filter(|record| record.path.as_str() == path).map(|_| name))
}

fn claimed_by(tree: &Tree, path: &str) -> Result<Option<String>, StoreError> {
    match readlinkat(&tree.paths, key(path).as_str()) {
        Ok(name) => Ok(Some(name.to_string_lossy().into_owned())),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(StoreError::new("reading whose a path is", errno)),
    }
}

fn key(path: &str) -> String {
    HEXLOWER.encode(&Sha256::digest(path.as_bytes()))
}

/// The directory around a volume, and the volume's name in it; `None` when there is no such directory.
pub(super) fn open_parent<'a>(
    tree: &Tree,
    path: &'a VolumePath,
) -> Result<Option<(OwnedFd, &'a str)>, StoreError> {
    let (parent, name) = path.as_str().rsplit_once('/').unwrap_or((".", path.as_str()));
    match below::open(tree.root.as_fd(), parent.as_bytes(), DIRECTORY) {
        Ok(directory) => Ok(Some((directory, name))),
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => {
            Err(StoreError::new(format!("opening {parent:?}, the directory around the volume"), errno))
        }
    }
}

/// The directory around a volume, made where it is missing.
pub(super) fn make_parent<'a>(tree: &Tree, path: &'a VolumePath) -> Result<(OwnedFd, &'a str), StoreError> {
    let mut at = below::open(tree.root.as_fd(), b".", DIRECTORY)
        .map_err(|errno| StoreError::new("opening the filesystem's root", errno))?;
    let (parents, name) = path.as_str().rsplit_once('/').unwrap_or(("", path.as_str()));
    for component in parents.split('/').filter(|component| !component.is_empty()) {
        let made = make_directory(at.as_fd(), component, Mode::from_bits_truncate(PARENT_MODE));
        let opened = made.and_then(|()| below::open(at.as_fd(), component.as_bytes(), DIRECTORY));
        let what = || format!("making {component:?} on the way to the volume");
        at = opened.map_err(|errno| StoreError::new(what(), errno))?;
    }
    Ok((at, name))
}
