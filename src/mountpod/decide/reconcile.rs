//! What is to be done so that a session is as its refs say?

use super::Steps;
use super::ending::{close, delete, end};
use super::serve::{Serving, adopt, rebind_stale, serve};
use super::unpublish::drop_refs;
use super::view::{View, is_alive, stuck};
use crate::mountpod::facts::{ConnectionFact, Deletion, PodFact};
use crate::mountpod::plan::{Plan, Step};
use crate::volume::TargetPath;

pub(super) fn plan(view: &View<'_>) -> Plan {
    let mut steps = Steps::default();
    let ends = view.is_unused() && view.kept_until().is_none();
    if let (ConnectionFact::HeldByAgent { holder, .. }, false) = (&view.facts.connection, ends) {
        adopt(holder, &mut steps);
        return steps.look_again();
    }
    if drop_abandoned(view, &mut steps) {
        return steps.look_again();
    }
    unbind_orphans(view, &mut steps);
    match view.kept_until() {
        // Publishes are on their way and do all that is needed; beside them it would be done twice.
        _ if !view.facts.wanted.is_empty() && all_wanted(view) => steps.reached(),
        _ if !view.claims.is_empty() => keep(view, steps),
        Some(moment) => steps.reached_until(moment),
        None => end(view, steps),
    }
}

/// Is a publish in flight for everybody who uses the session?
fn all_wanted(view: &View<'_>) -> bool {
    view.claims.iter().all(|(target, _)| view.facts.wanted.contains(target))
}

/// Drops the refs of targets that are bound no more and that nobody will call unpublish for.
fn drop_abandoned(view: &View<'_>, steps: &mut Steps) -> bool {
    let abandoned = |target: &&TargetPath| {
        view.facts.gone.contains(*target)
            && view.bound_at(target).is_empty()
            && !view.facts.wanted.contains(*target)
    };
    let all_abandoned = view.claims.iter().all(|(target, _)| abandoned(&target));
    let last = all_abandoned && view.facts.wanted.is_empty();
    let delete_after = last.then(|| view.end_from_now());
    for (target, _) in view.claims.iter().filter(|(target, _)| abandoned(target)) {
        drop_refs(view, target, delete_after, "its workload is gone and the target is not mounted", steps);
    }
    !steps.0.is_empty()
}

/// Takes away binds that nobody is counted for and whose workload is gone.
fn unbind_orphans(view: &View<'_>, steps: &mut Steps) {
    for target in view.facts.gone.difference(&view.facts.wanted) {
        if !view.bound_at(target).is_empty() && !view.claims.contains(target) {
            let step = Step::Unbind { target: target.clone() };
            steps.add(step, "nobody is counted for the target and its workload is gone");
        }
    }
}

/// The session is used: it is to be served by one pod that counts everybody.
fn keep(view: &View<'_>, mut steps: Steps) -> Plan {
    if view.facts.connection == ConnectionFact::Closing {
        close(view, "the closing of the session is carried on before a new one is opened", &mut steps);
        return steps.look_again();
    }
    let Some(current) = view.current else {
        steps.add(view.replacement(None), "the session is used, but no mount pod can serve it any more");
        if view.facts.connection == ConnectionFact::None {
            steps.add(Step::OpenSession, "the connection is made while the mount pod starts");
        }
        return steps.look_again();
    };
    count_everybody(view, current, &mut steps);
    if stuck(current).is_some() {
        // Its refs stand on it; whoever serves now goes on, and the pod's next change is looked at.
        return steps.reached();
    }
    for pod in others(view, current).filter(|pod| !is_alive(pod)) {
        delete(pod, "it has ended and its successor counts all of its refs", &mut steps);
    }
    if serve(view, current, &mut steps) == Serving::NotYet {
        return steps.look_again();
    }
    rebind_stale(view, None, &mut steps);
    for pod in others(view, current).filter(|pod| is_alive(pod)) {
        delete(pod, "its successor serves the session and counts all of its refs", &mut steps);
    }
    steps.reached()
}

fn others<'a>(view: &View<'a>, current: &'a PodFact) -> impl Iterator<Item = &'a PodFact> {
    let pods = view.facts.pods.iter();
    pods.filter(|pod| pod.id != current.id && pod.deletion == Deletion::NotAsked)
}

fn count_everybody(view: &View<'_>, current: &PodFact, steps: &mut Steps) {
    for (target, exclusivity) in view.claims.iter() {
        if !current.refs.contains(target) {
            let (pod, target) = (current.id.clone(), target.clone());
            let step = Step::AddRef { pod, target, exclusivity };
            steps.add(step, "the target uses the session, but isn't counted on its mount pod");
        }
    }
}
