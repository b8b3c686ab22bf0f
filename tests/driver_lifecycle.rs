//! Does the driver do its main job: publish, share, refuse, restart, and end?
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test may panic and start processes")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use mountpod::csi::api::v1::NodePublishVolumeRequest;
use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::programs::caller::capability;
use support::{Driver, publish, volume};
use tonic::Code;

#[tokio::test]
async fn two_targets_share_one_mount_pod_and_the_last_takes_it_along() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "shared").await;
    let (a, b) = (driver.target("a"), driver.target("b"));
    publish(&mut caller, &volume, &a).await;
    publish(&mut caller, &volume, &b).await;
    publish(&mut caller, &volume, &b).await;
    assert_eq!(driver.pods().len(), 1);
    fs::write(a.join("x"), "y").unwrap();
    assert_eq!(fs::read_to_string(b.join("x")).unwrap(), "y");

    caller.unpublish(&volume.volume_id, &a).await.unwrap();
    assert!(!a.exists(), "the target is removed");
    assert_eq!(driver.pods().len(), 1);
    assert_eq!(fs::read_to_string(b.join("x")).unwrap(), "y");
    caller.unpublish(&volume.volume_id, &b).await.unwrap();
    caller.unpublish(&volume.volume_id, &b).await.unwrap();
    assert_eq!(fs::read_to_string(driver.root().join("shared/x")).unwrap(), "y");
    caller.delete_volume(&volume.volume_id).await.unwrap();
    assert!(!driver.root().join("shared").exists());
    driver.stop_and_leave_nothing().await;
}

#[tokio::test]
async fn reader_only_targets_cannot_write() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "v").await;
    let (writer, reader) = (driver.target("writer"), driver.target("reader"));
    publish(&mut caller, &volume, &writer).await;
    caller.publish(&volume, &reader, Mode::MultiNodeReaderOnly).await.unwrap();
    fs::write(writer.join("x"), "y").unwrap();
    assert_eq!(fs::read_to_string(reader.join("x")).unwrap(), "y");
    let refused = fs::write(reader.join("z"), "").unwrap_err();
    assert_eq!(refused.raw_os_error(), Some(nix::libc::EROFS));
    let other = caller.publish(&volume, &reader, Mode::MultiNodeMultiWriter).await.unwrap_err();
    assert_eq!(other.code(), Code::AlreadyExists, "{other}");
    for target in [&writer, &reader] {
        caller.unpublish(&volume.volume_id, target).await.unwrap();
    }
    driver.stop_and_leave_nothing().await;
}

#[tokio::test]
async fn a_single_writer_volume_refuses_a_second_target() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "v").await;
    let (first, second) = (driver.target("first"), driver.target("second"));
    caller.publish(&volume, &first, Mode::SingleNodeSingleWriter).await.unwrap();
    let refused = caller.publish(&volume, &second, Mode::SingleNodeSingleWriter).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains(first.to_str().unwrap()), "{refused}");
    assert!(!second.exists(), "a refused publish leaves nothing");
    caller.unpublish(&volume.volume_id, &first).await.unwrap();
    caller.publish(&volume, &second, Mode::SingleNodeSingleWriter).await.unwrap();
    caller.unpublish(&volume.volume_id, &second).await.unwrap();
    driver.stop_and_leave_nothing().await;
}

/// Other credentials are another session, of which the first one knows nothing.
#[tokio::test]
async fn a_single_writer_volume_refuses_a_second_target_also_with_other_credentials() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "v").await;
    let (first, second) = (driver.target("first"), driver.target("second"));
    let with_password = |target: &Path, mode: Mode| NodePublishVolumeRequest {
        volume_id: volume.volume_id.clone(),
        target_path: target.display().to_string(),
        volume_capability: Some(capability(mode)),
        secrets: HashMap::from([("password".to_owned(), "other".to_owned())]),
        ..NodePublishVolumeRequest::default()
    };
    caller.publish(&volume, &first, Mode::SingleNodeSingleWriter).await.unwrap();
    for mode in [Mode::SingleNodeSingleWriter, Mode::MultiNodeMultiWriter] {
        let refused = caller.node.node_publish_volume(with_password(&second, mode)).await.unwrap_err();
        assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
        assert!(!second.exists(), "a refused publish leaves nothing");
    }
    caller.unpublish(&volume.volume_id, &first).await.unwrap();
    caller.node.node_publish_volume(with_password(&second, Mode::SingleNodeSingleWriter)).await.unwrap();
    caller.unpublish(&volume.volume_id, &second).await.unwrap();
    driver.stop_and_leave_nothing().await;
}

#[tokio::test]
async fn workloads_go_on_while_the_driver_is_stopped_and_started() {
    let mut driver = Driver::start();
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "v").await;
    let target = driver.target("t");
    publish(&mut caller, &volume, &target).await;
    fs::write(target.join("x"), "before").unwrap();
    driver.stop().await;
    assert_eq!(fs::read_to_string(target.join("x")).unwrap(), "before");
    fs::write(target.join("x"), "while it is away").unwrap();
    driver.start_again();
    let mut caller = driver.caller().await;
    publish(&mut caller, &volume, &target).await;
    assert_eq!(driver.pods().len(), 1);
    let second = driver.target("u");
    publish(&mut caller, &volume, &second).await;
    assert_eq!(fs::read_to_string(second.join("x")).unwrap(), "while it is away");
    for target in [&target, &second] {
        caller.unpublish(&volume.volume_id, target).await.unwrap();
    }
    driver.stop_and_leave_nothing().await;
}

#[tokio::test]
async fn a_volume_in_use_is_not_deleted_and_stats_tell_its_size() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let volume = volume(&mut caller, "v").await;
    let target = driver.target("t");
    publish(&mut caller, &volume, &target).await;
    let stats = caller.stats(&volume.volume_id, &target).await.unwrap();
    assert_eq!(stats.usage.len(), 2, "bytes and inodes: {stats:?}");
    assert!(stats.usage.iter().all(|usage| usage.total > 0 && usage.available > 0), "{stats:?}");
    let refused = caller.delete_volume(&volume.volume_id).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    caller.unpublish(&volume.volume_id, &target).await.unwrap();
    caller.delete_volume(&volume.volume_id).await.unwrap();
    driver.stop_and_leave_nothing().await;
}

#[tokio::test]
async fn the_socket_is_for_root_alone_and_a_second_driver_is_refused() {
    let driver = Driver::start();
    let _caller = driver.caller().await;
    assert_eq!(fs::metadata(driver.socket()).unwrap().permissions().mode() & 0o7777, 0o600);
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_mountpod"))
        .args(["standalone", "--endpoint"])
        .arg(format!("unix://{}", driver.path().join("other.sock").display()))
        .arg("--state-dir")
        .arg(driver.path().join("state"))
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another driver"), "{said}");
    driver.stop_and_leave_nothing().await;
}

#[tokio::test]
async fn a_target_is_not_taken_from_another_volume_nor_from_files() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let (one, other) = (volume(&mut caller, "one").await, volume(&mut caller, "other").await);
    let target = driver.target("t");
    publish(&mut caller, &one, &target).await;
    fs::write(target.join("x"), "y").unwrap();
    caller.unpublish(&other.volume_id, &target).await.unwrap();
    assert_eq!(fs::read_to_string(target.join("x")).unwrap(), "y", "it belongs to the other volume");
    caller.unpublish(&one.volume_id, &target).await.unwrap();

    let full = driver.target("full");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "kept").unwrap();
    let own = driver.root().join("other");
    for (target, why) in [(&full, "holds files"), (&own, "driver's own")] {
        let refused = caller.publish(&one, target, Mode::MultiNodeMultiWriter).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains("target_path") && refused.message().contains(why), "{refused}");
    }
    assert_eq!(fs::read_to_string(full.join("mine")).unwrap(), "kept");
    let refused = caller.unpublish(&other.volume_id, &own).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(own.exists(), "an unpublish never removes a volume");
    fs::remove_dir_all(full).unwrap();
    driver.stop_and_leave_nothing().await;
}

#[tokio::test]
async fn a_root_belongs_to_one_driver() {
    let driver = Driver::start();
    let _caller = driver.caller().await;
    let second = std::process::Command::new(env!("CARGO_BIN_EXE_mountpod"))
        .args(["standalone", "--endpoint"])
        .arg(format!("unix://{}", driver.path().join("other.sock").display()))
        .arg("--state-dir")
        .arg(driver.path().join("other-state"))
        .arg("--hostdir-root")
        .arg(format!("mine={}", driver.root().display()))
        .output()
        .unwrap();
    assert!(!second.status.success());
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains("another driver serves --hostdir-root mine"), "{said}");
    driver.stop_and_leave_nothing().await;
}
