//! How does a new file, directory, link or special file come to be?
//!
//! A file is made without any permission, then given to its owner with its mode, then answered: the kernel holds the
//! directory's lock meanwhile, so nobody sees the steps through this mount. A request sent again after a kill
//! recognises what the dead server made, and repeats only the later steps.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

use super::lookup::answer_entry;
use super::owner::Owner;
use super::{Attempt, Call, FileSystem, file};
use crate::hostdir::attr::{Attr, Kind, kind_of};
use crate::hostdir::protocol::request::Name;
use crate::hostdir::state::journal::Before;
use crate::hostdir::sys;

/// What is to be made.
#[derive(Clone, Copy)]
pub(super) enum New<'a> {
    Directory { mode: u32 },
    Node { mode: u32 },
    Symlink { target: &'a CStr },
}

impl New<'_> {
    fn mode(&self) -> u32 {
        match *self {
            Self::Directory { mode } => mode | libc::S_IFDIR,
            Self::Node { mode } => mode,
            Self::Symlink { .. } => libc::S_IFLNK | 0o777,
        }
    }

    fn make(&self, dir: RawFd, name: &CStr) -> Result<(), Errno> {
        match *self {
            Self::Directory { .. } => sys::make_directory(dir, name, 0),
            Self::Node { mode } => sys::make_node(dir, name, mode & libc::S_IFMT),
            Self::Symlink { target } => sys::make_symlink(dir, name, target),
        }
    }

    fn unmake(&self, dir: RawFd, name: &CStr) -> Result<(), Errno> {
        match self {
            Self::Directory { .. } => sys::remove_directory(dir, name),
            Self::Node { .. } | Self::Symlink { .. } => sys::unlink(dir, name),
        }
    }

    /// Whether a file found under the name is what a dead server made for this very request.
    fn is_own(&self, found: &OwnedFd, owner: &Owner) -> Result<bool, Errno> {
        let attr = sys::attr(found.as_raw_fd())?;
        if attr.kind() != kind_of(self.mode()) {
            return Ok(false);
        }
        match self {
            Self::Symlink { target } => {
                let mut buffer = vec![0; target.count_bytes() + 1];
                let length = sys::read_link(found.as_raw_fd(), &mut buffer)?;
                Ok(&buffer[..length] == target.to_bytes())
            }
            Self::Node { .. } => Ok(attr.size == 0 && owner.may_have_made(&attr)),
            Self::Directory { .. } => Ok(owner.may_have_made(&attr)),
        }
    }
}

/// MKNOD: regular files, FIFOs and sockets; a device would be a way to the node's hardware.
pub(super) fn make_node(
    fs: &FileSystem,
    call: &mut Call<'_>,
    name: Name<'_>,
    mode: u32,
) -> Result<(), Errno> {
    match kind_of(mode) {
        Kind::Regular | Kind::Fifo | Kind::Socket => make(fs, call, name, New::Node { mode }),
        Kind::Device => Err(Errno::EPERM),
        Kind::Directory | Kind::Symlink => Err(Errno::EINVAL),
    }
}

pub(super) fn make(fs: &FileSystem, call: &mut Call<'_>, name: Name<'_>, new: New<'_>) -> Result<(), Errno> {
    let (parent, name) = (fs.nodes.pin(call.header.node)?, name.as_c_str());
    let owner = owner_in(parent.fd(), call, new.mode())?;
    let (_, attempt) = call.start(|| absent(parent.fd(), name))?;
    let made = new.make(parent.fd(), name);
    if !matches!((made, attempt), (Ok(()), _) | (Err(Errno::EEXIST), Attempt::Again)) {
        return made;
    }
    let fd = fs.nodes.with_room(|| sys::open_path(parent.fd(), name))?;
    if made.is_err() && !new.is_own(&fd, &owner)? {
        return made;
    }
    let attr = owner.give(fd.as_raw_fd()).inspect_err(|_| clean_up(new.unmake(parent.fd(), name)))?;
    answer_entry(fs, call, name, fd, &attr).map(drop)
}

fn owner_in(parent: RawFd, call: &Call<'_>, mode: u32) -> Result<Owner, Errno> {
    Ok(Owner::of_new(&sys::attr(parent)?, &call.header, kind_of(mode), mode))
}

/// The record of a name that must not exist yet.
fn absent(dir: RawFd, name: &CStr) -> Result<Before, Errno> {
    match sys::inode_at(dir, name)? {
        None => Ok(Before::default()),
        Some(_) => Err(Errno::EEXIST),
    }
}

fn clean_up(result: Result<(), Errno>) {
    if let Err(error) = result {
        tracing::warn!(%error, "a new file that could not be given to its owner stays");
    }
}

/// Makes the kernel look the name up anew and open what is there (`do_filp_open` tries once more, with
/// `LOOKUP_REVAL`): for it a CREATE that succeeds has made the file, so it checks no permission of an older one.
const LOOK_AGAIN: Errno = Errno::ESTALE;

/// CREATE: makes a regular file and opens it. One that somebody else has made, since the kernel looked, is not opened.
pub(super) fn create(
    fs: &FileSystem,
    call: &mut Call<'_>,
    name: Name<'_>,
    flags: i32,
    mode: u32,
) -> Result<(), Errno> {
    let (parent, name) = (fs.nodes.pin(call.header.node)?, name.as_c_str());
    let owner = owner_in(parent.fd(), call, libc::S_IFREG | mode & !libc::S_IFMT)?;
    let must_be_new = flags & libc::O_EXCL != 0;
    let (before, attempt) = call.start(|| match must_be_new {
        true => absent(parent.fd(), name),
        false => Ok(Before { source: None, target: sys::inode_at(parent.fd(), name)? }),
    })?;
    let was_absent = before.target.is_none();
    let opened = match make_regular(fs, parent.fd(), name, flags) {
        Ok(data) => own(fs, data, &owner).inspect_err(|_| clean_up(sys::unlink(parent.fd(), name)))?,
        Err(Errno::EEXIST) => {
            let path = fs.nodes.with_room(|| sys::open_path(parent.fd(), name))?;
            let found = sys::attr(path.as_raw_fd())?;
            let is_own = attempt == Attempt::Again
                && was_absent
                && found.kind() == Kind::Regular
                && found.size == 0
                && owner.may_have_made(&found);
            if !is_own {
                return Err(if must_be_new { Errno::EEXIST } else { LOOK_AGAIN });
            }
            let attr = owner.give(path.as_raw_fd())?;
            Opened { data: file::open_node(fs, path.as_raw_fd(), &attr, flags)?, path, attr }
        }
        Err(error) => return Err(error),
    };
    let node = answer_entry(fs, call, name, opened.path, &opened.attr)?;
    file::answer_open(fs, call, node, opened.data, flags)
}

/// A regular file with both its descriptors.
struct Opened {
    data: OwnedFd,
    path: OwnedFd,
    attr: Attr,
}

/// `O_CREAT` only together with `O_EXCL`: opening another user's file in a sticky directory with `O_CREAT` alone can
/// be refused to root too (`fs.protected_regular`).
fn make_regular(fs: &FileSystem, dir: RawFd, name: &CStr, flags: i32) -> Result<OwnedFd, Errno> {
    let flags = file::backing_flags(flags) & !libc::O_TRUNC | libc::O_CREAT | libc::O_EXCL;
    fs.nodes.with_room(|| sys::open_at(dir, name, flags, 0))
}

fn own(fs: &FileSystem, data: OwnedFd, owner: &Owner) -> Result<Opened, Errno> {
    let path = fs.nodes.with_room(|| sys::reopen(data.as_raw_fd(), libc::O_PATH))?;
    let attr = owner.give(path.as_raw_fd())?;
    Ok(Opened { data, path, attr })
}
