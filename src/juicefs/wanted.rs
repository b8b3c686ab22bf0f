//! What does JuiceFS want to be negotiated in FUSE_INIT?
//!
//! The numbers are those of juicefs v1.4.1 (`pkg/fuse/fuse.go`) and its fork of go-fuse (`fuse/opcode.go`, `doInit`). A
//! client that takes over a session keeps to them without looking, so options that change them belong to the spec.

use std::collections::BTreeMap;

use super::options::{FuseIo, InvalidOption, fuse_words};
use crate::session::init::Wanted;

/// The minor version that go-fuse answers.
const MINOR: u32 = 28;
/// ASYNC_READ, POSIX_LOCKS, EXPORT_SUPPORT, BIG_WRITES, FLOCK_LOCKS, AUTO_INVAL_DATA, DO_READDIRPLUS, READDIRPLUS_AUTO,
/// NO_OPEN_SUPPORT, PARALLEL_DIROPS, MAX_PAGES, CACHE_SYMLINKS (include/uapi/linux/fuse.h).
const FLAGS: u64 = 0xc6_7433;
/// `FUSE_DONT_MASK` and `FUSE_POSIX_ACL`, for a filesystem that was formatted with `enable-acl`.
const ACL_FLAGS: u64 = 1 << 6 | 1 << 20;
/// `FUSE_ASYNC_DIO`.
const ASYNC_DIO: u64 = 1 << 15;
/// `FUSE_WRITEBACK_CACHE`.
const WRITEBACK_CACHE: u64 = 1 << 16;
/// Bytes; go-fuse repeats what the kernel offers, up to this.
const MAX_READAHEAD: u32 = 1 << 20;
const MAX_BACKGROUND: u16 = 50;
const CONGESTION_THRESHOLD: u16 = 37;
const PAGE_BYTES: u32 = 4096;

/// What a client with these options wants.
///
/// # Errors
/// When the size of a request is none that the client can serve.
pub fn wanted(options: &BTreeMap<String, String>) -> Result<Wanted, InvalidOption> {
    let io = FuseIo::of(options)?;
    let mut flags = FLAGS;
    if options.contains_key("enable-acl") {
        flags |= ACL_FLAGS;
    }
    for word in fuse_words(options) {
        match word {
            "writeback_cache" => flags |= WRITEBACK_CACHE,
            "async_dio" => flags |= ASYNC_DIO,
            _ => {}
        }
    }
    Ok(Wanted {
        minor: MINOR,
        flags,
        max_write: io.bytes(),
        max_pages: u16::try_from(io.bytes() / PAGE_BYTES).unwrap_or(u16::MAX),
        max_readahead: MAX_READAHEAD,
        max_background: MAX_BACKGROUND,
        congestion_threshold: CONGESTION_THRESHOLD,
        time_gran: 0,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn with(options: &[(&str, &str)]) -> Wanted {
        wanted(&options.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
            .unwrap()
    }

    #[test]
    fn the_client_s_own_answer_is_given_unless_options_change_it() {
        let plain = with(&[]);
        assert_eq!((plain.minor, plain.flags, plain.max_write, plain.max_pages), (28, 0xc67433, 131_072, 32));
        assert_eq!((plain.max_background, plain.congestion_threshold, plain.time_gran), (50, 37, 0));
        assert_eq!(with(&[("o", "debug,writeback_cache")]).flags, 0xc67433 | 1 << 16);
        assert_eq!(with(&[("enable-acl", "")]).flags, 0xc67433 | 1 << 6 | 1 << 20);
        let large = with(&[("max-fuse-io", "1M")]);
        assert_eq!((large.max_write, large.max_pages), (1 << 20, 256));
    }
}
