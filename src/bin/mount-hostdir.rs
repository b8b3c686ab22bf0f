//! mount-hostdir.
fn main() {}
