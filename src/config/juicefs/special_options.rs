//! Which mount options are not the client's?

use crate::volume::{Execution, Writability};

/// The client's option for the directory that becomes the root of the mount.
pub(super) const SUBDIRECTORY: &str = "subdir";
/// The client's option for the place of its cache.
pub(super) const CACHE_DIRECTORY: &str = "cache-dir";

/// What mount options say of the mount itself, whichever client serves it. A volume is always mounted `nosuid`, `nodev`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct MountAttributes {
    /// `ro` or `rw`, when it was said.
    pub writability: Option<Writability>,
    /// `noexec` or `exec`, when it was said.
    pub execution: Option<Execution>,
}

/// What becomes of an option that is not simply the client's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Special {
    Write(Writability),
    Execute(Execution),
    /// Every volume is so already, or the option speaks to programs that have no part in it.
    WithoutEffect,
    /// Its value becomes the volume's path.
    Subdirectory,
    /// Its value becomes the place of the cache.
    CacheDirectory,
    /// The rest of a sentence that begins with the option.
    Refused(&'static str),
}

const DRIVER_DECIDES: &str = "is decided by the driver, which opens the FUSE connection";
const ALWAYS_SAFE: &str = "is not possible: volumes are mounted nosuid and nodev";
const OF_MOUNT_COMMAND: &str = "changes a mount, but a volume's mount is made by the driver";
const NO_ATIME: &str = "does nothing on FUSE; give the client's option atime-mode";

/// Where the option speaks of the mount and not of the client. mount(8) lists the general ones, the kernel's
/// fs/fuse/inode.c those of FUSE; `allow_other` and `default_permissions` are on for every session.
const SPECIAL: &[(&str, Special)] = &[
    ("ro", Special::Write(Writability::ReadOnly)),
    ("read-only", Special::Write(Writability::ReadOnly)),
    ("rw", Special::Write(Writability::ReadWrite)),
    ("noexec", Special::Execute(Execution::Refused)),
    ("exec", Special::Execute(Execution::Allowed)),
    ("nosuid", Special::WithoutEffect),
    ("nodev", Special::WithoutEffect),
    ("defaults", Special::WithoutEffect),
    ("async", Special::WithoutEffect),
    ("noatime", Special::WithoutEffect),
    ("nodiratime", Special::WithoutEffect),
    ("_netdev", Special::WithoutEffect),
    ("nofail", Special::WithoutEffect),
    ("allow_other", Special::WithoutEffect),
    ("default_permissions", Special::WithoutEffect),
    (SUBDIRECTORY, Special::Subdirectory),
    (CACHE_DIRECTORY, Special::CacheDirectory),
    ("suid", Special::Refused(ALWAYS_SAFE)),
    ("dev", Special::Refused(ALWAYS_SAFE)),
    ("sync", Special::Refused("is not known to FUSE")),
    ("dirsync", Special::Refused("is not known to FUSE")),
    ("mand", Special::Refused("is no longer known to Linux")),
    ("atime", Special::Refused(NO_ATIME)),
    ("relatime", Special::Refused(NO_ATIME)),
    ("strictatime", Special::Refused(NO_ATIME)),
    ("lazytime", Special::Refused(NO_ATIME)),
    ("bind", Special::Refused(OF_MOUNT_COMMAND)),
    ("rbind", Special::Refused(OF_MOUNT_COMMAND)),
    ("move", Special::Refused(OF_MOUNT_COMMAND)),
    ("remount", Special::Refused(OF_MOUNT_COMMAND)),
    ("fd", Special::Refused(DRIVER_DECIDES)),
    ("rootmode", Special::Refused(DRIVER_DECIDES)),
    ("user_id", Special::Refused(DRIVER_DECIDES)),
    ("group_id", Special::Refused(DRIVER_DECIDES)),
    ("max_read", Special::Refused(DRIVER_DECIDES)),
    ("blksize", Special::Refused(DRIVER_DECIDES)),
    ("fsname", Special::Refused(DRIVER_DECIDES)),
    ("subtype", Special::Refused(DRIVER_DECIDES)),
    ("allow_root", Special::Refused(DRIVER_DECIDES)),
];

/// What becomes of the option; `None` for one of the client.
pub(super) fn special(name: &str) -> Option<Special> {
    SPECIAL.iter().find(|(known, _)| *known == name).map(|(_, special)| *special)
}

/// The names in the table.
#[cfg(test)]
pub(super) fn special_names() -> impl Iterator<Item = &'static str> {
    SPECIAL.iter().map(|(name, _)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_option_stands_in_the_table_once() {
        let names: BTreeSet<_> = SPECIAL.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), SPECIAL.len());
        assert_eq!(special("ro"), Some(Special::Write(Writability::ReadOnly)));
        assert_eq!(special("cache-size"), None);
    }
}
