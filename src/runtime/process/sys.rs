//! Which system calls of the process runtime have no safe wrapper?

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::signal::Signal;
use nix::unistd::{ForkResult, fork};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Of `capabilities(7)`: what a hostdir client needs to give files to their owners. Bit numbers of
/// include/uapi/linux/capability.h: CHOWN, DAC_OVERRIDE, FOWNER, FSETID.
const KEPT_CAPABILITIES: [libc::c_ulong; 4] = [0, 1, 3, 4];
/// The kernel has fewer; PR_CAPBSET_DROP says EINVAL above its last.
const CAPABILITIES_MAX: libc::c_ulong = 64;
/// `_LINUX_CAPABILITY_VERSION_3`: two 32-bit words per set.
const CAPABILITY_VERSION: u32 = 0x2008_0522;

#[repr(C)]
struct CapabilityHeader {
    version: u32,
    pid: libc::c_int,
}

#[repr(C)]
#[derive(Clone, Copy)]
struct CapabilityWord {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// Which capabilities a mount pod's processes have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Capabilities {
    /// Those of a client that gives files to their owners.
    OfHostdir,
    /// None at all.
    None,
}

impl Capabilities {
    fn kept(self) -> &'static [libc::c_ulong] {
        match self {
            Self::OfHostdir => &KEPT_CAPABILITIES,
            Self::None => &[],
        }
    }
}

/// Leaves this process, and everything that it executes, these capabilities and no way to others.
///
/// As root, exec gives what the bounding set has, so that set is what decides.
///
/// # Errors
/// As `prctl(2)` and `capset(2)`.
pub(super) fn drop_other_capabilities(left: Capabilities) -> io::Result<()> {
    for capability in (0..CAPABILITIES_MAX).filter(|capability| !left.kept().contains(capability)) {
        // SAFETY: takes numbers only.
        let dropped = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        match Errno::result(dropped) {
            Ok(_) => (),
            Err(Errno::EINVAL) => break,
            Err(errno) => return Err(errno.into()),
        }
    }
    // SAFETY: takes numbers only.
    Errno::result(unsafe { libc::prctl(libc::PR_CAP_AMBIENT, libc::PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) })?;
    let kept = left.kept().iter().fold(0, |set, capability| set | 1 << capability);
    let header = CapabilityHeader { version: CAPABILITY_VERSION, pid: 0 };
    let low = CapabilityWord { effective: kept, permitted: kept, inheritable: 0 };
    let words = [low, CapabilityWord { effective: 0, permitted: 0, inheritable: 0 }];
    // SAFETY: both structures have the layout of version 3 and outlive the call, which only reads them.
    Errno::result(unsafe { libc::syscall(libc::SYS_capset, &raw const header, words.as_ptr()) })?;
    Ok(())
}

/// Makes exec close this and all greater descriptors.
///
/// # Errors
/// As `close_range(2)`.
pub(super) fn close_on_exec_from(first: libc::c_uint) -> io::Result<()> {
    // SAFETY: takes numbers only, and closes nothing now.
    let marked =
        unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(marked)?;
    Ok(())
}

/// As `fork(2)`.
///
/// # Errors
/// As `fork(2)`.
///
/// # Safety
/// The process must have one thread.
pub(super) unsafe fn fork_single_threaded() -> io::Result<ForkResult> {
    // SAFETY: with one thread no lock can be held by another.
    unsafe { fork() }.map_err(io::Error::from)
}

/// A descriptor of a process, whose end can be awaited.
///
/// # Errors
/// When the runtime can't watch it.
pub(super) fn watched(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an OwnedFd gives the same, open descriptor as long as it lives.
    unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) }.map_err(io::Error::from)
}

/// Sends a signal to the very process of a pidfd. One that has ended is no error.
///
/// # Errors
/// As `pidfd_send_signal(2)`.
pub(super) fn signal_process(pidfd: BorrowedFd<'_>, signal: Signal) -> io::Result<()> {
    let no_info = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo is allowed; the other arguments are numbers.
    let sent = unsafe {
        libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal as libc::c_int, no_info, 0)
    };
    match Errno::result(sent) {
        Ok(_) | Err(Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
