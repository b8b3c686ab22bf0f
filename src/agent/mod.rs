//! The mount pod's side: who starts, watches and stops the client, and holds a second copy of the session?

pub mod connect;
pub mod frames;
pub mod messages;
mod sys;
pub mod wire;
