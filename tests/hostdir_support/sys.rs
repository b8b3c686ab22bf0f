//! Which system calls do the tests of `mount-hostdir` make that no safe wrapper offers?

use std::ffi::CString;
use std::io;
use std::os::fd::{FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use nix::libc;

/// What the built-in client may have (CHOWN, DAC_OVERRIDE, FOWNER, FSETID), as bits of a capability set.
const ALLOWED: u32 = 1 << 0 | 1 << 1 | 1 << 3 | 1 << 4;

const LAST_CAPABILITY: libc::c_ulong = 63;

/// Where handed-over descriptors are parked before they get their numbers.
const PARKING: RawFd = 100;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A mount clone of a directory that is attached nowhere.
pub fn clone_tree(path: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let fd = check(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) })?;
    // SAFETY: the call just made this descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd).map_err(io::Error::other)?) })
}

/// Lets a command inherit descriptors at given numbers, limits its open files, and takes every capability but the
/// client's four.
pub fn confine(command: &mut Command, handed: [(RawFd, RawFd); 4], open_files: Option<u64>) {
    // SAFETY: between fork and exec only system calls are made; nothing is allocated.
    unsafe {
        command.pre_exec(move || {
            for (from, to) in handed {
                check(libc::fcntl(from, libc::F_DUPFD_CLOEXEC, PARKING + to).into())?;
            }
            for (_, to) in handed {
                check(libc::dup2(PARKING + to, to).into())?;
            }
            if let Some(limit) = open_files {
                let limit = libc::rlimit { rlim_cur: limit, rlim_max: limit };
                check(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit).into())?;
            }
            drop_capabilities()
        });
    }
}

fn drop_capabilities() -> io::Result<()> {
    #[repr(C)]
    struct Head {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    struct Sets {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    for capability in 0..=LAST_CAPABILITY {
        if capability > 31 || ALLOWED & 1 << capability == 0 {
            // SAFETY: takes no pointers; capabilities that the kernel does not know give an error that means nothing.
            unsafe { libc::prctl(libc::PR_CAPBSET_DROP, capability, 0, 0, 0) };
        }
    }
    let head = Head { version: VERSION_3, pid: 0 };
    let low = Sets { effective: ALLOWED, permitted: ALLOWED, inheritable: 0 };
    let sets = [low, Sets { effective: 0, permitted: 0, inheritable: 0 }];
    // SAFETY: version 3 reads one head and two sets.
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const head, sets.as_ptr()) })?;
    // SAFETY: takes no pointers.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// Makes the calling *thread* an ordinary user; there is no way back, so the thread must end afterwards.
pub fn become_user(uid: u32, gid: u32) -> io::Result<()> {
    // SAFETY: the raw calls change the ids of this thread only; a null list of no groups is allowed.
    unsafe {
        check(libc::syscall(libc::SYS_setgroups, 0, std::ptr::null::<libc::gid_t>()))?;
        check(libc::syscall(libc::SYS_setresgid, gid, gid, gid))?;
        check(libc::syscall(libc::SYS_setresuid, uid, uid, uid))?;
    }
    Ok(())
}

/// Moves a file with `renameat2` flags.
pub fn rename(from: &Path, to: &Path, flags: u32) -> io::Result<()> {
    let (from, to) = (CString::new(from.as_os_str().as_bytes())?, CString::new(to.as_os_str().as_bytes())?);
    let at = libc::AT_FDCWD;
    // SAFETY: both paths are NUL-terminated and outlive the call.
    check(unsafe { libc::syscall(libc::SYS_renameat2, at, from.as_ptr(), at, to.as_ptr(), flags) }).map(drop)
}

/// An extended-attribute call.
pub enum Xattr<'a> {
    Set { value: &'a [u8], flags: i32 },
    Get,
    List,
    Remove,
}

/// Runs an extended-attribute call; `Get` and `List` answer bytes.
pub fn xattr(path: &Path, name: &str, call: &Xattr<'_>) -> io::Result<Vec<u8>> {
    let (path, name) = (CString::new(path.as_os_str().as_bytes())?, CString::new(name)?);
    let mut found = vec![0_u8; 4096];
    // SAFETY: texts are NUL-terminated, and each buffer is passed with its own length.
    let length = check(unsafe {
        match call {
            Xattr::Set { value, flags } => {
                libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), *flags)
                    .into()
            }
            Xattr::Get => {
                libc::getxattr(path.as_ptr(), name.as_ptr(), found.as_mut_ptr().cast(), found.len())
                    as libc::c_long
            }
            Xattr::List => {
                libc::listxattr(path.as_ptr(), found.as_mut_ptr().cast(), found.len()) as libc::c_long
            }
            Xattr::Remove => libc::removexattr(path.as_ptr(), name.as_ptr()).into(),
        }
    })?;
    found.truncate(usize::try_from(length).map_err(io::Error::other)?);
    Ok(found)
}

/// A shared, writable mapping of a file for the length of a closure.
pub fn with_shared_mapping<T>(fd: RawFd, length: usize, run: impl FnOnce(&mut [u8]) -> T) -> io::Result<T> {
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: asks for a mapping at an address of the kernel's choice.
    let address = unsafe { libc::mmap(std::ptr::null_mut(), length, protection, libc::MAP_SHARED, fd, 0) };
    if address == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the mapping has `length` bytes, is unmapped only below, and the file is not truncated meanwhile.
    let result = run(unsafe { std::slice::from_raw_parts_mut(address.cast::<u8>(), length) });
    // SAFETY: syncs and removes the mapping just made; nothing refers to it any more.
    check(unsafe { libc::msync(address, length, libc::MS_SYNC) }.into())?;
    // SAFETY: as above.
    check(unsafe { libc::munmap(address, length) }.into())?;
    Ok(result)
}

/// Tells the kernel to drop a file's cached pages, so that the next read asks the client.
pub fn drop_cache(fd: RawFd) {
    // SAFETY: takes no pointers; it is only advice.
    unsafe { libc::posix_fadvise(fd, 0, 0, libc::POSIX_FADV_DONTNEED) };
}
