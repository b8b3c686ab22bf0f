//! mount-agent.
fn main() {}
