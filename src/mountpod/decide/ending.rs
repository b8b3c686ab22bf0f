//! How does a session that nobody uses end?

use super::Steps;
use super::view::View;
use crate::mountpod::facts::{ConnectionFact, Deletion, PodFact};
use crate::mountpod::plan::{Plan, Step};

/// The end of a session: its client flushes and exits by itself, only then its pods are deleted.
pub(super) fn end(view: &View<'_>, mut steps: Steps) -> Plan {
    if view.facts.connection != ConnectionFact::None {
        close(view, "nobody uses the session; its client flushes and exits", &mut steps);
        return steps.look_again();
    }
    if !steps.0.is_empty() {
        // The steps before have changed the versions that deletion needs.
        return steps.look_again();
    }
    for pod in view.facts.pods.iter() {
        delete(pod, "the session has ended", &mut steps);
    }
    steps.reached()
}

/// Adds the closing of the session.
pub(super) fn close(view: &View<'_>, reason: &str, steps: &mut Steps) {
    steps.add(Step::CloseSession { limit: view.limits.close }, reason);
}

/// Adds the deletion of a pod, unless it was asked for already.
pub(super) fn delete(pod: &PodFact, reason: &str, steps: &mut Steps) {
    if pod.deletion == Deletion::NotAsked {
        let (pod, resource_version) = (pod.id.clone(), pod.resource_version.clone());
        steps.add(Step::DeletePod { pod, resource_version }, reason);
    }
}
