//! Which system calls mount, unmount, abort, and watch?
//!
//! The only file that makes them. All of them block, on the kernel's own locks at most, but for `unmount` of the last
//! mount of a FUSE connection: that one waits for the server and belongs into a helper process.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;

use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};
use nix::libc::{self, c_long, c_uint};
use nix::mount::{MntFlags, MsFlags};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

use crate::volume::{Execution, Writability};

// Numbers of include/uapi/linux/mount.h that the libc crate lacks.
const OPEN_TREE_CLONE: c_uint = 1;
const OPEN_TREE_CLOEXEC: c_uint = libc::O_CLOEXEC as c_uint;
const MOVE_MOUNT_F_EMPTY_PATH: c_uint = 0x0000_0004;
const MOVE_MOUNT_T_EMPTY_PATH: c_uint = 0x0000_0040;
const MOUNT_ATTR_RDONLY: u64 = 0x0000_0001;
const MOUNT_ATTR_NOSUID: u64 = 0x0000_0002;
const MOUNT_ATTR_NODEV: u64 = 0x0000_0004;
const EMPTY_PATH: &CStr = c"";

/// `struct mount_attr` of include/uapi/linux/mount.h.
#[repr(C)]
struct MountAttr {
    attr_set: u64,
    attr_clr: u64,
    propagation: u64,
    userns_fd: u64,
}

/// How an unmount treats a mount that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmount {
    /// It fails with EBUSY.
    IfUnused,
    /// The mount disappears from its place now, and ends with its last user.
    Detach,
    /// The FUSE connection is aborted: every request, waiting or to come, fails.
    Abort,
}

/// Mounts a FUSE connection with this source and type: root's, for all users, with the kernel checking permissions.
///
/// # Errors
/// As mount(2).
pub fn mount_fuse(
    at: &Path,
    (source, fs_type): (&str, &str),
    device: BorrowedFd<'_>,
    max_read: u32,
    execution: Execution,
) -> io::Result<()> {
    let options = format!(
        "fd={},rootmode=40000,user_id=0,group_id=0,allow_other,default_permissions,max_read={max_read}",
        device.as_raw_fd()
    );
    let execution = match execution {
        Execution::Allowed => MsFlags::empty(),
        Execution::Refused => MsFlags::MS_NOEXEC,
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | execution;
    Ok(nix::mount::mount(Some(source), at, Some(fs_type), flags, Some(options.as_str()))?)
}

/// Opens a directory by a path in which no component is a symlink. Nothing is asked of the file system that the last
/// component is the root of.
///
/// # Errors
/// ELOOP at a symlink, ENOTDIR, ENOENT, as openat2(2).
pub fn open_plain_directory(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat2(
        AT_FDCWD,
        path,
        resolving(ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS),
    )?)
}

/// Opens a directory below another one, without symlinks and without leaving it.
///
/// # Errors
/// EXDEV for a path that leads out, otherwise as [`open_plain_directory`].
pub fn open_directory_below(directory: BorrowedFd<'_>, path: &Path) -> io::Result<OwnedFd> {
    let resolve =
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_MAGICLINKS;
    Ok(openat2(directory, path, resolving(resolve))?)
}

fn resolving(resolve: ResolveFlag) -> OpenHow {
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    OpenHow::new().flags(flags).resolve(resolve)
}

/// A mount of a directory that is attached nowhere: what lies beneath it can be reached, nothing above it.
///
/// # Errors
/// As open_tree(2).
pub fn clone_tree(directory: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let flags = OPEN_TREE_CLONE | OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as c_uint;
    // SAFETY: the path is a NUL-terminated constant and the descriptor is open for the length of the call.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, directory.as_raw_fd(), EMPTY_PATH.as_ptr(), flags) };
    owned(fd)
}

/// Makes a detached mount nosuid, nodev and, if asked, read-only.
///
/// # Errors
/// As mount_setattr(2).
pub fn restrict(mount: BorrowedFd<'_>, writability: Writability) -> io::Result<()> {
    let read_only = match writability {
        Writability::ReadOnly => MOUNT_ATTR_RDONLY,
        Writability::ReadWrite => 0,
    };
    let attr = MountAttr {
        attr_set: read_only | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV,
        attr_clr: 0,
        propagation: 0,
        userns_fd: 0,
    };
    // SAFETY: `attr` lives through the call, has the kernel's layout, and its size is passed along.
    let done = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            EMPTY_PATH.as_ptr(),
            libc::AT_EMPTY_PATH as c_uint,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    checked(done).map(drop)
}

/// Attaches a detached mount on top of what `target` shows now.
///
/// # Errors
/// As move_mount(2).
pub fn attach(mount: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: both paths are NUL-terminated constants, both descriptors are open for the length of the call.
    let done = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            mount.as_raw_fd(),
            EMPTY_PATH.as_ptr(),
            target.as_raw_fd(),
            EMPTY_PATH.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH | MOVE_MOUNT_T_EMPTY_PATH,
        )
    };
    checked(done).map(drop)
}

/// Unmounts what is on top at a path; a symlink at its end is not followed.
///
/// # Errors
/// EBUSY when it is in use and `how` is [`Unmount::IfUnused`]; otherwise as umount2(2).
pub fn unmount(at: &Path, how: Unmount) -> io::Result<()> {
    let flags = match how {
        Unmount::IfUnused => MntFlags::empty(),
        Unmount::Detach => MntFlags::MNT_DETACH,
        Unmount::Abort => MntFlags::MNT_FORCE,
    };
    Ok(nix::mount::umount2(at, flags | MntFlags::UMOUNT_NOFOLLOW)?)
}

/// Lets the runtime wait for events of a descriptor.
///
/// # Errors
/// When epoll refuses the descriptor.
pub fn watched(fd: OwnedFd, interest: Interest) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` names the same open descriptor for as long as it lives, and `AsyncFd` owns it.
    let watched = unsafe { AsyncFd::register_with_interest(fd, interest) };
    watched.map_err(|refused| refused.into_parts().1)
}

fn checked(result: c_long) -> io::Result<c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn owned(result: c_long) -> io::Result<OwnedFd> {
    let fd = RawFd::try_from(checked(result)?).map_err(io::Error::other)?;
    // SAFETY: the kernel has just given us this descriptor, nobody else knows it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}
