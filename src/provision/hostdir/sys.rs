//! Which system calls of extended attributes does nix not offer?

use std::ffi::{CStr, CString};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::errno::Errno;
use nix::libc;

/// The kernel's limits (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX` in linux/limits.h), bytes.
const XATTR_BYTES_MAX: usize = 65536;

/// The names of a file's extended attributes; none where the file system has no such thing.
///
/// # Errors
/// As flistxattr(2).
pub(super) fn xattr_names(file: BorrowedFd<'_>) -> Result<Vec<CString>, Errno> {
    // Most files have none: ask for the length first.
    // SAFETY: a null buffer of length 0 asks for the length only.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), std::ptr::null_mut(), 0) };
    match Errno::result(length) {
        Ok(0) | Err(Errno::ENOTSUP) => return Ok(Vec::new()),
        Ok(_) => {}
        Err(errno) => return Err(errno),
    }
    let mut names = vec![0_u8; XATTR_BYTES_MAX];
    // SAFETY: the buffer is as long as is said.
    let length = unsafe { libc::flistxattr(file.as_raw_fd(), names.as_mut_ptr().cast(), XATTR_BYTES_MAX) };
    names.truncate(usize::try_from(Errno::result(length)?).unwrap_or(0));
    Ok(names
        .split(|byte| *byte == 0)
        .filter(|name| !name.is_empty())
        .filter_map(|name| CString::new(name).ok())
        .collect())
}

/// The value of an extended attribute.
///
/// # Errors
/// As fgetxattr(2).
pub(super) fn xattr(file: BorrowedFd<'_>, name: &CStr) -> Result<Vec<u8>, Errno> {
    let mut value = vec![0_u8; XATTR_BYTES_MAX];
    // SAFETY: the name ends with NUL, the buffer is as long as is said.
    let length = unsafe {
        libc::fgetxattr(file.as_raw_fd(), name.as_ptr(), value.as_mut_ptr().cast(), XATTR_BYTES_MAX)
    };
    value.truncate(usize::try_from(Errno::result(length)?).unwrap_or(0));
    Ok(value)
}

/// Sets an extended attribute.
///
/// # Errors
/// As fsetxattr(2).
pub(super) fn set_xattr(file: BorrowedFd<'_>, name: &CStr, value: &[u8]) -> Result<(), Errno> {
    // SAFETY: the name ends with NUL, the value is as long as is said.
    let done =
        unsafe { libc::fsetxattr(file.as_raw_fd(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) };
    Errno::result(done).map(drop)
}
