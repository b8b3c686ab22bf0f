//! What does the driver tell people: logs, and what must never be in them?
//!
//! Secrets can't reach a log through our own types (`volume::Secrets`, the generated messages of `csi::api`, and
//! `agent::frames::Offer` all print keys only). Libraries under us see raw bytes, so their levels stop at `warn`,
//! whatever level is asked for.

use std::error::Error;
use std::io::IsTerminal;

use clap::ValueEnum;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{Layer, fmt, registry};

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Only what failed.
    Error,
    /// Also what a person should look at.
    Warn,
    /// Also each request and each step of a plan, with its reason.
    Info,
    /// Also what was seen and decided.
    Debug,
    /// Everything.
    Trace,
}

/// In which form it is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// Lines for people.
    Text,
    /// One JSON object a line, for collectors.
    Json,
}

/// Flags for logs, the same in every program.
#[derive(Debug, Clone, Copy, clap::Args)]
pub struct LogOptions {
    /// How much to log on standard error.
    #[arg(long, value_enum, default_value = "info", env = "MOUNTPOD_LOG_LEVEL", global = true)]
    pub log_level: LogLevel,
    /// How to write the log: lines for people, or JSON for collectors.
    #[arg(long, value_enum, default_value = "text", env = "MOUNTPOD_LOG_FORMAT", global = true)]
    pub log_format: LogFormat,
}

impl LogLevel {
    fn filter(self) -> LevelFilter {
        match self {
            Self::Error => LevelFilter::ERROR,
            Self::Warn => LevelFilter::WARN,
            Self::Info => LevelFilter::INFO,
            Self::Debug => LevelFilter::DEBUG,
            Self::Trace => LevelFilter::TRACE,
        }
    }
}

/// Sends logs to standard error from now on; called once, by `main`.
pub fn start(options: LogOptions) {
    let libraries = options.log_level.filter().min(LevelFilter::WARN);
    let filter = Targets::new()
        .with_default(libraries)
        .with_target(env!("CARGO_CRATE_NAME"), options.log_level.filter());
    let lines = fmt::layer().with_writer(std::io::stderr).with_ansi(std::io::stderr().is_terminal());
    match options.log_format {
        LogFormat::Text => registry().with(lines.with_target(false).with_filter(filter)).init(),
        LogFormat::Json => registry().with(lines.json().with_filter(filter)).init(),
    }
}

/// An error and all that caused it, in one line; each `Display` tells only its own part.
#[must_use]
pub fn chain(error: &dyn Error) -> String {
    let mut told = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        told.push_str(": ");
        told.push_str(&error.to_string());
        cause = error.source();
    }
    told
}
