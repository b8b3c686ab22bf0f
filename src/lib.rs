//! Mountpod.

pub mod hostdir;
