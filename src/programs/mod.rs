//! Which programs are there, and how is each wired together?

use std::future::Future;
use std::process::ExitCode;
use std::thread::available_parallelism;

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
mod sys;

/// Threads that carry on what is no longer waiting. The driver computes little: more would each keep a stack, and memory,
/// without anything being done sooner.
const WORKERS_MAX: usize = 4;

/// Runs a program that waits for many things at once.
fn asynchronous(program: impl Future<Output = ExitCode>) -> ExitCode {
    sys::keep_memory_small();
    let workers = available_parallelism().map_or(WORKERS_MAX, |processors| processors.get().min(WORKERS_MAX));
    match tokio::runtime::Builder::new_multi_thread().worker_threads(workers).enable_all().build() {
        Ok(runtime) => runtime.block_on(program),
        Err(error) => {
            tracing::error!("can't start: {error}");
            ExitCode::FAILURE
        }
    }
}
