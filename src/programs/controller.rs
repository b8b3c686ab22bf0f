//! How is the controller of a Kubernetes cluster put together, and how does it end?

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use super::health::Answers;
use super::serving::{exit_code, stop_at_signals};
use crate::config::host_directories::HostDirectories;
use crate::config::kubernetes::ControllerOptions;
use crate::csi::controller::ControllerDesk;
use crate::csi::edge::Edge;
use crate::csi::identity::IdentityDesk;
use crate::csi::server::{Desks, serve};
use crate::mountpod::service::Elsewhere;
use crate::node::NodeService;
use crate::provision::dispatch::Provisioners;
use crate::provision::hostdir::Hostdir;
use crate::runtime::kubernetes::KubernetesRuntime;

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(options: ControllerOptions) -> ExitCode {
    exit_code(serve_until_told(options).await)
}

async fn serve_until_told(options: ControllerOptions) -> Result<(), Box<dyn Error>> {
    let stop = stop_at_signals()?;
    let hostdir = Hostdir::new(options.common.hostdir_roots)?;
    let provisioners = Provisioners::<NodeService<KubernetesRuntime>>::new(hostdir.clone(), None);
    let edge = Edge::default();
    let identity = IdentityDesk::new(options.common.driver_name, Answers, edge.clone());
    let directories = HostDirectories::default();
    let controller =
        ControllerDesk::new(provisioners, Arc::new(Elsewhere), options.node_name, directories, edge.clone());
    let served = serve(&options.endpoint, Desks::new(identity, edge).and_controller(controller), stop).await;
    hostdir.stop();
    Ok(served?)
}
