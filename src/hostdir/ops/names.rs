//! How are names linked, removed and moved?
//!
//! Each of these would give a false EEXIST or ENOENT when repeated after a kill: the journal says which file the name
//! meant before.

use std::ffi::CStr;
use std::os::fd::{AsRawFd, RawFd};

use nix::errno::Errno;
use nix::libc;

use super::lookup::answer_entry;
use super::{Attempt, Call, FileSystem};
use crate::hostdir::attr::Inode;
use crate::hostdir::protocol::request::Name;
use crate::hostdir::state::journal::Before;
use crate::hostdir::sys;

/// Where a file is moved.
#[derive(Clone, Copy)]
pub(super) struct Target<'a> {
    pub(super) parent: u64,
    pub(super) name: Name<'a>,
    pub(super) flags: u32,
}

/// LINK: a second name for a file.
pub(super) fn link(fs: &FileSystem, call: &mut Call<'_>, source: u64, name: Name<'_>) -> Result<(), Errno> {
    let (parent, name) = (fs.nodes.pin(call.header.node)?, name.as_c_str());
    let source = fs.nodes.pin(source)?;
    let inode = sys::attr(source.fd())?.inode;
    let (_, attempt) = call.start(|| match sys::inode_at(parent.fd(), name)? {
        None => Ok(Before { source: Some(inode), target: None }),
        Some(_) => Err(Errno::EEXIST),
    })?;
    match sys::make_link(source.fd(), parent.fd(), name) {
        Err(Errno::EEXIST)
            if attempt == Attempt::Again && sys::inode_at(parent.fd(), name)? == Some(inode) => {}
        result => result?,
    }
    let fd = fs.nodes.with_room(|| sys::open_path(parent.fd(), name))?;
    let attr = sys::attr(fd.as_raw_fd())?;
    answer_entry(fs, call, name, fd, &attr).map(drop)
}

/// UNLINK and RMDIR.
pub(super) fn remove(
    fs: &FileSystem,
    call: &Call<'_>,
    name: Name<'_>,
    remove: fn(RawFd, &CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let (parent, name) = (fs.nodes.pin(call.header.node)?, name.as_c_str());
    let now = || sys::inode_at(parent.fd(), name);
    let (before, attempt) = call.start(|| {
        let target = now()?.ok_or(Errno::ENOENT)?;
        Ok(Before { source: None, target: Some(target) })
    })?;
    if attempt == Attempt::Again && now()? != before.target {
        return Ok(()); // gone, or replaced by somebody else since
    }
    let _held = before.target.and_then(|inode| fs.nodes.hold(inode));
    remove(parent.fd(), name)
}

/// RENAME and RENAME2 with `RENAME_NOREPLACE` or `RENAME_EXCHANGE`.
pub(super) fn rename(
    fs: &FileSystem,
    call: &Call<'_>,
    name: Name<'_>,
    target: Target<'_>,
) -> Result<(), Errno> {
    if target.flags & !(libc::RENAME_NOREPLACE | libc::RENAME_EXCHANGE) != 0 {
        return Err(Errno::EINVAL);
    }
    let (from, to) = (fs.nodes.pin(call.header.node)?, fs.nodes.pin(target.parent)?);
    let old = (from.fd(), name.as_c_str());
    let new = (to.fd(), target.name.as_c_str());
    let (before, attempt) = call.start(|| {
        let source = sys::inode_at(old.0, old.1)?.ok_or(Errno::ENOENT)?;
        Ok(Before { source: Some(source), target: sys::inode_at(new.0, new.1)? })
    })?;
    let exchange = target.flags & libc::RENAME_EXCHANGE != 0;
    if attempt == Attempt::First || !is_moved(old, new, before, exchange)? {
        let _held = before.target.and_then(|inode| fs.nodes.hold(inode));
        sys::rename(old, new, target.flags)?;
    }
    note_place(fs, target.parent, new);
    if exchange {
        note_place(fs, call.header.node, old);
    }
    Ok(())
}

/// Notes where a moved file is now. Should it have gone in the meantime, there is nothing to note.
fn note_place(fs: &FileSystem, parent: u64, (dir, name): (RawFd, &CStr)) {
    if let Ok(attr) = sys::attr_at(dir, name) {
        fs.nodes.moved(&attr, parent, name);
    }
}

/// Whether a dead server has made the move.
fn is_moved(old: (RawFd, &CStr), new: (RawFd, &CStr), before: Before, exchange: bool) -> Result<bool, Errno> {
    let old_after: Option<Inode> = if exchange { before.target } else { None };
    Ok(sys::inode_at(new.0, new.1)? == before.source && sys::inode_at(old.0, old.1)? == old_after)
}
