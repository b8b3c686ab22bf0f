//! How are mount pods of the cluster given to an engine, whichever program it is in?

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::state::State;
use crate::config::flags::{DriverName, NodeId};
use crate::config::kubernetes::MountPodOptions;
use crate::runtime::kubernetes::{KubernetesOptions, KubernetesRuntime, PodTemplate, connect};

/// A mount pod that is asked to end while a workload uses it goes on for so long: longer than workloads are given to
/// end, even those that take a day.
const AGENT_GRACE: Duration = Duration::from_secs(30 * 24 * 3600);

/// The engine that is to get them.
pub(super) struct Engine<'a> {
    /// Its owner id.
    pub(super) owner: &'static str,
    pub(super) node: &'a NodeId,
    pub(super) driver: &'a DriverName,
    pub(super) state: &'a State,
}

/// What the runtime of an engine is set up with: the API server is asked nothing yet.
pub(super) async fn of_the_cluster(
    options: &MountPodOptions,
    engine: &Engine<'_>,
) -> Result<KubernetesOptions, Box<dyn Error>> {
    Ok(KubernetesOptions {
        client: connect().await?,
        namespace: options.namespace.to_string(),
        node: engine.node.to_string(),
        owner: engine.owner.to_owned(),
        driver_name: engine.driver.to_string(),
        kubelet_dir: options.kubelet_dir.clone(),
        state_dir: engine.state.engine(),
        template: PodTemplate {
            image: options.mount_image.clone(),
            image_pull_policy: options.image_pull_policy.clone(),
            image_pull_secrets: options.image_pull_secrets.clone(),
            priority_class: options.priority_class.clone(),
            grace: AGENT_GRACE,
            metrics_port: options.metrics_port,
        },
    })
}

/// Reads the engine's mount pods, and watches them.
pub(super) async fn watched(options: KubernetesOptions) -> Result<Arc<KubernetesRuntime>, Box<dyn Error>> {
    Ok(Arc::new(KubernetesRuntime::start(options, CancellationToken::new()).await?))
}
