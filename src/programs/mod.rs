//! Which program is meant? One binary holds them all; images give some of them names of their own.

pub mod caller;
// pub mod demo;
pub mod leftovers;
pub mod processes;
