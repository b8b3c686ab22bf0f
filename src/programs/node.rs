//! How is the driver of a Kubernetes node put together, and how does it end?

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tokio_util::task::AbortOnDropHandle;

use super::health::StateIsWritable;
use super::host_directories::allowed;
use super::mount_pods::{Engine, of_the_cluster, watched};
use super::serving::{exit_code, raise_descriptor_limit, require_root, stop_at_signals};
use super::state::State;
use super::sys::give_memory_back;
use crate::config::kubernetes::{NODE_OWNER, NodeOptions};
use crate::csi::edge::Edge;
use crate::csi::identity::IdentityDesk;
use crate::csi::node::{JuicefsClient, NodeDesk, NodeFacts};
use crate::csi::server::{Desks, serve};
use crate::node::{NodeConfig, NodeService};
use crate::provision::hostdir::Hostdir;

/// Free memory is given back so often: within a burst of publishes too, and so rarely that the walk through the heap (a
/// millisecond) does not count.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(2);

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(options: NodeOptions) -> ExitCode {
    exit_code(serve_until_told(options).await)
}

async fn serve_until_told(options: NodeOptions) -> Result<(), Box<dyn Error>> {
    require_root()?;
    raise_descriptor_limit();
    let stop = stop_at_signals()?;
    let _stays_small = AbortOnDropHandle::new(tokio::spawn(stay_small()));
    let directories = allowed(&options.mount_pods).await?;
    let state = State::open(&options.state_dir())?;
    let provisioner = Hostdir::beside_controller(options.common.hostdir_roots.clone())?;

    let driver = &options.common.driver_name;
    let engine = Engine { owner: NODE_OWNER, node: &options.node_name, driver, state: &state };
    let runtime = watched(of_the_cluster(&options.mount_pods, &engine).await?).await?;
    let mounts = Arc::new(NodeService::start(runtime.clone(), node_config(&options, &state)?)?);
    let edge = Edge::default();
    let facts = NodeFacts {
        id: options.node_name.clone(),
        volumes_max: options.max_volumes_per_node,
        key: state.key(),
        juicefs: JuicefsClient::Present,
        directories,
    };
    let health = StateIsWritable(state.engine());
    let identity = IdentityDesk::new(options.common.driver_name, health, edge.clone());
    let node = NodeDesk::new(provisioner.clone(), mounts.clone(), facts, edge.clone());
    let served = serve(&options.endpoint, Desks::new(identity, edge).and_node(node), stop).await;
    provisioner.stop();
    mounts.shut_down().await;
    runtime.shutdown().await;
    Ok(served?)
}

async fn stay_small() {
    let mut ticks = interval(GIVE_BACK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        give_memory_back();
    }
}

fn node_config(options: &NodeOptions, state: &State) -> std::io::Result<NodeConfig> {
    let roots = &options.common.hostdir_roots;
    let roots = roots.iter().map(|root| (root.name.clone(), root.dir.clone())).collect();
    let plain = NodeConfig::new(state.engine(), NODE_OWNER, roots);
    // As the mount table names it.
    Ok(NodeConfig { kubelet_dir: Some(options.mount_pods.kubelet_dir.canonicalize()?), ..plain })
}
