//! A driver with a JuiceFS client and a filesystem to make volumes in, called as the sidecars of Kubernetes call it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::csi::api::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use mountpod::csi::api::v1::{
    CapacityRange, ControllerExpandVolumeRequest, CreateSnapshotRequest, CreateVolumeRequest,
    DeleteSnapshotRequest, DeleteVolumeRequest, ListSnapshotsRequest, NodePublishVolumeRequest, Snapshot,
    Volume, VolumeContentSource,
};
use mountpod::programs::caller::{Caller, capability};
use mountpod::programs::leftovers::Leftovers;
use tonic::{Code, Status};

use crate::juicefs_support::{PASSWORD, Redis, juicefs};
use crate::session_support::node::eventually;
use crate::support::Driver;

pub const MIB: i64 = 1 << 20;

/// A driver, and a filesystem in servers of its own, which no look for leftovers finds.
pub struct Scene {
    pub driver: Driver,
    pub caller: Caller,
    pub redis: Redis,
    pub secret: BTreeMap<String, String>,
    servers: tempfile::TempDir,
}

/// What is asked of CreateVolume.
#[derive(Clone)]
pub struct Wanted<'a> {
    pub name: &'a str,
    pub bytes: i64,
    pub parameters: &'a [(&'a str, &'a str)],
    pub source: Option<Type>,
}

impl<'a> Wanted<'a> {
    pub fn new(name: &'a str, bytes: i64) -> Self {
        Self { name, bytes, parameters: &[], source: None }
    }
}

pub fn of_snapshot(snapshot: &Snapshot) -> Option<Type> {
    Some(Type::Snapshot(SnapshotSource { snapshot_id: snapshot.snapshot_id.clone() }))
}

pub fn of_volume(volume: &Volume) -> Option<Type> {
    Some(Type::Volume(VolumeSource { volume_id: volume.volume_id.clone() }))
}

impl Scene {
    pub async fn new() -> Self {
        let servers = tempfile::tempdir().unwrap();
        let redis = Redis::start(servers.path()).await;
        let objects = servers.path().join("objects");
        fs::create_dir(&objects).unwrap();
        let secret = redis.secret(&objects);
        let driver = Driver::start_with_juicefs(&juicefs());
        let caller = driver.caller().await;
        Self { driver, caller, redis, secret, servers }
    }

    /// The same with its metadata in a file: SQLite, for one machine.
    pub fn in_a_file(mut self) -> Self {
        let url = format!("sqlite3://{}", self.servers.path().join("meta.db").display());
        self.secret = self.with("metaurl", &url);
        self
    }

    pub fn with(&self, key: &str, value: &str) -> BTreeMap<String, String> {
        let mut secret = self.secret.clone();
        secret.insert(key.to_owned(), value.to_owned());
        secret
    }

    fn secrets(&self) -> HashMap<String, String> {
        self.secret.clone().into_iter().collect()
    }

    pub fn request(&self, wanted: &Wanted<'_>) -> CreateVolumeRequest {
        CreateVolumeRequest {
            name: wanted.name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: wanted.bytes, limit_bytes: 0 }),
            volume_capabilities: vec![capability(Mode::MultiNodeMultiWriter)],
            parameters: wanted
                .parameters
                .iter()
                .map(|&(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            secrets: self.secrets(),
            volume_content_source: wanted
                .source
                .clone()
                .map(|source| VolumeContentSource { r#type: Some(source) }),
            ..CreateVolumeRequest::default()
        }
    }

    pub async fn try_create(&self, wanted: &Wanted<'_>) -> Result<Volume, Status> {
        let created = self.caller.clone().controller.create_volume(self.request(wanted)).await?;
        Ok(created.into_inner().volume.unwrap())
    }

    pub async fn create(&self, wanted: &Wanted<'_>) -> Volume {
        let created = self.try_create(wanted).await;
        created.unwrap_or_else(|status| panic!("{status}\n{}", self.driver.log()))
    }

    pub async fn delete(&self, volume_id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: volume_id.to_owned(), secrets: self.secrets() };
        self.caller.clone().controller.delete_volume(request).await.map(drop)
    }

    pub async fn expand(&self, volume_id: &str, bytes: i64) -> Result<i64, Status> {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume_id.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            secrets: self.secrets(),
            ..ControllerExpandVolumeRequest::default()
        };
        let expanded = self.caller.clone().controller.controller_expand_volume(request).await?;
        Ok(expanded.into_inner().capacity_bytes)
    }

    pub async fn snapshot(&self, name: &str, volume: &Volume) -> Result<Snapshot, Status> {
        let request = CreateSnapshotRequest {
            source_volume_id: volume.volume_id.clone(),
            name: name.to_owned(),
            secrets: self.secrets(),
            ..CreateSnapshotRequest::default()
        };
        let taken = self.caller.clone().controller.create_snapshot(request).await?;
        Ok(taken.into_inner().snapshot.unwrap())
    }

    pub async fn delete_snapshot(&self, snapshot_id: &str) -> Result<(), Status> {
        let request = DeleteSnapshotRequest { snapshot_id: snapshot_id.to_owned(), secrets: self.secrets() };
        self.caller.clone().controller.delete_snapshot(request).await.map(drop)
    }

    /// Ids of the snapshots, those of one volume when it is named.
    pub async fn snapshots(&self, source: &str) -> Vec<String> {
        let request = ListSnapshotsRequest {
            source_volume_id: source.to_owned(),
            secrets: self.secrets(),
            ..ListSnapshotsRequest::default()
        };
        let listed = self.caller.clone().controller.list_snapshots(request).await.unwrap().into_inner();
        listed.entries.into_iter().map(|entry| entry.snapshot.unwrap().snapshot_id).collect()
    }

    /// Publishes a volume as the kubelet does, and answers where.
    pub async fn publish(&self, volume: &Volume) -> PathBuf {
        let target = self.driver.target(&volume.volume_id.replace('#', "_"));
        let request = NodePublishVolumeRequest {
            volume_id: volume.volume_id.clone(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability(Mode::MultiNodeMultiWriter)),
            volume_context: volume.volume_context.clone(),
            secrets: self.secrets(),
            ..NodePublishVolumeRequest::default()
        };
        let published = self.caller.clone().node.node_publish_volume(request).await;
        published.unwrap_or_else(|status| panic!("{status}\n{}", self.driver.log()));
        target
    }

    pub async fn unpublish(&self, volume: &Volume) {
        let target = self.driver.target(&volume.volume_id.replace('#', "_"));
        self.caller.clone().unpublish(&volume.volume_id, &target).await.unwrap();
    }

    /// The whole filesystem, as an administrator's PersistentVolume shows it.
    pub async fn whole(&self) -> (Volume, PathBuf) {
        let whole = Volume {
            volume_id: "all of it".to_owned(),
            volume_context: HashMap::from([("client".to_owned(), "juicefs".to_owned())]),
            ..Volume::default()
        };
        let target = self.publish(&whole).await;
        (whole, target)
    }

    /// Stops the driver; no mount and no process is left of it, and no secret was logged.
    pub async fn end(mut self) {
        // The driver's own, of the whole filesystem.
        eventually("other mount pods are gone", || match self.driver.pods().len() {
            0 | 1 => Ok(()),
            pods => Err(format!("{pods} mount pods")),
        })
        .await;
        self.driver.stop().await;
        eventually("nothing is left", || {
            let left = Leftovers::of(self.driver.path(), &self.driver.state()).unwrap();
            let gone = left.mounts.is_empty() && left.processes.is_empty() && left.cgroups.is_empty();
            if gone { Ok(()) } else { Err(left.to_string()) }
        })
        .await;
        let log = self.driver.log();
        assert!(!log.contains(PASSWORD) && !log.contains("hunter2"), "{log}");
        let left: Vec<_> = fs::read_dir(self.driver.state().join("filesystems")).unwrap().collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

/// Asserts code and words of an error.
pub fn refused<T>(answer: Result<T, Status>, code: Code, words: &str) {
    let Err(status) = answer else { panic!("it was not refused: {words}") };
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(words), "{words}: {status}");
    assert!(!status.message().contains("hunter2"), "{status}");
}

/// Names in a directory, in their order.
pub fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<_> =
        entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}
