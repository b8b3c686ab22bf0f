//! What does the runtime need before it can begin?

use std::collections::BTreeSet;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod, Secret};
use kube::config::InferConfigError;
use kube::{Api, Client, Config};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cache::Cache;
use super::ghosts::Places;
use super::manifest::{Home, PodTemplate};
use super::outcome::CallError;
use super::watching::{bury, keep_watching, list, within};
use super::{CALL_LIMIT, Shared};
use crate::mountpod::facts::PodUid;

/// The API server is near: a connection that takes longer is none.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// How the runtime for Kubernetes is set up.
#[derive(Clone)]
pub struct KubernetesOptions {
    /// The way to the API server.
    pub client: Client,
    /// Where mount pods live.
    pub namespace: String,
    /// The name of this node.
    pub node: String,
    /// Which engine of the node this is: `node` or `controller`.
    pub owner: String,
    /// The driver's name, which labels its pods.
    pub driver_name: String,
    /// The kubelet's directory, as this process sees it: `/var/lib/kubelet`.
    pub kubelet_dir: PathBuf,
    /// A directory of this engine's own, which outlives the process.
    pub state_dir: PathBuf,
    /// What all its pods have in common.
    pub template: PodTemplate,
}

/// Why the API server can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no configuration.
    #[error(
        "there is neither a kubeconfig (KUBECONFIG) nor a service account of a pod to reach the API server with"
    )]
    NoConfig(#[source] InferConfigError),
    /// It can't be used.
    #[error("the configuration for the API server can't be used")]
    BadConfig(#[source] kube::Error),
}

/// Why the runtime can't begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The node can't be read.
    #[error("can't read node {node}: is it this node's name, and may the driver read nodes?")]
    Node {
        /// Its name.
        node: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The pods can't be listed.
    #[error("can't list the mount pods in namespace {namespace}")]
    List {
        /// Where.
        namespace: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The driver's own files can't be used.
    #[error("can't use {path} for the records of mount pods")]
    Dir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A client by `KUBECONFIG`, or by the service account of the pod that this process runs in. It does not retry by
/// itself: what came of a request is the engine's to know.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect() -> Result<Client, ConnectError> {
    let mut config = Config::infer().await.map_err(ConnectError::NoConfig)?;
    config.default_retry = false;
    config.connect_timeout = Some(CONNECT_LIMIT);
    Client::try_from(config).map_err(ConnectError::BadConfig)
}

/// Reads what is there, and begins to watch.
pub(super) async fn start(
    options: KubernetesOptions,
    shutdown: CancellationToken,
) -> Result<Arc<Shared>, StartError> {
    let KubernetesOptions { client, namespace, node, owner, driver_name, kubelet_dir, state_dir, template } =
        options;
    let dir_error = |source| StartError::Dir { path: state_dir.clone(), source };
    let places = Places::create(kubelet_dir, &state_dir).map_err(dir_error)?;
    let written = places.written().map_err(dir_error)?;
    let node_uid =
        uid_of(&client, &node).await.map_err(|source| StartError::Node { node: node.clone(), source })?;
    let home = Home { namespace, node, node_uid, owner, driver: driver_name };
    let shared = Arc::new(Shared {
        pods: Api::namespaced(client.clone(), &home.namespace),
        secrets: Api::<Secret>::namespaced(client, &home.namespace),
        selector: home.selector(),
        template,
        places,
        home,
        cache: Mutex::new(Cache::default()),
        changes: watch::Sender::new(0),
        // A child: dropping one runtime must not end others.
        shutdown: shutdown.child_token(),
        tasks: TaskTracker::new(),
    });
    list(&shared).await.map_err(|error| StartError::List {
        namespace: shared.home.namespace.clone(),
        source: Box::new(error),
    })?;
    call_up_ghosts(&shared, written);
    let watching = shared.shutdown.clone().run_until_cancelled_owned(keep_watching(Arc::clone(&shared)));
    shared.tasks.spawn(watching);
    Ok(shared)
}

/// For the owner reference of the pods.
async fn uid_of(client: &Client, node: &str) -> Result<String, Box<dyn std::error::Error + Send + Sync>> {
    let nodes: Api<Node> = Api::all(client.clone());
    let found = within(CALL_LIMIT, nodes.get_metadata(node)).await.map_err(Box::<CallError>::from)?;
    found.metadata.uid.ok_or_else(|| "the node has no uid".into())
}

/// Pods that were written down and have no record any more: their processes may live.
fn call_up_ghosts(shared: &Arc<Shared>, written: Vec<Pod>) {
    let recorded: BTreeSet<PodUid> = shared.cache().recorded().into_iter().map(|pod| pod.uid).collect();
    let is_ghost = |pod: &Pod| pod.metadata.uid.clone().is_some_and(|uid| !recorded.contains(&PodUid(uid)));
    for pod in written.into_iter().filter(is_ghost) {
        bury(shared, Arc::new(pod));
    }
}
