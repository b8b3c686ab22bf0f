//! What did an earlier engine leave in the cluster, when there is only one of its kind?
//!
//! The mounts of a controller end with its container, whichever node that was on: a mount pod of an earlier one serves
//! nobody.

use std::collections::BTreeSet;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams};
use kube::core::params::Preconditions;
use tokio::time::{Instant, sleep};

use super::manifest::{DRIVER_LABEL, NODE_LABEL, label_form};
use super::outcome::CallError;
use super::start::KubernetesOptions;
use super::watching::within;
use super::{CALL_LIMIT, DELETE_GRACE_S};
use crate::mountpod::pod::OWNER_LABEL;

/// An agent whose session has ended exits at once; the kubelet then takes the pod's directories down.
const GONE_LIMIT: Duration = Duration::from_secs(30);
/// Between two looks whether they are gone.
const GONE_LOOK: Duration = Duration::from_millis(250);

/// Why the mount pods of an earlier engine could not be removed.
#[derive(Debug, thiserror::Error)]
#[error("can't {what} the mount pods that an earlier {owner} left in namespace {namespace}")]
pub struct PredecessorError {
    what: &'static str,
    owner: String,
    namespace: String,
    #[source]
    source: Box<dyn std::error::Error + Send + Sync>,
}

/// Deletes all mount pods of the engine's owner and driver, on every node, and waits a while for the end of those on this
/// one: their agents must not offer a session that is over to the engine that begins now. Says how many there were.
///
/// # Errors
/// [`PredecessorError`] when they can't be listed or deleted.
pub async fn remove_predecessor(options: &KubernetesOptions) -> Result<usize, PredecessorError> {
    let KubernetesOptions { owner, namespace, driver_name, .. } = options;
    let failed = |what| {
        move |source: CallError| PredecessorError {
            what,
            owner: owner.clone(),
            namespace: namespace.clone(),
            source: Box::new(source),
        }
    };
    let pods: Api<Pod> = Api::namespaced(options.client.clone(), namespace);
    let of_the_engine = format!("{OWNER_LABEL}={owner},{DRIVER_LABEL}={driver_name}");
    let left = list(&pods, &of_the_engine).await.map_err(failed("list"))?;
    for pod in &left {
        delete(&pods, pod).await.map_err(failed("delete"))?;
    }
    let here = format!("{of_the_engine},{NODE_LABEL}={}", label_form(&options.node));
    until_gone(&pods, &here, &left).await.map_err(failed("list"))?;
    Ok(left.len())
}

async fn list(pods: &Api<Pod>, selector: &str) -> Result<Vec<Pod>, CallError> {
    let params = ListParams::default().labels(selector);
    within(CALL_LIMIT, pods.list(&params)).await.map(|listed| listed.items)
}

/// Deletes that very pod; one that is gone is no error.
async fn delete(pods: &Api<Pod>, pod: &Pod) -> Result<(), CallError> {
    let params = DeleteParams {
        grace_period_seconds: Some(DELETE_GRACE_S),
        preconditions: Some(Preconditions { uid: pod.metadata.uid.clone(), resource_version: None }),
        ..DeleteParams::default()
    };
    let name = pod.metadata.name.clone().unwrap_or_default();
    match within(CALL_LIMIT, pods.delete(&name, &params)).await {
        Err(error) if !error.is_not_found() && !is_another(&error) => Err(error),
        _ => Ok(()),
    }
}

/// A pod of that name has another uid: the one that was listed is gone.
fn is_another(error: &CallError) -> bool {
    error.status().is_some_and(|status| status.reason == "Conflict")
}

async fn until_gone(pods: &Api<Pod>, selector: &str, left: &[Pod]) -> Result<(), CallError> {
    let uid = |pod: &Pod| pod.metadata.uid.clone();
    let awaited: BTreeSet<_> = left.iter().filter_map(uid).collect();
    let deadline = Instant::now() + GONE_LIMIT;
    while list(pods, selector).await?.iter().filter_map(uid).any(|uid| awaited.contains(&uid)) {
        if Instant::now() > deadline {
            tracing::warn!("mount pods of an earlier engine are still there after {GONE_LIMIT:?}");
            break;
        }
        sleep(GONE_LOOK).await;
    }
    Ok(())
}
