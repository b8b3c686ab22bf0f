//! Does a published volume outlive the death of each process that keeps it, and does nothing stay of it at the end?
//!
//! Everything is real: mount pods are local processes, their clients serve directories. Needs root: it mounts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod session_support;

use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use mountpod::mountpod::service::{Condition, MountError, MountService, PublishedTargets};
use mountpod::volume::Writability;
use nix::sys::signal::{Signal, kill};
use session_support::node::{Node, eventually, in_time, read, request, write};
use session_support::{unmount_below, volume};
use tokio::process::{Child, Command};

/// How long the client is kept from flushing: longer than a deleted pod may take to end.
const FLUSH: std::time::Duration = std::time::Duration::from_secs(12);
/// Set for the process of the load: the directory that it works in.
const LOAD_DIRECTORY: &str = "MOUNTPOD_TEST_LOAD_DIRECTORY";
/// Beside that directory: the number of rounds done, and the file whose appearance ends the load.
const ROUNDS: &str = "load-rounds";
const ROUNDS_NEXT: &str = "load-rounds.next";
const STOP: &str = "load-stop";

/// The load: writes with fsync and reads back, never trying anything twice. Only of use in a process that
/// [`Load::start`] has started; as a test of its own it does nothing.
///
/// It is no thread of the test, which is the driver: a child that is forked from a process with an open file of a volume
/// closes it at exec, and close(2) asks the client, which may be the very one that the child is to start.
#[test]
fn load_process() {
    let Some(directory) = std::env::var_os(LOAD_DIRECTORY) else { return };
    work(&PathBuf::from(directory)).unwrap();
}

fn work(directory: &Path) -> io::Result<()> {
    let beside = directory.parent().unwrap().parent().unwrap();
    let mut log = std::fs::File::create(directory.join("log"))?;
    let mut round = 0_u64;
    while !beside.join(STOP).exists() {
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
        // Renamed, because who reads a file that is being written may read nothing, and take that for round 0.
        std::fs::write(beside.join(ROUNDS_NEXT), round.to_string())?;
        std::fs::rename(beside.join(ROUNDS_NEXT), beside.join(ROUNDS))?;
    }
    Ok(())
}

/// The process of a load.
struct Load {
    beside: PathBuf,
    process: Child,
}

impl Load {
    fn start(node: &Node, directory: &Path) -> Self {
        let process = Command::new(std::env::current_exe().unwrap())
            .args(["load_process", "--exact", "--nocapture"])
            .env(LOAD_DIRECTORY, directory)
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        Self { beside: node.path(""), process }
    }

    fn rounds(&self) -> u64 {
        let rounds = std::fs::read_to_string(self.beside.join(ROUNDS)).unwrap_or_default();
        rounds.parse().unwrap_or(0)
    }

    /// Waits until the load has gone on for some rounds.
    async fn goes_on(&mut self, after: &str) {
        let before = self.rounds();
        eventually(&format!("the load goes on after {after}"), || {
            let ended = self.process.try_wait().unwrap();
            assert_eq!(ended, None, "the load broke off after {after}");
            let now = self.rounds();
            if now > before + 20 { Ok(()) } else { Err(format!("round {now}")) }
        })
        .await;
    }

    async fn finish(mut self) -> u64 {
        std::fs::write(self.beside.join(STOP), "").unwrap();
        let status = in_time("the end of the load", self.process.wait()).await.unwrap();
        assert!(status.success(), "{status}");
        self.rounds()
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
    let mut load = Load::start(&node, a.as_path());
    load.goes_on("the start").await;
    for round in 0..2 {
        node.kill("mount-hostdir").await;
        load.goes_on(&format!("the death of the client, round {round}")).await;
        node.kill("mount-agent").await;
        load.goes_on(&format!("the death of the agent, round {round}")).await;
        driver.stop().await;
        load.goes_on(&format!("the death of the driver, round {round}")).await;
        driver = node.driver().await;
        load.goes_on(&format!("the driver's return, round {round}")).await;
    }
    let rounds = load.finish().await;
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
    node.kill("mount-agent").await;
    eventually("agent and client are dead", || {
        let left = node.processes("mount-");
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
    .await;
    let dead = read(&a.as_path().join("file")).await.unwrap_err();
    assert!(matches!(dead.raw_os_error(), Some(nix::libc::ENOTCONN | nix::libc::ECONNABORTED)), "{dead}");

    let driver = node.driver().await;
    for target in [&a, &b] {
        eventually("the target shows the volume again", || {
            std::fs::read_to_string(target.as_path().join("file"))
                .map(drop)
                .map_err(|error| error.to_string())
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

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_flushes_while_the_driver_is_replaced_gets_its_time() {
    let node = Node::new();
    let driver = node.driver().await;
    let a = node.target("a");
    driver.publish("v", &a).await.unwrap();
    let client = node.processes("mount-hostdir");
    let signal = |signal| client.iter().for_each(|pid| kill(*pid, signal).unwrap());
    driver.stop().await;
    // A driver that died while it closed the session leaves this: no mount, and a client that takes its time.
    signal(Signal::SIGSTOP);
    unmount_below(node.directory.path());

    let driver = node.driver().await;
    let publishing = driver.publish("v", &a);
    tokio::pin!(publishing);
    let early = tokio::time::timeout(FLUSH, &mut publishing).await;
    let agents = node.processes("mount-agent").len();
    let alive = client.iter().all(|pid| kill(*pid, None).is_ok());
    signal(Signal::SIGCONT);
    assert!(early.is_err(), "a session was opened beside a client that flushes: {early:?}");
    assert_eq!((agents, alive), (1, true), "agents, and is the client alive?");
    publishing.await.unwrap();
    write(&a.as_path().join("file"), "x").await.unwrap();
    driver.unpublish("v", &a).await.unwrap();
    node.until_nothing_is_left().await;
    driver.service.shut_down().await;
}
