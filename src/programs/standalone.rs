//! How is a driver without Kubernetes put together, and how does it end?

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use super::THIS_PROGRAM;
use super::health::StateIsWritable;
use super::serving::{exit_code, raise_descriptor_limit, require_root, stop_at_signals};
use super::state::State;
use crate::config::flags::{HostdirRoot, NodeId, StandaloneOptions};
use crate::config::host_directories::HostDirectories;
use crate::csi::controller::ControllerDesk;
use crate::csi::edge::Edge;
use crate::csi::identity::IdentityDesk;
use crate::csi::node::{JuicefsClient, NodeDesk, NodeFacts};
use crate::csi::server::{Desks, serve};
use crate::node::{NodeConfig, NodeService};
use crate::provision::dispatch::Provisioners;
use crate::provision::hostdir::Hostdir;
use crate::provision::juicefs::{JuicefsConfig, JuicefsVolumes};
use crate::runtime::process::{ProcessOptions, ProcessRuntime};

/// The owner label of this program's mount pods.
const OWNER: &str = "standalone";

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(options: StandaloneOptions) -> ExitCode {
    exit_code(serve_until_told(options).await)
}

async fn serve_until_told(options: StandaloneOptions) -> Result<(), Box<dyn Error>> {
    require_root()?;
    raise_descriptor_limit();
    let stop = stop_at_signals()?;
    let state = State::open(&options.state_dir)?;
    let roots = options.roots()?;
    let hostdir = Hostdir::new(roots.clone())?;
    let node_id = node_id(&options)?;

    let runtime = Arc::new(ProcessRuntime::open(runtime_options(&options, &state)).await?);
    let mounts = Arc::new(NodeService::start(runtime.clone(), node_config(&state, roots))?);
    let juicefs = juicefs_config(&options, &state);
    let juicefs = juicefs.map(|config| JuicefsVolumes::start(mounts.clone(), config)).transpose()?;
    let juicefs = juicefs.map(Arc::new);
    let provisioners = Provisioners::new(hostdir.clone(), juicefs.clone());
    let edge = Edge::default();
    let facts = NodeFacts {
        id: node_id.clone(),
        volumes_max: options.max_volumes_per_node,
        key: state.key(),
        juicefs: options.juicefs_program.as_ref().map_or(JuicefsClient::Missing, |_| JuicefsClient::Present),
        directories: HostDirectories::OfTheMachine,
    };
    let desks = Desks::new(
        IdentityDesk::new(options.driver_name, StateIsWritable(state.engine()), edge.clone()),
        edge.clone(),
    )
    .and_controller(ControllerDesk::new(
        provisioners,
        mounts.clone(),
        node_id,
        HostDirectories::OfTheMachine,
        edge.clone(),
    ))
    .and_node(NodeDesk::new(hostdir.clone(), mounts.clone(), facts, edge));
    let served = serve(&options.endpoint, desks, stop).await;
    hostdir.stop();
    if let Some(juicefs) = juicefs {
        juicefs.shut_down().await;
    }
    mounts.shut_down().await;
    runtime.shutdown().await;
    Ok(served?)
}

fn runtime_options(options: &StandaloneOptions, state: &State) -> ProcessOptions {
    ProcessOptions { juicefs_program: options.juicefs_program.clone(), ..ProcessOptions::new(state.engine()) }
}

/// Nothing without a client.
fn juicefs_config(options: &StandaloneOptions, state: &State) -> Option<JuicefsConfig> {
    options.juicefs_program.clone().map(|program| JuicefsConfig {
        program,
        directory: state.filesystems(),
        helper_program: PathBuf::from(THIS_PROGRAM),
        key: state.key(),
        directories: HostDirectories::OfTheMachine,
    })
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
