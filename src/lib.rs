//! Mountpod: a CSI driver that runs each volume's FUSE client in a *mount pod* of its own.
//!
//! The rooms, each with its question, are in ARCHITECTURE.md; `tests/architecture.rs` holds what it promises.

pub mod agent;
pub mod config;
pub mod csi;
#[cfg(test)]
#[path = "../tests/support/executable.rs"]
mod executable;
pub mod hostdir;
pub mod juicefs;
pub mod mountpod;
pub mod mounts;
pub mod node;
pub mod programs;
pub mod provision;
pub mod retry;
pub mod runtime;
pub mod session;
pub mod telemetry;
pub mod volume;
