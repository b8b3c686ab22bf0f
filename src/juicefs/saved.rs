//! What does a client that ended gracefully leave to its successor?
//!
//! Its session number with the metadata engine and its open handles, as the JSON that it wrote. Both travel in the
//! session's state memfd, so that they reach the agent of another mount pod as well. All zeros: nothing was left, the
//! last client died.

/// Bytes of the state memfd: some 300,000 open handles. Pages that were never written take no memory.
pub const STATE_BYTES: u64 = 64 << 20;
/// The first bytes of a state that holds something.
const MAGIC: [u8; 8] = *b"mpjfs\0\0\x01";
/// Bytes before the handles: the magic number, the session, the length of the handles.
pub const HEAD_BYTES: usize = 24;

/// The part of a saved state that comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// The client's session with the metadata engine; 0 for a read-only one, which has none.
    pub session: u64,
    /// Bytes of the handles, which follow.
    pub handles: u64,
}

impl Head {
    /// The bytes of this head.
    #[must_use]
    pub fn bytes(self) -> [u8; HEAD_BYTES] {
        let mut bytes = [0; HEAD_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.session.to_le_bytes());
        bytes[16..].copy_from_slice(&self.handles.to_le_bytes());
        bytes
    }

    /// Reads a head; `None` when nothing was saved, or it would not fit.
    #[must_use]
    pub fn read(bytes: &[u8; HEAD_BYTES]) -> Option<Self> {
        let number = |at: usize| Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let head = Self { session: number(8)?, handles: number(16)? };
        (bytes.starts_with(&MAGIC) && head.fits()).then_some(head)
    }

    /// Is there room for it?
    #[must_use]
    pub fn fits(self) -> bool {
        self.handles <= STATE_BYTES - HEAD_BYTES as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_is_read_as_it_was_written_and_zeros_are_none() {
        let head = Head { session: 7, handles: 1000 };
        assert_eq!(Head::read(&head.bytes()), Some(head));
        assert_eq!(Head::read(&[0; HEAD_BYTES]), None);
        assert_eq!(Head::read(&Head { session: 1, handles: STATE_BYTES }.bytes()), None);
    }
}
