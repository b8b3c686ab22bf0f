//! What does the engine do to this node, and what does it offer to the CSI desks?
//!
//! [`NodeEffects`] carries out the engine's steps with the rooms `mounts`, `session` and `runtime`; [`NodeService`] is
//! what the node desk calls; `reconcile` looks again whenever something has changed.

mod config;
mod effects;
mod links;
mod observe;
mod outcome;
mod parts;
mod pod_steps;
mod reconcile;
mod service;
mod session_steps;
mod stats;
mod wait;
mod wake;
mod workloads;

pub use config::{NodeConfig, NodeLimits};
pub use effects::{NodeEffects, StartError};
pub use service::NodeService;
