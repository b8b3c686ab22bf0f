//! What does the main job look like, told step by step?
//!
//! The demo starts the real driver (`standalone`) as a process of its own in a temporary directory and calls it over
//! its CSI socket, as an orchestrator does. Every sentence that it prints was checked; one that does not hold ends the
//! demo with an error. Whatever happens, Ctrl-C included, it takes down what it put up.

use std::path::PathBuf;
use std::process::ExitCode;

mod narrator;
mod stage;
mod story;
pub mod writer;

use narrator::Narrator;
use stage::Stage;

use super::serving::told_to_end;

/// Why the demo ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum DemoError {
    /// Something that the demo claims does not hold.
    #[error("this does not hold: {0}")]
    NotSo(String),
    /// A call to the driver failed.
    #[error("the driver refused: {0}")]
    Driver(#[from] tonic::Status),
    /// The machine refused something.
    #[error("can't {what}")]
    Machine {
        /// What was to be done.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A person or the system asked the demo to end.
    #[error("interrupted")]
    Interrupted,
}

impl DemoError {
    fn machine<E: Into<Box<dyn std::error::Error + Send + Sync>>>(
        what: impl Into<String>,
    ) -> impl FnOnce(E) -> Self {
        let what = what.into();
        move |source| Self::Machine { what, source: source.into() }
    }
}

/// Flags of `mountpod demo`.
#[derive(Debug, clap::Args)]
pub struct DemoOptions {
    /// Where the demo keeps its files while it runs; a temporary directory within it is removed at the end.
    #[arg(long, value_name = "DIR", default_value = "/tmp")]
    directory: PathBuf,
}

/// Plays the demo.
///
/// Exit code 0 only if everything that it claims held and nothing is left.
pub async fn run(options: DemoOptions) -> ExitCode {
    let narrator = Narrator::start();
    // Before anything is put up that a signal would leave behind.
    let interrupted = match told_to_end() {
        Ok(told) => told,
        Err(error) => return narrator.failed(&DemoError::machine("handle signals")(error)),
    };
    let mut stage = match Stage::build(&options.directory).await {
        Ok(stage) => stage,
        Err(error) => return narrator.failed(&error),
    };
    let played = tokio::select! {
        played = story::play(&mut stage, &narrator) => played,
        _ = interrupted => Err(DemoError::Interrupted),
    };
    let cleared = stage.clear(&narrator).await;
    match played.and(cleared) {
        Ok(()) => narrator.done(),
        Err(error) => narrator.failed(&error),
    }
}
