//! Does the driver come and go as it should: its socket, calls in flight, and two calls at once?
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod csi;
#[path = "csi/requests.rs"]
mod requests;

use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;
use std::time::Duration;

use mountpod::csi::SocketError;
use mountpod::csi::api::v1;
use mountpod::csi::api::v1::controller_client::ControllerClient;
use mountpod::csi::api::v1::node_client::NodeClient;
use mountpod::csi::server::ServeError;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tonic::Code;

use self::csi::{Driver, NODE, RecordingMounts, connect, spawn};

/// Longest wait for something that happens at once.
const LIMIT: Duration = Duration::from_secs(10);

async fn until(what: &str, condition: impl Fn() -> bool) {
    let waiting = async {
        while !condition() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, waiting).await.unwrap_or_else(|_| panic!("{what} did not happen"));
}

async fn volume(driver: &Driver) -> v1::Volume {
    let mut controller = ControllerClient::new(driver.channel.clone());
    let request = v1::CreateVolumeRequest { name: "vol".to_owned(), ..requests::create(None) };
    controller.create_volume(request).await.unwrap().into_inner().volume.unwrap()
}

#[tokio::test]
async fn the_socket_is_private_and_goes_with_the_driver() {
    let driver = Driver::start().await;
    let socket = driver.socket();
    assert_eq!(socket.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    driver.stop().await.unwrap();
    assert!(!socket.exists());
}

#[tokio::test]
async fn a_second_driver_refuses_and_the_first_serves_on() {
    let driver = Driver::start().await;
    let elsewhere = tempfile::tempdir().unwrap();
    let second = spawn(
        &driver.socket(),
        elsewhere.path(),
        Arc::new(RecordingMounts::default()),
        CancellationToken::new(),
    );
    let error = tokio::time::timeout(LIMIT, second).await.unwrap().unwrap().unwrap_err();
    assert!(matches!(error, ServeError::Socket(SocketError::Living(_))), "{error}");
    assert_eq!(volume(&driver).await.volume_id, "main#vol");
    connect(&driver.socket()).await;
    driver.stop().await.unwrap();
}

#[tokio::test]
async fn stopping_finishes_the_call_in_flight() {
    let driver = Driver::start().await;
    volume(&driver).await;
    let gate = Arc::new(Semaphore::new(0));
    *driver.mounts.gate.lock().unwrap() = Some(gate.clone());
    let mut node = NodeClient::new(driver.channel.clone());
    let call =
        tokio::spawn(async move { node.node_publish_volume(requests::publish("main#vol", "/run/t")).await });
    until("the call", || !driver.mounts.calls.lock().unwrap().is_empty()).await;
    driver.stop.cancel();
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(!driver.serving.is_finished(), "the driver must wait for the call");
    gate.add_permits(1);
    tokio::time::timeout(LIMIT, call).await.unwrap().unwrap().unwrap();
    driver.stop().await.unwrap();
}

#[tokio::test]
async fn a_second_call_for_the_same_target_is_aborted_and_other_targets_go_on() {
    let driver = Driver::start().await;
    volume(&driver).await;
    let gate = Arc::new(Semaphore::new(0));
    *driver.mounts.gate.lock().unwrap() = Some(gate.clone());
    let mut node = NodeClient::new(driver.channel.clone());
    let mut first_node = node.clone();
    let first =
        tokio::spawn(
            async move { first_node.node_publish_volume(requests::publish("main#vol", "/run/a")).await },
        );
    until("the first call", || driver.mounts.calls.lock().unwrap().len() == 1).await;
    let same = node.node_publish_volume(requests::publish("main#vol", "/run/a")).await.unwrap_err();
    assert_eq!(same.code(), Code::Aborted, "{same}");
    let mut controller = ControllerClient::new(driver.channel.clone());
    let delete = v1::DeleteVolumeRequest { volume_id: "main#vol".to_owned(), ..Default::default() };
    let deleted = controller.delete_volume(delete).await.unwrap_err();
    assert_eq!(deleted.code(), Code::Aborted, "{deleted}");
    gate.add_permits(2);
    node.node_publish_volume(requests::publish("main#vol", "/run/b")).await.unwrap();
    first.await.unwrap().unwrap();
    driver.stop().await.unwrap();
}

#[tokio::test]
async fn a_published_volume_is_not_deleted() {
    let driver = Driver::start().await;
    volume(&driver).await;
    let mut node = NodeClient::new(driver.channel.clone());
    let mut controller = ControllerClient::new(driver.channel.clone());
    node.node_publish_volume(requests::publish("main#vol", "/run/a")).await.unwrap();
    let delete = || v1::DeleteVolumeRequest { volume_id: "main#vol".to_owned(), ..Default::default() };
    let status = controller.delete_volume(delete()).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    assert!(status.message().contains("/run/a"), "{}", status.message());
    let list = controller.list_volumes(v1::ListVolumesRequest::default()).await.unwrap().into_inner();
    assert_eq!(list.entries[0].status.clone().unwrap().published_node_ids, [NODE]);
    let unpublish =
        v1::NodeUnpublishVolumeRequest { volume_id: "main#vol".to_owned(), target_path: "/run/a".to_owned() };
    node.node_unpublish_volume(unpublish).await.unwrap();
    controller.delete_volume(delete()).await.unwrap();
    assert!(!driver.root("main").join("vol").exists());
    driver.stop().await.unwrap();
}

#[tokio::test]
async fn modified_limits_reach_the_next_publish_and_no_secret_reaches_the_spec() {
    let driver = Driver::start().await;
    volume(&driver).await;
    let mut controller = ControllerClient::new(driver.channel.clone());
    let modify = v1::ControllerModifyVolumeRequest {
        volume_id: "main#vol".to_owned(),
        mutable_parameters: requests::map(&[("memoryLimit", "1Gi"), ("cpuLimit", "250m")]),
        ..Default::default()
    };
    controller.controller_modify_volume(modify).await.unwrap();
    let mut node = NodeClient::new(driver.channel.clone());
    node.node_publish_volume(requests::publish("main#vol", "/run/a")).await.unwrap();
    let published = driver.mounts.published.lock().unwrap()[0].clone();
    assert_eq!(published.resources.memory_limit.unwrap().0, 1 << 30);
    assert_eq!(published.resources.cpu_limit.unwrap().0, 250);
    assert_eq!((published.spec.filesystem.as_str(), published.spec.subdirectory.as_str()), ("main", "vol"));
    assert!(published.spec.credentials.is_some() && !format!("{published:?}").contains("hunter2"));
    driver.stop().await.unwrap();
}

#[tokio::test]
async fn topology_is_told_and_another_node_is_refused() {
    let driver = Driver::start().await;
    let here = [("topology.mountpod.dev/node".to_owned(), NODE.to_owned())];
    assert_eq!(volume(&driver).await.accessible_topology[0].segments, here.into());
    let mut node = NodeClient::new(driver.channel.clone());
    let info = node.node_get_info(v1::NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!((info.node_id.as_str(), info.max_volumes_per_node), (NODE, 7));
    let mut controller = ControllerClient::new(driver.channel.clone());
    let elsewhere = v1::Topology { segments: requests::map(&[("topology.mountpod.dev/node", "node-2")]) };
    let mut request = requests::create(None);
    request.accessibility_requirements =
        Some(v1::TopologyRequirement { requisite: vec![elsewhere.clone()], preferred: Vec::new() });
    assert_eq!(controller.create_volume(request).await.unwrap_err().code(), Code::ResourceExhausted);
    let capacity = v1::GetCapacityRequest { accessible_topology: Some(elsewhere), ..Default::default() };
    assert_eq!(controller.get_capacity(capacity).await.unwrap().into_inner().available_capacity, 0);
    driver.stop().await.unwrap();
}
