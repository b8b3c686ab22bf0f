//! Does the driver do its job on a real Kubernetes?
//!
//! Runs inside a node of the test cluster, where `tests/kubernetes/run` has installed the driver from its own chart.
//! Scenarios run one after the other, because each ends by looking for what is left of it on the node.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic, wait, print figures and start processes"
)]

mod api;
mod audit;
mod bench;
mod juicefs;
#[path = "../juicefs_support/work.rs"]
mod juicefs_work;
mod node;
mod objects;
mod observe;
mod scenarios;
mod told;
mod wait;
mod world;
mod writer;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

use world::World;

/// What a scenario measured, as words for a person.
pub type Figures = Vec<String>;

/// A promise, and how it is tried.
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(&World) -> Figures,
}

fn main() -> ExitCode {
    if juicefs_work::run_if_asked() {
        return ExitCode::SUCCESS;
    }
    let words: Vec<String> = std::env::args().skip(1).collect();
    let chosen: Vec<&Scenario> =
        scenarios::ALL.iter().filter(|scenario| is_chosen(scenario.name, &words)).collect();
    if chosen.is_empty() {
        eprintln!("there is no scenario for {words:?}; there are:");
        scenarios::ALL.iter().for_each(|scenario| eprintln!("  {}", scenario.name));
        return ExitCode::from(2);
    }
    let world = World::enter();
    let failed = chosen.iter().filter(|scenario| !succeeds(scenario, &world)).count();
    println!("{} passed, {failed} failed", chosen.len() - failed);
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// By parts of its name: `part` chooses it, `!part` leaves it out; without words it is chosen.
fn is_chosen(name: &str, words: &[String]) -> bool {
    let (without, only): (Vec<&str>, Vec<&str>) =
        words.iter().map(String::as_str).partition(|word| word.starts_with('!'));
    let has = |part: &&str| name.contains(part.trim_start_matches('!'));
    !without.iter().any(has) && (only.is_empty() || only.iter().any(has))
}

fn succeeds(scenario: &Scenario, world: &World) -> bool {
    println!("{} ...", scenario.name);
    let begun = Instant::now();
    let outcome = catch_unwind(AssertUnwindSafe(|| (scenario.run)(world)));
    let seconds = begun.elapsed().as_secs_f64();
    match outcome {
        Ok(figures) => {
            println!("{} ... ok ({seconds:.1} s)", scenario.name);
            figures.iter().for_each(|figure| println!("    {figure}"));
            true
        }
        Err(_) => {
            println!("{} ... FAILED ({seconds:.1} s)", scenario.name);
            observe::explain(world);
            settle(world);
            false
        }
    }
}

/// What a failed scenario left must not fail the next one as well; its namespace is being deleted.
fn settle(world: &World) {
    let settled = catch_unwind(AssertUnwindSafe(|| {
        observe::no_publish_left(world);
        observe::no_volume_left(world);
    }));
    if settled.is_err() {
        println!("    what it left does not go; the next scenarios may fail for that");
    }
}
