//! How are the tables laid out in the state memfd?

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64};

/// `MPHOSTDR` in ASCII: says that a server has initialised the state.
pub(crate) const MAGIC: u64 = u64::from_be_bytes(*b"MPHOSTDR");

/// Raised with every change of this file that an older or newer client would misread.
pub(crate) const VERSION: u32 = 1;

/// Nodes that the kernel may know at once. Only touched records take memory (328 bytes each).
pub(crate) const NODE_SLOTS: usize = 1 << 22;

/// Files and directories that may be open at once.
pub(crate) const HANDLE_SLOTS: usize = 1 << 18;

/// Requests whose progress can be remembered at once: one per worker, plus those of servers that died while they
/// answered resent requests.
pub(crate) const JOURNAL_SLOTS: usize = 512;

/// Lookups that one request can count: the most entries that one READDIRPLUS answer holds.
pub(crate) const COUNTED_MAX: usize = 256;

/// Further names of files with several links that are remembered; the oldest makes room for the newest.
pub(crate) const OTHER_PLACES: usize = 4096;

/// Words that hold a name of up to 255 bytes.
pub(crate) const NAME_WORDS: usize = 32;

/// Number of named places where `--chaos` kills.
pub(crate) const CHAOS_POINTS: usize = 4;

/// Value of a record's descriptor when the file has to be opened again before use.
pub(crate) const CLOSED: i32 = -1;

/// A name, eight bytes a word.
#[repr(C)]
pub(crate) struct NameCell {
    pub(crate) parent: AtomicU64,
    pub(crate) len: AtomicU32,
    pub(crate) padding: AtomicU32,
    pub(crate) words: [AtomicU64; NAME_WORDS],
}

/// What a server of this session must know before it reads a table.
#[repr(C)]
pub(crate) struct Header {
    pub(crate) magic: AtomicU64,
    pub(crate) version: AtomicU32,
    pub(crate) max_write: AtomicU32,
    pub(crate) init_flags: AtomicU64,
    /// Random number of the keeper whose descriptor table the tables speak of.
    pub(crate) keeper: AtomicU64,
    /// How many servers have been started.
    pub(crate) generation: AtomicU64,
    /// Requests answered.
    pub(crate) served: AtomicU64,
    /// Resent requests answered.
    pub(crate) resent: AtomicU64,
    /// Self-kills at each chaos point.
    pub(crate) chaos: [AtomicU64; CHAOS_POINTS],
    /// Node slots from here on were never used.
    pub(crate) node_end: AtomicU32,
    /// Handle slots from here on were never used.
    pub(crate) handle_end: AtomicU32,
    /// The node whose name is being written (0: none) and what is written: repeated after a kill.
    pub(crate) naming: AtomicU64,
    pub(crate) staged: NameCell,
    /// The next of [`OTHER_PLACES`] to be overwritten.
    pub(crate) other_next: AtomicU64,
}

/// A further name of a file that has several links.
#[repr(C)]
pub(crate) struct OtherPlace {
    /// Node id, 0 when empty.
    pub(crate) node: AtomicU64,
    pub(crate) name: NameCell,
}

/// One node that the kernel knows.
#[repr(C)]
pub(crate) struct NodeRecord {
    /// Node id, 0 when the record is free.
    pub(crate) id: AtomicU64,
    /// How often this slot was used; part of the id, so that ids are never reused.
    pub(crate) uses: AtomicU64,
    pub(crate) lookups: AtomicU64,
    pub(crate) dev: AtomicU64,
    pub(crate) ino: AtomicU64,
    pub(crate) birth: AtomicU64,
    /// `O_PATH` descriptor in the keeper's table, or [`CLOSED`].
    pub(crate) fd: AtomicI32,
    /// File type bits of the mode.
    pub(crate) kind: AtomicU32,
    pub(crate) name: NameCell,
}

/// One open file or directory.
#[repr(C)]
pub(crate) struct HandleRecord {
    /// Handle id, 0 when the record is free.
    pub(crate) id: AtomicU64,
    pub(crate) uses: AtomicU64,
    pub(crate) node: AtomicU64,
    /// Descriptor in the keeper's table, or [`CLOSED`].
    pub(crate) fd: AtomicI32,
    /// Open flags, for opening it again.
    pub(crate) flags: AtomicI32,
}

/// How far one request has come.
#[repr(C)]
pub(crate) struct JournalRecord {
    pub(crate) phase: AtomicU32,
    pub(crate) opcode: AtomicU32,
    pub(crate) id: AtomicU64,
    pub(crate) error: AtomicI32,
    pub(crate) counted_len: AtomicU32,
    pub(crate) node: AtomicU64,
    pub(crate) handle: AtomicU64,
    pub(crate) source_dev: AtomicU64,
    pub(crate) source_ino: AtomicU64,
    pub(crate) target_dev: AtomicU64,
    pub(crate) target_ino: AtomicU64,
    /// Nodes whose lookup count this request has raised.
    pub(crate) counted: [AtomicU64; COUNTED_MAX],
}

/// All of the state.
#[repr(C)]
pub(crate) struct Layout {
    pub(crate) header: Header,
    pub(crate) journal: [JournalRecord; JOURNAL_SLOTS],
    pub(crate) other_places: [OtherPlace; OTHER_PLACES],
    pub(crate) handles: [HandleRecord; HANDLE_SLOTS],
    pub(crate) nodes: [NodeRecord; NODE_SLOTS],
}

const _: () = assert!(size_of::<NodeRecord>() == 328, "docs/hostdir.md and NODE_SLOTS tell this figure");

const PAGE: usize = 4096;

/// Length of the state memfd in bytes. It is sparse: only records in use take memory.
pub const STATE_LEN: u64 = size_of::<Layout>().next_multiple_of(PAGE) as u64;

#[cfg(test)]
pub(crate) mod testing {
    #![allow(clippy::unwrap_used, reason = "a failed assumption fails the test")]

    use std::os::fd::AsRawFd;

    use nix::sys::memfd::{MFdFlags, memfd_create};

    use super::{Layout, STATE_LEN};

    /// A state of its own for one test; the mapping stays until the test program ends, and is sparse.
    pub(crate) fn fresh_layout() -> &'static Layout {
        let memfd = memfd_create(c"hostdir-test", MFdFlags::MFD_CLOEXEC).unwrap();
        nix::unistd::ftruncate(&memfd, i64::try_from(STATE_LEN).unwrap()).unwrap();
        super::super::map(memfd.as_raw_fd()).unwrap()
    }
}
