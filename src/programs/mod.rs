//! Which programs are there, and how is each wired together?

use std::future::Future;
use std::process::ExitCode;

pub mod caller;
pub mod cli;
mod controller;
pub mod demo;
mod health;
pub mod leftovers;
mod node;
pub mod processes;
mod serving;
mod standalone;
mod state;

/// Runs a program that waits for many things at once.
fn asynchronous(program: impl Future<Output = ExitCode>) -> ExitCode {
    match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => {
            tracing::error!("can't start: {error}");
            ExitCode::FAILURE
        }
    }
}
