//! The runtime for Kubernetes: how does a mount pod become a pod of the cluster, and how is it watched?
#![allow(dead_code, reason = "the runtime itself follows in the next commit")]

mod cache;
mod manifest;
mod outcome;
mod phase;
