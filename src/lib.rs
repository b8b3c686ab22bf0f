//! What rooms does Mountpod have?

pub mod csi;
