//! The mount pod's side: who starts, watches and stops the client, and holds a second copy of the session?
//!
//! `frames` names the messages, `messages` joins them with their descriptors, `wire` carries them, `connect` is the
//! driver's way to an agent. The rest is the agent itself: `supervisor` is its one loop; `programs` says how each
//! client is run, `keeper` is a running client, `restarts` the rule for starting it again.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::filter::LevelFilter;

pub mod connect;
mod connection;
pub mod frames;
mod keeper;
mod listen;
mod log;
pub mod messages;
mod options;
mod processes;
mod programs;
mod restarts;
mod session;
mod supervisor;
pub(crate) mod sys;
mod tail;
pub mod wire;

pub use options::AgentOptions;
pub use programs::ClientPrograms;

/// Exit code when the agent could not do its work.
const FAILURE: u8 = 1;

/// `mount-agent`: PID 1 of a mount pod. It keeps a volume's FUSE session alive and runs the client that serves it.
#[derive(Debug, Parser)]
#[command(name = "mount-agent", version, about, long_about = None)]
struct CommandLine {
    #[command(flatten)]
    options: AgentOptions,
}

/// The program `mount-agent`; its clients are installed beside it.
#[must_use]
pub fn main() -> ExitCode {
    run(CommandLine::parse().options, ClientPrograms::BesideThis)
}

/// Runs an agent until its session has ended or was given away, or it was told to stop.
#[must_use]
pub fn run(options: AgentOptions, programs: ClientPrograms) -> ExitCode {
    let logger =
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_max_level(LevelFilter::INFO);
    if let Err(already) = logger.try_init() {
        tracing::debug!("the caller logs: {already}");
    }
    match run_to_the_end(options, programs) {
        Ok(end) => {
            tracing::info!("{end}");
            end.exit_code()
        }
        Err(error) => {
            let why = std::iter::successors(Some(&error as &dyn std::error::Error), |error| error.source());
            tracing::error!("{}", why.map(ToString::to_string).collect::<Vec<_>>().join(": "));
            ExitCode::from(FAILURE)
        }
    }
}

fn run_to_the_end(
    options: AgentOptions,
    programs: ClientPrograms,
) -> Result<supervisor::End, supervisor::AgentError> {
    // One thread: a supervisor that forks must not have others.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(supervisor::AgentError::Runtime)?;
    runtime.block_on(supervisor::supervise(options, programs))
}
