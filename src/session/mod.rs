//! Who holds a FUSE session, and how does it pass from one holder to the next?
//!
//! The driver opens the device, mounts it and answers FUSE_INIT (`open`, `init`); it keeps a copy of the descriptors
//! (`sessions`), gives another to the agent of a mount pod and takes it back after a restart (`link`); it ends the
//! session (`close`). `state_dir` says where all that is written down.

pub mod clients;
pub mod close;
pub mod device;
pub mod init;
pub mod link;
pub mod open;
pub mod record;
pub mod sessions;
pub mod socket_watch;
pub mod state;
pub mod state_dir;
pub mod tree;
