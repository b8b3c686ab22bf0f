//! What is missing until a pod serves the session and every target shows it?

use std::collections::BTreeSet;

use super::Steps;
use super::view::{View, is_alive};
use crate::mountpod::facts::{AgentFact, ConnectionFact, PodFact, PodId};
use crate::mountpod::plan::Step;
use crate::volume::TargetPath;

/// Does the pod serve the session?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Serving {
    /// Yes.
    Now,
    /// Not before the added steps are done and facts are read anew.
    NotYet,
}

/// Adds the next steps that bring `current` to serve the session.
pub(super) fn serve(view: &View<'_>, current: &PodFact, steps: &mut Steps) -> Serving {
    match &view.facts.connection {
        ConnectionFact::None => steps.add(Step::OpenSession, "the session has no connection"),
        ConnectionFact::Closing => steps.add(
            Step::AwaitClosed { limit: view.limits.close },
            "the session is being closed; a new one must see what its client flushes",
        ),
        ConnectionFact::Lost { device } => steps.add(
            Step::CloseSession { limit: view.limits.close },
            format!("nobody holds connection {device} any more; a fresh one takes its place"),
        ),
        ConnectionFact::HeldByAgent { holder, .. } => adopt(holder, steps),
        ConnectionFact::Held { offered_to, .. } => return hand_to(view, current, offered_to.as_ref(), steps),
    }
    Serving::NotYet
}

/// Adds the step that takes the session back from its agent.
pub(super) fn adopt(holder: &PodId, steps: &mut Steps) {
    steps.add(Step::Adopt { pod: holder.clone() }, "an agent has kept the session while the driver was away");
}

fn hand_to(view: &View<'_>, current: &PodFact, offered_to: Option<&PodId>, steps: &mut Steps) -> Serving {
    let pod = current.id.clone();
    if let Some(rival) = view.facts.pods.iter().find(|pod| is_rival(pod, current, offered_to)) {
        take_from(view, rival, current, steps);
    } else if offered_to != Some(&pod) && current.agent == AgentFact::Silent {
        // An offer would wait for it, too, and the session could not be closed meanwhile.
        steps.add(
            Step::AwaitAgent { pod, limit: view.limits.agent },
            "the agent that is to be offered the session has not spoken yet",
        );
    } else if offered_to != Some(&pod) || current.agent == AgentFact::Idle {
        steps.add(
            Step::Offer { pod, limit: view.limits.agent },
            "the newest mount pod is to serve the session",
        );
    } else if current.agent == AgentFact::Serving {
        return Serving::Now;
    } else {
        steps.add(Step::AwaitServing { pod, limit: view.limits.serving }, "its client is being started");
    }
    Serving::NotYet
}

/// May this other pod have a client that serves the session? It is dead for sure only when its processes are.
fn is_rival(pod: &PodFact, current: &PodFact, offered_to: Option<&PodId>) -> bool {
    let holds = matches!(pod.agent, AgentFact::Starting | AgentFact::Serving | AgentFact::Failed { .. });
    pod.id != current.id && is_alive(pod) && (holds || offered_to == Some(&pod.id))
}

/// Make before break: a pod that serves goes on until the agent of its successor is there.
fn take_from(view: &View<'_>, rival: &PodFact, current: &PodFact, steps: &mut Steps) {
    if rival.agent == AgentFact::Serving && current.agent == AgentFact::Silent {
        steps.add(
            Step::AwaitAgent { pod: current.id.clone(), limit: view.limits.agent },
            format!("{} serves until its successor is there", rival.id.name.0),
        );
    } else {
        steps.add(
            Step::Release { pod: rival.id.clone(), limit: view.limits.release },
            format!("its client must be dead before {} may serve", current.id.name.0),
        );
    }
}

/// Adds a new bind for every target but `except` that shows a connection which is no more.
pub(super) fn rebind_stale(view: &View<'_>, except: Option<&TargetPath>, steps: &mut Steps) {
    let targets: BTreeSet<_> = view.facts.bound.iter().map(|bound| &bound.target).collect();
    for target in targets.into_iter().filter(|target| Some(*target) != except) {
        let stack = view.bound_at(target);
        let Some(top) = stack.last() else { continue };
        if Some(top.device) == view.live_device() || !view.claims.contains(target) {
            continue;
        }
        let reason = format!("the target shows connection {}, which is no more", top.device);
        steps.add(Step::Unbind { target: target.clone() }, reason.clone());
        steps.add(Step::Bind { target: target.clone(), writability: top.writability }, reason);
    }
}
