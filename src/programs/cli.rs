//! Which program is meant, and with which flags?
//!
//! One binary holds all programs. People start some; the driver and the mount pods start the rest, which `--help` does
//! not show.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use super::demo::writer::WriterOptions;
use super::demo::{self, DemoOptions};
use super::host_directories::{GIVE_COMMAND, ToGive, give_directory};
use super::{asynchronous, controller, node, standalone};
use crate::agent::{self, AgentOptions, ClientPrograms, LOOK_COMMAND, ToLookAt, look_at};
use crate::config::flags::StandaloneOptions;
use crate::config::kubernetes::{ControllerOptions, NodeOptions};
use crate::hostdir::{self, ServeOptions};
use crate::mounts::helper::{HelperJob, run_helper};
use crate::provision::juicefs::files::{self, FILES_COMMAND};
use crate::runtime::process::launch::{self, LaunchOptions};
use crate::telemetry::{self, LogOptions};

/// A CSI driver that runs each volume's FUSE client in a mount pod of its own.
#[derive(Debug, Parser)]
#[command(name = "mountpod", version, arg_required_else_help = true)]
pub struct CommandLine {
    #[command(flatten)]
    log: LogOptions,
    #[command(subcommand)]
    program: Program,
}

#[derive(Debug, Subcommand)]
enum Program {
    /// Serve CSI on this machine without Kubernetes; mount pods are local processes.
    Standalone(StandaloneOptions),
    /// Serve this node's volumes on Kubernetes; mount pods are pods.
    Node(NodeOptions),
    /// Provide volumes and snapshots for a Kubernetes cluster, beside the CSI sidecars.
    Controller(ControllerOptions),
    /// Show the main job, step by step, with real mounts on this machine; everything is taken down at the end.
    Demo(DemoOptions),
    #[command(hide = true)]
    DemoWriter(WriterOptions),
    #[command(hide = true)]
    MountAgent(AgentOptions),
    #[command(hide = true, subcommand)]
    MountHostdir(Hostdir),
    #[command(hide = true)]
    MountPodLaunch(LaunchOptions),
    #[command(hide = true, subcommand)]
    MountHelper(HelperJob),
    #[command(hide = true, name = FILES_COMMAND)]
    VolumeFiles,
    #[command(hide = true, name = LOOK_COMMAND)]
    LookAtPlaces(ToLookAt),
    #[command(hide = true, name = GIVE_COMMAND)]
    GiveDirectory(ToGive),
}

#[derive(Debug, Subcommand)]
enum Hostdir {
    /// Serve the session at the inherited descriptors until it is unmounted.
    Serve(ServeOptions),
}

/// Runs the program that the command line names.
#[must_use]
pub fn run() -> ExitCode {
    let CommandLine { log, program } = CommandLine::parse();
    telemetry::start(log);
    match program {
        Program::Standalone(options) => asynchronous(standalone::run(options)),
        Program::Node(options) => asynchronous(node::run(options)),
        Program::Controller(options) => asynchronous(controller::run(options)),
        Program::Demo(options) => asynchronous(demo::run(options)),
        // The rest starts no thread before it has forked or changed its credentials.
        Program::DemoWriter(options) => demo::writer::run(&options),
        Program::MountAgent(options) => agent::run(options, ClientPrograms::WithinThis),
        Program::MountHostdir(Hostdir::Serve(options)) => hostdir::serve(&options),
        Program::MountPodLaunch(options) => launch::main(&options),
        Program::MountHelper(job) => run_helper(&job),
        Program::VolumeFiles => files::run(),
        Program::LookAtPlaces(places) => look_at(&places),
        Program::GiveDirectory(directory) => give_directory(&directory),
    }
}
