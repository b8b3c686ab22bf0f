//! What is missing until the volume is mounted at a target?

use super::serve::{Serving, adopt, rebind_stale, serve};
use super::view::{View, is_alive, stuck};
use super::{Steps, refused};
use crate::mountpod::facts::{AgentFact, ConnectionFact, PodFact, PodPhase};
use crate::mountpod::plan::{Plan, Refusal, Step};
use crate::volume::{Exclusivity, TargetPath, Writability};

/// What a publish asks for.
pub(super) struct Publish<'a> {
    pub(super) target: &'a TargetPath,
    pub(super) writability: Writability,
    pub(super) exclusivity: Exclusivity,
    pub(super) attempts: u32,
}

pub(super) fn plan(view: &View<'_>, publish: &Publish<'_>) -> Plan {
    if let Some(refusal) = in_use(view, publish).or_else(|| bound_otherwise(view, publish)) {
        return refused(refusal);
    }
    let mut steps = Steps::default();
    match (&view.facts.connection, view.current) {
        // First of all, since nobody else could give it back if the agent died now.
        (ConnectionFact::HeldByAgent { holder, .. }, _) => adopt(holder, &mut steps),
        (ConnectionFact::Closing, _) => steps.add(
            Step::AwaitClosed { limit: view.limits.close },
            "the session is being closed; a new one must see what its client flushes",
        ),
        (_, Some(current)) if let Some(why) = stuck(current) => {
            return refused(Refusal::PodStuck { why: why.to_owned() });
        }
        (_, None) if publish.attempts >= view.limits.attempts_max => {
            return refused(pod_fails(view, publish));
        }
        (_, None) => create(view, publish, &mut steps),
        (_, Some(current)) => {
            count(current, publish, &mut steps);
            if serve(view, current, &mut steps) == Serving::Now {
                rebind_stale(view, Some(publish.target), &mut steps);
                bind(view, publish, &mut steps);
                return steps.reached();
            }
        }
    }
    steps.look_again()
}

fn in_use(view: &View<'_>, publish: &Publish<'_>) -> Option<Refusal> {
    let other = view.claims.in_the_way(publish.target, publish.exclusivity)?;
    Some(Refusal::InUse { other: other.clone() })
}

fn bound_otherwise(view: &View<'_>, publish: &Publish<'_>) -> Option<Refusal> {
    let device = view.live_device()?;
    let stack = view.bound_at(publish.target);
    let otherwise = stack.iter().find(|b| b.device == device && b.writability != publish.writability)?;
    Some(Refusal::BoundOtherwise { target: publish.target.clone(), writability: otherwise.writability })
}

fn pod_fails(view: &View<'_>, publish: &Publish<'_>) -> Refusal {
    let why = view.facts.pods.iter().rev().find_map(last_words);
    let why = why.unwrap_or_else(|| "no record of it is left".to_owned());
    Refusal::PodFails { attempts: publish.attempts, why }
}

fn last_words(pod: &PodFact) -> Option<String> {
    match (&pod.agent, &pod.phase) {
        (AgentFact::Failed { why }, _) | (_, PodPhase::Ended { why }) => Some(why.clone()),
        _ => None,
    }
}

fn create(view: &View<'_>, publish: &Publish<'_>, steps: &mut Steps) {
    let reason = if view.facts.pods.iter().any(is_alive) {
        "the session's mount pods are going; a new one serves at once"
    } else {
        "no mount pod serves the session"
    };
    steps.add(view.replacement(Some((publish.target, publish.exclusivity))), reason);
    if view.facts.connection == ConnectionFact::None {
        steps.add(Step::OpenSession, "the connection is made while the mount pod starts");
    }
}

fn count(current: &PodFact, publish: &Publish<'_>, steps: &mut Steps) {
    if current.refs.exclusivity_of(publish.target) != Some(publish.exclusivity) {
        let (pod, target) = (current.id.clone(), publish.target.clone());
        let step = Step::AddRef { pod, target, exclusivity: publish.exclusivity };
        steps.add(step, "a target is counted before it is bound");
    }
}

fn bind(view: &View<'_>, publish: &Publish<'_>, steps: &mut Steps) {
    let stack = view.bound_at(publish.target);
    if let [only] = stack.as_slice()
        && Some(only.device) == view.live_device()
    {
        return;
    }
    let target = publish.target;
    if !stack.is_empty() {
        steps
            .add(Step::Unbind { target: target.clone() }, "an older mount on the target would be in the way");
    }
    steps.add(
        Step::Bind { target: target.clone(), writability: publish.writability },
        "the session is served and the target is counted",
    );
}
