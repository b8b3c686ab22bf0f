//! How does the state memfd become a reference to [`Layout`]?

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

use super::layout::{Layout, STATE_LEN};

/// Maps the state shared, for the rest of the process's life.
///
/// # Errors
/// `EINVAL` when the descriptor is not [`STATE_LEN`] bytes long; else what `fstat` or `mmap` say.
pub(crate) fn map(fd: RawFd) -> Result<&'static Layout, Errno> {
    let length = usize::try_from(STATE_LEN).map_err(|_| Errno::EOVERFLOW)?;
    let found = crate::hostdir::sys::attr(fd)?;
    if found.size != STATE_LEN {
        return Err(Errno::EINVAL);
    }
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_SHARED | libc::MAP_NORESERVE;
    // SAFETY: asks for a mapping at an address of the kernel's choice.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(Errno::last());
    }
    // SAFETY: the mapping is page-aligned, at least as long as `Layout` (STATE_LEN is its size rounded up), is never
    // unmapped, and `Layout` is made of atomics only: every bit pattern is valid and shared writes are allowed.
    Ok(unsafe { &*address.cast::<Layout>() })
}
