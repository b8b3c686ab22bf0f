//! How is an agent waited for, no longer than its pod lives?

use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::effects::NodeEffects;
use super::outcome::stale;
use crate::agent::frames::ClientState;
use crate::mountpod::effects::EffectError;
use crate::mountpod::facts::{PodId, PodPhase};
use crate::mountpod::pod::pod_id;
use crate::runtime::MountPods;
use crate::session::link::AgentView;

/// Is a pod there?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PodLife {
    /// Its processes may run.
    Alive,
    /// They are gone, or the pod is, or it can't start.
    Over,
}

impl<R: MountPods> NodeEffects<R> {
    /// Is the pod there?
    pub(super) fn life_of(&self, pod: &PodId) -> PodLife {
        match self.phase_of(pod) {
            Some(PodPhase::Starting { .. } | PodPhase::Running) => PodLife::Alive,
            // A pod that can't start is over for those who wait: they look again and say why.
            Some(PodPhase::Ended { .. } | PodPhase::Stuck { .. }) | None => PodLife::Over,
        }
    }

    fn phase_of(&self, pod: &PodId) -> Option<PodPhase> {
        let mut pods = self.runtime.list().into_iter();
        let found = pods.find(|running| pod_id(&running.record).is_ok_and(|id| id == *pod));
        found.map(|running| running.phase)
    }

    /// Why an agent does not say what is waited for, for people: it speaks only when its pod has started.
    fn state_of(&self, pod: &PodId, view: &AgentView) -> String {
        match (view, self.phase_of(pod)) {
            (AgentView::Silent, Some(PodPhase::Starting { waits_for: Some(words) })) => {
                format!("the pod has not started: {words}")
            }
            (AgentView::Silent, Some(PodPhase::Starting { waits_for: None })) => {
                "the pod has not started, and nothing is said of it yet".to_owned()
            }
            _ => describe(view),
        }
    }

    /// Waits until `judge` has a verdict on what the agent of a pod says. It is asked again at every change.
    ///
    /// # Errors
    /// The verdict; `Stale` when the pod is over, and `TimedOut` at the limit.
    pub(super) async fn until<T>(
        &self,
        pod: &PodId,
        what: &str,
        limit: Duration,
        mut judge: impl FnMut(&AgentView) -> Option<Result<T, EffectError>>,
    ) -> Result<T, EffectError> {
        let deadline = Instant::now() + limit;
        let mut pods = self.runtime.changes();
        loop {
            pods.mark_unchanged();
            self.links.follow(&*self.runtime, &self.runtime.list());
            if self.life_of(pod) == PodLife::Over {
                return Err(stale(format!("mount pod {}", pod.name.0)));
            }
            let Some(mut view) = self.links.watch(pod) else { continue };
            let seen = view.borrow_and_update().clone();
            if let Some(verdict) = judge(&seen) {
                return verdict;
            }
            tokio::select! {
                // A link ends with its pod, or with the driver: then nothing is known of the pod, and nothing will be.
                changed = view.changed() => if changed.is_err() && self.life_of(pod) == PodLife::Alive {
                    return Err(EffectError::Unknown { what: format!("{what} of {}", pod.name.0), source: None });
                },
                changed = pods.changed() => if changed.is_err() { return Err(stale("the runtime of the mount pods")) },
                () = sleep_until(deadline) => return Err(EffectError::TimedOut {
                    what: format!("{what} of {}", pod.name.0),
                    limit_s: limit.as_secs_f64(),
                    state: self.state_of(pod, &seen),
                }),
            }
        }
    }
}

/// What an agent says, for people.
pub(super) fn describe(view: &AgentView) -> String {
    match view {
        AgentView::Silent => "its agent can't be reached".to_owned(),
        AgentView::Dead => "its agent is dead".to_owned(),
        AgentView::Idle => "its agent waits for a session".to_owned(),
        AgentView::Holding { client, .. } => match client {
            ClientState::Starting { starts } => format!("its client is being started (start {starts})"),
            ClientState::Serving { .. } => "its client serves".to_owned(),
            ClientState::Parting { .. } => "its client leaves its open files to a successor".to_owned(),
            ClientState::Failed { why, .. } => format!("its client can't serve: {why}"),
            ClientState::Ended => "its client has exited".to_owned(),
        },
    }
}
