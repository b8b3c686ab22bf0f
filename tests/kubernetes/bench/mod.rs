//! How fast and how small is the driver, beside what it can't avoid?
//!
//! Each figure stands beside its baseline of the same round: a pause pod of the mount pod's own spec, made by hand, and
//! one PATCH of such a pod. Calls go to the node plugin's socket, as the kubelet makes them.

mod calls;
mod figures;
mod pauses;
mod rounds;

use std::time::Duration;

use crate::Figures;
use crate::wait::let_pass;
use crate::world::World;
use calls::Stage;
use figures::{Promise, told};
use pauses::Pauses;
use rounds::{Measured, at_once, one_by_one};

/// Rounds of one volume and one pod.
const ROUNDS: usize = 10;
/// Rounds of many at once.
const ROUNDS_AT_ONCE: usize = 3;
/// Volumes, and pods, at once (issue).
const AT_ONCE: usize = 20;
/// What else runs on the machine only makes figures worse, and nothing keeps it away for minutes: one set of rounds in which
/// everything is held shows that it can be, and a driver that got slower holds it in none.
const SETS_MAX: usize = 3;
/// After the installation, or the scenario before, the node's own work ends.
const QUIET: Duration = Duration::from_secs(3);

/// Issue: a cold publish takes at most so much of a pause pod's time.
const COLD_SHARE_MAX: f64 = 0.9;
/// Issue: 20 cold publishes take at most so much of the time of 20 pause pods.
const AT_ONCE_SHARE_MAX: f64 = 1.2;
/// Issue: what a warm publish and a warm unpublish may take beyond one PATCH.
const BEYOND_PATCH_MAX: Duration = Duration::from_millis(5);
/// Issue: the node plugin with 20 volumes.
const RESIDENT_KIB_MAX: u64 = 25 * 1024;

/// Measures, prints the table, and fails when a promise is not held.
pub fn promises(world: &World) -> Figures {
    // One thread: changing threads would be measured as well.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for set in 1..=SETS_MAX {
        let measured = runtime.block_on(measure(world));
        let promises = judged(&measured);
        let mut figures = told(&promises, &measured);
        figures.push(format!("this is set {set} of at most {SETS_MAX}"));
        if promises.iter().all(Promise::is_held) {
            return figures;
        }
        figures.iter().for_each(|line| println!("    {line}"));
    }
    panic!("in none of {SETS_MAX} sets of rounds everything was held");
}

async fn measure(world: &World) -> Measured {
    let space = world.space("bench");
    let stage = Stage::set(&space, AT_ONCE).await;
    let pauses = Pauses::like_a_mount_pod(world, &stage).await;
    let mut measured = Measured::default();
    let_pass(QUIET);
    for round in 0..ROUNDS {
        one_by_one(round, &stage, &pauses, &mut measured).await;
    }
    for round in 0..ROUNDS_AT_ONCE {
        at_once(round, &stage, &pauses, &mut measured).await;
    }
    stage.strike(&space);
    measured
}

fn judged(measured: &Measured) -> Vec<Promise> {
    let beyond = |what, ours, patch| Promise::beyond(what, ours, "one PATCH", patch, BEYOND_PATCH_MAX);
    vec![
        Promise::share("cold publish", &measured.cold, "pause pod", &measured.pause, COLD_SHARE_MAX),
        beyond("warm publish", &measured.warm_publish, &measured.patch),
        beyond("warm unpublish", &measured.warm_unpublish, &measured.patch),
        Promise::share(
            "20 cold publishes",
            &measured.cold_at_once,
            "20 pause pods",
            &measured.pauses_at_once,
            AT_ONCE_SHARE_MAX,
        ),
        Promise::size("node plugin, 20 volumes", &measured.resident_kib, RESIDENT_KIB_MAX),
    ]
}
