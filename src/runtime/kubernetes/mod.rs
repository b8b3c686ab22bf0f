//! The runtime for Kubernetes: how does a mount pod become a pod of the cluster, and how is it followed?
//!
//! The engine's record is completed (`manifest`) and created; one watch (`watching`) feeds what is known (`cache`), in
//! which this process's own writes show at once. Pods outlive the driver, and their processes may outlive their records
//! (`ghosts`).

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::params::Preconditions;
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod cache;
mod cluster;
mod credentials;
mod files;
mod ghosts;
mod manifest;
mod outcome;
mod phase;
mod predecessor;
mod start;
mod watching;

use super::{AnnotationPatch, MountPods, RunningPod, RuntimeError};
use crate::mountpod::facts::{PodId, PodName, PodUid};
use crate::mountpod::pod::served_volume;
use crate::mountpod::refs::is_ref;
use crate::volume::Secrets;
use cache::Cache;
use ghosts::Places;
use manifest::Home;
use outcome::{CallError, runtime_error};
use watching::{bury, within};

pub use cluster::KubernetesCluster;
pub use manifest::{DRIVER_LABEL, NODE_LABEL, PodTemplate};
pub use predecessor::{PredecessorError, remove_predecessor};
pub use start::{ConnectError, KubernetesOptions, StartError, connect};

/// One write or read of one object; admission webhooks have 10 s by default, and some clusters have several.
const CALL_LIMIT: Duration = Duration::from_secs(25);
/// A pod is deleted when its session is over: its agent exits by itself, and is killed if it hangs.
const DELETE_GRACE_S: u32 = 10;
/// Who makes the changes, in the objects' managed fields.
const FIELD_MANAGER: &str = "mountpod";

/// Mount pods as pods of a cluster, on one node.
#[derive(Debug)]
pub struct KubernetesRuntime {
    shared: Arc<Shared>,
}

/// What the runtime and its tasks have in common.
struct Shared {
    pods: Api<Pod>,
    secrets: Api<Secret>,
    template: PodTemplate,
    home: Home,
    selector: String,
    places: Places,
    cache: Mutex<Cache>,
    changes: watch::Sender<u64>,
    shutdown: CancellationToken,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("home", &self.home).finish_non_exhaustive()
    }
}

impl KubernetesRuntime {
    /// Reads the engine's pods and watches them from then on, until `shutdown`. Ghosts of an earlier driver's time are
    /// found again.
    ///
    /// # Errors
    /// See [`StartError`]: no node of that name, no permission, no answer, no directory.
    pub async fn start(options: KubernetesOptions, shutdown: CancellationToken) -> Result<Self, StartError> {
        start::start(options, shutdown).await.map(|shared| Self { shared })
    }

    /// Ends the watch, and waits for the tasks. The pods go on.
    pub async fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }
}

impl Drop for KubernetesRuntime {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}

impl Shared {
    /// Never held across an await.
    fn cache(&self) -> MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    /// Takes in the answer to a write.
    fn answered(&self, pod: &Pod) {
        self.cache().answered(pod);
        self.changed();
    }

    /// A pod of that uid turned out to be gone.
    fn found_gone(self: &Arc<Self>, uid: &PodUid) {
        let last = self.cache().known_gone(uid);
        if let Some(last) = last {
            bury(self, last);
            self.changed();
        }
    }

    /// Works on the file of a pod. A failure is told, and costs no more than a ghost that a restart does not find.
    async fn note(
        &self,
        uid: &PodUid,
        what: &str,
        work: impl FnOnce(&Places, &PodUid) -> std::io::Result<()> + Send + 'static,
    ) {
        let (places, of) = (self.places.clone(), uid.clone());
        let worked = tokio::task::spawn_blocking(move || work(&places, &of)).await;
        if let Err(error) = worked.map_err(std::io::Error::from).flatten() {
            tracing::warn!(%error, "can't {what} the mount pod with uid {}", uid.0);
        }
    }

    /// A pod of that name is there, and the watch has not told of it: this process made it without hearing the answer.
    async fn look_up(&self, name: &str) {
        match within(CALL_LIMIT, self.pods.get(name)).await {
            Ok(pod) if self.is_ours(&pod) => self.answered(&pod),
            Ok(_) => tracing::warn!(
                pod = name,
                "the mount pod's name is taken by a pod without the driver's labels"
            ),
            Err(error) => {
                tracing::warn!(
                    pod = name,
                    error = crate::telemetry::chain(&error),
                    "can't read the mount pod"
                );
            }
        }
    }

    fn is_ours(&self, pod: &Pod) -> bool {
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        self.home.labels().iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// The record for the driver's own files: who is counted changes all the time, and is not kept up there.
fn without_annotations_of_refs(pod: &Pod) -> Pod {
    let mut pod = pod.clone();
    if let Some(annotations) = &mut pod.metadata.annotations {
        annotations.retain(|name, _| !is_ref(name));
    }
    pod
}

impl MountPods for KubernetesRuntime {
    fn list(&self) -> Vec<RunningPod> {
        self.shared.cache().list()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    async fn create(&self, pod: Pod) -> Result<Pod, RuntimeError> {
        const WHAT: &str = "create";
        let shared = &self.shared;
        let asked = pod.metadata.name.clone().unwrap_or_default();
        let unreadable =
            |error| RuntimeError::Failed { what: WHAT, name: asked.clone(), source: Box::new(error) };
        let wanted = served_volume(&pod).map_err(unreadable)?.pod.files;
        let manifest = manifest::manifest(pod, &shared.template, &shared.home).map_err(unreadable)?;
        let name = manifest.metadata.name.clone().unwrap_or_default();
        files::look_for(shared, &name, &wanted).await?;
        let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
        let created = within(CALL_LIMIT, shared.pods.create(&params, &manifest)).await;
        let created = match created.map_err(|error| runtime_error(WHAT, &name, error)) {
            Ok(created) => created,
            Err(error) => {
                if matches!(error, RuntimeError::AlreadyExists(_)) {
                    shared.look_up(&name).await;
                }
                return Err(error);
            }
        };
        shared.answered(&created);
        if let Some(uid) = created.metadata.uid.clone().map(PodUid) {
            let record = without_annotations_of_refs(&created);
            shared.note(&uid, "write down", move |places, uid| places.write(uid, &record)).await;
        }
        Ok(created)
    }

    async fn patch(
        &self,
        name: &PodName,
        uid: &PodUid,
        patch: &AnnotationPatch,
    ) -> Result<Pod, RuntimeError> {
        let shared = &self.shared;
        let ghost = shared.cache().patch_ghost(uid, patch);
        if let Some(ghost) = ghost {
            shared.changed();
            return Ok(ghost);
        }
        // Commutative: it names only its own annotations. The uid makes it a conflict with any other pod of that name.
        let body = Patch::Merge(json!({ "metadata": { "uid": uid.0, "annotations": patch } }));
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        let patched = within(CALL_LIMIT, shared.pods.patch(&name.0, &params, &body)).await;
        match patched {
            Ok(pod) => {
                shared.answered(&pod);
                Ok(pod)
            }
            Err(error) => Err(self.failed_on("change", name, uid, error)),
        }
    }

    async fn delete(&self, name: &PodName, preconditions: &Preconditions) -> Result<(), RuntimeError> {
        let shared = &self.shared;
        let params = DeleteParams {
            grace_period_seconds: Some(DELETE_GRACE_S),
            preconditions: Some(preconditions.clone()),
            ..DeleteParams::default()
        };
        let uid = PodUid(preconditions.uid.clone().unwrap_or_default());
        match within(CALL_LIMIT, shared.pods.delete(&name.0, &params)).await {
            Ok(answer) => {
                if let Some(pod) = answer.left().filter(|pod| pod.metadata.uid.as_ref() == Some(&uid.0)) {
                    shared.cache().answered(&pod);
                }
                shared.cache().deletion_asked(&uid);
                shared.changed();
                Ok(())
            }
            Err(error) => Err(self.failed_on("delete", name, &uid, error)),
        }
    }

    fn agent_socket(&self, pod: &PodId) -> PathBuf {
        self.shared.places.agent_socket(&pod.uid)
    }

    async fn keep_credentials(&self, pod: &PodId, secrets: &Secrets) -> Result<(), RuntimeError> {
        credentials::keep(&self.shared, pod, secrets).await
    }

    async fn credentials(&self, pod: &PodId) -> Result<Secrets, RuntimeError> {
        credentials::read(&self.shared, pod).await
    }
}

impl KubernetesRuntime {
    fn failed_on(&self, what: &'static str, name: &PodName, uid: &PodUid, error: CallError) -> RuntimeError {
        let error = runtime_error(what, &name.0, error);
        if matches!(error, RuntimeError::Gone(_)) {
            self.shared.found_gone(uid);
        }
        error
    }
}
