//! What does the kernel offer in FUSE_INIT, and what is it answered?
//!
//! The driver answers for the client, so that the same answer holds for every client that serves the session later.
//! Layouts: include/uapi/linux/fuse.h (`fuse_in_header`, `fuse_init_in`, `fuse_out_header`, `fuse_init_out`).

use crate::agent::frames::Negotiated;

/// The protocol's major version.
const MAJOR: u32 = 7;
/// The oldest kernel that has all else we need (mount_setattr(2): Linux 5.12) speaks 7.33; older answers differ in form.
const MINOR_MIN: u32 = 33;
/// FUSE_INIT, among the opcodes.
const OPCODE_INIT: u32 = 26;
/// `FUSE_MAX_PAGES`: `max_pages` of the answer is looked at.
const FLAG_MAX_PAGES: u64 = 1 << 22;
/// `FUSE_INIT_EXT`: the upper 32 flags are valid.
const FLAG_INIT_EXT: u64 = 1 << 30;
/// What a kernel takes when `FUSE_MAX_PAGES` is not negotiated.
const MAX_PAGES_DEFAULT: u16 = 32;
/// The kernel sends no smaller `max_write` (`FUSE_MIN_MAX_WRITE` is one page).
const MAX_WRITE_MIN: u32 = 4096;
/// `max_pages` counts pages of this size.
const PAGE_BYTES: u32 = 4096;

const IN_HEADER_BYTES: usize = 40;
/// `major`, `minor`, `max_readahead`, `flags`: the part that every kernel sends.
const INIT_IN_BYTES_MIN: usize = 16;
const OUT_HEADER_BYTES: usize = 16;
const INIT_OUT_BYTES: usize = 64;

/// What a client wants to be negotiated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wanted {
    /// The newest minor version that it knows.
    pub minor: u32,
    /// All 64 flag bits.
    pub flags: u64,
    /// Bytes.
    pub max_write: u32,
    /// Pages of 4 KiB.
    pub max_pages: u16,
    /// Bytes.
    pub max_readahead: u32,
    /// Requests in the background.
    pub max_background: u16,
    /// Requests in the background from which on the connection counts as congested.
    pub congestion_threshold: u16,
    /// Granularity of time stamps, in nanoseconds.
    pub time_gran: u32,
}

/// The kernel's FUSE_INIT request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KernelOffer {
    /// Identifies the request.
    pub unique: u64,
    /// Minor version of protocol 7.
    pub minor: u32,
    /// All 64 flag bits; the upper ones are 0 on kernels that have none.
    pub flags: u64,
    /// Bytes.
    pub max_readahead: u32,
}

/// Why a request is no FUSE_INIT that can be answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInit {
    /// The request ends before its last field.
    #[error("the first request of the kernel is cut off after {0} bytes")]
    CutOff(usize),
    /// Another request came first.
    #[error("the first request of the kernel is number {0}, not FUSE_INIT")]
    NotInit(u32),
    /// The protocol is another one.
    #[error("the kernel speaks FUSE {major}.{minor}, at least {MAJOR}.{MINOR_MIN} (Linux 5.12) is needed")]
    Version {
        /// Major version.
        major: u32,
        /// Minor version.
        minor: u32,
    },
}

/// Little helper for fixed places in a request; FUSE is in the machine's byte order.
struct Fields<'a>(&'a [u8]);

impl Fields<'_> {
    fn bytes<const N: usize>(&self, at: usize) -> Result<[u8; N], InvalidInit> {
        let field = self.0.get(at..at + N).and_then(|field| field.try_into().ok());
        field.ok_or(InvalidInit::CutOff(self.0.len()))
    }

    fn u32(&self, at: usize) -> Result<u32, InvalidInit> {
        Ok(u32::from_ne_bytes(self.bytes(at)?))
    }

    fn u64(&self, at: usize) -> Result<u64, InvalidInit> {
        Ok(u64::from_ne_bytes(self.bytes(at)?))
    }
}

/// Reads the kernel's FUSE_INIT.
///
/// # Errors
/// See [`InvalidInit`].
pub fn parse_init(request: &[u8]) -> Result<KernelOffer, InvalidInit> {
    let fields = Fields(request);
    let length = usize::try_from(fields.u32(0)?).unwrap_or(usize::MAX);
    let opcode = fields.u32(4)?;
    if opcode != OPCODE_INIT {
        return Err(InvalidInit::NotInit(opcode));
    }
    if length != request.len() || length < IN_HEADER_BYTES + INIT_IN_BYTES_MIN {
        return Err(InvalidInit::CutOff(request.len()));
    }
    let (major, minor) = (fields.u32(IN_HEADER_BYTES)?, fields.u32(IN_HEADER_BYTES + 4)?);
    if major != MAJOR || minor < MINOR_MIN {
        return Err(InvalidInit::Version { major, minor });
    }
    let lower = u64::from(fields.u32(IN_HEADER_BYTES + 12)?);
    let upper = if lower & FLAG_INIT_EXT == 0 { 0 } else { u64::from(fields.u32(IN_HEADER_BYTES + 16)?) };
    Ok(KernelOffer {
        unique: fields.u64(8)?,
        minor,
        flags: lower | upper << 32,
        max_readahead: fields.u32(IN_HEADER_BYTES + 8)?,
    })
}

/// What a client wants, cut to what the kernel offers.
#[must_use]
pub fn negotiate(offer: &KernelOffer, wanted: &Wanted) -> Negotiated {
    let mut flags = offer.flags & wanted.flags;
    if flags & FLAG_INIT_EXT == 0 {
        flags &= u64::from(u32::MAX);
    }
    let max_pages = if flags & FLAG_MAX_PAGES == 0 { MAX_PAGES_DEFAULT } else { wanted.max_pages.max(1) };
    Negotiated {
        minor: offer.minor.min(wanted.minor),
        flags,
        max_readahead: offer.max_readahead.min(wanted.max_readahead),
        max_write: wanted.max_write.min(u32::from(max_pages) * PAGE_BYTES).max(MAX_WRITE_MIN),
        max_pages,
    }
}

/// The bytes that answer FUSE_INIT.
#[must_use]
pub fn init_reply(unique: u64, negotiated: &Negotiated, wanted: &Wanted) -> Vec<u8> {
    let [lower, upper] = halves(negotiated.flags);
    let length = OUT_HEADER_BYTES + INIT_OUT_BYTES;
    let mut reply = Vec::with_capacity(length);
    for field in [u32::try_from(length).unwrap_or(u32::MAX), 0] {
        reply.extend(field.to_ne_bytes());
    }
    reply.extend(unique.to_ne_bytes());
    for field in [MAJOR, negotiated.minor, negotiated.max_readahead, lower] {
        reply.extend(field.to_ne_bytes());
    }
    reply.extend(wanted.max_background.to_ne_bytes());
    reply.extend(wanted.congestion_threshold.to_ne_bytes());
    reply.extend(negotiated.max_write.to_ne_bytes());
    reply.extend(wanted.time_gran.to_ne_bytes());
    reply.extend(negotiated.max_pages.to_ne_bytes());
    reply.extend(0_u16.to_ne_bytes()); // map_alignment: no DAX
    reply.extend(upper.to_ne_bytes());
    reply.resize(length, 0); // max_stack_depth, request_timeout, unused
    reply
}

fn halves(flags: u64) -> [u32; 2] {
    let half = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).unwrap_or(0);
    [half(flags), half(flags >> 32)]
}

#[cfg(test)]
#[path = "init_tests.rs"]
mod tests;
