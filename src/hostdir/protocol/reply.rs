//! How is an answer laid out? Writes answers into a fixed buffer that is resident before the kernel copies from it.

use nix::errno::Errno;

use crate::hostdir::attr::Attr;

/// Length of `struct fuse_out_header`.
pub(crate) const HEADER_LEN: usize = 16;

/// How long the kernel may use a name or attributes without asking again: one second, so that changes made on another
/// machine of a shared directory are seen soon.
const VALID_SECONDS: u64 = 1;

/// An answer's body that grows in a fixed buffer.
pub(crate) struct Body<'a> {
    buffer: &'a mut [u8],
    len: usize,
}

impl<'a> Body<'a> {
    pub(crate) fn new(buffer: &'a mut [u8]) -> Self {
        Self { buffer, len: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn clear(&mut self) {
        self.len = 0;
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// `EOVERFLOW` when the buffer is full.
    pub(crate) fn put(&mut self, bytes: &[u8]) -> Result<(), Errno> {
        self.room(bytes.len())?.copy_from_slice(bytes);
        self.len += bytes.len();
        Ok(())
    }

    /// Lets `fill` write up to `limit` bytes; it answers how many it wrote.
    pub(crate) fn fill(
        &mut self,
        limit: usize,
        fill: impl FnOnce(&mut [u8]) -> Result<usize, Errno>,
    ) -> Result<(), Errno> {
        let written = fill(self.room(limit)?)?;
        self.len += written.min(limit);
        Ok(())
    }

    fn room(&mut self, length: usize) -> Result<&mut [u8], Errno> {
        let end = self.len.checked_add(length).ok_or(Errno::EOVERFLOW)?;
        self.buffer.get_mut(self.len..end).ok_or(Errno::EOVERFLOW)
    }

    fn u64(&mut self, value: u64) -> Result<(), Errno> {
        self.put(&value.to_ne_bytes())
    }

    fn u32(&mut self, value: u32) -> Result<(), Errno> {
        self.put(&value.to_ne_bytes())
    }

    fn attr_fields(&mut self, attr: &Attr) -> Result<(), Errno> {
        let wide = [attr.inode.ino, attr.size, attr.blocks, attr.atime.0, attr.mtime.0, attr.ctime.0];
        let narrow = [attr.atime.1, attr.mtime.1, attr.ctime.1, attr.mode, attr.nlink, attr.uid, attr.gid];
        wide.iter().try_for_each(|value| self.u64(*value))?;
        narrow.iter().try_for_each(|value| self.u32(*value))?;
        [attr.rdev, attr.blksize, 0].iter().try_for_each(|value| self.u32(*value))
    }

    /// `struct fuse_attr_out`.
    pub(crate) fn attr(&mut self, attr: &Attr) -> Result<(), Errno> {
        self.u64(VALID_SECONDS)?;
        self.u64(0)?;
        self.attr_fields(attr)
    }

    /// `struct fuse_entry_out`. The generation is 0 because node ids are never reused.
    pub(crate) fn entry(&mut self, node: u64, attr: &Attr) -> Result<(), Errno> {
        [node, 0, VALID_SECONDS, VALID_SECONDS, 0].iter().try_for_each(|value| self.u64(*value))?;
        self.attr_fields(attr)
    }

    /// `struct fuse_open_out`.
    pub(crate) fn open(&mut self, handle: u64) -> Result<(), Errno> {
        self.u64(handle)?;
        self.u64(0)
    }

    /// A count as `struct fuse_write_out` and `struct fuse_getxattr_out` hold it.
    pub(crate) fn count(&mut self, count: u32) -> Result<(), Errno> {
        self.u32(count)?;
        self.u32(0)
    }

    /// `struct fuse_lseek_out`.
    pub(crate) fn offset(&mut self, offset: u64) -> Result<(), Errno> {
        self.u64(offset)
    }

    /// `struct fuse_statfs_out`.
    pub(crate) fn statfs(
        &mut self,
        wide: [u64; 5],
        block_size: u32,
        name_max: u32,
        fragment: u32,
    ) -> Result<(), Errno> {
        wide.iter().try_for_each(|value| self.u64(*value))?;
        [block_size, name_max, fragment].iter().try_for_each(|value| self.u32(*value))?;
        self.put(&[0; 28])
    }

    /// `struct fuse_dirent`, preceded by `struct fuse_entry_out` when `entry` is given as for READDIRPLUS.
    pub(crate) fn dirent(&mut self, listed: &Listed<'_>, entry: Option<&Entry<'_>>) -> Result<(), Errno> {
        match entry {
            None => {}
            Some(Entry::Unknown) => self.put(&[0; ENTRY_LEN])?,
            Some(Entry::Known { node, attr }) => self.entry(*node, attr)?,
        }
        let length = u32::try_from(listed.name.len()).map_err(|_| Errno::EOVERFLOW)?;
        self.u64(listed.ino)?;
        self.u64(listed.next_offset)?;
        self.u32(length)?;
        self.u32(listed.kind)?;
        self.put(listed.name)?;
        let padding = listed.name.len().next_multiple_of(8) - listed.name.len();
        self.put(&[0; 8][..padding])
    }
}

/// Length of `struct fuse_entry_out`.
pub(crate) const ENTRY_LEN: usize = 128;

const DIRENT_LEN: usize = 24;

/// One entry of a listing.
pub(crate) struct Listed<'a> {
    pub(crate) ino: u64,
    /// Where the listing goes on after this entry.
    pub(crate) next_offset: u64,
    pub(crate) kind: u32,
    pub(crate) name: &'a [u8],
}

impl Listed<'_> {
    /// Bytes of the entry in a READDIR answer.
    pub(crate) fn encoded_len(&self) -> usize {
        (DIRENT_LEN + self.name.len()).next_multiple_of(8)
    }
}

/// What READDIRPLUS tells about an entry besides its name.
#[derive(Clone, Copy)]
pub(crate) enum Entry<'a> {
    /// Nothing: the kernel looks it up when it needs to.
    Unknown,
    Known {
        node: u64,
        attr: &'a Attr,
    },
}

/// Writes the 16 bytes in front of a body. `len` counts them too.
pub(crate) fn header(unique: u64, error: i32, body_len: usize) -> Result<[u8; HEADER_LEN], Errno> {
    let len = u32::try_from(HEADER_LEN + body_len).map_err(|_| Errno::EOVERFLOW)?;
    let mut bytes = [0; HEADER_LEN];
    bytes[..4].copy_from_slice(&len.to_ne_bytes());
    bytes[4..8].copy_from_slice(&error.to_ne_bytes());
    bytes[8..].copy_from_slice(&unique.to_ne_bytes());
    Ok(bytes)
}

/// FUSE_NOTIFY_RESEND: asks the kernel to queue again all that an earlier server read and did not answer
/// (Linux 6.9 and later; older kernels answer EINVAL).
pub(crate) fn resend_notification() -> Result<[u8; HEADER_LEN], Errno> {
    const FUSE_NOTIFY_RESEND: i32 = 7;
    header(0, FUSE_NOTIFY_RESEND, 0)
}
