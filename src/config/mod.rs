//! What was I told? Flags, parameters and secrets become typed values here.

pub mod capacity;
pub mod field;
pub mod flags;
pub mod juicefs;
pub mod kubernetes;
pub mod parameters;
pub mod quantity;
