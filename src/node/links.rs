//! Which agents does the driver keep in touch with?

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

use crate::mountpod::facts::{PodId, PodPhase};
use crate::mountpod::pod::pod_id;
use crate::runtime::{MountPods, RunningPod};
use crate::session::link::{AgentView, Link, Speaker, Surroundings};

/// The links to the agents of all living mount pods.
#[derive(Debug)]
pub(super) struct Links {
    surroundings: Surroundings,
    links: Mutex<BTreeMap<PodId, (Link, Instant)>>,
}

impl Links {
    pub(super) fn new(surroundings: Surroundings) -> Self {
        Self { surroundings, links: Mutex::default() }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<PodId, (Link, Instant)>> {
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins links to new pods, and ends those to pods that have ended or are gone.
    pub(super) fn follow(&self, runtime: &impl MountPods, pods: &[RunningPod]) {
        let alive = pods.iter().filter(|pod| !matches!(pod.phase, PodPhase::Ended { .. }));
        let alive: BTreeSet<PodId> = alive.filter_map(|pod| pod_id(&pod.record).ok()).collect();
        let mut links = self.lock();
        links.retain(|pod, _| alive.contains(pod));
        for pod in alive {
            links.entry(pod).or_insert_with_key(|pod| {
                (Link::start(runtime.agent_socket(pod), &self.surroundings), Instant::now())
            });
        }
    }

    /// What the agent of a pod says; `Silent` for a pod that has ended.
    pub(super) fn view(&self, pod: &PodId) -> AgentView {
        self.watch(pod).map_or(AgentView::Silent, |view| view.borrow().clone())
    }

    /// Follows what the agent of a pod says; `None` for a pod that has ended.
    pub(super) fn watch(&self, pod: &PodId) -> Option<watch::Receiver<AgentView>> {
        self.lock().get(pod).map(|(link, _)| link.view())
    }

    /// Asks the agent of a pod; `None` for a pod that has ended.
    pub(super) fn speaker(&self, pod: &PodId) -> Option<Speaker> {
        self.lock().get(pod).map(|(link, _)| link.speaker())
    }

    /// Returns when the agent of a pod has said something, or has had `limit` to do so since it is followed.
    pub(super) async fn settled(&self, pod: &PodId, limit: Duration) {
        let Some((mut view, since)) = self.lock().get(pod).map(|(link, since)| (link.view(), *since)) else {
            return;
        };
        let spoken = view.wait_for(|view| *view != AgentView::Silent);
        // Either way the caller looks at what is known by then.
        drop(tokio::time::timeout_at(since + limit, spoken).await.map(|spoken| spoken.map(drop)));
    }
}
