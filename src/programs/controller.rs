//! How is the controller of a Kubernetes cluster put together, and how does it end?

use std::error::Error;
use std::process::ExitCode;
use std::sync::Arc;

use super::controller_engine::ControllerEngine;
use super::health::Answers;
use super::host_directories::allowed;
use super::serving::{exit_code, stop_at_signals};
use crate::config::host_directories::HostDirectories;
use crate::config::kubernetes::ControllerOptions;
use crate::csi::controller::ControllerDesk;
use crate::csi::edge::Edge;
use crate::csi::identity::IdentityDesk;
use crate::csi::server::{Desks, serve};
use crate::mountpod::service::Elsewhere;
use crate::provision::dispatch::Provisioners;
use crate::provision::hostdir::Hostdir;

/// Serves until SIGTERM or SIGINT.
pub(super) async fn run(options: ControllerOptions) -> ExitCode {
    exit_code(serve_until_told(options).await)
}

async fn serve_until_told(options: ControllerOptions) -> Result<(), Box<dyn Error>> {
    let stop = stop_at_signals()?;
    let hostdir = Hostdir::new(options.common.hostdir_roots)?;
    let (node, driver) = (&options.node_name, &options.common.driver_name);
    let (directories, engine) = match &options.juicefs.0 {
        None => (HostDirectories::default(), None),
        Some(juicefs) => {
            let directories = allowed(&juicefs.mount_pods).await?;
            let engine = ControllerEngine::start(juicefs, directories.clone(), node, driver).await?;
            (directories, Some(engine))
        }
    };
    let provisioners = Provisioners::new(hostdir.clone(), engine.as_ref().map(ControllerEngine::volumes));
    let edge = Edge::default();
    let identity = IdentityDesk::new(options.common.driver_name, Answers, edge.clone());
    let controller =
        ControllerDesk::new(provisioners, Arc::new(Elsewhere), options.node_name, directories, edge.clone());
    let served = serve(&options.endpoint, Desks::new(identity, edge).and_controller(controller), stop).await;
    hostdir.stop();
    if let Some(engine) = engine {
        engine.shut_down().await;
    }
    Ok(served?)
}
