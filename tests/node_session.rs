//! Does a published volume outlive the death of each process that keeps it, and does nothing stay of it at the end?
//!
//! Everything is real: mount pods are local processes, their clients serve directories. Needs root: it mounts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod session_support;

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use mountpod::mountpod::service::{Condition, MountError, MountService};
use mountpod::volume::Writability;
use session_support::node::{Node, eventually, in_time, read, request, write};
use session_support::volume;

/// Writes with fsync and reads back, never trying anything twice.
struct Load {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: JoinHandle<io::Result<()>>,
}

impl Load {
    fn start(directory: PathBuf) -> Self {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = std::thread::spawn(move || {
            let mut log = std::fs::File::create(directory.join("log"))?;
            let mut round = 0_u64;
            while !stopped.load(Ordering::Relaxed) {
                round += 1;
                log.write_all(&round.to_le_bytes())?;
                log.sync_all()?;
                let name = directory.join(format!("file-{}", round % 8));
                std::fs::write(&name, round.to_string())?;
                let mut last = [0; 8];
                std::fs::File::open(directory.join("log"))?.read_exact_at(&mut last, (round - 1) * 8)?;
                if u64::from_le_bytes(last) != round || std::fs::read_to_string(&name)? != round.to_string() {
                    return Err(io::Error::other(format!("round {round} reads something else than was written")));
                }
                std::fs::remove_file(&name)?;
                counted.store(round, Ordering::Relaxed);
            }
            Ok(())
        });
        Self { stop, rounds, thread }
    }

    /// Waits until the load has gone on for some rounds.
    async fn goes_on(&self, after: &str) {
        let before = self.rounds.load(Ordering::Relaxed);
        eventually(&format!("the load goes on after {after}"), || {
            let now = self.rounds.load(Ordering::Relaxed);
            let broken = self.thread.is_finished();
            if now > before + 20 && !broken { Ok(()) } else { Err(format!("round {now}, broken off: {broken}")) }
        })
        .await;
    }

    async fn finish(self) -> io::Result<u64> {
        self.stop.store(true, Ordering::Relaxed);
        let joined = tokio::task::spawn_blocking(move || self.thread.join().unwrap());
        in_time("the end of the load", joined).await.unwrap()?;
        Ok(self.rounds.load(Ordering::Relaxed))
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_targets_share_one_mount_pod_and_nothing_is_left_of_them() {
    let node = Node::new();
    let driver = node.driver().await;
    let (a, b) = (node.target("a"), node.target("b"));
    driver.publish("v", &a).await.unwrap();
    in_time("publish", driver.service.publish(request("v", &b, Writability::ReadOnly))).await.unwrap();
    driver.publish("v", &a).await.unwrap();
    assert_eq!(driver.refs(&volume("v")), [2]);
    assert_eq!(driver.service.targets(&volume("v")), [a.clone(), b.clone()]);
    write(&a.as_path().join("file"), "hello").await.unwrap();
    assert_eq!(read(&b.as_path().join("file")).await.unwrap(), "hello");
    assert_eq!(read(&node.path("root/v/file")).await.unwrap(), "hello");
    let refused = write(&b.as_path().join("other"), "x").await.unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
    let stats = in_time("stats", driver.service.stats(&volume("v"), &a)).await.unwrap();
    assert_eq!(stats.condition, Condition::Serving);
    assert!(stats.bytes_total > 0 && stats.inodes_total > 0, "{stats:?}");
    let other = in_time("stats", driver.service.stats(&volume("w"), &a)).await;
    assert!(matches!(other, Err(MountError::NotMounted { .. })), "{other:?}");

    driver.unpublish("v", &a).await.unwrap();
    assert!(!a.as_path().exists());
    assert_eq!(read(&b.as_path().join("file")).await.unwrap(), "hello");
    driver.unpublish("v", &b).await.unwrap();
    driver.unpublish("v", &b).await.unwrap();
    assert_eq!(read(&node.path("root/v/file")).await.unwrap(), "hello");
    node.until_nothing_is_left().await;
    driver.service.shut_down().await;
    let late = driver.publish("v", &a).await;
    assert!(matches!(late, Err(MountError::TimedOut { .. })), "{late:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_can_not_succeed_leaves_nothing() {
    let node = Node::new();
    let driver = node.driver().await;
    let missing = driver.publish("nowhere", &node.target("t")).await;
    assert!(matches!(missing, Err(MountError::NoSuchVolume { .. })), "{missing:?}");
    std::os::unix::fs::symlink("/etc", node.path("link")).unwrap();
    let behind = session_support::target(&node.path("link/t"));
    let refused = driver.publish("v", &behind).await;
    assert!(matches!(refused, Err(MountError::Target { .. })), "{refused:?}");
    let mut bad = request("v", &node.target("t"), Writability::ReadWrite);
    bad.spec.options.insert("no-such-option".to_owned(), "1".to_owned());
    let failed = in_time("publish", driver.service.publish(bad)).await;
    assert!(failed.as_ref().is_err_and(|error| error.to_string().contains("no-such-option")), "{failed:?}");
    node.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_writer_sees_no_error_when_client_agent_or_driver_dies_alone() {
    let node = Node::new();
    let mut driver = node.driver().await;
    let (a, b) = (node.target("a"), node.target("b"));
    driver.publish("v", &a).await.unwrap();
    driver.publish("v", &b).await.unwrap();
    let load = Load::start(a.as_path().to_owned());
    load.goes_on("the start").await;
    for round in 0..2 {
        node.kill("mount-hostdir");
        load.goes_on(&format!("the death of the client, round {round}")).await;
        node.kill("mount-agent");
        load.goes_on(&format!("the death of the agent, round {round}")).await;
        driver.stop().await;
        load.goes_on(&format!("the death of the driver, round {round}")).await;
        driver = node.driver().await;
        load.goes_on(&format!("the driver's return, round {round}")).await;
    }
    let rounds = load.finish().await.unwrap();
    assert!(rounds > 100, "{rounds}");
    assert_eq!(driver.service.targets(&volume("v")), [a.clone(), b.clone()]);
    driver.unpublish("v", &a).await.unwrap();
    driver.unpublish("v", &b).await.unwrap();
    node.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_are_usable_again_after_driver_and_agent_died_together() {
    let node = Node::new();
    let driver = node.driver().await;
    let (a, b) = (node.target("a"), node.target("b"));
    driver.publish("v", &a).await.unwrap();
    in_time("publish", driver.service.publish(request("v", &b, Writability::ReadOnly))).await.unwrap();
    write(&a.as_path().join("file"), "before").await.unwrap();
    driver.stop().await;
    node.kill("mount-agent");
    let dead = read(&a.as_path().join("file")).await.unwrap_err();
    assert!(matches!(dead.raw_os_error(), Some(nix::libc::ENOTCONN | nix::libc::ECONNABORTED)), "{dead}");

    let driver = node.driver().await;
    for target in [&a, &b] {
        eventually("the target shows the volume again", || {
            std::fs::read_to_string(target.as_path().join("file")).map(drop).map_err(|error| error.to_string())
        })
        .await;
    }
    write(&a.as_path().join("file"), "after").await.unwrap();
    assert_eq!(read(&b.as_path().join("file")).await.unwrap(), "after");
    assert!(write(&b.as_path().join("file"), "x").await.is_err());
    driver.unpublish("v", &a).await.unwrap();
    driver.unpublish("v", &b).await.unwrap();
    node.until_nothing_is_left().await;
    driver.service.shut_down().await;
}
