//! What does the kernel's mount table say?
//!
//! The format is that of `/proc/<pid>/mountinfo`: Documentation/filesystems/proc.rst, section 3.5, in the kernel.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use crate::mountpod::facts::DeviceNumber;
use crate::volume::Writability;

/// The mount table of this process's mount namespace.
const MOUNTINFO: &str = "/proc/self/mountinfo";
/// Room for the table of a node with some hundred mounts. /proc tells no size, and the kernel looks for its place in the
/// table anew at each read: a buffer that grows as it is filled would make it do so several times more.
const MOUNTINFO_BYTES: usize = 64 << 10;
/// Ends the optional fields of a line.
const SEPARATOR: &[u8] = b"-";

/// The kernel's number of one mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountId(pub u64);

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MountEntry {
    /// Its number.
    pub id: MountId,
    /// The mount that it lies on.
    pub parent: MountId,
    /// The device of its file system; every mount of one FUSE connection has the same.
    pub device: DeviceNumber,
    /// The directory of the file system that is its root.
    pub root: PathBuf,
    /// Where.
    pub mount_point: PathBuf,
    /// Read-only by this mount's own flag, whatever the file system's is.
    pub writability: Writability,
    /// The type of the file system, as `fuse.hostdir`.
    pub fs_type: String,
    /// What was mounted, as its mounter named it.
    pub source: String,
}

/// All mounts, in the order of the kernel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MountTable {
    entries: Vec<MountEntry>,
}

impl MountTable {
    /// Reads the table as it is now. It blocks on nothing but the kernel's own locks.
    ///
    /// # Errors
    /// When /proc can't be read.
    pub fn read() -> io::Result<Self> {
        let mut mountinfo = Vec::with_capacity(MOUNTINFO_BYTES);
        File::open(MOUNTINFO)?.read_to_end(&mut mountinfo)?;
        Ok(Self::parse(&mountinfo))
    }

    /// Parses a table; a line that has not the form of one is left out.
    #[must_use]
    pub fn parse(mountinfo: &[u8]) -> Self {
        Self { entries: mountinfo.split(|byte| *byte == b'\n').filter_map(parse_line).collect() }
    }

    /// The mounts, in the order of the kernel.
    pub fn iter(&self) -> impl Iterator<Item = &MountEntry> {
        self.entries.iter()
    }

    /// The mounts stacked at a path, bottom first; empty when nothing is mounted right there.
    #[must_use]
    pub fn stack_at(&self, path: &Path) -> Vec<&MountEntry> {
        let here: BTreeMap<MountId, &MountEntry> = self
            .entries
            .iter()
            .filter(|entry| entry.mount_point == path)
            .map(|entry| (entry.id, entry))
            .collect();
        let depth = |entry: &MountEntry| {
            let below = std::iter::successors(here.get(&entry.parent), |lower| here.get(&lower.parent));
            // A table can't hold a circle; the bound keeps a damaged one from hanging us.
            below.take(here.len()).count()
        };
        let mut stack: Vec<_> = here.values().copied().collect();
        stack.sort_by_key(|entry| depth(entry));
        stack
    }

    /// How many mounts does the file system with this device number have?
    #[must_use]
    pub fn count_of(&self, device: DeviceNumber) -> usize {
        self.entries.iter().filter(|entry| entry.device == device).count()
    }
}

/// `id parent major:minor root mount-point options [optional ...] - type source super-options`
fn parse_line(line: &[u8]) -> Option<MountEntry> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = MountId(number(fields.next()?)?);
    let parent = MountId(number(fields.next()?)?);
    let device = parse_device(fields.next()?)?;
    let root = unescape_path(fields.next()?);
    let mount_point = unescape_path(fields.next()?);
    let writability = parse_writability(fields.next()?);
    let mut rest = fields.skip_while(|field| *field != SEPARATOR).skip(1);
    let fs_type = text(rest.next()?);
    let source = text(rest.next()?);
    Some(MountEntry { id, parent, device, root, mount_point, writability, fs_type, source })
}

fn number<N: std::str::FromStr>(field: &[u8]) -> Option<N> {
    std::str::from_utf8(field).ok()?.parse().ok()
}

fn parse_device(field: &[u8]) -> Option<DeviceNumber> {
    let colon = field.iter().position(|byte| *byte == b':')?;
    Some(DeviceNumber { major: number(&field[..colon])?, minor: number(&field[colon + 1..])? })
}

fn parse_writability(options: &[u8]) -> Writability {
    let read_only = options.split(|byte| *byte == b',').any(|option| option == b"ro");
    if read_only { Writability::ReadOnly } else { Writability::ReadWrite }
}

fn unescape_path(field: &[u8]) -> PathBuf {
    PathBuf::from(OsString::from_vec(unescape(field)))
}

fn text(field: &[u8]) -> String {
    String::from_utf8_lossy(&unescape(field)).into_owned()
}

/// Undoes the kernel's escapes: a space, tab, newline, backslash or '#' stands as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        if let Some((byte, after)) = octal_escape(rest) {
            plain.push(byte);
            rest = after;
        } else {
            plain.push(*first);
            rest = tail;
        }
    }
    plain
}

fn octal_escape(bytes: &[u8]) -> Option<(u8, &[u8])> {
    let [b'\\', high @ b'0'..=b'3', middle @ b'0'..=b'7', low @ b'0'..=b'7', after @ ..] = bytes else {
        return None;
    };
    Some(((high - b'0') << 6 | (middle - b'0') << 3 | (low - b'0'), after))
}

#[cfg(test)]
#[path = "table_tests.rs"]
mod tests;
