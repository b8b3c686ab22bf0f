//! Does the engine keep its promises whatever happens? Seeded runs of a simulated world say so.
//!
//! `MOUNTPOD_SIM_SEEDS` says how many seeds are run (200), `MOUNTPOD_SIM_SEED` runs a single one.
#![allow(clippy::unwrap_used, reason = "a test may panic")]
#![allow(clippy::print_stdout, reason = "the figures of a run are what it is read for")]

#[path = "sim/actions.rs"]
mod actions;
#[path = "sim/effects.rs"]
mod effects;
#[path = "sim/facts.rs"]
mod facts;
#[path = "sim/invariants.rs"]
mod invariants;
#[path = "sim/rng.rs"]
mod rng;
#[path = "sim/steps.rs"]
mod steps;
#[path = "sim/world.rs"]
mod world;

use std::time::Duration;

use actions::Sim;
use world::{Broken, Figures};

const SEEDS: u64 = 200;
/// Actions of one run: enough for several generations of each session's pods.
const ACTIONS: u64 = 120;
/// Seeds in which a broken driver must be found out.
const SEEDS_TO_FIND_OUT: u64 = 200;

/// What came of one seed.
struct Outcome {
    figures: Figures,
    violations: Vec<String>,
    log: Vec<String>,
}

fn run(seed: u64, broken: Option<Broken>) -> Outcome {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let mut sim = Sim::start(seed, broken);
        for _ in 0..ACTIONS {
            sim.act();
            let most = if sim.shared.world().rng.happens(100) { 20_000 } else { 600 };
            let wait = sim.shared.world().rng.within(0..most);
            sim.wait(Duration::from_millis(wait)).await;
            if !sim.shared.world().violations.is_empty() {
                break;
            }
        }
        if sim.shared.world().violations.is_empty() {
            sim.rest().await;
        }
        let figures = sim.figures();
        let mut world = sim.shared.world();
        Outcome {
            figures,
            violations: std::mem::take(&mut world.violations),
            log: std::mem::take(&mut world.log),
        }
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn promises_hold_whatever_happens() {
    let one = number("MOUNTPOD_SIM_SEED");
    let seeds = one.map_or(0..number("MOUNTPOD_SIM_SEEDS").unwrap_or(SEEDS), |seed| seed..seed + 1);
    let count = seeds.end - seeds.start;
    let (mut actions, mut crashes, mut faults, mut published, mut effects) = (0, 0, 0, 0, 0);
    for seed in seeds {
        let outcome = run(seed, None);
        assert!(
            outcome.violations.is_empty(),
            "seed {seed} (MOUNTPOD_SIM_SEED={seed} runs it alone):\n{}\nall that happened:\n{}",
            outcome.violations.join("\n"),
            outcome.log.join("\n")
        );
        actions += outcome.figures.actions;
        crashes += outcome.figures.crashes;
        faults += outcome.figures.faults;
        published += outcome.figures.published;
        effects += outcome.figures.effects;
    }
    println!("sim: {count} seeds, {actions} actions, {crashes} crashes, {faults} faults, 0 violations");
    println!(
        "sim: {published} publishes answered OK, {effects} effect boundaries at which a crash could come"
    );
    assert!(one.is_some() || published > count, "runs in which little is published say little");
}

#[test]
fn the_same_seed_gives_the_same_run() {
    assert_eq!(run(7, None).log, run(7, None).log);
}

#[test]
fn broken_drivers_are_found_out() {
    for (broken, sentence) in [
        (Broken::DeleteWithoutPrecondition, "no pod with a live ref is ever deleted"),
        (Broken::DropRefBeforeUnbind, "whatever shows a live connection is counted"),
        (Broken::OfferBesideLivingClient, "at most one client serves a connection"),
        (Broken::DeleteBeforeFlush, "a pod's deletion never precedes its client's flush"),
        (Broken::NoCopyOfDescriptor, "a published target is bound to a connection that somebody holds"),
        (Broken::ForcedPodUnseen, "at most one client serves a connection"),
        (Broken::DropRefOnNewestOnly, "a final answer leaves nothing of its target"),
        (Broken::StaleFacts, "a published target is bound to a connection that somebody holds"),
    ] {
        let found = (0..SEEDS_TO_FIND_OUT).find_map(|seed| {
            let outcome = run(seed, Some(broken));
            let seen = outcome.violations.into_iter().find(|seen| seen.starts_with(sentence));
            seen.map(|seen| format!("seed {seed}: {seen}"))
        });
        println!("sim: {broken:?} is found out by {}", found.as_deref().unwrap_or("nothing"));
        assert!(found.is_some(), "no seed finds out {broken:?}");
    }
}
