//! What is in a directory?

use std::ffi::CStr;
use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

use super::{Call, FileSystem, file};
use crate::hostdir::protocol::reply::{ENTRY_LEN, Entry, Listed};
use crate::hostdir::state::nodes::Found;
use crate::hostdir::sys;

/// Bytes of raw records read at once.
const RAW_LEN: usize = 32 * 1024;

/// Which part of which listing is asked.
#[derive(Clone, Copy)]
pub(super) struct Part {
    pub(super) handle: u64,
    pub(super) offset: u64,
    pub(super) size: u32,
}

/// How much is told about each entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Detail {
    Names,
    Attributes,
}

impl Detail {
    fn encoded_len(self, listed: &Listed<'_>) -> usize {
        match self {
            Self::Names => listed.encoded_len(),
            Self::Attributes => listed.encoded_len() + ENTRY_LEN,
        }
    }
}

pub(super) fn open(fs: &FileSystem, call: &mut Call<'_>) -> Result<(), Errno> {
    let flags = libc::O_RDONLY | libc::O_DIRECTORY;
    let node = fs.nodes.pin(call.header.node)?;
    let fd = fs.nodes.with_room(|| sys::reopen(node.fd(), flags))?;
    file::answer_open(fs, call, call.header.node, fd, flags)
}

/// Lists from an offset on until the answer is full. Offsets are those of the served file system, so they stay good
/// when a new server opens the directory again.
pub(super) fn list(fs: &FileSystem, call: &mut Call<'_>, part: Part, detail: Detail) -> Result<(), Errno> {
    let fd = fs.handles.fd(part.handle, &fs.nodes)?;
    let _one_at_a_time = fs.handles.listing_lock(part.handle);
    sys::seek(fd, part.offset, libc::SEEK_SET)?;
    let mut raw = vec![0; RAW_LEN];
    loop {
        let length = match sys::list_directory(fd, &mut raw) {
            Ok(length) => length,
            Err(_) if call.body.len() > 0 => return Ok(()), // told again when the kernel goes on from here
            Err(error) => return Err(error),
        };
        if length == 0 {
            return Ok(());
        }
        for listed in records(&raw[..length]) {
            let room = call.body.len() + detail.encoded_len(&listed.entry) <= part.size as usize;
            if !room || !call.entry.can_count() {
                return Ok(());
            }
            put(fs, call, fd, &listed, detail)?;
        }
    }
}

fn put(
    fs: &FileSystem,
    call: &mut Call<'_>,
    dir: RawFd,
    record: &Record<'_>,
    detail: Detail,
) -> Result<(), Errno> {
    let is_dots = matches!(record.entry.name, b"." | b"..");
    match detail {
        Detail::Names => call.body.dirent(&record.entry, None),
        Detail::Attributes if is_dots => call.body.dirent(&record.entry, Some(&Entry::Unknown)),
        Detail::Attributes => {
            let known = sys::attr_at(dir, record.name).and_then(|attr| {
                let found = Found { parent: call.header.node, name: record.name, attr: &attr, fd: None };
                Ok((fs.nodes.remember(found, call.entry)?, attr))
            });
            match known {
                Ok((node, attr)) => {
                    call.body.dirent(&record.entry, Some(&Entry::Known { node, attr: &attr }))
                }
                Err(_) => call.body.dirent(&record.entry, Some(&Entry::Unknown)),
            }
        }
    }
}

/// One raw record with its name as C text.
struct Record<'a> {
    entry: Listed<'a>,
    name: &'a CStr,
}

/// Parses `struct linux_dirent64`: inode, offset, record length, type, name.
fn records(mut raw: &[u8]) -> impl Iterator<Item = Record<'_>> {
    const NAME_AT: usize = 19;
    std::iter::from_fn(move || {
        let ino = u64::from_ne_bytes(raw.get(..8)?.try_into().ok()?);
        let next_offset = u64::from_ne_bytes(raw.get(8..16)?.try_into().ok()?);
        let length = usize::from(u16::from_ne_bytes(raw.get(16..18)?.try_into().ok()?));
        let kind = u32::from(*raw.get(18)?);
        let name = CStr::from_bytes_until_nul(raw.get(NAME_AT..length)?).ok()?;
        raw = raw.get(length..)?;
        Some(Record { entry: Listed { ino, next_offset, kind, name: name.to_bytes() }, name })
    })
}
