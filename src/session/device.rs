//! What is a FUSE device, and is this one of a living connection?

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::fcntl::{OFlag, open};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};

/// The device that a session is opened from.
const FUSE_DEVICE: &str = "/dev/fuse";
/// Its device number (Documentation/admin-guide/devices.txt).
const FUSE_DEVICE_NUMBER: (u64, u64) = (10, 229);

/// Opens a new, unconnected FUSE device.
///
/// # Errors
/// When the device is missing, or we may not open it.
pub fn open_device() -> io::Result<OwnedFd> {
    Ok(open(FUSE_DEVICE, OFlag::O_RDWR | OFlag::O_CLOEXEC, Mode::empty())?)
}

/// Why a descriptor that an agent gave is no FUSE device.
#[derive(Debug, thiserror::Error)]
pub enum InvalidDevice {
    /// It is something else.
    #[error("the session that the agent gave back is no FUSE device")]
    NotFuse,
    /// It can't be looked at.
    #[error("the session that the agent gave back can't be looked at")]
    Unreadable(#[source] io::Error),
    /// Its connection has ended.
    #[error("the session that the agent gave back has ended")]
    Ended,
}

/// Is that a FUSE device of a living connection?
///
/// # Errors
/// See [`InvalidDevice`].
pub fn check_device(device: BorrowedFd<'_>) -> Result<(), InvalidDevice> {
    let facts = fstat(device).map_err(|errno| InvalidDevice::Unreadable(errno.into()))?;
    let kind = SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT;
    let number = (major(facts.st_rdev), minor(facts.st_rdev));
    if kind != SFlag::S_IFCHR || number != FUSE_DEVICE_NUMBER {
        return Err(InvalidDevice::NotFuse);
    }
    if has_ended(device).map_err(InvalidDevice::Unreadable)? { Err(InvalidDevice::Ended) } else { Ok(()) }
}

/// Has the connection of a FUSE device ended? (`fuse_dev_poll`: EPOLLERR when it is not connected.)
///
/// # Errors
/// When poll(2) fails.
pub fn has_ended(device: BorrowedFd<'_>) -> io::Result<bool> {
    let mut fds = [PollFd::new(device.as_fd(), PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(fds[0].revents().is_some_and(|seen| seen.contains(PollFlags::POLLERR)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn only_a_fuse_device_is_taken_for_one() {
        let file = tempfile::tempfile().unwrap();
        assert!(matches!(check_device(file.as_fd()), Err(InvalidDevice::NotFuse)));
        let zero = open("/dev/zero", OFlag::O_RDWR, Mode::empty()).unwrap();
        assert!(matches!(check_device(zero.as_fd()), Err(InvalidDevice::NotFuse)));
    }
}
