//! Where do mount pods run?
//!
//! One trait with the shape of the Kubernetes API (records with uid and resourceVersion, asynchronous deletion,
//! preconditions, commutative patches); one runtime keeps pods in a cluster, the other as local processes.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::PathBuf;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use kube::core::params::Preconditions;
use tokio::sync::watch;

use crate::mountpod::facts::{PodId, PodName, PodPhase, PodUid};
use crate::mountpod::service::{NoFiles, RefusedBy};
use crate::volume::Secrets;

pub mod kubernetes;
pub mod process;

/// A mount pod as its runtime knows it.
#[derive(Debug, Clone)]
pub struct RunningPod {
    /// The record, with `uid`, `resourceVersion` and `deletionTimestamp` filled in by the runtime. Shared: all pods are
    /// looked through at every change of one.
    pub record: Arc<Pod>,
    /// How far its processes are.
    pub phase: PodPhase,
}

/// Changes to a pod's annotations, applied whatever the others are: `None` removes one.
pub type AnnotationPatch = BTreeMap<String, Option<String>>;

/// Changes the annotations of a record that no API server keeps.
fn patch_annotations(record: &mut Pod, patch: &AnnotationPatch) {
    let annotations = record.metadata.annotations.get_or_insert_default();
    for (name, value) in patch {
        match value {
            Some(value) => annotations.insert(name.clone(), value.clone()),
            None => annotations.remove(name),
        };
    }
}

/// Where mount pods run.
pub trait MountPods: Send + Sync + 'static {
    /// The mount pods of this engine, from memory: the runtime watches them.
    fn list(&self) -> Vec<RunningPod>;

    /// Changes its value at every change of a pod: created, patched, phase, deleted.
    fn changes(&self) -> watch::Receiver<u64>;

    /// Creates a pod; it is there when this returns, and starts on its own.
    ///
    /// # Errors
    /// [`RuntimeError::AlreadyExists`] when a pod of that name is there, even one that is going;
    /// [`RuntimeError::NoFiles`] when it could only wait for its files.
    fn create(&self, pod: Pod) -> impl Future<Output = Result<Pod, RuntimeError>> + Send;

    /// Changes annotations of the pod with that uid, and gives back the record as it is then.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when there is none of that name and uid.
    fn patch(
        &self,
        name: &PodName,
        uid: &PodUid,
        patch: &AnnotationPatch,
    ) -> impl Future<Output = Result<Pod, RuntimeError>> + Send;

    /// Asks for the pod's deletion: marks it now, ends its processes, removes the record when they are gone.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] or [`RuntimeError::Conflict`] when a precondition does not hold.
    fn delete(
        &self,
        name: &PodName,
        preconditions: &Preconditions,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// Where the pod's agent listens; the socket appears when the agent is up.
    fn agent_socket(&self, pod: &PodId) -> PathBuf;

    /// Keeps the credentials that the pod's client is started with, for as long as the pod is there. A runtime without
    /// a safe place for them keeps nothing.
    ///
    /// # Errors
    /// [`RuntimeError::Gone`] when the pod is; any other when nothing is known to be kept.
    fn keep_credentials(
        &self,
        pod: &PodId,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<(), RuntimeError>> + Send;

    /// The credentials that were kept for the pod; empty when there are none.
    ///
    /// # Errors
    /// When it can't be known whether there are any.
    fn credentials(&self, pod: &PodId) -> impl Future<Output = Result<Secrets, RuntimeError>> + Send;
}

/// How a call to a runtime can fail.
#[derive(Debug, thiserror::Error)]
pub enum RuntimeError {
    /// A pod of that name is there already.
    #[error("a mount pod named {0} exists already")]
    AlreadyExists(String),
    /// There is no such pod any more.
    #[error("the mount pod {0} is gone")]
    Gone(String),
    /// The record has changed since it was read.
    #[error("the mount pod {0} has changed meanwhile")]
    Conflict(String),
    /// The request may or may not have been carried out.
    #[error("it is unknown whether the request for mount pod {name} was carried out")]
    Unknown {
        /// The pod.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The cluster does not admit the pod; asking again soon is of no use.
    #[error("the cluster does not admit the mount pod {name}: {why}")]
    Refused {
        /// The pod.
        name: String,
        /// What stands in the way.
        by: RefusedBy,
        /// The API server's words.
        why: String,
    },
    /// The pod can't have the files that its client needs.
    #[error("the mount pod {name} can't have its files: {why}")]
    NoFiles {
        /// The pod.
        name: String,
        /// Why.
        why: NoFiles,
    },
    /// The request was not carried out.
    #[error("can't {what} the mount pod {name}")]
    Failed {
        /// `create`, `change` or `delete`.
        what: &'static str,
        /// The pod.
        name: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
