//! What was I told? Flags, parameters and secrets become typed values here.

pub mod capacity;
pub mod client;
pub mod field;
pub mod flags;
pub mod host_directories;
pub mod juicefs;
pub mod kubernetes;
pub mod parameters;
pub mod quantity;

#[cfg(test)]
mod chart_schema_tests;
