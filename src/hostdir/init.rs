//! What should the driver answer to FUSE_INIT for this client?

/// What a client wants negotiated: the driver intersects `flags` with what the kernel offers and answers FUSE_INIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InitOffer {
    /// Protocol minor version to answer (the major version is 7).
    pub minor: u32,
    /// Wanted `FUSE_*` init flags; bits 32 and above go to `flags2`.
    pub flags: u64,
    /// Largest WRITE payload, in bytes. Every later client of the session needs buffers that fit it.
    pub max_write: u32,
    /// Largest request, in pages.
    pub max_pages: u16,
    /// How many background requests the kernel keeps in flight.
    pub max_background: u16,
    /// From how many background requests on the kernel counts the connection as congested.
    pub congestion_threshold: u16,
    /// Largest read-ahead, in bytes.
    pub max_readahead: u32,
    /// Granularity of time stamps, in nanoseconds.
    pub time_gran: u32,
}

/// Init flags by their names in the kernel's `include/uapi/linux/fuse.h`.
pub mod flag {
    /// Several reads of one file may be in flight.
    pub const ASYNC_READ: u64 = 1 << 0;
    /// Writes larger than a page.
    pub const BIG_WRITES: u64 = 1 << 5;
    /// Cached data is dropped when size or mtime changed behind the kernel's back.
    pub const AUTO_INVAL_DATA: u64 = 1 << 12;
    /// READDIRPLUS is understood.
    pub const DO_READDIRPLUS: u64 = 1 << 13;
    /// The kernel chooses between READDIR and READDIRPLUS.
    pub const READDIRPLUS_AUTO: u64 = 1 << 14;
    /// Asynchronous direct I/O.
    pub const ASYNC_DIO: u64 = 1 << 15;
    /// Lookups and listings of one directory may run at once.
    pub const PARALLEL_DIROPS: u64 = 1 << 18;
    /// Reading from an aborted connection gives ECONNABORTED, so that it can be told from an unmount (ENODEV).
    pub const ABORT_ERROR: u64 = 1 << 21;
    /// `max_pages` is valid.
    pub const MAX_PAGES: u64 = 1 << 22;
    /// The client drops set-uid and set-gid bits when asked to with a write or truncation; without it the kernel asks
    /// for an extended attribute before every write.
    pub const HANDLE_KILLPRIV_V2: u64 = 1 << 28;
    /// `flags2` is valid.
    pub const INIT_EXT: u64 = 1 << 30;
    /// The client knows resent requests. Only an advertisement: RESEND works without it.
    pub const HAS_RESEND: u64 = 1 << 39;
}

const MAX_WRITE: u32 = 1 << 20;

/// What this client wants. Left out on purpose: lock flags (locks stay in the kernel, so they survive the client),
/// writeback cache (acknowledged data must be in the directory), ATOMIC_O_TRUNC (a resent OPEN must not truncate
/// twice), EXPORT_SUPPORT (`..` is never looked up), DONT_MASK, POSIX_ACL and SETXATTR_EXT.
pub const WANTED_INIT: InitOffer = InitOffer {
    minor: 40,
    flags: flag::ASYNC_READ
        | flag::BIG_WRITES
        | flag::AUTO_INVAL_DATA
        | flag::DO_READDIRPLUS
        | flag::READDIRPLUS_AUTO
        | flag::ASYNC_DIO
        | flag::PARALLEL_DIROPS
        | flag::ABORT_ERROR
        | flag::MAX_PAGES
        | flag::HANDLE_KILLPRIV_V2
        | flag::INIT_EXT
        | flag::HAS_RESEND,
    max_write: MAX_WRITE,
    max_pages: 256,
    max_background: 64,
    congestion_threshold: 48,
    max_readahead: MAX_WRITE,
    time_gran: 1,
};
