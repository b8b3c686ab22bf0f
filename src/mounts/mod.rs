//! What is mounted where, and how is that changed without ever waiting for a FUSE server?
//!
//! `table` parses the kernel's mount table, `target` finds a place without following symlinks, `bind` and `unbind` act
//! on it, `cache` and `watch` follow its changes, `helper` runs in a process of its own what could wait for a FUSE server.
//!
//! Architecture invariant: mount system calls stand in `syscalls` only.

pub mod bind;
pub mod cache;
pub mod helper;
pub mod syscalls;
pub mod table;
pub mod target;
pub mod watch;
