//! How is a driver without Kubernetes put together, and how does it end?

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::state::State;
use crate::config::flags::{HostdirRoot, NodeId, StandaloneOptions};
use crate::csi::controller::ControllerDesk;
use crate::csi::edge::Edge;
use crate::csi::identity::{Health, IdentityDesk, Readiness};
use crate::csi::node::{NodeDesk, NodeFacts};
use crate::csi::server::{Desks, serve};
use crate::node::{NodeConfig, NodeService};
use crate::provision::hostdir::Hostdir;
use crate::runtime::process::{ProcessOptions, ProcessRuntime};
use crate::telemetry::chain;

/// The owner label of this program's mount pods.
const OWNER: &str = "standalone";

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(options: StandaloneOptions) -> ExitCode {
    match serve_until_told(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("the driver ends: {}", chain(&*error));
            ExitCode::FAILURE
        }
    }
}

async fn serve_until_told(options: StandaloneOptions) -> Result<(), Box<dyn Error>> {
    if !nix::unistd::geteuid().is_root() {
        return Err("mounting file systems needs root: start the driver as root".into());
    }
    raise_descriptor_limit();
    let stop = stop_at_signals()?;
    let state = State::open(&options.state_dir)?;
    let roots = options.roots()?;
    let provisioner = Hostdir::new(roots.clone())?;
    let node_id = node_id(&options)?;

    let runtime = Arc::new(ProcessRuntime::open(ProcessOptions::new(state.engine())).await?);
    let mounts = Arc::new(NodeService::start(runtime.clone(), node_config(&state, roots))?);
    let edge = Edge::default();
    let facts =
        NodeFacts { id: node_id.clone(), volumes_max: options.max_volumes_per_node, key: state.key() };
    let desks = Desks {
        identity: IdentityDesk::new(options.driver_name, StateIsWritable(state.engine()), edge.clone()),
        controller: ControllerDesk::new(provisioner.clone(), mounts.clone(), node_id, edge.clone()),
        node: NodeDesk::new(provisioner.clone(), mounts.clone(), facts, edge.clone()),
        edge,
    };
    let served = serve(&options.endpoint, desks, stop).await;
    provisioner.stop();
    mounts.shut_down().await;
    runtime.shutdown().await;
    Ok(served?)
}

/// A session takes about four descriptors (device, state, agent's socket, the pod's pidfd): the usual 1,024 would end
/// at some 250 volumes.
fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the limit of open files stays as it is");
    }
}

fn node_config(state: &State, roots: Vec<HostdirRoot>) -> NodeConfig {
    let roots = roots.into_iter().map(|root| (root.name, root.dir)).collect();
    NodeConfig::new(state.engine(), OWNER, roots)
}

fn node_id(options: &StandaloneOptions) -> Result<NodeId, Box<dyn Error>> {
    if let Some(id) = &options.node_id {
        return Ok(id.clone());
    }
    let name = nix::unistd::gethostname()?.to_string_lossy().into_owned();
    Ok(name
        .parse()
        .map_err(|why| format!("the host name {name:?} can't be the node's id ({why}); give --node-id"))?)
}

/// A token that is cancelled at the first SIGTERM or SIGINT.
fn stop_at_signals() -> std::io::Result<CancellationToken> {
    let stop = CancellationToken::new();
    let (mut terminate, mut interrupt): (Signal, Signal) =
        (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let told = stop.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: finishing the calls in flight; workloads keep their mounts"),
            _ = interrupt.recv() => tracing::info!("SIGINT: finishing the calls in flight; workloads keep their mounts"),
        }
        told.cancel();
    });
    Ok(stop)
}

/// A driver that can't write its records can publish nothing, so Probe must not say that it is ready.
struct StateIsWritable(PathBuf);

impl Health for StateIsWritable {
    async fn readiness(&self) -> Readiness {
        let probe = self.0.join("probe");
        let written = match tokio::fs::write(&probe, b"x").await {
            Ok(()) => tokio::fs::remove_file(&probe).await,
            Err(error) => Err(error),
        };
        match written {
            Ok(()) => Readiness::Ready,
            Err(error) => {
                Readiness::Broken { why: format!("can't write and remove {}: {error}", probe.display()) }
            }
        }
    }
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
