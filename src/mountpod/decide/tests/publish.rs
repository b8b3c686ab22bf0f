//! What does a publish do, whatever it meets?

use std::time::Duration;

use super::build::*;
use crate::mountpod::plan::Goal::Reconcile;
use crate::volume::Writability;

const AT_ONCE: Duration = Duration::ZERO;
const KEPT: Duration = Duration::from_secs(60);

#[test]
fn publish_makes_what_is_missing() {
    check(
        vec![
            row("nothing is there", facts([]), publish("a"), "create 1 [a]; open; look again"),
            row("a connection waits already", facts([]).held(), publish("a"), "create 1 [a]; look again"),
            row(
                "the pod came first",
                facts([pod(1).refs(&["a"]).silent()]),
                publish("a"),
                "open; look again",
            ),
            row(
                "its agent is waited for",
                facts([pod(1).refs(&["a"]).silent()]).held(),
                publish("a"),
                "await agent 1; look again",
            ),
            row(
                "the connection goes to the pod",
                facts([pod(1).refs(&["a"])]).held(),
                publish("a"),
                "offer to 1; look again",
            ),
            row(
                "an agent that knows of no session is offered it again",
                facts([pod(1).refs(&["a"])]).held_by(1),
                publish("a"),
                "offer to 1; look again",
            ),
            row(
                "its client is waited for",
                facts([pod(1).refs(&["a"]).starting()]).held_by(1),
                publish("a"),
                "await serving 1; look again",
            ),
            row(
                "an agent that has just been handed the session may be silent for a moment",
                facts([pod(1).refs(&["a"]).silent()]).held_by(1),
                publish("a"),
                "await serving 1; look again",
            ),
            row(
                "bound when it serves",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1),
                publish("a"),
                "bind a; reached",
            ),
            row(
                "again is no harm",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1).bound("a"),
                publish("a"),
                "reached",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn publish_joins_a_pod_that_is_there() {
    check(
        vec![
            row(
                "counted, then bound",
                facts([pod(1).refs(&["b"]).serving()]).held_by(1).bound("b"),
                publish("a"),
                "add a to 1; bind a; reached",
            ),
            row(
                "counted before the wait",
                facts([pod(1).refs(&["b"]).starting()]).held_by(1),
                publish("a"),
                "add a to 1; await serving 1; look again",
            ),
            row(
                "a planned end is called off",
                facts([pod(1).until(NOW + 5_000).serving()]).held_by(1),
                publish("a"),
                "add a to 1; bind a; reached",
            ),
            row(
                "a ref that was rebuilt from a mount is written as it was asked for",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1).bound("a"),
                publish_alone("a"),
                "add a! to 1; reached",
            ),
        ],
        KEPT,
    );
}

#[test]
fn publish_is_refused_when_the_volume_is_had_alone() {
    let in_use = "refused: the volume is published at /b and its access mode admits a single target; unpublish it \
                  there first";
    check(
        vec![
            row("the other has it alone", facts([pod(1).alone("b")]), publish("a"), in_use),
            row("the newcomer wants it alone", facts([pod(1).refs(&["b"])]), publish_alone("a"), in_use),
            row(
                "counted on a dead pod still counts",
                facts([pod(1).alone("b").ended("oom")]),
                publish("a"),
                in_use,
            ),
            row(
                "counted on a pod that goes still counts",
                facts([pod(1).alone("b").deleted()]),
                publish("a"),
                in_use,
            ),
            row(
                "bound without ref counts too",
                facts([pod(1)]).held().bound("b"),
                publish_alone("a"),
                in_use,
            ),
            row(
                "again at the same target is no harm",
                facts([pod(1).alone("a").serving()]).held_by(1).bound("a"),
                publish_alone("a"),
                "reached",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn publish_looks_at_what_is_on_the_target() {
    let served = || facts([pod(1).refs(&["a"]).serving()]).held_by(1);
    check(
        vec![
            row(
                "bound otherwise",
                served().bound_read_only("a"),
                publish("a"),
                "refused: the volume is already published at /a, but read-only; unpublish it there first",
            ),
            row(
                "a mount of a dead connection is taken off first",
                served().stale("a", Writability::ReadOnly),
                publish("a"),
                "unbind a; bind a; reached",
            ),
            row(
                "nothing hides ours",
                served().bound("a").stale("a", Writability::ReadWrite),
                publish("a"),
                "unbind a; bind a; reached",
            ),
            row(
                "exactly one bind",
                served().bound("a").bound("a"),
                publish("a"),
                "unbind a; bind a; reached",
            ),
            row(
                "other targets of a dead connection are bound anew as they were",
                facts([pod(1).refs(&["a", "b"]).serving()]).held_by(1).stale("b", Writability::ReadOnly),
                publish("a"),
                "unbind b; bind b read-only; bind a; reached",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn publish_meets_a_session_on_its_way() {
    check(
        vec![
            row(
                "what the old one flushes must be seen",
                facts([pod(1)]).closing(),
                publish("a"),
                "await closed; look again",
            ),
            row(
                "taken back before all else",
                facts([pod(1).refs(&["b"]).serving()]).left_with(1),
                publish("a"),
                "adopt from 1; look again",
            ),
            row(
                "a pod whose session was closed is not used again",
                facts([pod(1).until(NOW)]),
                publish("a"),
                "create 2 [a]; open; look again",
            ),
            row(
                "neither is one whose mount was taken away",
                facts([pod(1).serving()]),
                publish("a"),
                "create 2 [a]; open; look again",
            ),
            row(
                "a dead connection is closed, then opened anew",
                facts([pod(2).refs(&["a"])]).lost().stale("a", Writability::ReadWrite),
                publish("a"),
                "close; look again",
            ),
            row("a dead connection, a dead pod", facts([]).lost(), publish("a"), "create 1 [a]; look again"),
        ],
        AT_ONCE,
    );
}

#[test]
fn publish_replaces_a_pod_that_cannot_serve() {
    check(
        vec![
            row(
                "a pod that goes is not waited for",
                facts([pod(1).alone("a").deleted().serving()]).held_by(1).bound("a"),
                publish_alone("a"),
                "create 2 [a!]; look again",
            ),
            row(
                "inherited",
                facts([pod(1).refs(&["b"]).deleted().serving()]).held_by(1).bound("b"),
                publish("a"),
                "create 2 [a b]; look again",
            ),
            row(
                "inherited from the mount table when the record is gone",
                facts([]).held().bound("b"),
                publish("a"),
                "create 1 [a b]; look again",
            ),
            row(
                "an ended pod",
                facts([pod(1).refs(&["a"]).ended("oom")]).held_by(1),
                publish_again("a", 1),
                "create 2 [a]; look again",
            ),
            row(
                "enough is enough",
                facts([pod(1).refs(&["a"]).ended("oom"), pod(2).refs(&["a"]).failed("bad key")]).held_by(1),
                publish_again("a", 2),
                "refused: the mount pod failed 2 times, the last time: bad key",
            ),
            row(
                "enough, and no record left",
                facts([]).held(),
                publish_again("a", 2),
                "refused: the mount pod failed 2 times, the last time: no record of it is left",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn a_session_goes_to_another_pod_only_when_its_client_is_dead() {
    let old = || pod(1).refs(&["a"]).deleted();
    let new = || pod(2).refs(&["a"]);
    check(
        vec![
            row(
                "make before break",
                facts([old().serving(), new().silent()]).held_by(1),
                publish("a"),
                "await agent 2; look again",
            ),
            row(
                "released",
                facts([old().serving(), new()]).held_by(1),
                publish("a"),
                "release 1; look again",
            ),
            row(
                "one that does not serve is not waited for",
                facts([old().starting(), new().silent()]).held_by(1),
                publish("a"),
                "release 1; look again",
            ),
            row(
                "a failed one still holds it",
                facts([pod(1).refs(&["a"]).failed("no"), new()]).held_by(1),
                publish("a"),
                "release 1; look again",
            ),
            row(
                "a silent one may have a client",
                facts([old().silent(), new()]).held_by(1),
                publish("a"),
                "release 1; look again",
            ),
            row(
                "an ended one has none",
                facts([pod(1).refs(&["a"]).ended("oom"), new()]).held_by(1),
                publish("a"),
                "offer to 2; look again",
            ),
            row("given up", facts([old().silent(), new()]).held(), publish("a"), "offer to 2; look again"),
        ],
        AT_ONCE,
    );
}

#[test]
fn publish_does_not_wait_for_a_pod_that_cannot_start() {
    check(
        vec![
            row(
                "refused at once, with the reason",
                facts([pod(1).refs(&["a"]).stuck("ErrImagePull")]).held(),
                publish("a"),
                "refused: the mount pod can't start: ErrImagePull",
            ),
            row(
                "a newer one that can't start does not stop an older one",
                facts([pod(1).refs(&["a"]).serving(), pod(2).stuck("Unschedulable")]).held_by(1),
                publish("a"),
                "bind a; reached",
            ),
            row(
                "one that is being deleted is not waited for either",
                facts([pod(1).refs(&["a"]).stuck("ErrImagePull").deleted()]).held(),
                publish("a"),
                "create 2 [a]; look again",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn reconcile_leaves_a_pod_that_cannot_start_to_its_fate() {
    check(
        vec![
            row(
                "it may start yet",
                facts([pod(1).refs(&["a"]).stuck("Unschedulable")]).held().bound("a"),
                Reconcile,
                "reached",
            ),
            row(
                "its refs are on it when it does",
                facts([pod(1).refs(&["a"]).deleted().serving(), pod(2).stuck("Unschedulable")])
                    .held_by(1)
                    .bound("a"),
                Reconcile,
                "add a to 2; reached",
            ),
            row(
                "not needed beside one that serves",
                facts([pod(1).refs(&["a"]).serving(), pod(2).stuck("Unschedulable")]).held_by(1).bound("a"),
                Reconcile,
                "delete 2 v2; reached",
            ),
            row(
                "nobody uses it",
                facts([pod(1).stuck("ErrImagePull").until(NOW + 1)]),
                Reconcile,
                "delete 1 v1; reached",
            ),
        ],
        AT_ONCE,
    );
}
