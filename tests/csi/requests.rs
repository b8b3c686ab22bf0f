//! A good request for every call, with every field set, to be spoiled one field at a time.

#![allow(dead_code, reason = "not every test uses all")]

use std::collections::HashMap;

use mountpod::csi::api::v1;
use mountpod::csi::api::v1::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
use mountpod::csi::api::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use prost::Message;

use super::csi::NODE;

/// The volume, snapshot and target that exist before each call; only the target of publish is new.
pub(crate) const VOLUME: &str = "main#vol";
pub(crate) const SNAPSHOT: &str = "main#snap";
pub(crate) const TARGET: &str = "/run/target";

/// Service, method, and the encoded request. `NodePublishVolume` comes with a writable and a read-only mode.
pub(crate) fn good() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let snapshot = Type::Snapshot(SnapshotSource { snapshot_id: SNAPSHOT.to_owned() });
    let volume = Type::Volume(VolumeSource { volume_id: VOLUME.to_owned() });
    let mut all = vec![
        ("Controller", "CreateVolume", create(Some(snapshot)).encode_to_vec()),
        ("Controller", "CreateVolume", create(Some(volume)).encode_to_vec()),
    ];
    all.extend(identity());
    all.extend(controller());
    all.extend(snapshots());
    all.extend(node());
    all
}

pub(crate) fn create(source: Option<Type>) -> v1::CreateVolumeRequest {
    v1::CreateVolumeRequest {
        name: "new".to_owned(),
        capacity_range: Some(range()),
        volume_capabilities: vec![capability()],
        parameters: map(&[("client", "hostdir"), ("root", "main")]),
        secrets: secrets(),
        volume_content_source: source.map(|kind| v1::VolumeContentSource { r#type: Some(kind) }),
        accessibility_requirements: Some(requirement()),
        mutable_parameters: map(&[("memoryLimit", "256Mi")]),
    }
}

fn identity() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    ["GetPluginInfo", "GetPluginCapabilities", "Probe"]
        .map(|method| ("Identity", method, Vec::new()))
        .to_vec()
}

fn controller() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let volume_id = VOLUME.to_owned();
    let delete = v1::DeleteVolumeRequest { volume_id: volume_id.clone(), secrets: secrets() };
    let publish = v1::ControllerPublishVolumeRequest { volume_id: volume_id.clone(), ..Default::default() };
    let unpublish =
        v1::ControllerUnpublishVolumeRequest { volume_id: volume_id.clone(), ..Default::default() };
    let validate = v1::ValidateVolumeCapabilitiesRequest {
        volume_id: volume_id.clone(),
        volume_context: map(&[("root", "main")]),
        volume_capabilities: vec![capability()],
        parameters: map(&[("root", "main")]),
        secrets: secrets(),
        mutable_parameters: map(&[("memoryLimit", "256Mi")]),
    };
    let list = v1::ListVolumesRequest { max_entries: 1, starting_token: VOLUME.to_owned() };
    let list_health = v1::ControllerListVolumeHealthRequest {
        max_entries: 1,
        starting_token: VOLUME.to_owned(),
        secrets: secrets(),
    };
    let health = v1::ControllerGetVolumeHealthRequest { volume_id: volume_id.clone(), secrets: secrets() };
    let capacity = v1::GetCapacityRequest {
        volume_capabilities: vec![capability()],
        parameters: map(&[("root", "main")]),
        accessible_topology: Some(topology()),
    };
    let expand = v1::ControllerExpandVolumeRequest {
        volume_id: volume_id.clone(),
        capacity_range: Some(range()),
        secrets: secrets(),
        volume_capability: Some(capability()),
    };
    let get = v1::ControllerGetVolumeRequest { volume_id: volume_id.clone() };
    let modify = v1::ControllerModifyVolumeRequest {
        volume_id,
        secrets: secrets(),
        mutable_parameters: map(&[("memoryLimit", "256Mi")]),
    };
    vec![
        ("Controller", "DeleteVolume", delete.encode_to_vec()),
        ("Controller", "ControllerPublishVolume", publish.encode_to_vec()),
        ("Controller", "ControllerUnpublishVolume", unpublish.encode_to_vec()),
        ("Controller", "ValidateVolumeCapabilities", validate.encode_to_vec()),
        ("Controller", "ListVolumes", list.encode_to_vec()),
        ("Controller", "ControllerListVolumeHealth", list_health.encode_to_vec()),
        ("Controller", "ControllerGetVolumeHealth", health.encode_to_vec()),
        ("Controller", "GetCapacity", capacity.encode_to_vec()),
        ("Controller", "ControllerGetCapabilities", Vec::new()),
        ("Controller", "ControllerExpandVolume", expand.encode_to_vec()),
        ("Controller", "ControllerGetVolume", get.encode_to_vec()),
        ("Controller", "ControllerModifyVolume", modify.encode_to_vec()),
    ]
}

fn snapshots() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let create = v1::CreateSnapshotRequest {
        source_volume_id: VOLUME.to_owned(),
        name: "new".to_owned(),
        secrets: secrets(),
        parameters: map(&[("csi.storage.k8s.io/volumesnapshot/name", "s")]),
        accessibility_requirements: Some(requirement()),
    };
    let delete = v1::DeleteSnapshotRequest { snapshot_id: SNAPSHOT.to_owned(), secrets: secrets() };
    let list = v1::ListSnapshotsRequest {
        max_entries: 1,
        starting_token: "main#a".to_owned(),
        source_volume_id: VOLUME.to_owned(),
        snapshot_id: SNAPSHOT.to_owned(),
        secrets: secrets(),
    };
    let get = v1::GetSnapshotRequest { snapshot_id: SNAPSHOT.to_owned(), secrets: secrets() };
    vec![
        ("Controller", "CreateSnapshot", create.encode_to_vec()),
        ("Controller", "DeleteSnapshot", delete.encode_to_vec()),
        ("Controller", "ListSnapshots", list.encode_to_vec()),
        ("Controller", "GetSnapshot", get.encode_to_vec()),
    ]
}

pub(crate) fn publish(volume_id: &str, target_path: &str) -> v1::NodePublishVolumeRequest {
    v1::NodePublishVolumeRequest {
        volume_id: volume_id.to_owned(),
        publish_context: HashMap::new(),
        staging_target_path: "/run/staging".to_owned(),
        target_path: target_path.to_owned(),
        volume_capability: Some(capability()),
        readonly: false,
        secrets: secrets(),
        volume_context: map(&[("client", "hostdir"), ("root", "main")]),
    }
}

fn node() -> Vec<(&'static str, &'static str, Vec<u8>)> {
    let volume_id = VOLUME.to_owned();
    let staging_target_path = "/run/staging".to_owned();
    let unpublish =
        v1::NodeUnpublishVolumeRequest { volume_id: volume_id.clone(), target_path: TARGET.to_owned() };
    let stats = v1::NodeGetVolumeStatsRequest {
        volume_id: volume_id.clone(),
        volume_path: TARGET.to_owned(),
        staging_target_path: staging_target_path.clone(),
    };
    let health = v1::NodeGetVolumeHealthRequest {
        volume_id: volume_id.clone(),
        volume_publish_path: TARGET.to_owned(),
        staging_target_path: staging_target_path.clone(),
    };
    let expand = v1::NodeExpandVolumeRequest {
        volume_id,
        volume_path: TARGET.to_owned(),
        capacity_range: Some(range()),
        staging_target_path,
        volume_capability: Some(capability()),
        secrets: secrets(),
    };
    let storage = v1::NodeGetStorageHealthRequest { secrets: secrets() };
    vec![
        ("Node", "NodeStageVolume", Vec::new()),
        ("Node", "NodeUnstageVolume", Vec::new()),
        ("Node", "NodePublishVolume", publish(VOLUME, "/run/other").encode_to_vec()),
        ("Node", "NodeUnpublishVolume", unpublish.encode_to_vec()),
        ("Node", "NodeGetVolumeStats", stats.encode_to_vec()),
        ("Node", "NodeGetVolumeHealth", health.encode_to_vec()),
        ("Node", "NodeGetStorageHealth", storage.encode_to_vec()),
        ("Node", "NodeExpandVolume", expand.encode_to_vec()),
        ("Node", "NodeGetCapabilities", Vec::new()),
        ("Node", "NodeGetInfo", Vec::new()),
    ]
}

pub(crate) fn capability() -> v1::VolumeCapability {
    v1::VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume {
            mount_flags: vec!["noatime".to_owned()],
            ..MountVolume::default()
        })),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    }
}

pub(crate) fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn range() -> v1::CapacityRange {
    v1::CapacityRange { required_bytes: 1 << 20, limit_bytes: 1 << 20 }
}

fn secrets() -> HashMap<String, String> {
    map(&[("password", "hunter2")])
}

fn topology() -> v1::Topology {
    v1::Topology { segments: map(&[("topology.mountpod.dev/node", NODE)]) }
}

fn requirement() -> v1::TopologyRequirement {
    v1::TopologyRequirement { requisite: vec![topology()], preferred: vec![topology()] }
}
