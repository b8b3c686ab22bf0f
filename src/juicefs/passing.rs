//! In what form does the client take a session?
//!
//! juicefs v1.4.1, `cmd/passfd.go` and go-fuse's `fuse/passfd.go`: the client connects to the Unix stream socket that
//! `_FUSE_FD_COMM` names; the other side speaks first, in one message: the *setting*, with two descriptors, of which the
//! client closes the first and takes the second for its FUSE device. When it is about to serve, it connects again, takes
//! (and closes) the same, and sends the setting and the device back. At an orderly end it connects a third time and says
//! nothing.

use crate::agent::frames::Negotiated;

/// Length of the setting: `struct fuse_in_header` and the first version of `struct fuse_init_in` with its unused words,
/// which go-fuse calls `InitIn`.
pub const SETTING_BYTES: usize = 104;
/// Longest message of the client; more is none.
pub const ANSWER_BYTES_MAX: usize = 128;

const OPCODE_INIT: u32 = 26;
const MAJOR: u32 = 7;
/// Places in the setting.
const AT_OPCODE: usize = 4;
const AT_MAJOR: usize = 40;

/// What FUSE_INIT negotiated, as go-fuse keeps it: the kernel's request, with the flags of the answer.
#[must_use]
pub fn setting(negotiated: &Negotiated) -> [u8; SETTING_BYTES] {
    let mut bytes = [0; SETTING_BYTES];
    let lower = u32::try_from(negotiated.flags & u64::from(u32::MAX)).unwrap_or(0);
    let length = u32::try_from(SETTING_BYTES).unwrap_or(0);
    let fields = [
        (0, length),
        (AT_OPCODE, OPCODE_INIT),
        (AT_MAJOR, MAJOR),
        (AT_MAJOR + 4, negotiated.minor),
        (AT_MAJOR + 8, negotiated.max_readahead),
        (AT_MAJOR + 12, lower),
    ];
    for (at, field) in fields {
        bytes[at..at + 4].copy_from_slice(&field.to_ne_bytes());
    }
    bytes
}

/// What a client that has taken the session says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// It serves from now on.
    Serves,
    /// It only looked, or has ended.
    Nothing,
}

/// Reads what the client sent back.
#[must_use]
pub fn answer(bytes: &[u8]) -> Answer {
    if bytes.len() == SETTING_BYTES { Answer::Serves } else { Answer::Nothing }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_has_the_negotiated_numbers_where_go_fuse_looks() {
        let negotiated = Negotiated {
            minor: 28,
            flags: 0xc6_7433,
            max_readahead: 131_072,
            max_write: 131_072,
            max_pages: 32,
        };
        let bytes = setting(&negotiated);
        let at = |place: usize| bytes[place..place + 4].try_into().map(u32::from_ne_bytes).unwrap_or(0);
        assert_eq!([at(40), at(44), at(48), at(52), at(56)], [7, 28, 131_072, 0xc6_7433, 0]);
        assert_eq!(answer(&bytes), Answer::Serves);
        assert_eq!(answer(b"CLOSE"), Answer::Nothing);
        assert_eq!(answer(b""), Answer::Nothing);
    }
}
