//! The engine: which mount pods must exist, who is counted on them, and what is to be done next?
//!
//! `facts` are what was seen, `decide` turns facts and a goal into a `plan`, and the `engine` carries it out through
//! the one trait in `effects`. Publish, unpublish, reconcile and recovery after a crash are the same function on
//! different facts.
//!
//! Architecture invariant: `facts`, `decide`, `plan`, `refs` and `pod` import no tokio, no Kubernetes client, no
//! `std::fs` and no clock; time is a fact.

pub mod decide;
pub mod effects;
pub mod engine;
pub mod facts;
mod failure;
mod locks;
pub mod parts;
pub mod plan;
pub mod pod;
pub mod refs;
pub mod service;
