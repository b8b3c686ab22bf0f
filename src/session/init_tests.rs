//! Is FUSE_INIT read and answered as include/uapi/linux/fuse.h wants it?
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

use super::*;

const BIG_WRITES: u64 = 1 << 5;
const HAS_RESEND: u64 = 1 << 39;
const WRITEBACK_CACHE: u64 = 1 << 16;

const WANTED: Wanted = Wanted {
    minor: 40,
    flags: BIG_WRITES | FLAG_MAX_PAGES | FLAG_INIT_EXT | HAS_RESEND,
    max_write: 1 << 20,
    max_pages: 256,
    max_readahead: 1 << 20,
    max_background: 64,
    congestion_threshold: 48,
    time_gran: 1,
};

fn request(opcode: u32, major: u32, minor: u32, flags: u64, body_bytes: usize) -> Vec<u8> {
    let [lower, upper] = halves(flags);
    let mut bytes = Vec::new();
    bytes.extend(u32::try_from(IN_HEADER_BYTES + body_bytes).unwrap().to_ne_bytes());
    bytes.extend(opcode.to_ne_bytes());
    bytes.extend(2_u64.to_ne_bytes());
    bytes.resize(IN_HEADER_BYTES, 0);
    for field in [major, minor, 128 * 1024, lower, upper] {
        bytes.extend(field.to_ne_bytes());
    }
    bytes.resize(IN_HEADER_BYTES + body_bytes, 0);
    bytes
}

fn offer(minor: u32, flags: u64) -> KernelOffer {
    parse_init(&request(OPCODE_INIT, 7, minor, flags, 64)).unwrap()
}

#[test]
fn what_both_know_is_negotiated() {
    let rows = [
        // kernel's minor, kernel's flags: minor, flags, max_write, max_pages
        (45, u64::MAX, 40, WANTED.flags, 1 << 20, 256),
        (40, WANTED.flags | WRITEBACK_CACHE, 40, WANTED.flags, 1 << 20, 256),
        // Linux 5.12: no upper half of the flags.
        (33, BIG_WRITES | FLAG_MAX_PAGES, 33, BIG_WRITES | FLAG_MAX_PAGES, 1 << 20, 256),
        (36, BIG_WRITES | FLAG_INIT_EXT, 36, BIG_WRITES | FLAG_INIT_EXT, 128 * 1024, 32),
        (36, 0, 36, 0, 128 * 1024, 32),
    ];
    for (kernel_minor, kernel_flags, minor, flags, max_write, max_pages) in rows {
        let negotiated = negotiate(&offer(kernel_minor, kernel_flags), &WANTED);
        let expected = Negotiated { minor, flags, max_readahead: 128 * 1024, max_write, max_pages };
        assert_eq!(negotiated, expected, "7.{kernel_minor}, flags {kernel_flags:#x}");
    }
}

#[test]
fn the_upper_flags_of_a_kernel_without_them_are_not_read() {
    assert_eq!(offer(33, BIG_WRITES | HAS_RESEND).flags, BIG_WRITES);
}

#[test]
fn a_short_request_of_an_older_kernel_is_read() {
    let offer = parse_init(&request(OPCODE_INIT, 7, 35, BIG_WRITES, 20)[..]);
    assert_eq!(offer.unwrap().flags, BIG_WRITES);
}

#[test]
fn a_client_that_wants_little_gets_at_least_a_page() {
    let modest = Wanted { max_write: 1, max_pages: 0, ..WANTED };
    let negotiated = negotiate(&offer(45, u64::MAX), &modest);
    assert_eq!((negotiated.max_write, negotiated.max_pages), (MAX_WRITE_MIN, 1));
}

#[test]
fn what_is_no_init_is_refused() {
    let whole = request(OPCODE_INIT, 7, 45, 0, 64);
    let mut longer_than_said = whole.clone();
    longer_than_said.push(0);
    let rows = [
        (Vec::new(), InvalidInit::CutOff(0)),
        (whole[..60].to_vec(), InvalidInit::CutOff(60)),
        (longer_than_said, InvalidInit::CutOff(105)),
        (request(1, 7, 45, 0, 64), InvalidInit::NotInit(1)),
        (request(OPCODE_INIT, 8, 0, 0, 64), InvalidInit::Version { major: 8, minor: 0 }),
        (request(OPCODE_INIT, 7, 31, 0, 64), InvalidInit::Version { major: 7, minor: 31 }),
        (request(OPCODE_INIT, 7, 45, FLAG_INIT_EXT, 16)[..56].to_vec(), InvalidInit::CutOff(56)),
    ];
    for (bytes, error) in rows {
        assert_eq!(parse_init(&bytes), Err(error), "{} bytes", bytes.len());
    }
}

#[test]
fn every_field_of_the_answer_is_in_its_place() {
    let negotiated = Negotiated {
        minor: 40,
        flags: HAS_RESEND | BIG_WRITES,
        max_readahead: 5,
        max_write: 6,
        max_pages: 7,
    };
    let reply = init_reply(9, &negotiated, &WANTED);
    let fields = Fields(&reply);
    let places =
        [(0, 80), (4, 0), (8, 9), (16, 7), (20, 40), (24, 5), (28, 1 << 5), (36, 6), (40, 1), (48, 1 << 7)];
    for (at, value) in places {
        assert_eq!(fields.u32(at), Ok(value), "at {at}");
    }
    assert_eq!(fields.bytes::<2>(32), Ok(64_u16.to_ne_bytes()));
    assert_eq!(fields.bytes::<2>(34), Ok(48_u16.to_ne_bytes()));
    assert_eq!(fields.bytes::<2>(44), Ok(7_u16.to_ne_bytes()));
    assert!(reply[52..].iter().all(|byte| *byte == 0));
    assert_eq!(reply.len(), 80);
}
