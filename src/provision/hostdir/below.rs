//! How is a file below a directory reached without ever leaving that directory?
//!
//! Every open goes through openat2(2): no symlink is followed, no mount is entered, nothing above is reached, whatever
//! somebody changes meanwhile.

use std::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::super::StoreError;

/// Part of a path that one system call resolves, bytes; `PATH_MAX` is 4096.
const PATH_PART_BYTES_MAX: usize = 4000;

/// A path below a directory: component names joined with '/', empty for the directory itself. It may be longer than
/// `PATH_MAX`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Below(Vec<u8>);

impl Below {
    /// This path with one more component.
    pub(super) fn join(&self, name: &CStr) -> Self {
        let mut path = self.0.clone();
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(name.to_bytes());
        Self(path)
    }

    /// The path for people.
    pub(super) fn shown(&self) -> String {
        String::from_utf8_lossy(&self.0).into_owned()
    }

    /// Pieces that one call can resolve, in their order.
    fn parts(&self) -> Vec<&[u8]> {
        let mut parts = Vec::new();
        let mut rest = self.0.as_slice();
        while rest.len() > PATH_PART_BYTES_MAX {
            let end = rest[..PATH_PART_BYTES_MAX].iter().rposition(|byte| *byte == b'/').unwrap_or(0);
            parts.push(&rest[..end]);
            rest = &rest[end + 1..];
        }
        if !rest.is_empty() {
            parts.push(rest);
        }
        parts
    }
}

/// Opens a directory at a path below `base`.
///
/// # Errors
/// As openat2(2): `ELOOP` for a symlink, `EXDEV` for a mount, `ENOENT`, `ENOTDIR`.
pub(super) fn open_dir(base: BorrowedFd<'_>, path: &Below) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut dir = open(base, b".", flags)?;
    for part in path.parts() {
        dir = open(dir.as_fd(), part, flags)?;
    }
    Ok(dir)
}

/// Opens what is named `name` in `dir`.
///
/// # Errors
/// As openat2(2).
pub(super) fn open(dir: BorrowedFd<'_>, name: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(dir, name, how)
}

/// Calls `visit` with the name of each entry of a directory.
///
/// # Errors
/// The first error of `visit`, or that of reading the directory.
pub(super) fn each_entry<E: From<StoreError>>(
    dir: BorrowedFd<'_>,
    what: &str,
    mut visit: impl FnMut(&CStr) -> Result<(), E>,
) -> Result<(), E> {
    let failed = |errno: Errno| StoreError::new(format!("listing {what}"), errno);
    // A stream of its own: its position is not shared with other users of the descriptor.
    let own = open(dir, b".", OFlag::O_RDONLY | OFlag::O_DIRECTORY).map_err(failed)?;
    for entry in Dir::from_fd(own).map_err(failed)?.iter() {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            visit(name)?;
        }
    }
    Ok(())
}

/// What kind of file a stat tells of.
pub(super) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// The permission bits of a stat, with set-id and sticky bits.
pub(super) fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode)
}
