//! How is a tree removed, however deep, without following a link or crossing a mount?
//!
//! A tree to be removed is first renamed into a container in the trash. Then it is flattened: a directory that is not
//! empty is renamed to the container's top and emptied there, so neither recursion nor long paths are needed. The
//! kernel itself refuses to rename or remove a directory that something is mounted on (`EBUSY`). Interrupted anywhere,
//! the same call goes on.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, renameat};
use nix::sys::stat::{Mode, mkdirat};
use nix::unistd::{UnlinkatFlags, unlinkat};

use super::super::files::below::{each_entry, open};
use super::super::{DeleteError, StoreError};
use super::Stop;
use super::root::OpenRoot;

/// Moves the tree `name` of `dir` into the container of that `label` in the trash; fine when there is no such tree.
///
/// # Errors
/// [`DeleteError::MountInside`] when the tree is itself a mount point; [`DeleteError::Store`].
pub(super) fn throw_away(
    dir: BorrowedFd<'_>,
    name: &str,
    trash: BorrowedFd<'_>,
    label: &str,
) -> Result<(), DeleteError> {
    let failed = |errno| StoreError::new(format!("moving {name} into the trash"), errno);
    let container = open_or_make(trash, label).map_err(failed)?;
    let free = CString::new(first_free(container.as_fd())?.to_string()).unwrap_or_default();
    match renameat(dir, name, &container, free.as_c_str()) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(Errno::EBUSY) => Err(DeleteError::MountInside { path: name.to_owned() }),
        Err(errno) => Err(failed(errno).into()),
    }
}

/// Removes the container of that label and all that is in it; fine when there is none.
///
/// # Errors
/// See [`DeleteError`].
pub(super) fn empty_trash(trash: BorrowedFd<'_>, label: &str, stop: &Stop) -> Result<(), DeleteError> {
    let container = match open(trash, label.as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
        Ok(container) => container,
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(StoreError::new(format!("opening {label} in the trash"), errno).into()),
    };
    let mut flattened = Flattened { label, next_free: first_free(container.as_fd())?, container, stop };
    while flattened.one_pass()? == Pass::MoreLeft {}
    match unlinkat(trash, label, UnlinkatFlags::RemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(StoreError::new(format!("removing {label} from the trash"), errno).into()),
    }
}

/// Removes what is in the making under this label; it is ours alone, so not even a stopping driver leaves it.
///
/// # Errors
/// When it can't be removed.
pub(super) fn discard_new(root: &OpenRoot, label: &str) -> Result<(), StoreError> {
    let discarded = throw_away(root.new.as_fd(), label, root.trash.as_fd(), label)
        .and_then(|()| empty_trash(root.trash.as_fd(), label, &Stop::default()));
    discarded.map_err(|error| match error {
        DeleteError::Store(error) => error,
        other => StoreError::new(format!("removing the unfinished {label}"), std::io::Error::other(other)),
    })
}

#[derive(PartialEq, Eq)]
enum Pass {
    Empty,
    MoreLeft,
}

struct Flattened<'a> {
    label: &'a str,
    container: OwnedFd,
    next_free: u64,
    stop: &'a Stop,
}

impl Flattened<'_> {
    /// Visits each directory at the container's top once.
    fn one_pass(&mut self) -> Result<Pass, DeleteError> {
        let mut tops: Vec<CString> = Vec::new();
        each_entry(self.container.as_fd(), &self.label, |name| -> Result<(), DeleteError> {
            tops.push(name.to_owned());
            Ok(())
        })?;
        if tops.is_empty() {
            return Ok(Pass::Empty);
        }
        for top in tops {
            let container =
                self.container.try_clone().map_err(|e| StoreError::new("duplicating a descriptor", e))?;
            if self.remove(container.as_fd(), &top)? == Removed::NotEmpty {
                self.flatten(&top)?;
                self.remove(container.as_fd(), &top)?;
            }
        }
        Ok(Pass::MoreLeft)
    }

    /// Removes what is in a directory at the top; what is not empty in it moves to the top.
    fn flatten(&mut self, top: &CStr) -> Result<(), DeleteError> {
        let dir = match open(self.container.as_fd(), top.to_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Ok(dir) => dir,
            Err(Errno::EXDEV) => return Err(self.mount_inside(top)),
            Err(errno) => return Err(self.failed("opening", top, errno)),
        };
        let label = self.label;
        each_entry(dir.as_fd(), &label, |name| {
            if self.stop.is_set() {
                return Err(DeleteError::Stopped);
            }
            if self.remove(dir.as_fd(), name)? == Removed::NotEmpty {
                let free = CString::new(self.next_free.to_string()).unwrap_or_default();
                self.next_free += 1;
                match renameat(&dir, name, &self.container, free.as_c_str()) {
                    Ok(()) | Err(Errno::ENOENT) => {}
                    Err(Errno::EBUSY) => return Err(self.mount_inside(name)),
                    Err(errno) => return Err(self.failed("moving", name, errno)),
                }
            }
            Ok(())
        })
    }

    fn remove(&self, dir: BorrowedFd<'_>, name: &CStr) -> Result<Removed, DeleteError> {
        match unlinkat(dir, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => return Ok(Removed::Gone),
            // Linux says EISDIR, POSIX EPERM; for an immutable file the next call says ENOTDIR.
            Err(Errno::EISDIR | Errno::EPERM) => {}
            Err(Errno::EBUSY) => return Err(self.mount_inside(name)),
            Err(errno) => return Err(self.failed("removing", name, errno)),
        }
        match unlinkat(dir, name, UnlinkatFlags::RemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(Removed::Gone),
            Err(Errno::ENOTEMPTY | Errno::EEXIST) => Ok(Removed::NotEmpty),
            Err(Errno::EBUSY) => Err(self.mount_inside(name)),
            Err(Errno::ENOTDIR) => Err(self.failed("removing", name, Errno::EPERM)),
            Err(errno) => Err(self.failed("removing", name, errno)),
        }
    }

    fn mount_inside(&self, name: &CStr) -> DeleteError {
        DeleteError::MountInside {
            path: format!("in the trash, {}/.../{}", self.label, name.to_string_lossy()),
        }
    }

    fn failed(&self, doing: &str, name: &CStr, errno: Errno) -> DeleteError {
        let what = format!("{doing} {:?} of {} in the trash", name.to_string_lossy(), self.label);
        StoreError::new(what, errno).into()
    }
}

#[derive(PartialEq, Eq)]
enum Removed {
    Gone,
    NotEmpty,
}

fn open_or_make(trash: BorrowedFd<'_>, label: &str) -> Result<OwnedFd, Errno> {
    match mkdirat(trash, label, Mode::S_IRWXU) {
        Ok(()) | Err(Errno::EEXIST) => {}
        Err(errno) => return Err(errno),
    }
    open(trash, label.as_bytes(), OFlag::O_RDONLY | OFlag::O_DIRECTORY)
}

/// A number above all that are in the container.
fn first_free(container: BorrowedFd<'_>) -> Result<u64, StoreError> {
    let mut free = 0;
    each_entry(container, &"the trash", |name| -> Result<(), StoreError> {
        if let Some(taken) = name.to_str().ok().and_then(|name| name.parse::<u64>().ok()) {
            free = free.max(taken + 1);
        }
        Ok(())
    })?;
    Ok(free)
}
