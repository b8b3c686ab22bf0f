//! How are files opened, read, written and made durable?

use std::os::fd::{IntoRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

use super::attributes::drop_privileges;
use super::{Call, FileSystem};
use crate::hostdir::attr::{Attr, Kind};
use crate::hostdir::protocol::request::{CopyRange, Privileges};
use crate::hostdir::sys;

/// What is written, and where.
#[derive(Clone, Copy)]
pub(super) struct Data<'a> {
    pub(super) offset: u64,
    pub(super) bytes: &'a [u8],
    pub(super) privileges: Privileges,
}

/// The flags that the served file is opened with. `O_APPEND` must go: the kernel has computed the offset, and a write
/// repeated after a kill would append twice. `O_DIRECT` must go: our buffers are not aligned to the disk's blocks.
pub(super) fn backing_flags(flags: i32) -> i32 {
    flags & (libc::O_ACCMODE | libc::O_TRUNC | libc::O_SYNC | libc::O_DSYNC)
}

/// Opens the file of a node's descriptor. Only regular files: the kernel serves FIFOs, sockets and devices itself, and
/// opening them here could block or reach hardware.
pub(super) fn open_node(fs: &FileSystem, node: RawFd, attr: &Attr, flags: i32) -> Result<OwnedFd, Errno> {
    match attr.kind() {
        Kind::Regular => fs.nodes.with_room(|| sys::reopen(node, backing_flags(flags))),
        Kind::Symlink => Err(Errno::ELOOP),
        Kind::Directory => Err(Errno::EISDIR),
        Kind::Fifo | Kind::Socket | Kind::Device => Err(Errno::ENXIO),
    }
}

/// Puts an open file into the table and answers its handle.
pub(super) fn answer_open(
    fs: &FileSystem,
    call: &mut Call<'_>,
    node: u64,
    fd: OwnedFd,
    flags: i32,
) -> Result<(), Errno> {
    let handle = fs.handles.add(fd, node, backing_flags(flags), call.entry)?;
    call.body.open(handle)
}

pub(super) fn open(fs: &FileSystem, call: &mut Call<'_>, flags: i32) -> Result<(), Errno> {
    let node = fs.nodes.pin(call.header.node)?;
    let fd = open_node(fs, node.fd(), &sys::attr(node.fd())?, flags)?;
    answer_open(fs, call, call.header.node, fd, flags)
}

pub(super) fn read(
    fs: &FileSystem,
    call: &mut Call<'_>,
    handle: u64,
    offset: u64,
    size: u32,
) -> Result<(), Errno> {
    let fd = fs.handles.fd(handle, &fs.nodes)?;
    let size = usize::try_from(size).map_err(|_| Errno::EINVAL)?;
    call.body.fill(size, |buffer| sys::read_at(fd, buffer, offset))
}

pub(super) fn write(fs: &FileSystem, call: &mut Call<'_>, handle: u64, data: Data<'_>) -> Result<(), Errno> {
    let fd = fs.handles.fd(handle, &fs.nodes)?;
    drop_privileges(fd, data.privileges)?;
    let written = sys::write_at(fd, data.bytes, data.offset)?;
    call.body.count(u32::try_from(written).map_err(|_| Errno::EOVERFLOW)?)
}

/// FLUSH: closes a duplicate, which is when NFS reports errors of delayed writes.
pub(super) fn flush(fs: &FileSystem, handle: u64) -> Result<(), Errno> {
    let fd = fs.handles.fd(handle, &fs.nodes)?;
    let second = fs.nodes.with_room(|| sys::duplicate(fd))?;
    sys::close(second.into_raw_fd())
}

pub(super) fn sync(fs: &FileSystem, handle: u64, data_only: bool) -> Result<(), Errno> {
    sys::sync(fs.handles.fd(handle, &fs.nodes)?, data_only)
}

pub(super) fn allocate(
    fs: &FileSystem,
    handle: u64,
    mode: i32,
    offset: u64,
    length: u64,
) -> Result<(), Errno> {
    sys::allocate(fs.handles.fd(handle, &fs.nodes)?, mode, offset, length)
}

pub(super) fn seek(
    fs: &FileSystem,
    call: &mut Call<'_>,
    handle: u64,
    offset: u64,
    whence: i32,
) -> Result<(), Errno> {
    let fd = fs.handles.fd(handle, &fs.nodes)?;
    let found = sys::seek(fd, offset, whence)?;
    call.body.offset(found)
}

pub(super) fn copy_range(fs: &FileSystem, call: &mut Call<'_>, asked: &CopyRange) -> Result<(), Errno> {
    let from = fs.handles.fd(asked.from, &fs.nodes)?;
    let to = fs.handles.fd(asked.to, &fs.nodes)?;
    let length = usize::try_from(asked.length.min(u64::from(u32::MAX))).map_err(|_| Errno::EINVAL)?;
    let flags = u32::try_from(asked.flags).map_err(|_| Errno::EINVAL)?;
    let copied = sys::copy_range((from, asked.from_offset), (to, asked.to_offset), length, flags)?;
    call.body.count(u32::try_from(copied).map_err(|_| Errno::EOVERFLOW)?)
}
