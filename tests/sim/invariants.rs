//! What must hold at every moment? One function per sentence.

use std::collections::BTreeSet;
use std::time::Duration;

use mountpod::mountpod::facts::PodId;
use mountpod::volume::{Exclusivity, SessionId, TargetPath};

use crate::world::{Client, Pod, Session, World};

/// Between reading facts and the last quick step of a plan no more than this passes.
const UNNOTICED: Duration = Duration::from_millis(150);

type Broken = Vec<String>;
type Sentence = (&'static str, fn(&Session) -> Broken);

/// A sentence, and the function that says where it does not hold.
const SENTENCES: [Sentence; 6] = [
    ("a published target is bound to a connection that somebody holds", published_is_usable),
    ("whatever shows a live connection is counted", bound_is_counted),
    ("at most one client serves a connection", one_client_per_connection),
    ("two publishes never leave two serving pods of one session", one_serving_pod),
    ("a single-writer volume never has two targets", single_writer_has_one_target),
    ("a mount is never stacked over one of a live connection", no_stacks),
];

/// Checks every sentence on every session.
pub(crate) fn hold(world: &mut World) {
    let mut found = Vec::new();
    for (id, session) in &world.sessions {
        for (sentence, broken) in SENTENCES {
            found.extend(broken(session).into_iter().map(|what| (sentence, format!("{id}: {what}"))));
        }
    }
    for (sentence, what) in found {
        world.violate(sentence, what);
    }
}

fn published_is_usable(session: &Session) -> Broken {
    let published = session.targets.iter().filter(|(_, target)| target.published && !target.excused);
    let unusable = published.filter(|(path, _)| {
        let top = session.binds.get(*path).and_then(|stack| stack.last());
        !top.is_some_and(|bound| {
            session.mount == Some(bound.connection) && session.is_usable(bound.connection)
        })
    });
    unusable.map(|(path, _)| format!("{path} is not usable")).collect()
}

fn bound_is_counted(session: &Session) -> Broken {
    let live =
        session.binds.iter().filter(|(_, stack)| stack.iter().any(|b| session.is_usable(b.connection)));
    let excused = |path: &TargetPath| session.targets.get(path).is_some_and(|target| target.ref_lost);
    let uncounted = live.filter(|(path, _)| !excused(path) && !is_counted(session, path));
    uncounted.map(|(path, _)| format!("{path} is bound, but not counted")).collect()
}

fn is_counted(session: &Session, path: &TargetPath) -> bool {
    session.pods.iter().any(|pod| pod.has_record && pod.refs.contains(path))
}

fn one_client_per_connection(session: &Session) -> Broken {
    let serves =
        |number: &u32| session.pods.iter().filter(|p| p.holds == Some(*number) && p.client_runs()).count();
    let crowded = session.connections.keys().filter(|number| serves(number) > 1);
    crowded.map(|number| format!("connection {number} has {} clients", serves(number))).collect()
}

fn one_serving_pod(session: &Session) -> Broken {
    let serving: Vec<_> =
        session.pods.iter().filter(|pod| pod.lives() && pod.client == Client::Serving).collect();
    let names: Vec<_> = serving.iter().map(|pod| pod.id.name.0.as_str()).collect();
    if names.len() > 1 { vec![format!("{} serve", names.join(" and "))] } else { Vec::new() }
}

fn single_writer_has_one_target(session: &Session) -> Broken {
    let counted = session.pods.iter().filter(|pod| pod.has_record).flat_map(|pod| pod.refs.iter());
    let mut targets: BTreeSet<_> = counted.map(|(target, _)| target).collect();
    targets.extend(session.binds.keys());
    if session.exclusivity == Exclusivity::SingleTarget && targets.len() > 1 {
        vec![format!("{targets:?}")]
    } else {
        Vec::new()
    }
}

fn no_stacks(session: &Session) -> Broken {
    let stacked = session.binds.iter().filter(|(_, stack)| stack.len() > 1);
    stacked.map(|(path, stack)| format!("{path} has {} mounts", stack.len())).collect()
}

/// No pod with a live ref is deleted by us, and none before its client has flushed.
pub(crate) fn deletion_is_allowed(world: &mut World, session: &SessionId, id: &PodId) {
    let room = world.session(session);
    let Some(pod) = room.pods.iter().find(|pod| pod.id == *id) else { return };
    // Somebody else's deletion of the successor can't be known at the same moment.
    let stays = |pod: &Pod| pod.deleted_at.is_none_or(|at| at.elapsed() < UNNOTICED);
    let elsewhere = |target: &TargetPath| {
        let mut others = room.pods.iter().filter(|other| other.id != *id && stays(other));
        others.any(|other| other.refs.contains(target))
    };
    let live: Vec<_> =
        pod.refs.iter().map(|(target, _)| target).filter(|target| !elsewhere(target)).collect();
    let live = (!live.is_empty()).then(|| format!("{} still counts {live:?}", id.name.0));
    let unflushed = pod.holds.map(|number| format!("{} holds connection {number}", id.name.0));
    if let Some(what) = live {
        world.violate("no pod with a live ref is ever deleted", what);
    }
    if let Some(what) = unflushed {
        world.violate("a pod's deletion never precedes its client's flush", what);
    }
}

/// After an unpublish was answered OK, or a publish with a final error, nothing of the target is left.
pub(crate) fn nothing_of(world: &mut World, session: &SessionId, target: &TargetPath) {
    let room = world.session(session);
    let (counted, bound) = (is_counted(room, target), room.binds.contains_key(target));
    let late = room.targets.get(target).is_some_and(|target| target.landed_late);
    if bound || (counted && !late) {
        let what = format!("{session}: {target}: counted: {counted}, bound: {bound}");
        world.violate("a final answer leaves nothing of its target", what);
    }
}

/// Every RPC answers within its limit.
pub(crate) fn answered_in_time(world: &mut World, what: &str, took: Duration, limit: Duration) {
    if took > limit {
        world.violate("every RPC answers within its limit", format!("{what} took {took:?}"));
    }
}

/// Some time after the last fault every published target is usable and counted again, whatever was excused before. Not
/// one whose connection and mount were both lost: how it was bound is known to nobody.
pub(crate) fn all_is_healed(world: &mut World) {
    for session in world.sessions.values_mut() {
        let Session { targets, binds, .. } = session;
        for (path, target) in targets {
            target.excused &= !binds.contains_key(path);
            target.ref_lost = false;
        }
    }
    hold(world);
}

/// Is the session as if it had never been?
pub(crate) fn is_clean(session: &Session) -> bool {
    session.pods.is_empty() && session.binds.is_empty() && session.mount.is_none()
}

/// After all unpublishes and quiescence no pod, ref, mount or connection remains.
pub(crate) fn nothing_remains(world: &mut World) {
    let dirty = world.sessions.iter().filter(|(_, session)| !is_clean(session));
    let left: Vec<_> = dirty
        .map(|(id, session)| {
            let pods: Vec<_> =
                session.pods.iter().map(|pod| (&pod.id.name.0, &pod.refs, pod.processes)).collect();
            format!("{id}: pods {pods:?}, binds {:?}, mount {:?}", session.binds, session.mount)
        })
        .collect();
    for what in left {
        world.violate("after all unpublishes and quiescence nothing remains", what);
    }
}
