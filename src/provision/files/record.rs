//! How is a record read, and written so that no crash can garble it? How far does it say that a volume is?

use std::ffi::CString;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, fsync, unlinkat};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::super::StoreError;
use super::below::{each_entry, open};

/// The form of records; a driver refuses records of a newer form than its own.
pub(in crate::provision) const FORM: u32 = 1;
/// A record is a few hundred bytes; a larger file is none of ours.
const RECORD_BYTES_MAX: u64 = 64 << 10;
/// Ends the name of a record.
const SUFFIX: &str = ".json";

/// How far a volume is. It is only ever written before the step that it announces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(in crate::provision) enum VolumeState {
    /// Its directory is being made in `new/`.
    Creating,
    /// Its directory is complete and is being moved to its place; the inode tells it from a foreign one.
    Placing {
        /// Inode number of the directory.
        inode: u64,
    },
    /// It is in its place, and whatever else belongs to it is there.
    Ready,
    /// It is being removed.
    Deleting {
        /// Inode number of its directory, 0 when there was none: another directory in its place is not ours.
        inode: u64,
    },
}

/// The record of this name; `None` when there is none.
///
/// # Errors
/// When it can't be read or is not a record that this driver understands.
pub(in crate::provision) fn read<T: DeserializeOwned>(
    dir: BorrowedFd<'_>,
    name: &str,
) -> Result<Option<T>, StoreError> {
    let file_name = format!("{name}{SUFFIX}");
    let failed = |error: io::Error| StoreError::new(format!("reading record {file_name}"), error);
    let file = match open(dir, file_name.as_bytes(), OFlag::O_RDONLY | OFlag::O_NONBLOCK) {
        Ok(file) => std::fs::File::from(file),
        Err(Errno::ENOENT) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    let mut text = Vec::new();
    file.take(RECORD_BYTES_MAX).read_to_end(&mut text).map_err(failed)?;
    let invalid = |error: serde_json::Error| failed(io::Error::new(io::ErrorKind::InvalidData, error));
    let form: Form = serde_json::from_slice(&text).map_err(invalid)?;
    if form.form != FORM {
        let newer = format!("it has form {}, this driver knows form {FORM}", form.form);
        return Err(failed(io::Error::new(io::ErrorKind::InvalidData, newer)));
    }
    serde_json::from_slice(&text).map(Some).map_err(invalid)
}

#[derive(Deserialize)]
struct Form {
    form: u32,
}

/// Writes a record in place of the one before; after a crash there is the old one or the new one.
///
/// # Errors
/// When a system call fails; the record before is unchanged then, but for the last one, fsync of the directory.
pub(in crate::provision) fn write<T: Serialize>(
    dir: BorrowedFd<'_>,
    name: &str,
    record: &T,
) -> Result<(), StoreError> {
    let (file_name, draft_name) = (format!("{name}{SUFFIX}"), draft(name));
    let failed = |error: io::Error| StoreError::new(format!("writing record {file_name}"), error);
    let mut text = serde_json::to_vec_pretty(record).map_err(|e| failed(e.into()))?;
    text.push(b'\n');
    let put = || -> io::Result<()> {
        let mut draft = create(dir, &draft_name)?;
        draft.write_all(&text)?;
        draft.sync_all()?;
        renameat(dir, draft_name.as_str(), dir, file_name.as_str())?;
        Ok(fsync(dir)?)
    };
    put().map_err(|error| {
        // The draft is of no use; if it can't be removed either, the next write replaces it.
        unlinkat(dir, draft_name.as_str(), UnlinkatFlags::NoRemoveDir).ok();
        failed(error)
    })
}

fn create(dir: BorrowedFd<'_>, draft_name: &str) -> Result<std::fs::File, Errno> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    openat(dir, draft_name, flags, Mode::S_IRUSR | Mode::S_IWUSR).map(OwnedFd::into)
}

/// Removes a record; fine when there is none.
///
/// # Errors
/// When a system call fails.
pub(in crate::provision) fn remove(dir: BorrowedFd<'_>, name: &str) -> Result<(), StoreError> {
    for file_name in [draft(name), format!("{name}{SUFFIX}")] {
        match unlinkat(dir, file_name.as_str(), UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => {}
            Err(errno) => return Err(StoreError::new(format!("removing record {file_name}"), errno)),
        }
    }
    fsync(dir).map_err(|errno| StoreError::new("syncing the records", errno))
}

/// The names of all records, in no order.
///
/// # Errors
/// When the directory can't be read.
pub(in crate::provision) fn names(dir: &OwnedFd) -> Result<Vec<String>, StoreError> {
    let mut names = Vec::new();
    each_entry(dir.as_fd(), &"the records", |name| -> Result<(), StoreError> {
        let name = CString::from(name).into_string().unwrap_or_default();
        if let Some(name) = name.strip_suffix(SUFFIX).filter(|name| !name.starts_with('.')) {
            names.push(name.to_owned());
        }
        Ok(())
    })?;
    Ok(names)
}

/// A record being written; the dot keeps it out of lists, and no volume's name begins with one.
fn draft(name: &str) -> String {
    format!(".{name}.draft")
}
