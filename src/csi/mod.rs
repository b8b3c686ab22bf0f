//! How does Mountpod answer CSI calls?
//!
//! Three desks (`identity`, `controller`, `node`) read a request with the checks of `request` and `capability`, claim
//! what they touch in `inflight`, and ask the provisioner or the engine. `edge` runs each call under a limit and logs
//! it; `status` turns every error into a gRPC code; `server` serves the desks on a Unix socket.

pub mod api;
mod capability;
pub mod controller;
pub mod edge;
mod health;
pub mod identity;
mod inflight;
pub mod node;
mod request;
pub mod server;
mod socket;
pub(crate) mod status;
mod topology;

pub use socket::SocketError;
