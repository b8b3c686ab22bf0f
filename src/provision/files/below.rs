//! How is a file below a directory reached without ever leaving that directory?
//!
//! Every open goes through openat2(2): no symlink is followed, no mount is entered, nothing above is reached, whatever
//! somebody changes meanwhile.

use std::ffi::{CStr, CString};
use std::fmt::{self, Display};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{OFlag, OpenHow, ResolveFlag, openat2};
use nix::sys::stat::{FileStat, Mode, SFlag};

use super::super::StoreError;

/// Part of a path that one system call resolves, bytes; `PATH_MAX` is 4096.
const PATH_PART_BYTES_MAX: usize = 4000;

/// Most components of a path: what `PATH_MAX` lets a caller name at once. Deeper trees are made on purpose only, and
/// would cost the square of their depth.
const COMPONENTS_MAX: usize = 2048;

/// A path below a directory, empty for the directory itself. It may be longer than `PATH_MAX`. Paths share what they
/// have in common: of a tree, each directory's name is in memory once.
#[derive(Debug, Clone, Default)]
pub(in crate::provision) struct Below(Option<Rc<Component>>);

#[derive(Debug)]
struct Component {
    above: Below,
    name: CString,
    depth: usize,
}

impl Below {
    /// This path with one more component.
    ///
    /// # Errors
    /// `ENAMETOOLONG` for more components than are followed.
    pub(in crate::provision) fn join(&self, name: &CStr) -> Result<Self, Errno> {
        let depth = self.0.as_ref().map_or(0, |last| last.depth) + 1;
        if depth > COMPONENTS_MAX {
            return Err(Errno::ENAMETOOLONG);
        }
        Ok(Self(Some(Rc::new(Component { above: self.clone(), name: name.to_owned(), depth }))))
    }

    /// The path of an entry, for people.
    pub(in crate::provision) fn entry<'a>(&'a self, name: &'a CStr) -> impl Display + 'a {
        fmt::from_fn(move |f| match self.0 {
            None => f.write_str(&name.to_string_lossy()),
            Some(_) => write!(f, "{self}/{}", name.to_string_lossy()),
        })
    }

    fn names(&self) -> Vec<&CStr> {
        let mut names: Vec<&CStr> = std::iter::successors(self.0.as_deref(), |last| last.above.0.as_deref())
            .map(|component| component.name.as_c_str())
            .collect();
        names.reverse();
        names
    }

    /// Pieces that one call can resolve, in their order.
    fn parts(&self) -> Vec<Vec<u8>> {
        let mut parts: Vec<Vec<u8>> = Vec::new();
        for name in self.names().into_iter().map(CStr::to_bytes) {
            match parts.last_mut() {
                Some(part) if part.len() + 1 + name.len() <= PATH_PART_BYTES_MAX => {
                    part.push(b'/');
                    part.extend_from_slice(name);
                }
                _ => parts.push(name.to_vec()),
            }
        }
        parts
    }
}

impl Display for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.names().into_iter().map(CStr::to_string_lossy).collect();
        f.write_str(&names.join("/"))
    }
}

/// Opens a directory at a path below `base`.
///
/// # Errors
/// As openat2(2): `ELOOP` for a symlink, `EXDEV` for a mount, `ENOENT`, `ENOTDIR`.
pub(in crate::provision) fn open_dir(base: BorrowedFd<'_>, path: &Below) -> Result<OwnedFd, Errno> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    let mut dir = open(base, b".", flags)?;
    for part in path.parts() {
        dir = open(dir.as_fd(), &part, flags)?;
    }
    Ok(dir)
}

/// Opens what is named `name` in `dir`.
///
/// # Errors
/// As openat2(2).
pub(in crate::provision) fn open(dir: BorrowedFd<'_>, name: &[u8], flags: OFlag) -> Result<OwnedFd, Errno> {
    let how = OpenHow::new().flags(flags | OFlag::O_CLOEXEC | OFlag::O_NOFOLLOW).resolve(
        ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS | ResolveFlag::RESOLVE_NO_XDEV,
    );
    openat2(dir, name, how)
}

/// Calls `visit` with the name of each entry of a directory.
///
/// # Errors
/// The first error of `visit`, or that of reading the directory.
pub(in crate::provision) fn each_entry<E: From<StoreError>>(
    dir: BorrowedFd<'_>,
    what: &dyn Display,
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

/// The names in a directory that are text, in no order.
///
/// # Errors
/// When it can't be read.
pub(in crate::provision) fn names(
    dir: BorrowedFd<'_>,
    what: &dyn Display,
) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    each_entry(dir, what, |name| -> Result<(), StoreError> {
        names.extend(name.to_str().ok().map(str::to_owned));
        Ok(())
    })?;
    Ok(names)
}

/// What kind of file a stat tells of.
pub(in crate::provision) fn kind(stat: &FileStat) -> SFlag {
    SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT
}

/// The permission bits of a stat, with set-id and sticky bits.
pub(in crate::provision) fn permissions(stat: &FileStat) -> Mode {
    Mode::from_bits_truncate(stat.st_mode)
}
