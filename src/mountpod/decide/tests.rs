//! Does each rule give the steps that it promises? One row is one rule on one case.
//!
//! `create 2 [a b!]`: pod of generation 2, counting target `a`, and `b` which wants the volume alone.
#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod build;

use std::time::Duration;

use build::*;

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
                "the connection goes to the pod",
                facts([pod(1).refs(&["a"]).silent()]).held(),
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
fn unpublish_takes_away_what_is_left() {
    check(
        vec![
            row("nothing is there", facts([]), unpublish("a"), "reached"),
            row(
                "others stay",
                facts([pod(1).refs(&["a", "b"]).serving()]).held_by(1).bound("a").bound("b"),
                unpublish("a"),
                "unbind a; drop a from 1; reached",
            ),
            row(
                "dropped on every pod",
                facts([pod(1).refs(&["a", "b"]).ended("oom"), pod(2).refs(&["a", "b"]).serving()]).held_by(2),
                unpublish("a"),
                "drop a from 1; drop a from 2; reached",
            ),
            row(
                "a target that is bound without ref is another user",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1).bound("a").bound("b"),
                unpublish("a"),
                "unbind a; drop a from 1; reached",
            ),
            row(
                "a publish on its way is another user",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1).wanted(&["b"]),
                unpublish("a"),
                "drop a from 1; reached",
            ),
            row(
                "the last",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1).bound("a").bound("a"),
                unpublish("a"),
                "unbind a; drop a from 1 until 100000; close; look again",
            ),
            row("closed by another task", facts([pod(1)]).closing(), unpublish("a"), "close; look again"),
            row("a dead connection", facts([pod(1)]).lost(), unpublish("a"), "close; look again"),
            row(
                "left with an agent",
                facts([pod(1).serving()]).left_with(1),
                unpublish("a"),
                "close; look again",
            ),
            row("closed, then deleted", facts([pod(1).until(NOW)]), unpublish("a"), "delete 1 v1; reached"),
            row(
                "all generations",
                facts([pod(1).ended("oom"), pod(2).deleted(), pod(3)]),
                unpublish("a"),
                "delete 1 v1; delete 3 v3; reached",
            ),
            row(
                "a pod that never served is deleted at the version after the drop",
                facts([pod(1).refs(&["a"]).silent()]),
                unpublish("a"),
                "drop a from 1 until 100000; look again",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn an_unused_pod_is_kept_for_the_delay() {
    check(
        vec![
            row(
                "the last unpublish says until when",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1).bound("a"),
                unpublish("a"),
                "unbind a; drop a from 1 until 160000; reached; look again at 160000",
            ),
            row(
                "not yet",
                facts([pod(1).until(NOW + 1).serving()]).held_by(1),
                Reconcile,
                "reached; look again at 100001",
            ),
            row(
                "a late unpublish changes nothing",
                facts([pod(1).until(NOW + 1).serving()]).held_by(1),
                unpublish("a"),
                "reached; look again at 100001",
            ),
            row("past", facts([pod(1).until(NOW).serving()]).held_by(1), Reconcile, "close; look again"),
            row("never said", facts([pod(1).serving()]).held_by(1), Reconcile, "close; look again"),
            row(
                "the clock was set back",
                facts([pod(1).until(NOW + 60_001).serving()]).held_by(1),
                Reconcile,
                "close; look again",
            ),
            row(
                "a dead pod is not kept",
                facts([pod(1).until(NOW + 1).ended("oom")]).held_by(1),
                Reconcile,
                "close; look again",
            ),
            row(
                "kept, and taken back after a restart of the driver",
                facts([pod(1).until(NOW + 1).serving()]).left_with(1),
                Reconcile,
                "adopt from 1; look again",
            ),
        ],
        KEPT,
    );
}

#[test]
fn reconcile_ends_what_nobody_uses() {
    check(
        vec![
            row("nothing is there", facts([]), Reconcile, "reached"),
            row("a connection alone", facts([]).held(), Reconcile, "close; look again"),
            row("a dead connection alone", facts([]).lost(), Reconcile, "close; look again"),
            row("left with an agent", facts([pod(1).serving()]).left_with(1), Reconcile, "close; look again"),
            row("closing goes on", facts([pod(1)]).closing(), Reconcile, "close; look again"),
            row("closed", facts([pod(1).until(NOW).silent()]), Reconcile, "delete 1 v1; reached"),
            row("a publish is on its way", facts([pod(1)]).held().wanted(&["a"]), Reconcile, "reached"),
        ],
        AT_ONCE,
    );
}

#[test]
fn reconcile_puts_refs_right() {
    let served = |pod: crate::mountpod::facts::PodFact| facts([pod.serving()]).held_by(1);
    check(
        vec![
            row("all is well", served(pod(1).refs(&["a"])).bound("a"), Reconcile, "reached"),
            row(
                "a bound target is counted",
                served(pod(1).refs(&["a"])).bound("a").bound("b"),
                Reconcile,
                "add b to 1; reached",
            ),
            row(
                "a ref whose workload is gone is dropped",
                served(pod(1).refs(&["a", "b"])).bound("b").gone(&["a"]),
                Reconcile,
                "drop a from 1; look again",
            ),
            row(
                "the last such ref begins the end",
                served(pod(1).refs(&["a"])).gone(&["a"]),
                Reconcile,
                "drop a from 1 until 100000; look again",
            ),
            row(
                "a mounted target keeps its ref",
                served(pod(1).refs(&["a"])).bound("a").gone(&["a"]),
                Reconcile,
                "reached",
            ),
            row(
                "a wanted one keeps it too",
                served(pod(1).refs(&["a"])).gone(&["a"]).wanted(&["a"]),
                Reconcile,
                "reached",
            ),
            row(
                "a mount that nobody counts and nobody uses is taken away",
                served(pod(1).refs(&["a"])).bound("a").abandoned("b"),
                Reconcile,
                "unbind b; reached",
            ),
            row(
                "a dead connection's targets are bound anew as they were",
                served(pod(1).refs(&["a"])).stale("a", Writability::ReadOnly),
                Reconcile,
                "unbind a; bind a read-only; reached",
            ),
            row(
                "ours on top is left alone",
                served(pod(1).refs(&["a"])).stale("a", Writability::ReadOnly).bound("a"),
                Reconcile,
                "reached",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn reconcile_replaces_a_pod_that_is_gone_or_going() {
    let bound = |f: crate::mountpod::facts::Facts| f.held_by(1).bound("a");
    let (ended, new) = (|| pod(1).refs(&["a"]).ended("oom"), || pod(2).refs(&["a"]));
    check(
        vec![
            row("ended", bound(facts([ended()])), Reconcile, "create 2 [a]; look again"),
            row(
                "deleted",
                bound(facts([pod(1).refs(&["a"]).deleted().serving()])),
                Reconcile,
                "create 2 [a]; look again",
            ),
            row(
                "failed",
                bound(facts([pod(1).refs(&["a"]).failed("x")])),
                Reconcile,
                "create 2 [a]; look again",
            ),
            row("no record is left", bound(facts([])), Reconcile, "create 1 [a]; look again"),
            row("no connection either", facts([ended()]), Reconcile, "create 2 [a]; open; look again"),
            row(
                "a dead one is deleted once its successor counts everybody",
                bound(facts([ended(), new().silent()])),
                Reconcile,
                "delete 1 v1; offer to 2; look again",
            ),
            row(
                "refs are merged to the newest first",
                bound(facts([pod(1).refs(&["a", "b"]).ended("oom"), new()])),
                Reconcile,
                "add b to 2; delete 1 v1; offer to 2; look again",
            ),
            row(
                "a living one is deleted when its successor serves",
                facts([pod(1).refs(&["a", "b"]), new().serving()]).held_by(2).bound("a"),
                Reconcile,
                "add b to 2; delete 1 v1; reached",
            ),
            row(
                "the older of two that live gives the session up",
                bound(facts([pod(1).refs(&["a"]).serving(), new()])),
                Reconcile,
                "release 1; look again",
            ),
            row(
                "a closing is carried on",
                facts([ended()]).closing().bound("a"),
                Reconcile,
                "close; look again",
            ),
            row(
                "taken back after a restart of the driver",
                facts([pod(1).refs(&["a"]).serving()]).left_with(1).bound("a"),
                Reconcile,
                "adopt from 1; look again",
            ),
            row(
                "nobody holds the connection any more",
                facts([new()]).lost().bound("a"),
                Reconcile,
                "close; look again",
            ),
        ],
        AT_ONCE,
    );
}
