//! Where exactly is a target, when nobody may lead us elsewhere by a symlink?
//!
//! A target is held as a descriptor of its parent and a name: the path is walked once. Nothing here asks anything of a
//! file system that is mounted at the target; a FUSE server that hangs can't make it wait.

use std::ffi::OsString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::syscalls::{open_directory_below, open_plain_directory};
use crate::volume::TargetPath;

/// Permissions of a target directory that we create: the kubelet's own for a volume's directory.
const TARGET_MODE: Mode = Mode::from_bits_truncate(0o750);

/// Why a target can't be used.
#[derive(Debug, thiserror::Error)]
#[error("target_path {target} can't be used: {why}")]
pub struct TargetError {
    /// The path.
    pub target: TargetPath,
    /// Why, for people.
    pub why: String,
}

/// The place of a target: its parent directory is there, the target itself may not be.
#[derive(Debug)]
pub struct Place {
    target: TargetPath,
    parent: OwnedFd,
    name: OsString,
}

/// Was a directory there, or did we make it?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// It was there.
    Found,
    /// We created it.
    Created,
}

impl Place {
    /// Finds the place of a target.
    ///
    /// # Errors
    /// When the parent is missing, or a symlink or something else than a directory is on the way.
    pub fn find(target: &TargetPath) -> Result<Self, TargetError> {
        let unusable = |why: String| TargetError { target: target.clone(), why };
        let (Some(parent), Some(name)) = (target.as_path().parent(), target.as_path().file_name()) else {
            return Err(unusable("it is the root directory".to_owned()));
        };
        let directory = open_plain_directory(parent).map_err(|error| unusable(why_not(parent, &error)))?;
        Ok(Self { target: target.clone(), parent: directory, name: name.to_owned() })
    }

    /// Opens what stands at the target, mounts included; `None` when nothing does.
    ///
    /// # Errors
    /// When it is something else than a directory.
    pub fn open(&self) -> Result<Option<OwnedFd>, TargetError> {
        match open_directory_below(self.parent.as_fd(), Path::new(&self.name)) {
            Ok(directory) => Ok(Some(directory)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(self.unusable(why_not(self.target.as_path(), &error))),
        }
    }

    /// Is there a directory at the target? One with files in it is refused: a mount would hide them. Only for a target at
    /// which nothing is mounted.
    ///
    /// # Errors
    /// When it is something else than a directory, can't be read, or is not empty.
    pub fn is_there_and_empty(&self) -> Result<bool, TargetError> {
        if self.open()?.is_none() {
            return Ok(false);
        }
        let unread = |error: io::Error| self.unusable(format!("it can't be read: {error}"));
        match std::fs::read_dir(self.path()).map_err(unread)?.next() {
            None => Ok(true),
            Some(_) => {
                Err(self.unusable("it holds files, which the volume would hide; move them away".to_owned()))
            }
        }
    }

    /// Opens the target, after creating its directory where it is missing.
    ///
    /// # Errors
    /// When it is something else than a directory, or can't be created.
    pub fn open_or_create(&self) -> Result<(OwnedFd, Origin), TargetError> {
        if let Some(found) = self.open()? {
            return Ok((found, Origin::Found));
        }
        let origin = match mkdirat(&self.parent, self.name.as_os_str(), TARGET_MODE) {
            Ok(()) => Origin::Created,
            Err(Errno::EEXIST) => Origin::Found,
            Err(errno) => return Err(self.unusable(format!("it can't be created: {errno}"))),
        };
        let opened = self.open()?.ok_or_else(|| self.unusable("it was removed while in use".to_owned()))?;
        Ok((opened, origin))
    }

    /// Removes the target's own directory; that it is gone already is no error.
    ///
    /// # Errors
    /// When it is not empty, or something is mounted at it.
    pub fn remove(&self) -> Result<(), TargetError> {
        match unlinkat(&self.parent, self.name.as_os_str(), UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(Errno::ENOTEMPTY) => Err(self
                .unusable("its directory holds files that are not the volume's; move them away".to_owned())),
            Err(errno) => Err(self.unusable(format!("its directory can't be removed: {errno}"))),
        }
    }

    /// A path of the target for system calls that take no descriptor: only its last component is walked.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        Path::new("/proc/self/fd").join(self.parent.as_raw_fd().to_string()).join(&self.name)
    }

    /// The target.
    #[must_use]
    pub fn target(&self) -> &TargetPath {
        &self.target
    }

    fn unusable(&self, why: String) -> TargetError {
        TargetError { target: self.target.clone(), why }
    }
}

/// Could a volume be published at this target? Nothing is created.
///
/// # Errors
/// As [`Place::find`] and [`Place::open`].
pub fn check_target(target: &TargetPath) -> Result<(), TargetError> {
    Place::find(target)?.open().map(drop)
}

fn why_not(path: &Path, error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ELOOP) => {
            format!("a symbolic link is in {}; give the path that it stands for", path.display())
        }
        Some(Errno::ENOTDIR) => {
            format!("{} is not a directory, or below something that is none", path.display())
        }
        Some(Errno::ENOENT) => format!("its parent directory {} does not exist", path.display()),
        _ => format!("{} can't be opened: {error}", path.display()),
    }
}
