//! Which node has this name, and where does a symbolic link point?

use std::ffi::CStr;
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;

use super::{Call, FileSystem};
use crate::hostdir::attr::Attr;
use crate::hostdir::protocol::request::Name;
use crate::hostdir::state::nodes::Found;
use crate::hostdir::sys;

pub(super) fn lookup(fs: &FileSystem, call: &mut Call<'_>, name: Name<'_>) -> Result<(), Errno> {
    let parent = fs.nodes.pin(call.header.node)?;
    let fd = fs.nodes.with_room(|| sys::open_path(parent.fd(), name.as_c_str()))?;
    let attr = sys::attr(fd.as_raw_fd())?;
    answer_entry(fs, call, name.as_c_str(), fd, &attr).map(drop)
}

/// Counts a lookup of a file under a name of the asked directory, and answers its node and attributes.
pub(super) fn answer_entry(
    fs: &FileSystem,
    call: &mut Call<'_>,
    name: &CStr,
    fd: OwnedFd,
    attr: &Attr,
) -> Result<u64, Errno> {
    let found = Found { parent: call.header.node, name, attr, fd: Some(fd) };
    let node = fs.nodes.remember(found, call.entry)?;
    call.entry.set_node(node);
    call.body.entry(node, attr)?;
    Ok(node)
}

pub(super) fn read_link(fs: &FileSystem, call: &mut Call<'_>) -> Result<(), Errno> {
    let node = fs.nodes.pin(call.header.node)?;
    let longest = usize::try_from(libc::PATH_MAX).map_err(|_| Errno::EINVAL)?;
    call.body.fill(longest, |buffer| sys::read_link(node.fd(), buffer))
}
