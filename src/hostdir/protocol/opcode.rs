//! Which number is which operation?

macro_rules! opcodes {
    ($($name:ident = $number:literal,)*) => {
        $(pub(crate) const $name: u32 = $number;)*

        /// Every operation number that this client knows, for tests that try them all.
        #[cfg(test)]
        pub(crate) const ALL: &[u32] = &[$($name),*];
    };
}

opcodes! {
    LOOKUP = 1,
    FORGET = 2,
    GETATTR = 3,
    SETATTR = 4,
    READLINK = 5,
    SYMLINK = 6,
    MKNOD = 8,
    MKDIR = 9,
    UNLINK = 10,
    RMDIR = 11,
    RENAME = 12,
    LINK = 13,
    OPEN = 14,
    READ = 15,
    WRITE = 16,
    STATFS = 17,
    RELEASE = 18,
    FSYNC = 20,
    SETXATTR = 21,
    GETXATTR = 22,
    LISTXATTR = 23,
    REMOVEXATTR = 24,
    FLUSH = 25,
    OPENDIR = 27,
    READDIR = 28,
    RELEASEDIR = 29,
    FSYNCDIR = 30,
    CREATE = 35,
    INTERRUPT = 36,
    DESTROY = 38,
    IOCTL = 39,
    BATCH_FORGET = 42,
    FALLOCATE = 43,
    READDIRPLUS = 44,
    RENAME2 = 45,
    LSEEK = 46,
    COPY_FILE_RANGE = 47,
}

/// How a request that was executed by a server which then died must be treated when the kernel sends it again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Replay {
    /// Doing it again gives the same result: reads, writes at an offset, listings.
    Repeat,
    /// Doing it again could give a false error or undo somebody's later work: its result is kept in the journal.
    Recorded,
}

/// The replay class of an operation.
pub(crate) fn replay_class(opcode: u32) -> Replay {
    match opcode {
        SETATTR | SYMLINK | MKNOD | MKDIR | UNLINK | RMDIR | RENAME | RENAME2 | LINK | OPEN | OPENDIR
        | CREATE | SETXATTR | REMOVEXATTR => Replay::Recorded,
        _ => Replay::Repeat,
    }
}
