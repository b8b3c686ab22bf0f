//! Which programs are there, and how is each wired together?

use std::future::Future;
use std::process::ExitCode;

pub mod caller;
pub mod cli;
mod controller;
mod controller_engine;
pub mod demo;
mod health;
mod host_directories;
pub mod leftovers;
mod mount_pods;
mod node;
pub mod processes;
mod serving;
mod standalone;
mod state;
mod sys;

/// This program, whatever happened to its file.
const THIS_PROGRAM: &str = "/proc/self/exe";
/// Threads that carry on what is no longer waiting. The driver computes little, and an answer passes through several of its
/// tasks: between two threads each of these steps would wait for a processor, on a busy node for milliseconds.
const WORKERS: usize = 1;

/// Runs a program that waits for many things at once.
fn asynchronous(program: impl Future<Output = ExitCode>) -> ExitCode {
    sys::keep_memory_small();
    match tokio::runtime::Builder::new_multi_thread().worker_threads(WORKERS).enable_all().build() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => {
            tracing::error!("can't start: {error}");
            ExitCode::FAILURE
        }
    }
}
