//! Which system calls of the agent have no safe wrapper that keeps descriptors safe?

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use nix::unistd::Pid;

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

/// Copies made before the fork lie above every number that is to be filled, so that filling one destroys none.
const ABOVE_CLIENT_FDS: libc::c_int = 64;
/// The exit code of a child that could not become its program, as shells have it.
const CANNOT_EXECUTE: libc::c_int = 127;

/// A program with everything that it shall have.
#[derive(Debug)]
pub(super) struct ChildPlan<'a> {
    pub(super) path: &'a CStr,
    pub(super) arguments: &'a [CString],
    pub(super) environment: &'a [CString],
    pub(super) stdin: BorrowedFd<'a>,
    /// Its stdout and stderr.
    pub(super) output: BorrowedFd<'a>,
    /// What it finds at 3, 4 and so on; nothing else is open in it.
    pub(super) fds: &'a [BorrowedFd<'a>],
}

/// Starts a program. If it can't be executed the child says so on its stderr and exits with 127.
///
/// # Errors
/// When there is no room for descriptors or for a process.
pub(super) fn spawn(plan: &ChildPlan<'_>) -> io::Result<Pid> {
    let (arguments, environment) = (null_terminated(plan.arguments), null_terminated(plan.environment));
    let copies = [plan.stdin, plan.output, plan.output]
        .iter()
        .chain(plan.fds)
        .map(|fd| duplicate_above(*fd))
        .collect::<io::Result<Vec<_>>>()?;
    let numbers: Vec<_> = copies.iter().map(AsRawFd::as_raw_fd).collect();
    fork_and_execute(plan.path, &arguments, &environment, &numbers)
}

fn duplicate_above(fd: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let copy = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(ABOVE_CLIENT_FDS))?;
    // SAFETY: the kernel has just made this descriptor for us; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(copy) })
}

fn null_terminated(strings: &[CString]) -> Vec<*const libc::c_char> {
    strings.iter().map(|string| string.as_ptr()).chain([std::ptr::null()]).collect()
}

fn fork_and_execute(
    path: &CStr,
    arguments: &[*const libc::c_char],
    environment: &[*const libc::c_char],
    copies: &[libc::c_int],
) -> io::Result<Pid> {
    // SAFETY: the child calls async-signal-safe functions only, allocates nothing and never returns; all memory that
    // it reads (strings, arrays with their final null) was prepared before and is its own copy.
    unsafe {
        let pid = libc::fork();
        if pid != 0 {
            return Errno::result(pid).map(Pid::from_raw).map_err(io::Error::from);
        }
        let mut none: libc::sigset_t = std::mem::zeroed();
        libc::sigemptyset(&raw mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const none, std::ptr::null_mut());
        // Rust programs ignore SIGPIPE, and an ignored signal stays ignored over exec.
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
        let mut number = 0;
        let mut placed = true;
        for copy in copies {
            placed &= libc::dup2(*copy, number) == number;
            number += 1;
        }
        placed &= libc::syscall(libc::SYS_close_range, number, libc::c_uint::MAX, 0) == 0;
        if placed {
            libc::execve(path.as_ptr(), arguments.as_ptr(), environment.as_ptr());
        }
        let complaint = b"the client's program can't be executed\n";
        libc::write(libc::STDERR_FILENO, complaint.as_ptr().cast(), complaint.len());
        libc::_exit(CANNOT_EXECUTE)
    }
}

/// A descriptor of a process: readable when it has ended, and never of another one.
///
/// # Errors
/// As `pidfd_open(2)`.
pub(crate) fn pidfd_open(pid: Pid) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers and no pointer.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_open, pid.as_raw(), 0) };
    let fd = i32::try_from(Errno::result(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec); nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
