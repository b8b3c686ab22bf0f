//! What does a publish cost beside what it cannot avoid?
//!
//! A real driver is called over its socket. Each figure stands beside a baseline that is measured in turn with it, in
//! the same run: one state write and one mount for a warm publish, and one process start more for a cold one. Ratios
//! are what counts: absolute times are those of the machine.
#![allow(
    clippy::disallowed_methods,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may panic, print figures and start processes"
)]

#[path = "../tests/support/mod.rs"]
mod support;

use std::fs;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use mountpod::mounts::syscalls::{Unmount, attach, clone_tree, open_plain_directory, unmount};
use support::{Driver, publish, volume};

/// Counted rounds, after the ones that warm up.
const ROUNDS: usize = 60;
const WARM_UP: usize = 5;
/// About the size of a mount pod's record.
const RECORD_BYTES: usize = 1200;

#[derive(Default)]
struct Figures(Vec<(&'static str, Vec<Duration>)>);

impl Figures {
    fn note(&mut self, name: &'static str, took: Duration) {
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, all)) => all.push(took),
            None => self.0.push((name, vec![took])),
        }
    }

    /// The median in microseconds, rounds of the warm-up left out.
    fn p50(&self, name: &str) -> f64 {
        let mut all = self.0.iter().find(|(known, _)| *known == name).unwrap().1[WARM_UP..].to_vec();
        all.sort();
        all[all.len() / 2].as_secs_f64() * 1e6
    }

    fn row(&self, name: &str, baseline: &str) {
        let (ours, theirs) = (self.p50(name), self.p50(baseline));
        println!("{name:<28} {ours:>10.0} us   {baseline:<40} {theirs:>10.0} us   {:>6.2} x", ours / theirs);
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("the benchmark mounts real file systems and needs root: sudo cargo bench --bench publish");
        std::process::exit(1);
    }
    let driver = Driver::start_with_log_level("warn");
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "bench").await;
    let (first, second) = (driver.target("first"), driver.target("second"));
    let mut figures = Figures::default();
    for _ in 0..ROUNDS + WARM_UP {
        let begun = Instant::now();
        caller.identity.probe(mountpod::csi::api::v1::ProbeRequest {}).await.unwrap();
        figures.note("an empty call (Probe)", begun.elapsed());

        let begun = Instant::now();
        publish(&mut caller, &volume, &first).await;
        figures.note("cold publish", begun.elapsed());
        let begun = Instant::now();
        publish(&mut caller, &volume, &second).await;
        figures.note("warm publish", begun.elapsed());
        let begun = Instant::now();
        caller.unpublish(&volume.volume_id, &second).await.unwrap();
        figures.note("warm unpublish", begun.elapsed());
        let begun = Instant::now();
        caller.unpublish(&volume.volume_id, &first).await.unwrap();
        figures.note("last unpublish", begun.elapsed());

        baselines(&mut figures, driver.path());
    }
    println!("publish: p50 of {ROUNDS} rounds, each beside its baseline in the same round");
    figures.row("warm publish", "state write + mount");
    figures.row("warm unpublish", "state write + unmount");
    figures.row("cold publish", "state write + mount + process start");
    figures.row("last unpublish", "state write + unmount + process start");
    println!("an empty call over the same socket takes {:.0} us", figures.p50("an empty call (Probe)"));
    driver.stop_and_leave_nothing().await;
}

/// What no mount-pod driver can avoid, done by hand.
fn baselines(figures: &mut Figures, directory: &Path) {
    let (source, target) = (directory.join("main"), directory.join("baseline"));
    let begun = Instant::now();
    write_record(directory);
    fs::create_dir(&target).unwrap();
    let tree = clone_tree(open_plain_directory(&source).unwrap().as_fd()).unwrap();
    attach(tree.as_fd(), open_plain_directory(&target).unwrap().as_fd()).unwrap();
    drop(tree);
    let mounted = begun.elapsed();
    figures.note("state write + mount", mounted);
    let begun = Instant::now();
    write_record(directory);
    unmount(&target, Unmount::IfUnused).unwrap();
    fs::remove_dir(&target).unwrap();
    let unmounted = begun.elapsed();
    figures.note("state write + unmount", unmounted);
    let begun = Instant::now();
    let ended =
        Command::new(env!("CARGO_BIN_EXE_mountpod")).arg("--version").stdout(Stdio::null()).status().unwrap();
    assert!(ended.success());
    let started = begun.elapsed();
    figures.note("state write + mount + process start", mounted + started);
    figures.note("state write + unmount + process start", unmounted + started);
}

fn write_record(directory: &Path) {
    let (temporary, record) = (directory.join("record.tmp"), directory.join("record.json"));
    fs::write(&temporary, vec![b'x'; RECORD_BYTES]).unwrap();
    fs::rename(&temporary, &record).unwrap();
}
