//! How does Mountpod answer CSI calls?

pub mod api;
