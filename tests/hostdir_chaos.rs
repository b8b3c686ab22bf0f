//! Does an application on a hostdir volume notice that the client is killed?
//!
//! `MOUNTPOD_CHAOS_SECONDS` lengthens the run; by default both tests together take about 20 seconds.

#![allow(
    unreachable_pub,
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a failed assumption fails the test; the figures are for whoever runs it"
)]

mod chaos;
mod hostdir_support;

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use chaos::Parts;
use chaos::process::LoadProcess;
use hostdir_support::{Start, Volume, pause};

/// One self-kill in so many passes of an injection point.
const CHAOS_ONE_IN: u64 = 4000;

/// Random kills that a run of any length must reach.
const KILLS_MIN: u64 = 50;

/// Takeovers by a new keeper.
const COLD_TAKEOVERS: u64 = 10;

fn run_time(default_seconds: u64) -> Duration {
    let asked = std::env::var("MOUNTPOD_CHAOS_SECONDS").ok().and_then(|text| text.parse().ok());
    Duration::from_secs(asked.unwrap_or(default_seconds))
}

/// Reads the counters at the head of the state: servers started, requests served and resent, self-kills.
fn counters(volume: &Volume) -> Counters {
    let state: File = volume.state().try_clone().unwrap().into();
    let word = |index: u64| {
        let mut bytes = [0; 8];
        state.read_exact_at(&mut bytes, index * 8).unwrap();
        u64::from_ne_bytes(bytes)
    };
    Counters {
        generations: word(4),
        served: word(5),
        resent: word(6),
        self_kills: (7..11).map(word).collect(),
    }
}

struct Counters {
    generations: u64,
    served: u64,
    resent: u64,
    self_kills: Vec<u64>,
}

impl std::fmt::Display for Counters {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { generations, served, resent, .. } = self;
        write!(out, "{generations} servers answered {served} requests, {resent} of them resent")
    }
}

/// Numbers that look random and are the same in every run.
fn jitter(step: u64) -> Duration {
    let random = step.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 59;
    Duration::from_millis(5 + random)
}

fn no_operation_fails_while_the_server_is_killed() {
    let mut volume = Volume::start(&Start { chaos: Some(CHAOS_ONE_IN), ..Start::default() });
    let load = LoadProcess::start(&volume.mnt(), Parts::All);
    let end = Instant::now() + run_time(13);
    let mut kills = 0;
    while Instant::now() < end || kills < KILLS_MIN {
        volume.kill_server();
        kills += 1;
        pause(jitter(kills));
    }
    let tally = load.finish();
    let counted = counters(&volume);
    let injected: u64 = counted.self_kills.iter().sum();
    println!("chaos: {} kills, {tally}", kills + injected);
    println!("  {kills} from outside, injected {:?}, {counted}", counted.self_kills);
    assert!(counted.self_kills.iter().all(|kills| *kills > 0), "every point killed at least once");
    assert!(counted.resent > 0, "kills hit requests in flight");
    assert_eq!((tally.errors, tally.mismatches), (0, 0));
    assert_eq!(volume.unmount().code(), Some(0));
}

fn no_operation_fails_while_new_keepers_take_over() {
    let mut volume = Volume::start(&Start::default());
    let load = LoadProcess::start(&volume.mnt(), Parts::Named);
    let rest = run_time(7) / u32::try_from(COLD_TAKEOVERS).unwrap();
    for _ in 0..COLD_TAKEOVERS {
        pause(rest);
        volume.kill_keeper();
        volume.start_keeper(&Start::default());
        volume.wait_until_served();
    }
    pause(rest);
    let tally = load.finish();
    println!("chaos: {COLD_TAKEOVERS} keeper kills, {tally}");
    println!("  {}", counters(&volume));
    assert_eq!((tally.errors, tally.mismatches), (0, 0));
    assert_eq!(volume.unmount().code(), Some(0));
}

/// A named check.
type Check = (&'static str, fn());

const CHECKS: &[Check] = &[
    ("no_operation_fails_while_the_server_is_killed", no_operation_fails_while_the_server_is_killed),
    ("no_operation_fails_while_new_keepers_take_over", no_operation_fails_while_new_keepers_take_over),
];

fn main() {
    chaos::process::program(CHECKS);
}
