//! Does a driver beside a kubelet tell its targets from the kubelet's own mounts, and from those of workloads that are
//! gone?
//!
//! The kubelet is a directory of its form; everything else is real. Needs root: it mounts.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

mod session_support;

use std::path::{Path, PathBuf};

use mountpod::mountpod::service::PublishedTargets;
use mountpod::mounts::syscalls::{Unmount, unmount};
use mountpod::volume::TargetPath;
use session_support::node::{Driver, Node, eventually, in_time, read, write};
use session_support::{target, volume};
use tokio::process::Command;

/// The directory that the kubelet makes for a volume of a pod.
fn volume_dir(node: &Node, uid: &str) -> PathBuf {
    node.path(&format!("kubelet/pods/{uid}/volumes/kubernetes.io~csi/pvc-1"))
}

/// What the kubelet does before it calls NodePublishVolume.
fn kubelet_target(node: &Node, uid: &str) -> TargetPath {
    std::fs::create_dir_all(volume_dir(node, uid)).unwrap();
    target(&volume_dir(node, uid).join("mount"))
}

/// What a node's administrator, or a kubelet that sweeps a dead pod, does behind the driver's back.
fn sweep(node: &Node, uid: &str) {
    let directory = volume_dir(node, uid);
    unmount(&directory.join("mount"), Unmount::Detach).unwrap();
    std::fs::remove_dir(directory.join("mount")).unwrap();
    std::fs::remove_dir(directory).unwrap();
}

async fn bind(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut mounting = Command::new("mount").arg("--bind").args([from, to]).spawn().unwrap();
    assert!(in_time("mount --bind", mounting.wait()).await.unwrap().success());
}

async fn until_counted(driver: &Driver, refs: &[usize]) {
    eventually(&format!("refs are {refs:?}"), || {
        let now = driver.refs(&volume("v"));
        if now == refs { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn refs_of_swept_workloads_are_dropped_and_the_last_ends_the_mount_pod() {
    let node = Node::new();
    let (swept, alive) = (kubelet_target(&node, "swept"), kubelet_target(&node, "alive"));
    let driver = node.driver().await;
    driver.publish("v", &swept).await.unwrap();
    driver.publish("v", &alive).await.unwrap();
    until_counted(&driver, &[2]).await;

    sweep(&node, "swept");
    until_counted(&driver, &[1]).await;
    assert_eq!(driver.service.targets(&volume("v")), std::slice::from_ref(&alive));
    write(&alive.as_path().join("file"), "hello").await.unwrap();

    // Also what went while no driver was there to see it.
    driver.stop().await;
    sweep(&node, "alive");
    let driver = node.driver().await;
    node.until_nothing_is_left().await;
    assert_eq!(read(&node.path("root/v/file")).await.unwrap(), "hello", "the volume itself stays");
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_target_that_is_only_unmounted_stays_counted() {
    let node = Node::new();
    let target = kubelet_target(&node, "pod");
    let driver = node.driver().await;
    driver.publish("v", &target).await.unwrap();
    unmount(target.as_path(), Unmount::Detach).unwrap();
    // Its unpublish is still to come: until then the driver must not forget it, but keep what it was told to publish.
    driver.publish("v", &target).await.unwrap();
    until_counted(&driver, &[1]).await;
    driver.unpublish("v", &target).await.unwrap();
    node.until_nothing_is_left().await;
    driver.service.shut_down().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_kubelet_binds_for_a_subpath_is_no_target() {
    let node = Node::new();
    let published = kubelet_target(&node, "pod");
    let driver = node.driver().await;
    driver.publish("v", &published).await.unwrap();
    std::fs::create_dir_all(published.as_path().join("sub")).unwrap();
    let subpath = |number: u32| node.path(&format!("kubelet/pods/pod/volume-subpaths/pvc-1/main/{number}"));
    bind(published.as_path(), &subpath(0)).await;
    bind(&published.as_path().join("sub"), &subpath(1)).await;
    // Bound at a place where it could be a target whose ref was lost: it is counted, so the driver has looked.
    let foreign = node.target("foreign");
    bind(published.as_path(), foreign.as_path()).await;
    until_counted(&driver, &[2]).await;
    assert_eq!(driver.service.targets(&volume("v")), [published.clone(), foreign.clone()]);

    for number in [0, 1] {
        unmount(&subpath(number), Unmount::Detach).unwrap();
    }
    driver.unpublish("v", &foreign).await.unwrap();
    driver.unpublish("v", &published).await.unwrap();
    node.until_nothing_is_left().await;
    driver.service.shut_down().await;
}
