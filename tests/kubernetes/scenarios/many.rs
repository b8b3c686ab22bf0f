//! Many volumes, and the same again and again.

use std::time::Instant;

use super::budget;
use crate::Figures;
use crate::node;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::wait::seconds;
use crate::world::{Space, World};

/// Volumes at once (issue).
const VOLUMES: usize = 20;
/// Volumes in one of the rounds.
const VOLUMES_PER_ROUND: usize = 3;
/// Rounds of create and delete (issue).
const ROUNDS: usize = 10;
/// What the node plugin may grow by over the rounds: its allocator's slack, not one volume's worth per round.
const GROWTH_KIB_MAX: u64 = 4 * 1024;

/// 20 claims and 20 workloads that come at once, rest, and go at once.
pub fn twenty(world: &World) -> Figures {
    let space = world.space("twenty");
    let begun = Instant::now();
    let volumes = claims(&space, VOLUMES);
    let mut figures = vec![format!("{VOLUMES} claims to Bound: {}", seconds(begun))];
    let begun = Instant::now();
    start(&space, VOLUMES);
    figures.push(format!("{VOLUMES} pods to Ready: {}", seconds(begun)));
    let pods = observe::mount_pods(world);
    assert_eq!(pods.len(), VOLUMES, "mount pods for {VOLUMES} volumes");
    assert!(pods.iter().all(|pod| pod.refs().len() == 1), "each has one ref");
    for number in 0..VOLUMES {
        let pod = format!("user-{number}");
        let said = space.sh(&pod, &format!("echo {number} >/data/mine; cat /data/*"));
        assert_eq!(said, number.to_string(), "what {pod} reads: its own file and no other's");
    }
    figures.push(format!("node plugin with {VOLUMES} volumes: {} KiB resident", node::resident_kib()));
    figures.push(budget::idle(world));
    let begun = Instant::now();
    stop(&space, &volumes);
    figures.push(format!("{VOLUMES} pods and claims to nothing left: {}", seconds(begun)));
    figures
}

/// 10 rounds of the whole life of some volumes leave nothing, on the node, in the API or in the plugin.
pub fn rounds(world: &World) -> Figures {
    let space = world.space("rounds");
    let begun = Instant::now();
    let mut sizes = Vec::new();
    for _ in 0..ROUNDS {
        let volumes = claims(&space, VOLUMES_PER_ROUND);
        start(&space, VOLUMES_PER_ROUND);
        stop(&space, &volumes);
        let plugin = node::plugin().expect("a node plugin");
        sizes.push((node::resident_kib(), plugin.entries_of("fd"), plugin.entries_of("task")));
    }
    let files: Vec<usize> = sizes.iter().map(|size| size.1).collect();
    // The first rounds fill caches and start the threads that stay.
    let (early, late) = (&sizes[2], &sizes[ROUNDS - 1]);
    assert!(late.1 <= early.1 + 2, "open files of the node plugin after each round: {files:?}");
    assert!(late.0 <= early.0 + GROWTH_KIB_MAX, "resident KiB, files, threads after each round: {sizes:?}");
    vec![
        format!("{ROUNDS} rounds of {VOLUMES_PER_ROUND} volumes: {}", seconds(begun)),
        format!("node plugin after round 3 and {ROUNDS} (KiB, files, threads): {early:?}, {late:?}"),
    ]
}

fn claims(space: &Space<'_>, count: usize) -> Vec<String> {
    (0..count).for_each(|number| space.claim(&format!("claim-{number}")));
    (0..count).map(|number| space.bound(&format!("claim-{number}"))).collect()
}

fn start(space: &Space<'_>, count: usize) {
    for number in 0..count {
        space.start(&objects::pod(&format!("user-{number}"), &format!("claim-{number}"), IDLE));
    }
    (0..count).for_each(|number| space.ready(&format!("user-{number}")));
}

fn stop(space: &Space<'_>, volumes: &[String]) {
    let api = &space.world.api;
    for number in 0..volumes.len() {
        api.delete(&space.path("pods", &format!("user-{number}")));
        api.delete(&space.path("persistentvolumeclaims", &format!("claim-{number}")));
    }
    (0..volumes.len()).for_each(|number| space.gone("pods", &format!("user-{number}")));
    observe::no_publish_left(space.world);
    volumes.iter().enumerate().for_each(|(number, volume)| space.unclaim(&format!("claim-{number}"), volume));
    observe::no_volume_left(space.world);
}
