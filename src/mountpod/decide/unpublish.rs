//! What is left to be taken away of a target?

use super::Steps;
use super::ending::end;
use super::view::View;
use crate::mountpod::facts::Timestamp;
use crate::mountpod::plan::{Plan, Step};
use crate::volume::TargetPath;

pub(super) fn plan(view: &View<'_>, target: &TargetPath) -> Plan {
    let mut steps = Steps::default();
    if !view.bound_at(target).is_empty() {
        steps.add(Step::Unbind { target: target.clone() }, "the target is given back");
    }
    let last = view.facts.wanted.is_empty() && view.claims.iter().all(|(claim, _)| claim == target);
    let moment = view.end_from_now();
    let counted = view.facts.pods.iter().any(|pod| pod.refs.contains(target));
    drop_refs(view, target, last.then_some(moment), "the target is bound no more", &mut steps);
    if !last {
        return steps.reached();
    }
    let kept_until = if counted { Some(moment).filter(|m| *m > view.facts.now) } else { view.kept_until() };
    match kept_until {
        Some(moment) => steps.reached_until(moment),
        None => end(view, steps),
    }
}

/// Drops a target's refs on every pod, ended ones too: a replacement would inherit them.
pub(super) fn drop_refs(
    view: &View<'_>,
    target: &TargetPath,
    delete_after: Option<Timestamp>,
    reason: &str,
    steps: &mut Steps,
) {
    for pod in view.facts.pods.iter().filter(|pod| pod.refs.contains(target)) {
        steps.add(Step::DropRef { pod: pod.id.clone(), target: target.clone(), delete_after }, reason);
    }
}
