//! Do many callers at once leave an error or a trace?
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test may panic and print figures")]

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use support::{Driver, publish, volume};

const CYCLES: usize = 200;
const CALLERS: usize = 16;
const VOLUMES: usize = 20;

/// 200 publish/unpublish cycles from 16 concurrent callers on 20 volumes: each writes through its target and reads
/// back what it wrote.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cycles_of_concurrent_callers_leave_nothing() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let mut volumes = Vec::new();
    for number in 0..VOLUMES {
        volumes.push(volume(&mut caller, &format!("v{number}")).await);
    }
    let volumes = Arc::new(volumes);
    let next = Arc::new(AtomicUsize::new(0));
    let begun = Instant::now();
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..CALLERS {
        let (mut caller, volumes, next) = (driver.caller().await, volumes.clone(), next.clone());
        let targets = driver.path().join("targets");
        callers.spawn(async move {
            loop {
                let cycle = next.fetch_add(1, Ordering::Relaxed);
                if cycle >= CYCLES {
                    return;
                }
                let (volume, target) = (&volumes[cycle * 7 % VOLUMES], targets.join(format!("t{cycle}")));
                publish(&mut caller, volume, &target).await;
                let file = target.join(format!("f{cycle}"));
                tokio::fs::write(&file, cycle.to_string()).await.unwrap();
                assert_eq!(tokio::fs::read_to_string(&file).await.unwrap(), cycle.to_string());
                caller.unpublish(&volume.volume_id, &target).await.unwrap();
            }
        });
    }
    while let Some(ended) = callers.join_next().await {
        if let Err(error) = ended {
            panic!("a caller failed: {error}\n{}", driver.log());
        }
    }
    println!(
        "soak: {CYCLES} cycles, {CALLERS} callers, {VOLUMES} volumes, 0 errors, {:.1} s",
        begun.elapsed().as_secs_f64()
    );
    for volume in volumes.iter() {
        caller.delete_volume(&volume.volume_id).await.unwrap();
    }
    driver.stop_and_leave_nothing().await;
}
