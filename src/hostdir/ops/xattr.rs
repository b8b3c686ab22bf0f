//! Which extended attributes has a file? Only `user.*`: what the node's kernel trusts (`security.capability`, ACLs)
//! must not be forged through a volume.

use std::ffi::CStr;

use nix::errno::Errno;
use nix::libc;

use super::{Attempt, Call, FileSystem};
use crate::hostdir::state::journal::Before;
use crate::hostdir::sys;

const SERVED: &[u8] = b"user.";

/// The kernel's limit of a list (`XATTR_LIST_MAX`).
const LIST_MAX: usize = 65536;

fn is_served(name: &CStr) -> bool {
    name.to_bytes().starts_with(SERVED)
}

pub(super) fn get(fs: &FileSystem, call: &mut Call<'_>, name: &CStr, size: u32) -> Result<(), Errno> {
    if name.to_bytes().starts_with(b"security.") {
        return Err(Errno::ENODATA);
    }
    if !is_served(name) {
        return Err(Errno::EOPNOTSUPP);
    }
    let node = fs.nodes.pin(call.header.node)?;
    if size == 0 {
        let length = sys::get_xattr(node.fd(), name, &mut [])?;
        return call.body.count(u32::try_from(length).map_err(|_| Errno::E2BIG)?);
    }
    call.body.fill(size as usize, |buffer| sys::get_xattr(node.fd(), name, buffer))
}

pub(super) fn list(fs: &FileSystem, call: &mut Call<'_>, size: u32) -> Result<(), Errno> {
    let node = fs.nodes.pin(call.header.node)?;
    let mut all = vec![0; LIST_MAX];
    let length = sys::list_xattr(node.fd(), &mut all)?;
    let served = all[..length].split_inclusive(|byte| *byte == 0).filter(|name| name.starts_with(SERVED));
    let names: Vec<u8> = served.flatten().copied().collect();
    match size as usize {
        0 => call.body.count(u32::try_from(names.len()).map_err(|_| Errno::E2BIG)?),
        size if size < names.len() => Err(Errno::ERANGE),
        _ => call.body.put(&names),
    }
}

pub(super) fn set(
    fs: &FileSystem,
    call: &Call<'_>,
    name: &CStr,
    value: &[u8],
    flags: i32,
) -> Result<(), Errno> {
    if !is_served(name) {
        return Err(Errno::EOPNOTSUPP);
    }
    let node = fs.nodes.pin(call.header.node)?;
    let (_, attempt) = call.start(|| {
        let exists = sys::get_xattr(node.fd(), name, &mut []).is_ok();
        match exists && flags & libc::XATTR_CREATE != 0 {
            true => Err(Errno::EEXIST),
            false => Ok(Before::default()),
        }
    })?;
    let flags = if attempt == Attempt::Again { flags & !libc::XATTR_CREATE } else { flags };
    sys::set_xattr(node.fd(), name, value, flags)
}

pub(super) fn remove(fs: &FileSystem, call: &Call<'_>, name: &CStr) -> Result<(), Errno> {
    if !is_served(name) {
        return Err(Errno::EOPNOTSUPP);
    }
    let node = fs.nodes.pin(call.header.node)?;
    let (_, attempt) = call.start(|| {
        sys::get_xattr(node.fd(), name, &mut [])?;
        Ok(Before::default())
    })?;
    match sys::remove_xattr(node.fd(), name) {
        Err(Errno::ENODATA) if attempt == Attempt::Again => Ok(()),
        result => result,
    }
}
