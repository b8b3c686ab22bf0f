//! What do unpublish and reconcile do, whatever they meet?

use std::time::Duration;

use super::build::*;
use crate::mountpod::facts::{Facts, PodFact};
use crate::mountpod::plan::Goal::Reconcile;
use crate::volume::Writability;

const AT_ONCE: Duration = Duration::ZERO;
const KEPT: Duration = Duration::from_secs(60);

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
fn a_volume_may_say_how_long_its_pod_is_kept() {
    check(
        vec![
            row(
                "longer than the driver would",
                facts([pod(1).refs(&["a"]).serving()]).held_by(1).bound("a").delayed(KEPT),
                unpublish("a"),
                "unbind a; drop a from 1 until 160000; reached; look again at 160000",
            ),
            row(
                "kept",
                facts([pod(1).until(NOW + 60_000).serving()]).held_by(1).delayed(KEPT),
                Reconcile,
                "reached; look again at 160000",
            ),
        ],
        AT_ONCE,
    );
    check(
        vec![row(
            "not at all",
            facts([pod(1).refs(&["a"]).serving()]).held_by(1).bound("a").delayed(AT_ONCE),
            unpublish("a"),
            "unbind a; drop a from 1 until 100000; close; look again",
        )],
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
            row(
                "a publish is on its way, and counted",
                facts([pod(1).refs(&["a"])]).held().wanted(&["a"]),
                Reconcile,
                "reached",
            ),
        ],
        AT_ONCE,
    );
}

#[test]
fn reconcile_puts_refs_right() {
    let served = |pod: PodFact| facts([pod.serving()]).held_by(1);
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
    let bound = |f: Facts| f.held_by(1).bound("a");
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
                "delete 1 v1; await agent 2; look again",
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
