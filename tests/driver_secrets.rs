//! Does a secret that was given to the driver stand anywhere afterwards?
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a test may panic and print figures")]

mod support;

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::csi::api::v1::{
    ControllerExpandVolumeRequest, ControllerGetVolumeRequest, ControllerModifyVolumeRequest,
    CreateSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest, DeleteVolumeRequest,
    ListSnapshotsRequest, NodeExpandVolumeRequest, NodePublishVolumeRequest,
    ValidateVolumeCapabilitiesRequest,
};
use mountpod::programs::caller::capability;
use support::Driver;

const SECRET: &str = "hunter2-9f3c1e-must-never-be-seen";

/// Every RPC that takes secrets gets one, once in a call that succeeds and once in one that fails; then the secret is
/// searched in the log at `trace`, every argv and environment of the driver's processes, every file, and every answer.
#[tokio::test]
#[allow(clippy::too_many_lines, reason = "one line a call")]
async fn a_secret_is_found_nowhere() {
    let driver = Driver::start_with_log_level("trace");
    let mut caller = driver.caller().await;
    let secrets = || HashMap::from([("password".to_owned(), SECRET.to_owned())]);
    let mut answers = Vec::new();
    let capabilities = vec![capability(Mode::MultiNodeMultiWriter)];

    let create = CreateVolumeRequest {
        name: "v".to_owned(),
        volume_capabilities: capabilities.clone(),
        parameters: HashMap::from([("root".to_owned(), "main".to_owned())]),
        secrets: secrets(),
        ..CreateVolumeRequest::default()
    };
    let volume = caller.controller.create_volume(create.clone()).await.unwrap().into_inner().volume.unwrap();
    answers.push(format!("{volume:?}"));
    let bad =
        CreateVolumeRequest { parameters: HashMap::from([("root".to_owned(), "none".to_owned())]), ..create };
    answers.push(format!("{:?}", caller.controller.create_volume(bad).await.unwrap_err()));

    let target = driver.target("t");
    for (target, volume_id) in [(&target, volume.volume_id.as_str()), (&driver.target("u"), "main#none")] {
        let request = NodePublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability(Mode::MultiNodeMultiWriter)),
            volume_context: volume.volume_context.clone(),
            secrets: secrets(),
            ..NodePublishVolumeRequest::default()
        };
        answers.push(format!("{:?}", caller.node.node_publish_volume(request).await));
    }
    fs::write(target.join("x"), "y").unwrap();
    for volume_id in [volume.volume_id.as_str(), "main#none"] {
        let volume_id = volume_id.to_owned();
        let validate = ValidateVolumeCapabilitiesRequest {
            volume_id: volume_id.clone(),
            volume_capabilities: capabilities.clone(),
            secrets: secrets(),
            ..ValidateVolumeCapabilitiesRequest::default()
        };
        answers.push(format!("{:?}", caller.controller.validate_volume_capabilities(validate).await));
        let expand = ControllerExpandVolumeRequest {
            volume_id: volume_id.clone(),
            secrets: secrets(),
            ..ControllerExpandVolumeRequest::default()
        };
        answers.push(format!("{:?}", caller.controller.controller_expand_volume(expand).await));
        let expand = NodeExpandVolumeRequest {
            volume_id: volume_id.clone(),
            volume_path: target.display().to_string(),
            secrets: secrets(),
            ..NodeExpandVolumeRequest::default()
        };
        answers.push(format!("{:?}", caller.node.node_expand_volume(expand).await));
        let modify = ControllerModifyVolumeRequest {
            volume_id: volume_id.clone(),
            secrets: secrets(),
            mutable_parameters: HashMap::from([("memoryLimit".to_owned(), "256Mi".to_owned())]),
        };
        answers.push(format!("{:?}", caller.controller.controller_modify_volume(modify).await));
        let snapshot = CreateSnapshotRequest {
            source_volume_id: volume_id.clone(),
            name: "s".to_owned(),
            secrets: secrets(),
            ..CreateSnapshotRequest::default()
        };
        answers.push(format!("{:?}", caller.controller.create_snapshot(snapshot).await));
        let get = ControllerGetVolumeRequest { volume_id };
        answers.push(format!("{:?}", caller.controller.controller_get_volume(get).await));
    }
    let list = ListSnapshotsRequest { secrets: secrets(), ..ListSnapshotsRequest::default() };
    answers.push(format!("{:?}", caller.controller.list_snapshots(list).await));

    let mut places = processes(driver.path());
    assert!(places.len() >= 4, "driver, agent, keeper and server run: {places:?}");
    places.push(("log".to_owned(), driver.log().into_bytes()));
    assert!(places.last().unwrap().1.len() > 1000, "the log at trace has lines");
    files(driver.path(), &mut places);
    places.extend(answers.into_iter().map(|answer| ("answer".to_owned(), answer.into_bytes())));
    let found: Vec<_> =
        places.iter().filter(|(_, bytes)| contains(bytes, SECRET.as_bytes())).map(|(name, _)| name).collect();
    assert!(found.is_empty(), "the secret stands in {found:?}");
    println!("secrets: {} places searched, 0 found", places.len());

    let delete = DeleteSnapshotRequest { snapshot_id: "main#s".to_owned(), secrets: secrets() };
    caller.controller.delete_snapshot(delete).await.unwrap();
    caller.unpublish(&volume.volume_id, &target).await.unwrap();
    let delete = DeleteVolumeRequest { volume_id: volume.volume_id.clone(), secrets: secrets() };
    caller.controller.delete_volume(delete).await.unwrap();
    assert!(!contains(driver.log().as_bytes(), SECRET.as_bytes()));
    driver.stop_and_leave_nothing().await;
}

/// argv and environment of every process that names the directory.
fn processes(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let directory = directory.to_str().unwrap().as_bytes();
    let mut found = Vec::new();
    for pid in
        fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().into_string().ok())
    {
        let Ok(argv) = fs::read(format!("/proc/{pid}/cmdline")) else { continue };
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        let parents_argv = argv.windows(13).any(|words| words == b"mount-hostdir");
        if contains(&argv, directory) || parents_argv {
            found.push((format!("argv of {pid}"), argv));
            found.push((format!("environment of {pid}"), environment));
        }
    }
    found
}

fn files(directory: &Path, found: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            files(&entry.path(), found);
        } else if kind.is_file() {
            found.push((entry.path().display().to_string(), fs::read(entry.path()).unwrap_or_default()));
        }
    }
}

fn contains(bytes: &[u8], wanted: &[u8]) -> bool {
    bytes.windows(wanted.len()).any(|window| window == wanted)
}
