#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may panic, and this one must")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use k8s_openapi::api::core::v1::Pod;
use kube::core::params::Preconditions;
use tokio::sync::watch;

use super::*;
use crate::mountpod::facts::{PodId, PodName, PodPhase, PodUid};
use crate::mountpod::plan::Limits;
use crate::mountpod::pod::SESSION_LABEL;
use crate::node::config::NodeConfig;
use crate::runtime::{AnnotationPatch, RunningPod, RuntimeError};
use crate::volume::Secrets;

const SESSION: &str = "0123456789abcdef0123456789abcdef";
/// Far more than one retry takes.
const LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(10);

/// One pod that says nothing; looking at it from a task panics the first time.
#[derive(Debug, Default)]
pub(in crate::node) struct Treacherous {
    has_panicked: AtomicBool,
    looks_after: AtomicUsize,
    changes: watch::Sender<u64>,
}

impl MountPods for Treacherous {
    fn list(&self) -> Vec<RunningPod> {
        if tokio::task::try_id().is_some() {
            assert!(self.has_panicked.swap(true, Ordering::SeqCst), "as this test wants it");
            self.looks_after.fetch_add(1, Ordering::SeqCst);
        }
        let mut record = Pod::default();
        record.metadata.labels = Some([(SESSION_LABEL.to_owned(), SESSION.to_owned())].into());
        vec![RunningPod { record: Arc::new(record), phase: PodPhase::Running }]
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    async fn create(&self, pod: Pod) -> Result<Pod, RuntimeError> {
        Ok(pod)
    }

    async fn patch(&self, name: &PodName, _: &PodUid, _: &AnnotationPatch) -> Result<Pod, RuntimeError> {
        Err(RuntimeError::Gone(name.0.clone()))
    }

    async fn delete(&self, _: &PodName, _: &Preconditions) -> Result<(), RuntimeError> {
        Ok(())
    }

    fn agent_socket(&self, pod: &PodId) -> PathBuf {
        PathBuf::from("/nowhere").join(&pod.name.0)
    }

    async fn keep_credentials(&self, _: &PodId, _: &Secrets) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn credentials(&self, _: &PodId) -> Result<Secrets, RuntimeError> {
        Ok(Secrets::default())
    }
}

#[tokio::test]
async fn a_session_whose_reconcile_panicked_is_looked_at_again() {
    let directory = tempfile::tempdir().unwrap();
    let config = NodeConfig::new(directory.path().to_owned(), "test", BTreeMap::new());
    let (pods, shutdown) = (Arc::new(Treacherous::default()), CancellationToken::new());
    let effects = NodeEffects::start(Arc::clone(&pods), config, &shutdown).unwrap();
    let engine = Arc::new(Engine::new(effects, Limits::default()));
    let looked_again = async {
        while pods.looks_after.load(Ordering::SeqCst) == 0 {
            sleep(LOOK).await;
        }
    };
    // Not in a task of its own: only the tasks of sessions panic.
    tokio::select! {
        () = keep_reconciled(engine, LIMIT, shutdown.clone()) => panic!("the reconciler has ended"),
        looked = tokio::time::timeout(LIMIT, looked_again) => looked.unwrap(),
    }
    shutdown.cancel();
}
