//! What do all drivers do before they serve, whatever they serve?

use std::error::Error;
use std::future::Future;
use std::io;
use std::process::ExitCode;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::telemetry::chain;

/// Tells the end of a driver to its log and its caller.
pub(super) fn exit_code(served: Result<(), Box<dyn Error>>) -> ExitCode {
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the driver ends: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

/// Only root may mount.
///
/// # Errors
/// What to do, for another user.
pub(super) fn require_root() -> Result<(), Box<dyn Error>> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    Err("mounting file systems needs root: start the driver as root".into())
}

/// A session takes about four descriptors (device, state, agent's socket, the pod's pidfd): the usual 1,024 would end
/// at some 250 volumes.
pub(super) fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

/// Returns at the first SIGTERM or SIGINT that comes from now on, with its name, also when it came before it is awaited.
///
/// # Errors
/// When no handler can be set.
pub(super) fn told_to_end() -> io::Result<impl Future<Output = &'static str>> {
    let (mut terminate, mut interrupt): (Signal, Signal) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    Ok(async move {
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
        }
    })
}

/// A token that is cancelled at the first SIGTERM or SIGINT.
///
/// # Errors
/// When no handler can be set.
pub(super) fn stop_at_signals() -> io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (told, cancelled) = (told_to_end()?, stop.clone());
    tokio::spawn(async move {
        let signal = told.await;
        tracing::info!("{signal}: finishing the calls in flight; workloads keep their mounts");
        cancelled.cancel();
    });
    Ok(stop)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;

    #[test]
    fn all_descriptors_that_are_allowed_can_be_used() {
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        raise_descriptor_limit();
        assert_eq!(getrlimit(Resource::RLIMIT_NOFILE).unwrap(), (hard, hard));
    }
}
