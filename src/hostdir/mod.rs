//! How is a directory of the node served as a volume? The built-in FUSE client: a passthrough file system that
//! survives SIGKILL of its serving process at any instant.
//!
//! The keeper (`keeper`) forks the serving process (`server`), which answers requests (`protocol`, `ops`) from tables
//! in shared memory (`state`). The mount-agent hands over four descriptors ([`fds`]); the driver has mounted and
//! answered FUSE_INIT with what [`WANTED_INIT`] asks for. What a client needs to go on after a kill is in the state
//! memfd of [`STATE_LEN`] bytes:
//! - the server dies: the keeper starts another at once. All files stay open, because keeper and server share one
//!   descriptor table. Nothing is lost, not even files without a name.
//! - keeper and server die: a new `mount-hostdir` gets the FUSE descriptor, the memfd and a fresh clone of the same
//!   directory. Files are opened again by name and accepted only if they are the same; a file without a name, or one
//!   that was moved behind the volume's back, answers ESTALE.
//!
//! Known limits: takeover needs Linux 6.9 (FUSE_NOTIFY_RESEND). A kill between reading a FORGET and counting it leaves
//! a node in the table until the session ends. Directories mounted below the served one are not seen.

mod agent;
mod attr;
mod chaos;
pub mod fds;
pub mod init;
mod keeper;
mod ops;
mod options;
mod protocol;
mod server;
mod session;
mod state;
mod sys;

use std::process::ExitCode;

use clap::Parser;

pub use init::{InitOffer, WANTED_INIT};
pub use options::ServeOptions;
pub use state::layout::STATE_LEN;

/// Serves a directory of the node as a FUSE volume. Started by the mount-agent, which hands over the descriptors
/// 3 (/dev/fuse, already initialised), 4 (state memfd), 5 (the directory) and 6 (socket to the agent).
#[derive(Parser)]
#[command(name = "mount-hostdir", version)]
enum CommandLine {
    /// Serve the session at the inherited descriptors until it is unmounted.
    Serve(ServeOptions),
}

/// The program `mount-hostdir`: parses the command line, logs to standard error (level by `MOUNTPOD_LOG`).
pub fn main() -> ExitCode {
    let filter = tracing_subscriber::EnvFilter::try_from_env("MOUNTPOD_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let CommandLine::Serve(options) = CommandLine::parse();
    serve(&options)
}

/// Serves the session at the inherited descriptors until it is unmounted, its connection is aborted, or the agent is
/// gone. Must be called before the process starts any thread.
///
/// Exit codes: 0 unmounted, aborted or agent gone; 65 the session is refused; 70 servers die without answering
/// anything; 71 a system call failed; 143 SIGTERM.
pub fn serve(options: &ServeOptions) -> ExitCode {
    keeper::keep(options)
}
