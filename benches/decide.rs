//! How long does a decision take, beside a copy of the facts that it rests on?
//!
//! Both are measured in the same run, so that their ratio says something on any machine.
#![allow(clippy::print_stdout, reason = "the figures are what the bench is run for")]
#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::collections::BTreeSet;
use std::hint::black_box;
use std::time::{Duration, Instant};

use mountpod::mountpod::decide::decide;
use mountpod::mountpod::facts::{
    AgentFact, BoundFact, ConnectionFact, Deletion, DeviceNumber, Facts, Generation, PodFact, PodId, PodName,
    PodPhase, PodUid, ResourceVersion, Timestamp,
};
use mountpod::mountpod::plan::{Goal, Limits};
use mountpod::volume::{Exclusivity, TargetPath, Writability};

const PODS: u32 = 1_000;
/// Targets of each pod: a shared volume on a busy node.
const TARGETS: u32 = 4;
/// Long enough for figures that do not jump about.
const MEASURED_FOR: Duration = Duration::from_secs(1);

fn target(pod: u32, number: u32) -> TargetPath {
    let path = format!("/var/lib/kubelet/pods/{pod:032x}/volumes/kubernetes.io~csi/{number}/mount");
    path.parse().unwrap()
}

fn served(number: u32) -> Facts {
    let id = PodId { name: PodName(format!("mount-{number}-1")), uid: PodUid(number.to_string()) };
    let device = DeviceNumber { major: 0, minor: number };
    let targets: Vec<_> = (0..TARGETS).map(|t| target(number, t)).collect();
    let pod = PodFact {
        id: id.clone(),
        resource_version: ResourceVersion("1".to_owned()),
        generation: Generation(1),
        phase: PodPhase::Running,
        deletion: Deletion::NotAsked,
        refs: targets.iter().map(|target| (target.clone(), Exclusivity::Shared)).collect(),
        delete_after: None,
        agent: AgentFact::Serving,
    };
    let bind = |target| BoundFact { target, device, writability: Writability::ReadWrite };
    Facts {
        session: format!("{number:032x}").parse().unwrap(),
        now: Timestamp(0),
        pods: vec![pod],
        connection: ConnectionFact::Held { device, offered_to: Some(id) },
        bound: targets.into_iter().map(bind).collect(),
        wanted: BTreeSet::new(),
        gone: BTreeSet::new(),
        delete_delay: None,
    }
}

/// Nanoseconds per call.
fn measure(mut call: impl FnMut(&Facts), all: &[Facts]) -> f64 {
    let (begun, mut calls) = (Instant::now(), 0_u32);
    while begun.elapsed() < MEASURED_FOR {
        all.iter().for_each(&mut call);
        calls += PODS;
    }
    begun.elapsed().as_secs_f64() * 1e9 / f64::from(calls)
}

fn main() {
    let all: Vec<_> = (0..PODS).map(served).collect();
    let limits = Limits::default();
    let publish = Goal::Publish {
        target: target(PODS, 0),
        writability: Writability::ReadWrite,
        exclusivity: Exclusivity::Shared,
        attempts: 0,
    };
    let copy = measure(|facts| drop(black_box(facts.clone())), &all);
    println!("{PODS} mount pods with {TARGETS} refs each; a copy of the facts of one: {copy:.0} ns");
    for (name, goal) in [
        ("reconcile", Goal::Reconcile),
        ("warm publish", publish),
        ("unpublish of a stranger", Goal::Unpublish { target: target(PODS, 0) }),
    ] {
        let decided = measure(|facts| drop(black_box(decide(black_box(facts), &goal, &limits))), &all);
        println!("decide, {name}: {decided:.0} ns, {:.2} times the copy", decided / copy);
    }
}
