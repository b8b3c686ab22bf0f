//! The mount pod's side: who starts, watches and stops the client, and holds a second copy of the session?
//!
//! `frames` names the messages, `messages` joins them with their descriptors, `wire` carries them, `connect` is the
//! driver's way to an agent. The rest is the agent itself: `supervisor` is its one loop; `clients` says how each
//! client is run, `keeper` is a running client, `restarts` the rule for starting it again.

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use tracing_subscriber::filter::LevelFilter;

mod clients;
pub mod connect;
mod connection;
pub mod frames;
mod installed;
mod keeper;
mod listen;
mod log;
pub mod messages;
mod options;
mod processes;
mod restarts;
mod session;
mod supervisor;
pub(crate) mod sys;
mod tail;
pub mod wire;
mod writable;

pub use clients::ClientPrograms;
pub use options::AgentOptions;
pub use writable::{LOOK_COMMAND, ToLookAt, look_at};

/// Exit code when the agent could not do its work.
const FAILURE: u8 = 1;

/// `mount-agent`: PID 1 of a mount pod. It keeps a volume's FUSE session alive and runs the client that serves it.
#[derive(Debug, Parser)]
#[command(name = "mount-agent", version, about, long_about = None)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
struct CommandLine {
    #[command(flatten)]
    options: Option<AgentOptions>,
    #[command(subcommand)]
    instead: Option<Instead>,
}

/// What the agent does instead of keeping a session.
#[derive(Debug, Subcommand)]
enum Instead {
    /// Copy the clients of this image, and the certificates that they trust, into a directory
    CopyClients {
        /// An existing directory
        directory: PathBuf,
    },
    #[command(hide = true, name = LOOK_COMMAND)]
    LookAtPlaces(ToLookAt),
}

/// The program `mount-agent`; its clients are installed beside it.
#[must_use]
pub fn main() -> ExitCode {
    match CommandLine::try_parse() {
        Ok(CommandLine { instead: Some(Instead::CopyClients { directory }), .. }) => {
            log_to_stderr();
            installed::copy_clients(&directory)
        }
        Ok(CommandLine { instead: Some(Instead::LookAtPlaces(places)), .. }) => look_at(&places),
        Ok(CommandLine { options: Some(options), .. }) => run(options, ClientPrograms::BesideThis),
        Ok(_) => {
            CommandLine::command().error(ErrorKind::MissingRequiredArgument, "--socket is needed").exit()
        }
        Err(asked) if asked.kind() == ErrorKind::DisplayVersion && asked.print().is_ok() => {
            installed::print_versions()
        }
        Err(error) => error.exit(),
    }
}

/// Runs an agent until its session has ended or was given away, or it was told to stop.
#[must_use]
pub fn run(options: AgentOptions, programs: ClientPrograms) -> ExitCode {
    log_to_stderr();
    match run_to_the_end(options, programs) {
        Ok(end) => {
            tracing::info!("{end}");
            end.exit_code()
        }
        Err(error) => {
            tracing::error!("{}", with_causes(&error));
            ExitCode::from(FAILURE)
        }
    }
}

fn log_to_stderr() {
    let logger =
        tracing_subscriber::fmt().with_writer(io::stderr).with_ansi(false).with_max_level(LevelFilter::INFO);
    if let Err(already) = logger.try_init() {
        tracing::debug!("the caller logs: {already}");
    }
}

/// An error and what caused it, in one line.
fn with_causes(error: &(dyn Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |&error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
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
