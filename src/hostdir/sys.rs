//! Which system calls does the client make? The only file of this room with `unsafe` besides `state/sys.rs`.
//!
//! Node and handle descriptors are plain numbers here because they live in a table that outlives the process; a
//! descriptor that is not in the table yet is an `OwnedFd`.

use std::ffi::{CStr, CString, c_int, c_void};
use std::mem::MaybeUninit;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};

use nix::errno::Errno;
use nix::libc;

use super::attr::{Attr, Inode};
use super::protocol::request::SetTime;

fn check(result: c_int) -> Result<c_int, Errno> {
    Errno::result(result)
}

fn check_len(result: isize) -> Result<usize, Errno> {
    Errno::result(result).map(isize::unsigned_abs)
}

fn owned(result: c_int) -> Result<OwnedFd, Errno> {
    let fd = check(result)?;
    // SAFETY: the system call just made this descriptor; nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn offset(value: u64) -> Result<i64, Errno> {
    i64::try_from(value).map_err(|_| Errno::EINVAL)
}

/// The path that reaches the file of a descriptor, also of an `O_PATH` one, without following anything else.
fn proc_path(fd: RawFd) -> CString {
    CString::new(format!("/proc/self/fd/{fd}")).unwrap_or_default()
}

/// Opens one path component; `flags` get `O_NOFOLLOW|O_CLOEXEC`.
pub(crate) fn open_at(dir: RawFd, name: &CStr, flags: c_int, mode: u32) -> Result<OwnedFd, Errno> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    owned(unsafe { libc::openat(dir, name.as_ptr(), flags | libc::O_NOFOLLOW | libc::O_CLOEXEC, mode) })
}

/// An `O_PATH` descriptor of one path component; a symbolic link gives the link itself.
pub(crate) fn open_path(dir: RawFd, name: &CStr) -> Result<OwnedFd, Errno> {
    open_at(dir, name, libc::O_PATH, 0)
}

/// Opens the very file that a descriptor refers to once more.
pub(crate) fn reopen(fd: RawFd, flags: c_int) -> Result<OwnedFd, Errno> {
    let path = proc_path(fd);
    // SAFETY: `path` is NUL-terminated and outlives the call.
    owned(unsafe { libc::open(path.as_ptr(), flags | libc::O_CLOEXEC) })
}

/// A second descriptor of the same open file.
pub(crate) fn duplicate(fd: RawFd) -> Result<OwnedFd, Errno> {
    // SAFETY: takes no pointers.
    owned(unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 0) })
}

/// Closes a descriptor whose number was taken out of a table.
pub(crate) fn close(fd: RawFd) -> Result<(), Errno> {
    // SAFETY: takes no pointers; the caller took the number out of the table, so nobody uses it any more.
    check(unsafe { libc::close(fd) }).map(drop)
}

/// Closes the descriptors `first..=last`, open or not.
pub(crate) fn close_range(first: u32, last: u32) -> Result<(), Errno> {
    // SAFETY: takes no pointers; the keeper calls it between two servers for numbers that no table holds.
    Errno::result(unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) }).map(drop)
}

fn statx(dir: RawFd, name: &CStr, flags: c_int) -> Result<Attr, Errno> {
    let mut found = MaybeUninit::<libc::statx>::zeroed();
    let flags = flags | libc::AT_SYMLINK_NOFOLLOW | libc::AT_NO_AUTOMOUNT;
    let mask = libc::STATX_BASIC_STATS | libc::STATX_BTIME;
    // SAFETY: `name` is NUL-terminated, `found` is a whole statx struct; both outlive the call.
    check(unsafe { libc::statx(dir, name.as_ptr(), flags, mask, found.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and all bit patterns of the struct are valid.
    Ok(Attr::from(&unsafe { found.assume_init() }))
}

/// Attributes of what a descriptor refers to.
pub(crate) fn attr(fd: RawFd) -> Result<Attr, Errno> {
    statx(fd, c"", libc::AT_EMPTY_PATH)
}

/// Attributes of one path component, not following a link.
pub(crate) fn attr_at(dir: RawFd, name: &CStr) -> Result<Attr, Errno> {
    statx(dir, name, 0)
}

/// Which file a name means now, `None` when there is none.
pub(crate) fn inode_at(dir: RawFd, name: &CStr) -> Result<Option<Inode>, Errno> {
    match attr_at(dir, name) {
        Ok(found) => Ok(Some(found.inode)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Sets owner and group; `None` leaves one alone.
pub(crate) fn change_owner(fd: RawFd, uid: Option<u32>, gid: Option<u32>) -> Result<(), Errno> {
    let keep = u32::MAX;
    let (uid, gid) = (uid.unwrap_or(keep), gid.unwrap_or(keep));
    // SAFETY: the path is a literal.
    check(unsafe { libc::fchownat(fd, c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) }).map(drop)
}

/// Sets the permission bits.
pub(crate) fn change_mode(fd: RawFd, mode: u32) -> Result<(), Errno> {
    let path = proc_path(fd);
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check(unsafe { libc::chmod(path.as_ptr(), mode) }).map(drop)
}

/// Sets the length through a descriptor that is open for writing.
pub(crate) fn truncate_open(fd: RawFd, size: u64) -> Result<(), Errno> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::ftruncate(fd, offset(size)?) }).map(drop)
}

/// Sets the length of the file of an `O_PATH` descriptor.
pub(crate) fn truncate(fd: RawFd, size: u64) -> Result<(), Errno> {
    let path = proc_path(fd);
    // SAFETY: `path` is NUL-terminated and outlives the call.
    check(unsafe { libc::truncate(path.as_ptr(), offset(size)?) }).map(drop)
}

fn timespec(time: Option<SetTime>) -> libc::timespec {
    match time {
        None => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_OMIT },
        Some(SetTime::Now) => libc::timespec { tv_sec: 0, tv_nsec: libc::UTIME_NOW },
        Some(SetTime::At { seconds, nanoseconds }) => {
            libc::timespec { tv_sec: seconds, tv_nsec: i64::from(nanoseconds) }
        }
    }
}

/// Sets access and modification time; `None` leaves one alone.
pub(crate) fn set_times(fd: RawFd, atime: Option<SetTime>, mtime: Option<SetTime>) -> Result<(), Errno> {
    let times = [timespec(atime), timespec(mtime)];
    // SAFETY: the path is a literal, `times` holds the two entries that the call reads.
    check(unsafe { libc::utimensat(fd, c"".as_ptr(), times.as_ptr(), libc::AT_EMPTY_PATH) }).map(drop)
}

/// Reads a symbolic link's target from its `O_PATH` descriptor.
pub(crate) fn read_link(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: the path is a literal; at most `buffer.len()` bytes are written to `buffer`.
    check_len(unsafe { libc::readlinkat(fd, c"".as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

pub(crate) fn make_directory(dir: RawFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(unsafe { libc::mkdirat(dir, name.as_ptr(), mode) }).map(drop)
}

pub(crate) fn make_node(dir: RawFd, name: &CStr, mode: u32) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(unsafe { libc::mknodat(dir, name.as_ptr(), mode, 0) }).map(drop)
}

pub(crate) fn make_symlink(dir: RawFd, name: &CStr, target: &CStr) -> Result<(), Errno> {
    // SAFETY: both texts are NUL-terminated and outlive the call.
    check(unsafe { libc::symlinkat(target.as_ptr(), dir, name.as_ptr()) }).map(drop)
}

/// Gives the file of an `O_PATH` descriptor another name. By `/proc`, because `AT_EMPTY_PATH` would need
/// CAP_DAC_READ_SEARCH.
pub(crate) fn make_link(fd: RawFd, dir: RawFd, name: &CStr) -> Result<(), Errno> {
    let path = proc_path(fd);
    // SAFETY: both texts are NUL-terminated and outlive the call.
    check(unsafe { libc::linkat(libc::AT_FDCWD, path.as_ptr(), dir, name.as_ptr(), libc::AT_SYMLINK_FOLLOW) })
        .map(drop)
}

/// Removes a file's name.
pub(crate) fn unlink(dir: RawFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir, name.as_ptr(), 0) }).map(drop)
}

/// Removes an empty directory.
pub(crate) fn remove_directory(dir: RawFd, name: &CStr) -> Result<(), Errno> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    check(unsafe { libc::unlinkat(dir, name.as_ptr(), libc::AT_REMOVEDIR) }).map(drop)
}

pub(crate) fn rename(from: (RawFd, &CStr), to: (RawFd, &CStr), flags: u32) -> Result<(), Errno> {
    // SAFETY: both names are NUL-terminated and outlive the call.
    Errno::result(unsafe {
        libc::syscall(libc::SYS_renameat2, from.0, from.1.as_ptr(), to.0, to.1.as_ptr(), flags)
    })
    .map(drop)
}

/// Reads at an offset, as much as there is.
pub(crate) fn read_at(fd: RawFd, buffer: &mut [u8], at: u64) -> Result<usize, Errno> {
    // SAFETY: at most `buffer.len()` bytes are written to `buffer`.
    check_len(unsafe { libc::pread(fd, buffer.as_mut_ptr().cast(), buffer.len(), offset(at)?) })
}

/// Writes at an offset.
pub(crate) fn write_at(fd: RawFd, data: &[u8], at: u64) -> Result<usize, Errno> {
    // SAFETY: reads `data.len()` bytes of `data`.
    check_len(unsafe { libc::pwrite(fd, data.as_ptr().cast(), data.len(), offset(at)?) })
}

/// Makes data durable, with the attributes unless `data_only`.
pub(crate) fn sync(fd: RawFd, data_only: bool) -> Result<(), Errno> {
    // SAFETY: takes no pointers.
    check(unsafe { if data_only { libc::fdatasync(fd) } else { libc::fsync(fd) } }).map(drop)
}

pub(crate) fn allocate(fd: RawFd, mode: c_int, at: u64, length: u64) -> Result<(), Errno> {
    // SAFETY: takes no pointers.
    check(unsafe { libc::fallocate(fd, mode, offset(at)?, offset(length)?) }).map(drop)
}

pub(crate) fn seek(fd: RawFd, at: u64, whence: c_int) -> Result<u64, Errno> {
    // SAFETY: takes no pointers.
    Errno::result(unsafe { libc::lseek(fd, offset(at)?, whence) }).map(i64::cast_unsigned)
}

/// Copies inside the kernel, `from` and `to` being descriptor and offset.
pub(crate) fn copy_range(
    from: (RawFd, u64),
    to: (RawFd, u64),
    length: usize,
    flags: u32,
) -> Result<usize, Errno> {
    let (mut from_offset, mut to_offset) = (offset(from.1)?, offset(to.1)?);
    // SAFETY: the two offsets are locals that outlive the call.
    check_len(unsafe {
        libc::copy_file_range(from.0, &raw mut from_offset, to.0, &raw mut to_offset, length, flags)
    })
}

pub(crate) fn statfs(fd: RawFd) -> Result<libc::statvfs, Errno> {
    let mut found = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `found` is a whole struct and outlives the call.
    check(unsafe { libc::fstatvfs(fd, found.as_mut_ptr()) })?;
    // SAFETY: the call succeeded and all bit patterns of the struct are valid.
    Ok(unsafe { found.assume_init() })
}

/// Reads raw directory records (`struct linux_dirent64`) from the descriptor's position on.
pub(crate) fn list_directory(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: at most `buffer.len()` bytes are written to `buffer`.
    Errno::result(unsafe { libc::syscall(libc::SYS_getdents64, fd, buffer.as_mut_ptr(), buffer.len()) })
        .map(|length| usize::try_from(length).unwrap_or(0))
}

pub(crate) fn set_xattr(fd: RawFd, name: &CStr, value: &[u8], flags: c_int) -> Result<(), Errno> {
    let path = proc_path(fd);
    // SAFETY: both texts are NUL-terminated; reads `value.len()` bytes of `value`.
    check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), flags) })
        .map(drop)
}

/// An empty buffer asks for the length.
pub(crate) fn get_xattr(fd: RawFd, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
    let path = proc_path(fd);
    // SAFETY: both texts are NUL-terminated; at most `buffer.len()` bytes are written to `buffer`.
    check_len(unsafe {
        libc::getxattr(path.as_ptr(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len())
    })
}

/// Lists names, each ended by NUL. An empty buffer asks for the length.
pub(crate) fn list_xattr(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    let path = proc_path(fd);
    // SAFETY: `path` is NUL-terminated; at most `buffer.len()` bytes are written to `buffer`.
    check_len(unsafe { libc::listxattr(path.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) })
}

pub(crate) fn remove_xattr(fd: RawFd, name: &CStr) -> Result<(), Errno> {
    let path = proc_path(fd);
    // SAFETY: both texts are NUL-terminated and outlive the call.
    check(unsafe { libc::removexattr(path.as_ptr(), name.as_ptr()) }).map(drop)
}

/// Reads one request from `/dev/fuse` (or anything else).
pub(crate) fn read(fd: RawFd, buffer: &mut [u8]) -> Result<usize, Errno> {
    // SAFETY: at most `buffer.len()` bytes are written to `buffer`.
    check_len(unsafe { libc::read(fd, buffer.as_mut_ptr().cast::<c_void>(), buffer.len()) })
}

/// Writes one answer to `/dev/fuse` (or anything else).
pub(crate) fn write(fd: RawFd, bytes: &[u8]) -> Result<usize, Errno> {
    // SAFETY: reads `bytes.len()` bytes of `bytes`.
    check_len(unsafe { libc::write(fd, bytes.as_ptr().cast::<c_void>(), bytes.len()) })
}

/// Sends one datagram without waiting and without SIGPIPE.
pub(crate) fn send(fd: RawFd, bytes: &[u8]) -> Result<(), Errno> {
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: reads `bytes.len()` bytes of `bytes`.
    check_len(unsafe { libc::send(fd, bytes.as_ptr().cast::<c_void>(), bytes.len(), flags) }).map(drop)
}

/// Whether something can be read from a descriptor right now.
pub(crate) fn readable(fd: RawFd) -> bool {
    let mut asked = libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    // SAFETY: `asked` is the one entry that the call reads and writes.
    unsafe { libc::poll(&raw mut asked, 1, 0) == 1 }
}

/// Waits until `input` can be read or `peer` hangs up; true when it has hung up.
pub(crate) fn wait_or_hangup(input: RawFd, peer: RawFd) -> Result<bool, Errno> {
    let mut asked = [
        libc::pollfd { fd: input, events: libc::POLLIN, revents: 0 },
        libc::pollfd { fd: peer, events: libc::POLLRDHUP, revents: 0 },
    ];
    // SAFETY: `asked` holds the two entries that the call reads and writes. No limit: the keeper has nothing else to do.
    match Errno::result(unsafe { libc::poll(asked.as_mut_ptr(), 2, -1) }) {
        Ok(_) => Ok(asked[1].revents != 0),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Page-aligned memory that is resident: the kernel ends a request with EIO when SIGKILL comes while it waits for a
/// page of the request's buffer.
pub(crate) struct ResidentBuffer {
    memory: &'static mut [u8],
    locked: bool,
}

impl ResidentBuffer {
    /// Maps and touches `length` bytes; they stay for the life of the process. Locks them when that is allowed.
    ///
    /// # Errors
    /// When there is no memory.
    pub(crate) fn new(length: usize) -> Result<Self, Errno> {
        let protection = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        // SAFETY: asks for fresh memory at an address of the kernel's choice.
        let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, flags, -1, 0) };
        if address == libc::MAP_FAILED {
            return Err(Errno::last());
        }
        // SAFETY: locks the mapping just made; failing is fine.
        let locked = unsafe { libc::mlock(address, length) } == 0;
        // SAFETY: the mapping is `length` zeroed bytes, never unmapped and referred to only here.
        let memory = unsafe { std::slice::from_raw_parts_mut(address.cast::<u8>(), length) };
        Ok(Self { memory, locked })
    }

    pub(crate) fn bytes(&mut self) -> &mut [u8] {
        self.memory
    }

    pub(crate) fn is_locked(&self) -> bool {
        self.locked
    }
}

/// Which process a fork returned in.
pub(crate) enum Forked {
    Parent { child: nix::unistd::Pid },
    Child,
}

/// Forks a child with its own memory and *this* process's descriptor table: what the child opens outlives it.
///
/// # Safety
/// The process must have one thread only.
pub(crate) unsafe fn fork_sharing_descriptors() -> Result<Forked, Errno> {
    let flags = libc::c_long::from(libc::CLONE_FILES | libc::SIGCHLD);
    // SAFETY: without CLONE_VM this is a fork; the caller has one thread, so no lock is held by another.
    match Errno::result(unsafe { libc::syscall(libc::SYS_clone, flags, 0, 0, 0, 0) })? {
        0 => Ok(Forked::Child),
        pid => Ok(Forked::Parent {
            child: nix::unistd::Pid::from_raw(i32::try_from(pid).map_err(|_| Errno::EOVERFLOW)?),
        }),
    }
}

/// Ends the process at once: no destructor may close a descriptor of the shared table.
pub(crate) fn exit_now(code: i32) -> ! {
    // SAFETY: takes no pointers and does not return.
    unsafe { libc::_exit(code) }
}

/// Clears the mode mask, so that created files get exactly the asked mode.
pub(crate) fn clear_umask() {
    // SAFETY: takes no pointers and cannot fail.
    unsafe { libc::umask(0) };
}
