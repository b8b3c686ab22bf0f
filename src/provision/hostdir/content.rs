//! How are the bytes of a file copied, and its holes kept?

use std::fmt::Display;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::copy_file_range;
use nix::sys::uio::{pread, pwrite};
use nix::unistd::{Whence, ftruncate, lseek};

use super::super::{CopyError, StoreError};
use super::Stop;

/// Bytes that one call copies; between two calls the copy can be stopped.
const CHUNK_BYTES: i64 = 16 << 20;
/// Bytes of the buffer where the kernel can't copy by itself.
const BUFFER_BYTES: usize = 1 << 20;

/// Copies the first `length` bytes of `source` into the empty file `dest`; holes stay holes.
///
/// # Errors
/// See [`CopyError`].
pub(super) fn copy_content(
    source: &OwnedFd,
    dest: &OwnedFd,
    length: i64,
    stop: &Stop,
    shown: &dyn Display,
) -> Result<(), CopyError> {
    let failed = |errno| {
        CopyError::from(StoreError::new(format!("copying the content of {:?}", shown.to_string()), errno))
    };
    ftruncate(dest, length).map_err(failed)?;
    let mut at = 0;
    while at < length {
        let Some(data) = next_data(source, at, length).map_err(failed)? else { break };
        at = data.start;
        while at < data.end {
            if stop.is_set() {
                return Err(CopyError::Stopped);
            }
            let copied = copy_part(source, dest, at, (data.end - at).min(CHUNK_BYTES)).map_err(failed)?;
            if copied == 0 {
                // The file was cut while it was copied.
                return Ok(());
            }
            at += copied;
        }
    }
    Ok(())
}

/// The next stretch of data at or after `at`; `None` when only a hole is left.
fn next_data(source: &OwnedFd, at: i64, length: i64) -> Result<Option<std::ops::Range<i64>>, Errno> {
    let start = match lseek(source, at, Whence::SeekData) {
        Ok(start) => start,
        Err(Errno::ENXIO) => return Ok(None),
        // The file system can't tell holes: all of it is data.
        Err(Errno::EINVAL | Errno::EOPNOTSUPP) => return Ok(Some(at..length)),
        Err(errno) => return Err(errno),
    };
    let end = match lseek(source, start, Whence::SeekHole) {
        Ok(end) => end.min(length),
        Err(Errno::ENXIO) => return Ok(None),
        Err(errno) => return Err(errno),
    };
    Ok((start < end).then_some(start..end))
}

fn copy_part(source: &OwnedFd, dest: &OwnedFd, at: i64, bytes: i64) -> Result<i64, Errno> {
    let (mut from, mut to) = (at, at);
    let bytes = usize::try_from(bytes).map_err(|_| Errno::EINVAL)?;
    match copy_file_range(source, Some(&mut from), dest, Some(&mut to), bytes) {
        // Some file systems (procfs-like, older FUSE servers) answer 0 for a file that has bytes: read it then.
        Ok(0) | Err(Errno::EXDEV | Errno::EINVAL | Errno::ENOSYS | Errno::EOPNOTSUPP) => {
            read_and_write(source, dest, at, bytes.min(BUFFER_BYTES))
        }
        Ok(copied) => i64::try_from(copied).map_err(|_| Errno::EOVERFLOW),
        Err(Errno::EINTR) => copy_part(source, dest, at, i64::try_from(bytes).map_err(|_| Errno::EINVAL)?),
        Err(errno) => Err(errno),
    }
}

fn read_and_write(source: &OwnedFd, dest: &OwnedFd, at: i64, bytes: usize) -> Result<i64, Errno> {
    let mut buffer = vec![0; bytes];
    let read = pread(source, &mut buffer, at)?;
    let mut written = 0;
    while written < read {
        let offset = at + i64::try_from(written).map_err(|_| Errno::EOVERFLOW)?;
        written += pwrite(dest, &buffer[written..read], offset)?;
    }
    i64::try_from(read).map_err(|_| Errno::EOVERFLOW)
}
