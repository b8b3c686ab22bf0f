//! What is known about a file: its identity and its attributes.

use nix::libc;

/// Which file on which file system.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Inode {
    pub(crate) dev: u64,
    pub(crate) ino: u64,
}

/// The kind of a file, from its mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Regular,
    Directory,
    Symlink,
    Fifo,
    Socket,
    Device,
}

/// All attributes of one file. Times are seconds (as the protocol's bit pattern) and nanoseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Attr {
    pub(crate) inode: Inode,
    /// Birth time in nanoseconds, 0 where the file system has none: tells a reused inode number from the old file.
    pub(crate) birth: u64,
    pub(crate) mode: u32,
    pub(crate) nlink: u32,
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) rdev: u32,
    pub(crate) size: u64,
    pub(crate) blocks: u64,
    pub(crate) blksize: u32,
    pub(crate) atime: (u64, u32),
    pub(crate) mtime: (u64, u32),
    pub(crate) ctime: (u64, u32),
}

/// The kind bits of a mode.
pub(crate) fn kind_of(mode: u32) -> Kind {
    match mode & libc::S_IFMT {
        libc::S_IFREG => Kind::Regular,
        libc::S_IFDIR => Kind::Directory,
        libc::S_IFLNK => Kind::Symlink,
        libc::S_IFIFO => Kind::Fifo,
        libc::S_IFSOCK => Kind::Socket,
        _ => Kind::Device,
    }
}

/// The permission bits of a mode, with set-uid, set-gid and sticky.
pub(crate) const PERMISSIONS: u32 = 0o7777;

impl Attr {
    pub(crate) fn kind(&self) -> Kind {
        kind_of(self.mode)
    }
}

impl From<&libc::statx> for Attr {
    fn from(found: &libc::statx) -> Self {
        let time = |stamp: &libc::statx_timestamp| (stamp.tv_sec.cast_unsigned(), stamp.tv_nsec);
        let has_birth = found.stx_mask & libc::STATX_BTIME != 0;
        let birth = found.stx_btime.tv_sec.cast_unsigned().wrapping_mul(1_000_000_000);
        Self {
            inode: Inode {
                dev: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
                ino: found.stx_ino,
            },
            birth: if has_birth { birth.wrapping_add(u64::from(found.stx_btime.tv_nsec)) } else { 0 },
            mode: u32::from(found.stx_mode),
            nlink: found.stx_nlink,
            uid: found.stx_uid,
            gid: found.stx_gid,
            rdev: encode_device(found.stx_rdev_major, found.stx_rdev_minor),
            size: found.stx_size,
            blocks: found.stx_blocks,
            blksize: found.stx_blksize,
            atime: time(&found.stx_atime),
            mtime: time(&found.stx_mtime),
            ctime: time(&found.stx_ctime),
        }
    }
}

/// The kernel's `new_encode_dev`: 12 bits of major, 20 bits of minor.
fn encode_device(major: u32, minor: u32) -> u32 {
    (minor & 0xff) | (major << 8) | ((minor & !0xff) << 12)
}
