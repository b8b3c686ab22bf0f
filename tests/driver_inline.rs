//! Does an inline volume come and go with its pod?
#![allow(
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "a test may panic and touch what it has mounted"
)]

mod support;

use std::collections::HashMap;
use std::fs;
use std::future::Future;
use std::path::Path;
use std::time::Duration;

use mountpod::csi::api::v1::NodePublishVolumeRequest;
use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::programs::caller::{Caller, capability};
use support::{Driver, kill_process};
use tonic::{Code, Status};

/// Longest wait for a call or for a file of a mount.
const LIMIT: Duration = Duration::from_secs(60);
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// As the kubelet names an inline volume.
fn name(digit: char) -> String {
    format!("csi-{}", digit.to_string().repeat(64))
}

fn request(name: &str, target: &Path, attributes: &[(&str, &str)]) -> NodePublishVolumeRequest {
    let context = attributes.iter().chain(&[(EPHEMERAL, "true")]);
    NodePublishVolumeRequest {
        volume_id: name.to_owned(),
        target_path: target.display().to_string(),
        volume_capability: Some(capability(Mode::SingleNodeWriter)),
        volume_context: context
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect::<HashMap<_, _>>(),
        ..NodePublishVolumeRequest::default()
    }
}

async fn in_time<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, work).await.unwrap()
}

async fn publish(caller: &mut Caller, request: NodePublishVolumeRequest) -> Result<(), Status> {
    in_time(caller.node.node_publish_volume(request)).await.map(drop)
}

/// Writes and reads back, on a thread that the test does not wait for without end.
async fn use_it(target: &Path) {
    let file = target.join("file");
    let used = tokio::task::spawn_blocking(move || {
        fs::write(&file, "hello")?;
        fs::read_to_string(&file)
    });
    assert_eq!(in_time(used).await.unwrap().unwrap(), "hello");
}

fn record(driver: &Driver, name: &str) -> std::path::PathBuf {
    driver.root().join(format!(".mountpod/volumes/{name}.json"))
}

fn assert_gone(driver: &Driver, name: &str) {
    assert!(!driver.root().join(name).exists(), "its directory is left");
    assert!(!record(driver, name).exists(), "its record is left");
    assert_eq!(
        fs::read_dir(driver.root().join(".mountpod/trash")).unwrap().count(),
        0,
        "the trash is not empty"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_inline_volume_lives_as_long_as_it_is_published() {
    let mut driver = Driver::start();
    let mut caller = driver.caller().await;
    let (name, target) = (name('a'), driver.target("t"));
    let wanted = request(&name, &target, &[("root", "main"), ("size", "2Gi"), ("memoryLimit", "256Mi")]);
    publish(&mut caller, wanted.clone()).await.unwrap();
    publish(&mut caller, wanted.clone()).await.unwrap();
    use_it(&target).await;
    assert!(driver.root().join(&name).join("file").exists());
    assert!(fs::read_to_string(record(&driver, &name)).unwrap().contains("2147483648"));
    let stats = in_time(caller.stats(&name, &target)).await.unwrap();
    assert!(stats.usage.iter().all(|usage| usage.total > 0), "{stats:?}");

    // A driver that is new knows it from the mount pod and the record.
    driver.kill();
    driver.start_again();
    let mut caller = driver.caller().await;
    publish(&mut caller, wanted).await.unwrap();
    in_time(caller.stats(&name, &target)).await.unwrap();
    for _ in 0..2 {
        in_time(caller.unpublish(&name, &target)).await.unwrap();
        assert!(!target.exists());
        assert_gone(&driver, &name);
    }
    let gone = in_time(caller.stats(&name, &target)).await.unwrap_err();
    assert_eq!(gone.code(), Code::NotFound, "{gone}");
    driver.stop_and_leave_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_whose_mount_pod_and_driver_died_is_still_removed() {
    let mut driver = Driver::start();
    let mut caller = driver.caller().await;
    let (name, target) = (name('b'), driver.target("t"));
    publish(&mut caller, request(&name, &target, &[])).await.unwrap();
    use_it(&target).await;
    driver.kill();
    for pod in driver.pods() {
        kill_process(pod.agent.pid);
    }
    driver.start_again();
    let mut caller = driver.caller().await;
    in_time(caller.unpublish(&name, &target)).await.unwrap();
    assert!(!target.exists());
    assert_gone(&driver, &name);
    driver.stop_and_leave_nothing().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publish_that_is_refused_leaves_no_directory() {
    let driver = Driver::start();
    let mut caller = driver.caller().await;
    let (good, full) = (driver.target("t"), driver.target("full"));
    let name = name('c');
    for (attributes, field) in [
        ([("root", "nowhere")], "volume_context[\"root\"]"),
        ([("size", "much")], "volume_context[\"size\"]"),
        ([("hostPath", "/")], "volume_context[\"hostPath\"]"),
    ] {
        let refused = publish(&mut caller, request(&name, &good, &attributes)).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
        assert!(refused.message().contains(field), "{refused}");
        assert_gone(&driver, &name);
    }
    let refused = publish(&mut caller, request("main#mine", &good, &[])).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    assert!(refused.message().contains("volume_id"), "{refused}");
    fs::create_dir(&full).unwrap();
    fs::write(full.join("mine"), "kept").unwrap();
    let refused = publish(&mut caller, request(&name, &full, &[])).await.unwrap_err();
    assert!(refused.message().contains("holds files"), "{refused}");
    assert_gone(&driver, &name);
    fs::remove_dir_all(full).unwrap();
    // One that was never published is unpublished already.
    in_time(caller.unpublish(&name, &good)).await.unwrap();
    driver.stop_and_leave_nothing().await;
}
