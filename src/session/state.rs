//! What is the memory that outlives a client, and is this it?

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use nix::sys::stat::fstat;
use nix::unistd::ftruncate;

/// The state may neither shrink (a client that has it mapped would die of SIGBUS) nor grow, and stays so.
const SEALS: SealFlag = SealFlag::F_SEAL_SHRINK.union(SealFlag::F_SEAL_GROW).union(SealFlag::F_SEAL_SEAL);

/// Creates the state of a new session: zeros, of a fixed length.
///
/// # Errors
/// When the kernel has no memory for it.
pub fn create_state(length: u64) -> io::Result<OwnedFd> {
    let memory = memfd_create("mountpod-session", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING)?;
    ftruncate(memory.as_fd(), i64::try_from(length).map_err(io::Error::other)?)?;
    fcntl(&memory, FcntlArg::F_ADD_SEALS(SEALS))?;
    Ok(memory)
}

/// Why a descriptor that an agent gave is no state of a session.
#[derive(Debug, thiserror::Error)]
pub enum InvalidState {
    /// It can't be looked at: no memfd.
    #[error("the state that the agent gave back is no memfd")]
    NoMemfd(#[source] Errno),
    /// It could be changed in length.
    #[error("the state that the agent gave back is not sealed against changes of its length")]
    NotSealed,
    /// It has another length.
    #[error("the state that the agent gave back has {got} bytes, not {wanted}")]
    Length {
        /// Bytes it has.
        got: i64,
        /// Bytes it must have.
        wanted: u64,
    },
}

/// Is that the state of a session? An agent runs beside a client that may be hostile.
///
/// # Errors
/// See [`InvalidState`].
pub fn check_state(state: BorrowedFd<'_>, length: u64) -> Result<(), InvalidState> {
    let seals = fcntl(state, FcntlArg::F_GET_SEALS).map_err(InvalidState::NoMemfd)?;
    if !SealFlag::from_bits_truncate(seals).contains(SEALS) {
        return Err(InvalidState::NotSealed);
    }
    let got = fstat(state).map_err(InvalidState::NoMemfd)?.st_size;
    if u64::try_from(got) == Ok(length) { Ok(()) } else { Err(InvalidState::Length { got, wanted: length }) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

    use super::*;

    const LENGTH: u64 = 8192;

    #[test]
    fn a_state_keeps_its_length() {
        let state = create_state(LENGTH).unwrap();
        check_state(state.as_fd(), LENGTH).unwrap();
        assert_eq!(ftruncate(state.as_fd(), 1), Err(Errno::EPERM));
        assert_eq!(ftruncate(state.as_fd(), 1 << 20), Err(Errno::EPERM));
    }

    #[test]
    fn other_descriptors_are_no_state() {
        let file = tempfile::tempfile().unwrap();
        let unsealed = memfd_create("x", MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING).unwrap();
        let shorter = create_state(LENGTH / 2).unwrap();
        assert!(check_state(file.as_fd(), LENGTH).is_err());
        assert!(matches!(check_state(unsealed.as_fd(), LENGTH), Err(InvalidState::NotSealed)));
        assert!(matches!(check_state(shorter.as_fd(), LENGTH), Err(InvalidState::Length { .. })));
    }
}
