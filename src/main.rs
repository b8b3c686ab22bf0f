//! Mountpod.

use std::process::ExitCode;

use clap::Parser;
use mountpod::agent::{self, AgentOptions, ClientPrograms};
use mountpod::hostdir::{self, ServeOptions};
use mountpod::mounts::helper::{HelperJob, run_helper};
use mountpod::runtime::process::launch::{self, LaunchOptions};

/// A CSI driver that runs each volume's FUSE client in a mount pod of its own.
#[derive(Debug, Parser)]
#[command(version, about)]
#[allow(clippy::enum_variant_names, reason = "the names of the subcommands begin alike")]
enum CommandLine {
    /// Run the agent of a mount pod
    MountAgent(AgentOptions),
    /// Start the processes of a mount pod of the process runtime
    #[command(hide = true)]
    MountPodLaunch(LaunchOptions),
    /// Do for the driver what could wait for a FUSE server
    #[command(hide = true, subcommand)]
    MountHelper(HelperJob),
    /// Serve a directory as a volume
    #[command(hide = true, subcommand)]
    MountHostdir(Hostdir),
}

/// The built-in client.
#[derive(Debug, clap::Subcommand)]
enum Hostdir {
    /// Serve the session at the inherited descriptors
    Serve(ServeOptions),
}

fn main() -> ExitCode {
    match CommandLine::parse() {
        CommandLine::MountAgent(options) => agent::run(options, ClientPrograms::WithinThis),
        CommandLine::MountPodLaunch(options) => launch::main(&options),
        CommandLine::MountHelper(job) => run_helper(&job),
        CommandLine::MountHostdir(Hostdir::Serve(options)) => hostdir::serve(&options),
    }
}
