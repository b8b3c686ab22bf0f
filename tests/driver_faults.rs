//! Does a workload notice that what is behind its volume dies?
//!
//! The load never retries: writers with fsync, readers, appends, a metadata loop, an unlinked open file. It runs against
//! the whole driver, mounted by NodePublishVolume, and in a process of its own: a process that starts programs must hold
//! no file of a volume whose client it kills, since closing an inherited one waits for that client.
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test may panic and print figures")]

mod chaos;
mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use chaos::process::{Check, LoadProcess};
use chaos::{Parts, Tally};
use mountpod::csi::api::v1::Volume;
use mountpod::programs::caller::Caller;
use support::{Driver, kill_process, publish, volume};

/// SIGKILLs of the serving process, besides those that it gives itself at injected points.
const CLIENT_KILLS: usize = 50;
/// SIGKILLs of the whole client, of the mount pod, and of the driver.
const OTHER_KILLS: usize = 8;
/// A replacement serves within this; it takes some milliseconds.
const REPLACED_MAX: Duration = Duration::from_secs(20);
/// The longest that one operation of a workload may take.
const OPERATION_MAX: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy)]
enum Victim {
    /// The process that answers requests.
    Server,
    /// The keeper; the server dies with it.
    Client,
    /// PID 1 of the mount pod; everything in it dies with it.
    MountPod,
    /// The driver.
    Driver,
}

const CHECKS: [Check; 2] = [
    ("fifty_dead_servers_are_no_error", fifty_dead_servers_are_no_error),
    ("dead_clients_mount_pods_and_drivers_are_no_error", dead_clients_mount_pods_and_drivers_are_no_error),
];

fn main() {
    chaos::process::program(&CHECKS);
}

fn block_on(check: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(check);
}

fn fifty_dead_servers_are_no_error() {
    block_on(async {
        let (mut driver, _, volume, target) = published().await;
        let load = LoadProcess::start(&target, Parts::All);
        for kill in 0..CLIENT_KILLS {
            strike(&mut driver, Victim::Server).await;
            tokio::time::sleep(jitter(kill)).await;
        }
        judge("servers", CLIENT_KILLS, load);
        take_down(driver, &volume, &target).await;
    });
}

fn dead_clients_mount_pods_and_drivers_are_no_error() {
    block_on(async {
        let (mut driver, _, volume, target) = published().await;
        let load = LoadProcess::start(&target, Parts::Named);
        let victims = [Victim::Client, Victim::MountPod, Victim::Driver, Victim::Server];
        for kill in 0..OTHER_KILLS * victims.len() {
            strike(&mut driver, victims[kill % victims.len()]).await;
            tokio::time::sleep(jitter(kill)).await;
        }
        judge("clients, mount pods and drivers", OTHER_KILLS * victims.len(), load);
        take_down(driver, &volume, &target).await;
    });
}

async fn published() -> (Driver, Caller, Volume, std::path::PathBuf) {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "v").await;
    let target = driver.target("t");
    publish(&mut caller, &volume, &target).await;
    (driver, caller, volume, target)
}

/// Kills, and waits until another one is there: each of the processes alone, never two at once.
async fn strike(driver: &mut Driver, victim: Victim) {
    if matches!(victim, Victim::Driver) {
        driver.kill();
        driver.start_again();
        drop(driver.caller().await);
        return;
    }
    let before = driver.pods();
    let [pod] = before.as_slice() else { panic!("{} mount pods\n{}", before.len(), driver.log()) };
    let process = match victim {
        Victim::Server => *pod.client.last().unwrap(),
        Victim::Client => *pod.client.first().unwrap(),
        _ => pod.agent,
    };
    kill_process(process.pid);
    let begun = Instant::now();
    loop {
        let now = driver.pods();
        if let [pod] = now.as_slice()
            && pod.agent != process
            && pod.client.len() == 2
            && !pod.client.contains(&process)
        {
            return;
        }
        assert!(begun.elapsed() < REPLACED_MAX, "{victim:?} was not replaced\n{}", driver.log());
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

fn judge(what: &str, kills: usize, load: LoadProcess) {
    let tally: Tally = load.finish();
    println!("faults: {kills} SIGKILLs of {what}, {tally}");
    assert!(tally.operations > 1000, "the load ran: {tally}");
    assert_eq!((tally.errors, tally.mismatches), (0, 0), "{tally}");
    assert!(tally.longest < OPERATION_MAX, "{tally}");
}

async fn take_down(driver: Driver, volume: &Volume, target: &Path) {
    driver.caller().await.unpublish(&volume.volume_id, target).await.unwrap();
    driver.stop_and_leave_nothing().await;
}

/// Numbers that look random and are the same in every run.
fn jitter(step: usize) -> Duration {
    Duration::from_millis(20 + (step as u64 * 7919) % 131)
}
