//! What are a file's attributes, and how are they changed?

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

use super::{Call, FileSystem};
use crate::hostdir::attr::PERMISSIONS;
use crate::hostdir::protocol::request::{Privileges, SetAttr};
use crate::hostdir::sys;

pub(super) fn get(fs: &FileSystem, call: &mut Call<'_>, handle: Option<u64>) -> Result<(), Errno> {
    let attr = match handle {
        Some(handle) => sys::attr(fs.handles.fd(handle, &fs.nodes)?)?,
        None => sys::attr(fs.nodes.pin(call.header.node)?.fd())?,
    };
    call.body.attr(&attr)
}

/// The mode comes after the owner, because a change of owner clears the set-uid bit, and the times come last, because
/// a truncation sets them.
pub(super) fn set(fs: &FileSystem, call: &mut Call<'_>, asked: &SetAttr) -> Result<(), Errno> {
    let node = fs.nodes.pin(call.header.node)?;
    if let Some(size) = asked.size {
        drop_privileges(node.fd(), asked.privileges)?;
        truncate(fs, node.fd(), asked.handle, size)?;
    }
    if asked.uid.is_some() || asked.gid.is_some() {
        sys::change_owner(node.fd(), asked.uid, asked.gid)?;
    }
    if let Some(mode) = asked.mode {
        sys::change_mode(node.fd(), mode & PERMISSIONS)?;
    }
    if asked.atime.is_some() || asked.mtime.is_some() {
        sys::set_times(node.fd(), asked.atime, asked.mtime)?;
    }
    call.body.attr(&sys::attr(node.fd())?)
}

fn truncate(fs: &FileSystem, node: RawFd, handle: Option<u64>, size: u64) -> Result<(), Errno> {
    let by_handle = handle.and_then(|handle| fs.handles.fd(handle, &fs.nodes).ok());
    match by_handle.map(|fd| sys::truncate_open(fd, size)) {
        None | Some(Err(Errno::EINVAL | Errno::EBADF)) => sys::truncate(node, size),
        Some(result) => result,
    }
}

/// Clears set-uid, and set-gid where it means a privilege, of a file that an unprivileged caller changes.
pub(super) fn drop_privileges(fd: RawFd, privileges: Privileges) -> Result<(), Errno> {
    if privileges == Privileges::Keep {
        return Ok(());
    }
    let mode = sys::attr(fd)?.mode & PERMISSIONS;
    let group_privilege = if mode & libc::S_IXGRP == 0 { 0 } else { libc::S_ISGID };
    let without = mode & !(libc::S_ISUID | group_privilege);
    if without == mode { Ok(()) } else { sys::change_mode(fd, without) }
}

pub(super) fn statfs(fs: &FileSystem, call: &mut Call<'_>) -> Result<(), Errno> {
    let node = fs.nodes.pin(call.header.node)?;
    let found = sys::statfs(node.fd())?;
    let narrow = |value: u64| u32::try_from(value).unwrap_or(u32::MAX);
    call.body.statfs(
        [found.f_blocks, found.f_bfree, found.f_bavail, found.f_files, found.f_ffree],
        narrow(found.f_bsize),
        narrow(found.f_namemax),
        narrow(found.f_frsize),
    )
}
