//! Mountpod.

use std::process::ExitCode;

use clap::Parser;
use mountpod::agent::{self, AgentOptions, ClientPrograms};
use mountpod::runtime::process::launch::{self, LaunchOptions};

/// A CSI driver that runs each volume's FUSE client in a mount pod of its own.
#[derive(Debug, Parser)]
#[command(version, about)]
enum CommandLine {
    /// Run the agent of a mount pod
    MountAgent(AgentOptions),
    /// Start the processes of a mount pod of the process runtime
    #[command(hide = true)]
    MountPodLaunch(LaunchOptions),
}

fn main() -> ExitCode {
    match CommandLine::parse() {
        CommandLine::MountAgent(options) => agent::run(options, ClientPrograms::WithinThis),
        CommandLine::MountPodLaunch(options) => launch::main(&options),
    }
}
