//! Does each rule give the steps that it promises? One row is one rule on one case.
//!
//! `create 2 [a b!]`: pod of generation 2, counting target `a`, and `b` which wants the volume alone.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod build;
mod ending;
mod publish;
