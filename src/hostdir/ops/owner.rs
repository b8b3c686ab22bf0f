//! Whose is a new file, and with which mode?

use std::os::fd::RawFd;

use nix::errno::Errno;
use nix::libc;

use crate::hostdir::attr::{Attr, Kind, PERMISSIONS};
use crate::hostdir::protocol::request::Header;
use crate::hostdir::sys;

/// Owner, group and permission bits of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Owner {
    uid: u32,
    gid: u32,
    mode: u32,
}

impl Owner {
    /// What a new file in a directory must get: the caller's ids, but the group of a set-gid directory, whose new
    /// subdirectories are set-gid too.
    pub(super) fn of_new(parent: &Attr, caller: &Header, kind: Kind, mode: u32) -> Self {
        let inherits = parent.mode & libc::S_ISGID != 0;
        let mode = mode & PERMISSIONS;
        Self {
            uid: caller.uid,
            gid: if inherits { parent.gid } else { caller.gid },
            mode: if inherits && kind == Kind::Directory { mode | libc::S_ISGID } else { mode },
        }
    }

    /// Gives a file to this owner. Doing it again changes nothing. The owner comes first: a change of owner clears
    /// the set-uid bit.
    pub(super) fn give(&self, fd: RawFd) -> Result<Attr, Errno> {
        let found = sys::attr(fd)?;
        if (found.uid, found.gid) != (self.uid, self.gid) {
            sys::change_owner(fd, Some(self.uid), Some(self.gid))?;
        }
        if found.kind() != Kind::Symlink && found.mode & PERMISSIONS != self.mode {
            sys::change_mode(fd, self.mode)?;
        }
        sys::attr(fd)
    }

    /// Whether a file can be one that a dead server made for this owner: as it is made (of uid 0, without any
    /// permission), as it becomes, or in between.
    pub(super) fn may_have_made(&self, found: &Attr) -> bool {
        let mode = found.mode & PERMISSIONS;
        let as_made = mode & !libc::S_ISGID == 0;
        (found.uid == 0 || found.uid == self.uid) && (as_made || mode == self.mode)
    }
}
