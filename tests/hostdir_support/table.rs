//! Does an operation give the same result on a volume as on a directory? Operations as data, run on both.

use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{FileExt, FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use nix::fcntl::{FallocateFlags, fallocate};
use nix::sys::stat::Mode;

use super::sys::{self, Xattr};

/// Small numbers that look random; the same seed gives the same numbers.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }
}

/// An operation: what it does with one or two paths and a number, and what it found, as text.
pub type Operation = (&'static str, fn(&Path, &Path, u64) -> io::Result<String>);

pub const ALL: &[Operation] = &[
    ("mkdir", |a, _, _| fs::create_dir(a).map(none)),
    ("rmdir", |a, _, _| fs::remove_dir(a).map(none)),
    ("unlink", |a, _, _| fs::remove_file(a).map(none)),
    ("create exclusively", |a, _, _| OpenOptions::new().write(true).create_new(true).open(a).map(none)),
    ("write whole file", |a, _, n| fs::write(a, vec![b'w'; number(n * 700)]).map(none)),
    ("write at", |a, _, n| {
        OpenOptions::new().write(true).open(a)?.write_all_at(b"written", n * 900).map(none)
    }),
    ("append", |a, _, _| OpenOptions::new().append(true).open(a)?.write_all(b"appended").map(none)),
    ("read", |a, _, _| fs::read(a).map(|found| digest(&found))),
    ("read at", |a, _, n| {
        let mut found = [0; 64];
        let length = File::open(a)?.read_at(&mut found, n * 300)?;
        Ok(digest(&found[..length]))
    }),
    ("read only what is open for writing", |a, _, _| {
        Ok(some(
            OpenOptions::new()
                .write(true)
                .open(a)?
                .read_at(&mut [0; 4], 0)
                .map_err(|error| error.raw_os_error()),
        ))
    }),
    ("truncate", |a, _, n| OpenOptions::new().write(true).open(a)?.set_len(n * 500).map(none)),
    ("truncate by name", |a, _, n| {
        nix::unistd::truncate(a, i64::try_from(n * 300).unwrap()).map(none).map_err(Into::into)
    }),
    ("change mode", |a, _, n| {
        fs::set_permissions(
            a,
            Permissions::from_mode([0o600, 0o755, 0o4755, 0o2755, 0o1777, 0o000][number(n % 6)]),
        )
        .map(none)
    }),
    ("change owner", |a, _, n| {
        std::os::unix::fs::lchown(a, Some(u32::try_from(n).unwrap()), Some(1000)).map(none)
    }),
    ("change group only", |a, _, n| {
        std::os::unix::fs::lchown(a, None, Some(u32::try_from(n).unwrap())).map(none)
    }),
    ("set times", |a, _, n| {
        let time = UNIX_EPOCH + Duration::new(1_000_000_000 + n, 123_456_789);
        File::open(a)?.set_modified(time)?;
        Ok(format!("{:?}", fs::metadata(a)?.modified()?))
    }),
    ("stat", |a, _, _| describe(a)),
    ("list", |a, _, _| list(a)),
    ("link", |a, b, _| fs::hard_link(a, b).map(none)),
    ("symlink", |a, b, _| symlink(b.file_name().unwrap_or_default(), a).map(none)),
    ("read link", |a, _, _| fs::read_link(a).map(some)),
    ("rename", |a, b, _| fs::rename(a, b).map(none)),
    ("rename without replacing", |a, b, _| sys::rename(a, b, nix::libc::RENAME_NOREPLACE).map(none)),
    ("exchange", |a, b, _| sys::rename(a, b, nix::libc::RENAME_EXCHANGE).map(none)),
    ("make fifo", |a, _, _| {
        nix::unistd::mkfifo(a, Mode::from_bits_truncate(0o640)).map(none).map_err(Into::into)
    }),
    ("allocate", |a, _, n| {
        let file = OpenOptions::new().write(true).open(a)?;
        fallocate(&file, FallocateFlags::empty(), i64::try_from(n * 10).unwrap(), 5000)?;
        Ok(file.metadata()?.len().to_string())
    }),
    ("punch hole", |a, _, _| {
        let file = OpenOptions::new().write(true).open(a)?;
        let flags = FallocateFlags::FALLOC_FL_PUNCH_HOLE | FallocateFlags::FALLOC_FL_KEEP_SIZE;
        fallocate(&file, flags, 0, 100).map(none).map_err(Into::into)
    }),
    ("seek to the end of data", |a, _, _| {
        if fs::metadata(a)?.is_dir() {
            return Ok(String::new()); // each file system has a meaning of its own for directories
        }
        let whence = nix::unistd::Whence::SeekHole;
        nix::unistd::lseek(File::open(a)?, 0, whence).map(some).map_err(Into::into)
    }),
    ("copy inside the file system", |a, b, _| fs::copy(a, b).map(some)),
    ("set attribute", |a, _, n| set_attribute(a, n, 0)),
    ("set new attribute", |a, _, n| set_attribute(a, n, nix::libc::XATTR_CREATE)),
    ("replace attribute", |a, _, n| set_attribute(a, n, nix::libc::XATTR_REPLACE)),
    ("get attribute", |a, _, _| sys::xattr(a, "user.test", &Xattr::Get).map(some)),
    ("list attributes", |a, _, _| sys::xattr(a, "user.test", &Xattr::List).map(some)),
    ("remove attribute", |a, _, _| sys::xattr(a, "user.test", &Xattr::Remove).map(some)),
    ("fsync", |a, _, _| File::open(a)?.sync_all().map(none)),
    ("use after unlink", |a, _, _| {
        let mut file = OpenOptions::new().read(true).write(true).open(a)?;
        fs::remove_file(a)?;
        file.seek(SeekFrom::End(0))?;
        file.write_all(b"more")?;
        Ok(format!("{} {}", file.metadata()?.len(), file.metadata()?.nlink()))
    }),
];

fn none<T>(_: T) -> String {
    String::new()
}

fn some<T: std::fmt::Debug>(found: T) -> String {
    format!("{found:?}")
}

fn number(value: u64) -> usize {
    usize::try_from(value).unwrap()
}

fn set_attribute(path: &Path, value: u64, flags: i32) -> io::Result<String> {
    sys::xattr(path, "user.test", &Xattr::Set { value: &value.to_le_bytes(), flags }).map(none)
}

fn digest(bytes: &[u8]) -> String {
    let sum = bytes.iter().fold(7_u64, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
    format!("{} bytes, {sum:x}", bytes.len())
}

/// Everything about a file that must be the same on both sides.
fn describe(path: &Path) -> io::Result<String> {
    let found = fs::symlink_metadata(path)?;
    let size = if found.is_dir() { 0 } else { found.len() };
    let (mode, links, uid, gid) = (found.mode(), found.nlink(), found.uid(), found.gid());
    Ok(format!("{mode:o} links {links} owner {uid}:{gid} size {size} fifo {}", found.file_type().is_fifo()))
}

fn list(path: &Path) -> io::Result<String> {
    let mut names = fs::read_dir(path)?
        .map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()))
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names.join(" "))
}

/// A whole tree as text: every file with its attributes and contents.
pub fn tree(top: &Path) -> String {
    let mut text = String::new();
    let mut left = vec![PathBuf::new()];
    while let Some(relative) = left.pop() {
        let path = top.join(&relative);
        let kind = fs::symlink_metadata(&path).unwrap().file_type();
        let content = if kind.is_file() { digest(&fs::read(&path).unwrap()) } else { String::new() };
        writeln!(text, "{}: {} {content}", relative.display(), describe(&path).unwrap()).unwrap();
        if kind.is_dir() {
            let mut names: Vec<_> =
                fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            left.extend(names.into_iter().map(|name| relative.join(name)));
        }
    }
    text
}
