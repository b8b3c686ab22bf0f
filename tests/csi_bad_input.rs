//! Is every field of every call checked, before anything is made?
//!
//! The descriptor of csi.proto is walked, so a field that is added later is spoiled, too: unless it is checked or listed
//! here with the reason why it may be spoiled, this test fails.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod csi;
#[path = "csi/requests.rs"]
mod requests;
#[path = "csi/spoil.rs"]
mod spoil;

use std::collections::BTreeSet;

use mountpod::csi::api::{FILE_DESCRIPTOR_SET, v1};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use tonic::Code;

use self::csi::{Driver, picture};
use self::requests::{SNAPSHOT, TARGET, VOLUME, good};
use self::spoil::{Spoiled, call, spoil};

/// Calls that this driver does not offer at all.
const NOT_OFFERED: &[&str] =
    &["ControllerPublishVolume", "ControllerUnpublishVolume", "NodeStageVolume", "NodeUnstageVolume"];

/// Fields that may be spoiled in this way, and the codes that then come instead of INVALID_ARGUMENT.
/// Method ("*": any), last part of the field's path, way of spoiling, codes.
const ALLOWED: &[(&str, &str, &str, &[Code])] = &[
    // Required here, optional elsewhere: the first entry that fits counts.
    ("ControllerExpandVolume", "capacity_range", "missing", &[Code::InvalidArgument]),
    ("ControllerModifyVolume", "mutable_parameters", "missing", &[Code::InvalidArgument]),
    // Any text without control characters is a name; it becomes a safe component.
    ("*", "name", "path-like", &[Code::Ok]),
    // Without a range a volume has the default size; more than the root has is out of range.
    ("*", "capacity_range", "missing", &[Code::Ok]),
    ("*", "required_bytes", "missing", &[Code::Ok]),
    ("*", "limit_bytes", "missing", &[Code::Ok]),
    ("*", "limit_bytes", "absurd", &[Code::Ok]),
    // Optional by the CSI spec.
    ("*", "parameters", "missing", &[Code::Ok]),
    ("*", "secrets", "missing", &[Code::Ok]),
    ("*", "mutable_parameters", "missing", &[Code::Ok]),
    ("*", "volume_context", "missing", &[Code::Ok]),
    ("*", "publish_context", "missing", &[Code::Ok]),
    ("*", "volume_content_source", "missing", &[Code::Ok]),
    ("*", "accessibility_requirements", "missing", &[Code::Ok]),
    ("*", "accessible_topology", "missing", &[Code::Ok]),
    ("*", "requisite", "missing", &[Code::Ok]),
    ("*", "preferred", "missing", &[Code::Ok]),
    ("*", "fs_type", "missing", &[Code::Ok]),
    ("*", "volume_mount_group", "missing", &[Code::Ok]),
    ("*", "mount_flags", "missing", &[Code::Ok]),
    ("*", "max_entries", "missing", &[Code::Ok]),
    ("*", "max_entries", "absurd", &[Code::Ok]),
    ("*", "starting_token", "missing", &[Code::Ok]),
    ("*", "staging_target_path", "missing", &[Code::Ok]),
    ("*", "readonly", "other", &[Code::Ok]),
    ("GetCapacity", "volume_capabilities", "missing", &[Code::Ok]),
    ("ControllerExpandVolume", "volume_capability", "missing", &[Code::Ok]),
    ("NodeExpandVolume", "volume_capability", "missing", &[Code::Ok]),
    ("NodeGetVolumeHealth", "volume_publish_path", "missing", &[Code::Ok]),
    ("ListSnapshots", "snapshot_id", "missing", &[Code::Ok]),
    ("ListSnapshots", "source_volume_id", "missing", &[Code::Ok]),
    // A secret's key is the administrator's choice.
    ("*", "secrets", "unknown key", &[Code::Ok]),
    // The CSI code of a bad token.
    ("*", "starting_token", "path-like", &[Code::Aborted]),
    // The driver has no use for this path and does not touch it.
    ("*", "staging_target_path", "path-like", &[Code::Ok]),
    ("*", "staging_target_path", "relative", &[Code::Ok]),
    // A volume is not published at a relative path.
    ("*", "volume_path", "relative", &[Code::NotFound]),
    ("*", "volume_publish_path", "relative", &[Code::NotFound]),
    // The CSI code of a range that can't be had.
    ("*", "required_bytes", "absurd", &[Code::OutOfRange, Code::InvalidArgument]),
    // A capability that is not offered: no capacity, not confirmed, which CSI tells in an answer.
    ("GetCapacity", "fs_type", "*", &[Code::Ok, Code::InvalidArgument]),
    ("GetCapacity", "volume_mount_group", "*", &[Code::Ok, Code::InvalidArgument]),
    ("GetCapacity", "mount_flags", "*", &[Code::Ok, Code::InvalidArgument]),
    ("GetCapacity", "access_type", "*", &[Code::Ok, Code::InvalidArgument]),
    ("GetCapacity", "block", "*", &[Code::Ok, Code::InvalidArgument]),
    ("ValidateVolumeCapabilities", "fs_type", "*", &[Code::Ok, Code::InvalidArgument]),
    ("ValidateVolumeCapabilities", "volume_mount_group", "*", &[Code::Ok, Code::InvalidArgument]),
    ("ValidateVolumeCapabilities", "mount_flags", "*", &[Code::Ok, Code::InvalidArgument]),
    ("ValidateVolumeCapabilities", "block", "*", &[Code::Ok, Code::InvalidArgument]),
];

fn codes_for(method: &str, case: &Spoiled) -> &'static [Code] {
    if NOT_OFFERED.contains(&method) {
        return &[Code::Unimplemented];
    }
    ALLOWED
        .iter()
        .find(|(of, field, way, _)| {
            (*of == "*" || *of == method) && *field == case.field && (*way == "*" || *way == case.way)
        })
        .map_or(&[Code::InvalidArgument], |(.., codes)| codes)
}

/// A driver with the volume, the snapshot and the target that good requests name.
async fn prepared() -> Driver {
    let driver = Driver::start().await;
    let mut controller = v1::controller_client::ControllerClient::new(driver.channel.clone());
    let volume = v1::CreateVolumeRequest { name: "vol".to_owned(), ..requests::create(None) };
    assert_eq!(
        controller.create_volume(volume).await.unwrap().into_inner().volume.unwrap().volume_id,
        VOLUME
    );
    let snapshot = v1::CreateSnapshotRequest {
        name: "snap".to_owned(),
        source_volume_id: VOLUME.to_owned(),
        ..v1::CreateSnapshotRequest::default()
    };
    let snapshot = controller.create_snapshot(snapshot).await.unwrap().into_inner().snapshot.unwrap();
    assert_eq!(snapshot.snapshot_id, SNAPSHOT);
    driver
}

async fn published(driver: &Driver) {
    let mut node = v1::node_client::NodeClient::new(driver.channel.clone());
    node.node_publish_volume(requests::publish(VOLUME, TARGET)).await.unwrap();
    driver.mounts.calls.lock().unwrap().clear();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_of_every_call_is_checked_before_anything_is_made() {
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    let mut cases = 0;
    let mut wrong = Vec::new();
    for (service, method, good) in good() {
        let rpc = format!("csi.v1.{service}");
        let service_descriptor = pool.get_service_by_name(&rpc).unwrap();
        let descriptor = service_descriptor.methods().find(|seen| seen.name() == method).unwrap().input();
        let good = DynamicMessage::decode(descriptor, good.as_slice()).unwrap();
        let mut driver = prepared().await;
        for case in spoil(&good) {
            cases += 1;
            if method.starts_with("Node") && driver.mounts.published.lock().unwrap().is_empty() {
                published(&driver).await;
            }
            driver.mounts.calls.lock().unwrap().clear();
            let before = picture(driver.dir.path());
            let outcome = call(&driver.channel, service, method, case.request.encode_to_vec()).await;
            let (code, message) =
                outcome.map_or_else(|s| (s.code(), s.message().to_owned()), |()| (Code::Ok, String::new()));
            let what = format!("{method}: {} {}: {code:?} {message}", case.path, case.way);
            if !codes_for(method, &case).contains(&code) {
                wrong.push(what);
            } else if code == Code::InvalidArgument && !message.contains(&case.field) {
                wrong.push(format!("{what}: the field is not named"));
            } else if code != Code::Ok && picture(driver.dir.path()) != before {
                wrong.push(format!("{what}: something was made or changed"));
            } else if code != Code::Ok && !driver.mounts.calls.lock().unwrap().is_empty() {
                wrong.push(format!("{what}: the engine was called"));
            }
            if code == Code::Ok && !method.starts_with("Node") {
                // What was allowed may have changed something: begin anew.
                driver.stop().await.unwrap();
                driver = prepared().await;
            }
        }
        driver.stop().await.unwrap();
    }
    assert!(wrong.is_empty(), "{} of {cases} cases:\n{}", wrong.len(), wrong.join("\n"));
    assert!(cases > 400, "only {cases} cases: is the descriptor walked?");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_good_requests_are_good() {
    let mut seen = BTreeSet::new();
    for (service, method, request) in good() {
        seen.insert(format!("{service}/{method}"));
        let driver = prepared().await;
        if method.starts_with("Node") {
            published(&driver).await;
        }
        let code =
            call(&driver.channel, service, method, request).await.map_or_else(|s| s.code(), |()| Code::Ok);
        let want = if NOT_OFFERED.contains(&method) { Code::Unimplemented } else { Code::Ok };
        assert_eq!(code, want, "{method}");
        driver.stop().await.unwrap();
    }
    let pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET).unwrap();
    for service in ["Identity", "Controller", "Node"] {
        for method in pool.get_service_by_name(&format!("csi.v1.{service}")).unwrap().methods() {
            assert!(
                seen.contains(&format!("{service}/{}", method.name())),
                "{} has no good request",
                method.name()
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_id_leads_to_what_is_not_its_volume() {
    let driver = prepared().await;
    let mut controller = v1::controller_client::ControllerClient::new(driver.channel.clone());
    let mut node = v1::node_client::NodeClient::new(driver.channel.clone());
    std::fs::create_dir(driver.root("main").join("foreign")).unwrap();
    std::fs::write(driver.root("main").join("foreign/file"), "precious").unwrap();
    let before = picture(driver.dir.path());
    let ids = [
        "main#../other",
        "main#.mountpod",
        "main#.mountpod/volumes",
        "main#..",
        "main#.",
        "main#foreign",
        "other#vol",
        "third#vol",
        "main#",
        "#vol",
        "main#vol/",
        "main#vol#",
        "main#-rf",
        "main",
        "../main#vol",
        "MAIN#vol",
    ];
    for id in ids {
        let refused =
            |code| assert!(matches!(code, Code::NotFound | Code::InvalidArgument), "{id}: {code:?}");
        let mut publish = requests::publish(id, "/run/target");
        publish.volume_context.clear();
        refused(node.node_publish_volume(publish).await.unwrap_err().code());
        let get = v1::ControllerGetVolumeRequest { volume_id: id.to_owned() };
        refused(controller.controller_get_volume(get).await.unwrap_err().code());
        let snapshot = v1::CreateSnapshotRequest {
            name: "s".to_owned(),
            source_volume_id: id.to_owned(),
            ..v1::CreateSnapshotRequest::default()
        };
        refused(controller.create_snapshot(snapshot).await.unwrap_err().code());
        let source = v1::volume_content_source::VolumeSource { volume_id: id.to_owned() };
        let clone = requests::create(Some(v1::volume_content_source::Type::Volume(source)));
        refused(controller.create_volume(clone).await.unwrap_err().code());
        let delete =
            v1::DeleteVolumeRequest { volume_id: id.to_owned(), ..v1::DeleteVolumeRequest::default() };
        // Deleting what does not exist succeeds, and touches nothing.
        if let Err(status) = controller.delete_volume(delete).await {
            refused(status.code());
        }
    }
    for root in ["nobody", "../main", "/", "main/..", ""] {
        let mut create = requests::create(None);
        create.parameters = requests::map(&[("root", root)]);
        let status = controller.create_volume(create).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{root}");
        assert!(status.message().contains("parameters[\"root\"]"), "{}", status.message());
    }
    assert_eq!(picture(driver.dir.path()), before);
    assert!(driver.mounts.calls.lock().unwrap().is_empty());
    driver.stop().await.unwrap();
}
