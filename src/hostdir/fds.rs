//! Which descriptors does the mount-agent hand to `mount-hostdir`, and at which numbers?

use std::os::fd::RawFd;

/// The `/dev/fuse` descriptor of a connection whose FUSE_INIT the driver has already answered.
pub const FUSE: RawFd = 3;

/// The state memfd, [`STATE_LEN`](super::STATE_LEN) bytes, zero-filled at the first start of a session.
pub const STATE: RawFd = 4;

/// The served directory: an `O_PATH` descriptor from `open_tree(OPEN_TREE_CLONE)`. Being the root of a mount of its
/// own, `..` cannot leave it.
pub const ROOT: RawFd = 5;

/// One end of a `SOCK_SEQPACKET` pair to the mount-agent.
pub const AGENT: RawFd = 6;

/// The first number that does not belong to the agent's descriptors.
pub(crate) const FIRST_OWN: RawFd = 7;
