//! How is a tree copied with all that belongs to its files?
//!
//! Owner, mode, times, `user.*` attributes, ACLs, symlinks, hard links within the tree, holes, fifos, sockets and
//! device nodes are kept. The source may be in use: what vanishes while it is copied is left out, and what is written
//! meanwhile may or may not be in the copy, as after a power cut.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::fmt::Display;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, readlinkat};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmod, fchmodat, fstat, fstatat, futimens,
    mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, fchown, fchownat, linkat, symlinkat};

use super::super::files::below::{Below, each_entry, kind, open, open_dir, permissions};
use super::super::{CopyError, StoreError};
use super::Stop;
use super::content::copy_content;
use super::sys;

/// Attributes that belong to a file's owner; `security.*` and `trusted.*` belong to the machine.
const XATTR_PREFIXES: &[&[u8]] = &[b"user.", b"system.posix_acl_"];

/// Copies all below `source`, and its own attributes, into the empty directory `dest`.
///
/// # Errors
/// See [`CopyError`]; what was copied until then is left for the caller to remove.
pub(super) fn copy_tree(source: BorrowedFd<'_>, dest: BorrowedFd<'_>, stop: &Stop) -> Result<(), CopyError> {
    let mut copy = Copy {
        source,
        dest,
        stop,
        pending: vec![Below::default()],
        made: Vec::new(),
        linked: HashMap::new(),
    };
    while let Some(path) = copy.pending.pop() {
        copy.directory(&path)?;
    }
    copy.finish_directories()
}

struct Copy<'a> {
    source: BorrowedFd<'a>,
    dest: BorrowedFd<'a>,
    stop: &'a Stop,
    pending: Vec<Below>,
    /// Directories in the order of their making; their modes and times are set last, children before parents.
    made: Vec<(Below, FileStat)>,
    /// Where a file with several names was copied to, by device and inode.
    linked: HashMap<(u64, u64), (Below, CString)>,
}

impl Copy<'_> {
    fn directory(&mut self, path: &Below) -> Result<(), CopyError> {
        let from = match open_dir(self.source, path) {
            Ok(from) => from,
            Err(errno) if vanished(errno) => return Ok(()),
            Err(Errno::EXDEV) => return Err(CopyError::MountInside { path: path.to_string() }),
            Err(errno) => return Err(failed("opening directory", path, errno)),
        };
        let to = open_dir(self.dest, path).map_err(|e| failed("opening the copy of", path, e))?;
        let stat = fstat(&from).map_err(|e| failed("reading attributes of", path, e))?;
        self.made.push((path.clone(), stat));
        each_entry(from.as_fd(), path, |name| self.entry(path, from.as_fd(), to.as_fd(), name))?;
        // After the entries: they would inherit the directory's default ACL, and let in whom their sources don't.
        own_and_attributes(from.as_fd(), to.as_fd(), &stat)
            .map_err(|e| failed("copying attributes of", path, e))
    }

    fn entry(
        &mut self,
        path: &Below,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), CopyError> {
        if self.stop.is_set() {
            return Err(CopyError::Stopped);
        }
        let stat = match fstatat(from, name, AtFlags::AT_SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(errno) if vanished(errno) => return Ok(()),
            Err(errno) => return Err(failed("looking at", &path.entry(name), errno)),
        };
        let done = match kind(&stat) {
            SFlag::S_IFDIR => path.join(name).and_then(|below| {
                mkdirat(to, name, Mode::S_IRWXU)?;
                self.pending.push(below);
                Ok(())
            }),
            SFlag::S_IFREG => return self.regular(path, from, to, name),
            SFlag::S_IFLNK => symlink(from, to, name, &stat),
            _ => special(to, name, &stat),
        };
        match done {
            Err(errno) if !vanished(errno) => Err(failed("copying", &path.entry(name), errno)),
            _ => Ok(()),
        }
    }

    fn regular(
        &mut self,
        path: &Below,
        from: BorrowedFd<'_>,
        to: BorrowedFd<'_>,
        name: &CStr,
    ) -> Result<(), CopyError> {
        let shown = path.entry(name);
        // O_NONBLOCK: if the name has become a fifo meanwhile, opening must not wait for a writer.
        let source = match open(from, name.to_bytes(), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
            Ok(source) => source,
            Err(errno) if vanished(errno) || errno == Errno::ENXIO => return Ok(()),
            Err(Errno::EXDEV) => return Err(CopyError::MountInside { path: shown.to_string() }),
            Err(errno) => return Err(failed("opening", &shown, errno)),
        };
        let stat = fstat(&source).map_err(|e| failed("reading attributes of", &shown, e))?;
        if kind(&stat) != SFlag::S_IFREG {
            return Ok(());
        }
        let identity = (stat.st_dev, stat.st_ino);
        if let Some((dir, first)) = self.linked.get(&identity) {
            return self.link(dir, first, to, name).map_err(|e| failed("linking", &shown, e));
        }
        let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let dest = nix::fcntl::openat(to, name, flags, Mode::S_IRUSR | Mode::S_IWUSR)
            .map_err(|e| failed("creating the copy of", &shown, e))?;
        copy_content(&source, &dest, stat.st_size, self.stop, &shown)?;
        finish_file(&source, &dest, &stat).map_err(|e| failed("copying attributes of", &shown, e))?;
        if stat.st_nlink > 1 {
            self.linked.insert(identity, (path.clone(), name.to_owned()));
        }
        Ok(())
    }

    fn link(&self, dir: &Below, first: &CStr, to: BorrowedFd<'_>, name: &CStr) -> Result<(), Errno> {
        linkat(open_dir(self.dest, dir)?, first, to, name, AtFlags::empty())
    }

    fn finish_directories(&self) -> Result<(), CopyError> {
        for (path, stat) in self.made.iter().rev() {
            let finish = || {
                let dir = open_dir(self.dest, path)?;
                fchmod(&dir, permissions(stat))?;
                let (accessed, modified) = times(stat);
                futimens(&dir, &accessed, &modified)
            };
            finish().map_err(|e| failed("finishing the copy of", path, e))?;
        }
        Ok(())
    }
}

fn symlink(from: BorrowedFd<'_>, to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
    let leads_to = readlinkat(from, name)?;
    symlinkat(leads_to.as_bytes(), to, name)?;
    own_by_name(to, name, stat)
}

fn special(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
    mknodat(to, name, kind(stat), Mode::empty(), stat.st_rdev)?;
    own_by_name(to, name, stat)?;
    // The name was just made, in a directory that only this driver can reach: it is no symlink.
    fchmodat(to, name, permissions(stat), FchmodatFlags::FollowSymlink)
}

fn own_by_name(to: BorrowedFd<'_>, name: &CStr, stat: &FileStat) -> Result<(), Errno> {
    let (owner, group) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
    fchownat(to, name, Some(owner), Some(group), AtFlags::AT_SYMLINK_NOFOLLOW)?;
    let (accessed, modified) = times(stat);
    utimensat(to, name, &accessed, &modified, UtimensatFlags::NoFollowSymlink)
}

fn finish_file(source: &OwnedFd, dest: &OwnedFd, stat: &FileStat) -> Result<(), Errno> {
    own_and_attributes(source.as_fd(), dest.as_fd(), stat)?;
    // After the owner: changing the owner clears set-id bits.
    fchmod(dest, permissions(stat))?;
    let (accessed, modified) = times(stat);
    futimens(dest, &accessed, &modified)
}

fn own_and_attributes(from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &FileStat) -> Result<(), Errno> {
    fchown(to, Some(Uid::from_raw(stat.st_uid)), Some(Gid::from_raw(stat.st_gid)))?;
    for name in sys::xattr_names(from)? {
        if !XATTR_PREFIXES.iter().any(|prefix| name.to_bytes().starts_with(prefix)) {
            continue;
        }
        match sys::xattr(from, &name) {
            Ok(value) => sys::set_xattr(to, &name, &value)?,
            Err(Errno::ENODATA) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}

fn times(stat: &FileStat) -> (TimeSpec, TimeSpec) {
    (TimeSpec::new(stat.st_atime, stat.st_atime_nsec), TimeSpec::new(stat.st_mtime, stat.st_mtime_nsec))
}

/// The entry was there when its directory was listed, and is gone or something else now.
fn vanished(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP)
}

fn failed(doing: &str, path: &dyn Display, errno: Errno) -> CopyError {
    StoreError::new(format!("{doing} {:?}", path.to_string()), errno).into()
}
