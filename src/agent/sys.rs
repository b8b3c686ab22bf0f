//! Which system calls of the agent have no safe wrapper that keeps descriptors safe?

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::libc;

/// The most descriptors that the kernel takes in one message (`SCM_MAX_FD`, include/net/scm.h).
const KERNEL_FDS_MAX: usize = 253;
/// Room for a control message with that many: with less, the kernel would drop descriptors unseen.
const CONTROL_BYTES: usize = 1040;

/// The buffer of `cmsg(3)` must be aligned as its header is.
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_BYTES]);

/// What one `recvmsg(2)` brought.
#[derive(Debug)]
pub(super) struct Received {
    /// Bytes; 0 means that the peer has closed.
    pub(super) bytes: usize,
    /// Descriptors, close-on-exec.
    pub(super) fds: Vec<OwnedFd>,
    /// The kernel dropped descriptors (`MSG_CTRUNC`): this process has no room for more.
    pub(super) fds_lost: bool,
}

/// Receives bytes and every descriptor that comes along.
///
/// nix refuses to show the control messages when `MSG_CTRUNC` is set, and those descriptors would leak: so by hand.
///
/// # Errors
/// As `recvmsg(2)`.
pub(super) fn receive(socket: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<Received> {
    let mut control = ControlBuffer([0; CONTROL_BYTES]);
    let mut fds = Vec::with_capacity(KERNEL_FDS_MAX);
    let mut iov = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: all-zero is a valid msghdr: null pointers with zero lengths.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &raw mut iov;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = CONTROL_BYTES;
    // SAFETY: the message names `buffer` and `control`, both writable for the lengths given and alive over the call.
    let got = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
    let bytes = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    // SAFETY: recvmsg filled `message`; the CMSG functions walk within msg_controllen of `control`, which is alive.
    unsafe {
        let mut header = libc::CMSG_FIRSTHDR(&raw const message);
        while !header.is_null() {
            if (*header).cmsg_level == libc::SOL_SOCKET && (*header).cmsg_type == libc::SCM_RIGHTS {
                let data = libc::CMSG_DATA(header).cast::<libc::c_int>();
                let data_bytes = (*header).cmsg_len - libc::CMSG_LEN(0) as usize;
                for index in 0..data_bytes / size_of::<libc::c_int>() {
                    // The kernel has just installed this number in our table for us; nobody else owns it.
                    fds.push(OwnedFd::from_raw_fd(data.add(index).read_unaligned()));
                }
            }
            header = libc::CMSG_NXTHDR(&raw const message, header);
        }
    }
    Ok(Received { bytes, fds, fds_lost: message.msg_flags & libc::MSG_CTRUNC != 0 })
}
