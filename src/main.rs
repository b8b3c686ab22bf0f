//! Mountpod.
fn main() {}
