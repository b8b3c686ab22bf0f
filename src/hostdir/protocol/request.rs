//! What does the kernel ask? Parses one request, with every bound checked.

mod fields;

use std::ffi::CStr;

use nix::errno::Errno;

use super::opcode;
use fields::Fields;

/// Set in `unique` of a request that an earlier server has read and not answered; the answer must echo it.
pub(crate) const RESEND_BIT: u64 = 1 << 63;

/// Longest name of one path component (`NAME_MAX`).
pub(crate) const NAME_MAX: usize = 255;

/// Why bytes are not a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("the request ends in the middle of a field")]
    TooShort,
    #[error("the header says another length than was read")]
    WrongLength,
    #[error("a name is not ended by NUL")]
    UnendedName,
    #[error("a name is empty, `.`, `..` or holds a `/`")]
    NotOneComponent,
    #[error("a name is longer than {NAME_MAX} bytes")]
    NameTooLong,
}

impl Malformed {
    /// What the kernel is told.
    pub(crate) fn errno(self) -> Errno {
        match self {
            Self::TooShort | Self::WrongLength | Self::UnendedName => Errno::EIO,
            Self::NotOneComponent => Errno::EINVAL,
            Self::NameTooLong => Errno::ENAMETOOLONG,
        }
    }
}

/// Who asks, and for which node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Header {
    pub(crate) opcode: u32,
    /// As it came, with the resend bit.
    pub(crate) unique: u64,
    pub(crate) node: u64,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

impl Header {
    /// The request's id without the resend bit: the same for every time that it is sent.
    pub(crate) fn id(&self) -> u64 {
        self.unique & !RESEND_BIT
    }

    pub(crate) fn is_resent(&self) -> bool {
        self.unique & RESEND_BIT != 0
    }
}

/// A checked path component: not empty, no `/`, neither `.` nor `..`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Name<'a>(&'a CStr);

impl<'a> Name<'a> {
    pub(crate) fn new(text: &'a CStr) -> Result<Self, Malformed> {
        let bytes = text.to_bytes();
        if bytes.len() > NAME_MAX {
            return Err(Malformed::NameTooLong);
        }
        if matches!(bytes, b"" | b"." | b"..") || bytes.contains(&b'/') {
            return Err(Malformed::NotOneComponent);
        }
        Ok(Self(text))
    }

    pub(crate) fn as_c_str(self) -> &'a CStr {
        self.0
    }
}

/// A time stamp to set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetTime {
    Now,
    At { seconds: i64, nanoseconds: u32 },
}

/// What becomes of a file's set-uid and set-gid bits when its data changes (FUSE_HANDLE_KILLPRIV_V2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Privileges {
    #[default]
    Keep,
    /// The writer may not keep them.
    Drop,
}

impl Privileges {
    fn from_bit(flags: u32, bit: u32) -> Self {
        if flags & bit == 0 { Self::Keep } else { Self::Drop }
    }
}

/// Which attributes to change; `None` leaves one alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct SetAttr {
    pub(crate) mode: Option<u32>,
    pub(crate) uid: Option<u32>,
    pub(crate) gid: Option<u32>,
    pub(crate) size: Option<u64>,
    pub(crate) atime: Option<SetTime>,
    pub(crate) mtime: Option<SetTime>,
    pub(crate) handle: Option<u64>,
    pub(crate) privileges: Privileges,
}

/// The two ends of a COPY_FILE_RANGE.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CopyRange {
    pub(crate) from: u64,
    pub(crate) from_offset: u64,
    pub(crate) to: u64,
    pub(crate) to_offset: u64,
    pub(crate) length: u64,
    pub(crate) flags: u64,
}

/// One asked operation with its arguments.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Operation<'a> {
    Lookup { name: Name<'a> },
    Forget { count: u64 },
    BatchForget(ForgetList<'a>),
    GetAttr { handle: Option<u64> },
    SetAttr(SetAttr),
    ReadLink,
    Symlink { name: Name<'a>, target: &'a CStr },
    MkNod { name: Name<'a>, mode: u32 },
    MkDir { name: Name<'a>, mode: u32 },
    Unlink { name: Name<'a> },
    RmDir { name: Name<'a> },
    Rename { name: Name<'a>, new_parent: u64, new_name: Name<'a>, flags: u32 },
    Link { source: u64, name: Name<'a> },
    Open { flags: i32 },
    Create { name: Name<'a>, flags: i32, mode: u32 },
    Read { handle: u64, offset: u64, size: u32 },
    Write { handle: u64, offset: u64, data: &'a [u8], privileges: Privileges },
    StatFs,
    Release { handle: u64 },
    Flush { handle: u64 },
    Fsync { handle: u64, data_only: bool },
    SetXattr { name: &'a CStr, value: &'a [u8], flags: i32 },
    GetXattr { name: &'a CStr, size: u32 },
    ListXattr { size: u32 },
    RemoveXattr { name: &'a CStr },
    OpenDir,
    ReadDir { handle: u64, offset: u64, size: u32 },
    ReadDirPlus { handle: u64, offset: u64, size: u32 },
    FsyncDir { handle: u64, data_only: bool },
    Fallocate { handle: u64, offset: u64, length: u64, mode: i32 },
    Lseek { handle: u64, offset: u64, whence: i32 },
    CopyFileRange(CopyRange),
    Interrupt,
    Destroy,
    Ioctl,
    Unknown,
}

/// The `(node, count)` pairs of a BATCH_FORGET.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ForgetList<'a> {
    pairs: &'a [u8],
}

impl ForgetList<'_> {
    const PAIR_LEN: usize = 16;

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.pairs.chunks_exact(Self::PAIR_LEN).filter_map(|pair| {
            let mut fields = Fields { rest: pair };
            Some((fields.u64().ok()?, fields.u64().ok()?))
        })
    }
}

/// Reads the header; the rest of `bytes` are the arguments.
///
/// # Errors
/// When fewer bytes than a header came or the header's length is not the number of bytes.
pub(crate) fn parse_header(bytes: &[u8]) -> Result<(Header, &[u8]), Malformed> {
    let mut fields = Fields { rest: bytes };
    let length = fields.u32()?;
    let header = Header {
        opcode: fields.u32()?,
        unique: fields.u64()?,
        node: fields.u64()?,
        uid: fields.u32()?,
        gid: fields.u32()?,
    };
    fields.skip(8)?; // pid, extension length, padding
    if usize::try_from(length) != Ok(bytes.len()) {
        return Err(Malformed::WrongLength);
    }
    Ok((header, fields.rest))
}

/// Reads the arguments of one operation.
///
/// # Errors
/// When the arguments are shorter than the operation's struct, or a name is not one path component.
pub(crate) fn parse_operation(code: u32, arguments: &[u8]) -> Result<Operation<'_>, Malformed> {
    let f = &mut Fields { rest: arguments };
    Ok(match code {
        opcode::LOOKUP => Operation::Lookup { name: f.name()? },
        opcode::FORGET => Operation::Forget { count: f.u64()? },
        opcode::BATCH_FORGET => batch_forget(f)?,
        opcode::GETATTR => getattr(f)?,
        opcode::SETATTR => setattr(f)?,
        opcode::READLINK => Operation::ReadLink,
        opcode::SYMLINK => Operation::Symlink { name: f.name()?, target: f.text()? },
        opcode::MKNOD => mknod(f)?,
        opcode::MKDIR => mkdir(f)?,
        opcode::UNLINK => Operation::Unlink { name: f.name()? },
        opcode::RMDIR => Operation::RmDir { name: f.name()? },
        opcode::RENAME => rename(f, false)?,
        opcode::RENAME2 => rename(f, true)?,
        opcode::LINK => Operation::Link { source: f.u64()?, name: f.name()? },
        opcode::OPEN => Operation::Open { flags: f.i32()? },
        opcode::CREATE => create(f)?,
        opcode::READ => read(f).map(|(handle, offset, size)| Operation::Read { handle, offset, size })?,
        opcode::WRITE => write(f)?,
        opcode::STATFS => Operation::StatFs,
        opcode::RELEASE | opcode::RELEASEDIR => Operation::Release { handle: f.u64()? },
        opcode::FLUSH => Operation::Flush { handle: f.u64()? },
        opcode::FSYNC => fsync(f).map(|(handle, data_only)| Operation::Fsync { handle, data_only })?,
        opcode::FSYNCDIR => fsync(f).map(|(handle, data_only)| Operation::FsyncDir { handle, data_only })?,
        opcode::SETXATTR => setxattr(f)?,
        opcode::GETXATTR => getxattr(f)?,
        opcode::LISTXATTR => Operation::ListXattr { size: f.u32()? },
        opcode::REMOVEXATTR => Operation::RemoveXattr { name: f.text()? },
        opcode::OPENDIR => Operation::OpenDir,
        opcode::READDIR => {
            read(f).map(|(handle, offset, size)| Operation::ReadDir { handle, offset, size })?
        }
        opcode::READDIRPLUS => {
            read(f).map(|(handle, offset, size)| Operation::ReadDirPlus { handle, offset, size })?
        }
        opcode::FALLOCATE => fallocate(f)?,
        opcode::LSEEK => Operation::Lseek { handle: f.u64()?, offset: f.u64()?, whence: f.i32()? },
        opcode::COPY_FILE_RANGE => copy_file_range(f)?,
        opcode::INTERRUPT => Operation::Interrupt,
        opcode::DESTROY => Operation::Destroy,
        opcode::IOCTL => Operation::Ioctl,
        _ => Operation::Unknown,
    })
}

fn batch_forget<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let count = usize::try_from(f.u32()?).map_err(|_| Malformed::TooShort)?;
    f.skip(4)?;
    let length = count.checked_mul(ForgetList::PAIR_LEN).ok_or(Malformed::TooShort)?;
    Ok(Operation::BatchForget(ForgetList { pairs: f.bytes(length)? }))
}

fn getattr<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    const BY_HANDLE: u32 = 1;
    let flags = f.u32()?;
    f.skip(4)?;
    let handle = f.u64()?;
    Ok(Operation::GetAttr { handle: (flags & BY_HANDLE != 0).then_some(handle) })
}

fn setattr<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    const MODE: u32 = 1;
    const UID: u32 = 1 << 1;
    const GID: u32 = 1 << 2;
    const SIZE: u32 = 1 << 3;
    const ATIME: u32 = 1 << 4;
    const MTIME: u32 = 1 << 5;
    const HANDLE: u32 = 1 << 6;
    const ATIME_NOW: u32 = 1 << 7;
    const MTIME_NOW: u32 = 1 << 8;
    const KILL_SUIDGID: u32 = 1 << 11;
    let valid = f.u32()?;
    f.skip(4)?;
    let (handle, size) = (f.u64()?, f.u64()?);
    f.skip(8)?; // lock owner
    let (atime, mtime) = (f.i64()?, f.i64()?);
    f.skip(8)?; // ctime: only the kernel of the served file system sets it
    let (atime_nsec, mtime_nsec) = (f.u32()?, f.u32()?);
    f.skip(4)?;
    let mode = f.u32()?;
    f.skip(4)?;
    let (uid, gid) = (f.u32()?, f.u32()?);
    let has = |bit: u32| valid & bit != 0;
    let time = |asked, now, seconds, nanoseconds| match (has(now), has(asked)) {
        (true, _) => Some(SetTime::Now),
        (false, true) => Some(SetTime::At { seconds, nanoseconds }),
        (false, false) => None,
    };
    Ok(Operation::SetAttr(SetAttr {
        mode: has(MODE).then_some(mode),
        uid: has(UID).then_some(uid),
        gid: has(GID).then_some(gid),
        size: has(SIZE).then_some(size),
        atime: time(ATIME, ATIME_NOW, atime, atime_nsec),
        mtime: time(MTIME, MTIME_NOW, mtime, mtime_nsec),
        handle: has(HANDLE).then_some(handle),
        privileges: Privileges::from_bit(valid, KILL_SUIDGID),
    }))
}

fn mknod<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let mode = f.u32()?;
    f.skip(12)?; // device number, umask (already applied by the kernel), padding
    Ok(Operation::MkNod { mode, name: f.name()? })
}

fn mkdir<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let mode = f.u32()?;
    f.skip(4)?; // umask, already applied by the kernel
    Ok(Operation::MkDir { mode, name: f.name()? })
}

fn rename<'a>(f: &mut Fields<'a>, with_flags: bool) -> Result<Operation<'a>, Malformed> {
    let new_parent = f.u64()?;
    let flags = if with_flags { f.u32()? } else { 0 };
    f.skip(if with_flags { 4 } else { 0 })?;
    Ok(Operation::Rename { new_parent, flags, name: f.name()?, new_name: f.name()? })
}

fn create<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let (flags, mode) = (f.i32()?, f.u32()?);
    f.skip(8)?; // umask, already applied by the kernel; open flags
    Ok(Operation::Create { flags, mode, name: f.name()? })
}

fn read(f: &mut Fields<'_>) -> Result<(u64, u64, u32), Malformed> {
    let asked = (f.u64()?, f.u64()?, f.u32()?);
    f.skip(20)?;
    Ok(asked)
}

fn write<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    const KILL_SUIDGID: u32 = 1 << 2;
    let (handle, offset, size, flags) = (f.u64()?, f.u64()?, f.u32()?, f.u32()?);
    f.skip(16)?;
    let data = f.bytes(usize::try_from(size).map_err(|_| Malformed::TooShort)?)?;
    Ok(Operation::Write { handle, offset, data, privileges: Privileges::from_bit(flags, KILL_SUIDGID) })
}

fn fsync(f: &mut Fields<'_>) -> Result<(u64, bool), Malformed> {
    const DATA_ONLY: u32 = 1;
    Ok((f.u64()?, f.u32()? & DATA_ONLY != 0))
}

fn setxattr<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let (size, flags) = (f.u32()?, f.i32()?);
    let name = f.text()?;
    let value = f.bytes(usize::try_from(size).map_err(|_| Malformed::TooShort)?)?;
    Ok(Operation::SetXattr { name, value, flags })
}

fn getxattr<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let size = f.u32()?;
    f.skip(4)?;
    Ok(Operation::GetXattr { size, name: f.text()? })
}

fn fallocate<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    Ok(Operation::Fallocate { handle: f.u64()?, offset: f.u64()?, length: f.u64()?, mode: f.i32()? })
}

fn copy_file_range<'a>(f: &mut Fields<'a>) -> Result<Operation<'a>, Malformed> {
    let (from, from_offset) = (f.u64()?, f.u64()?);
    f.skip(8)?; // node of the destination: its handle says it
    Ok(Operation::CopyFileRange(CopyRange {
        from,
        from_offset,
        to: f.u64()?,
        to_offset: f.u64()?,
        length: f.u64()?,
        flags: f.u64()?,
    }))
}

#[cfg(test)]
mod tests;
