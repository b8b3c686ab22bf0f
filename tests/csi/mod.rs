//! A driver in this process: the real desks and provisioner on a real socket, with a double in place of the engine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    dead_code,
    reason = "a test fails by panicking; not every test uses all"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mountpod::config::flags::{Endpoint, HostdirRoot, MissingRoot, NodeId, Reach};
use mountpod::config::host_directories::HostDirectories;
use mountpod::csi::controller::ControllerDesk;
use mountpod::csi::edge::Edge;
use mountpod::csi::identity::{Health, IdentityDesk, Readiness};
use mountpod::csi::node::{JuicefsClient, NodeDesk, NodeFacts};
use mountpod::csi::server::{Desks, ServeError, serve};
use mountpod::mountpod::service::{
    Condition, Knowledge, MountError, MountService, PublishRequest, PublishedTargets, VolumeStats,
};
use mountpod::provision::dispatch::Provisioners;
use mountpod::provision::hostdir::Hostdir;
use mountpod::volume::{ClientKind, NodeKey, TargetPath, VolumeId};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

/// Longest wait for a driver to serve or to stop.
const LIMIT: Duration = Duration::from_secs(20);

pub(crate) const NODE: &str = "node-1";

/// A double of the engine: it mounts nothing, and records what it was asked.
#[derive(Default)]
pub(crate) struct RecordingMounts {
    pub(crate) calls: Mutex<Vec<String>>,
    pub(crate) published: Mutex<Vec<PublishRequest>>,
    /// When set, each publish waits for a permit.
    pub(crate) gate: Mutex<Option<Arc<Semaphore>>>,
}

impl MountService for RecordingMounts {
    fn client(&self, volume: &VolumeId) -> Option<ClientKind> {
        let published = self.published.lock().unwrap();
        published.iter().find(|seen| seen.volume == *volume).map(|seen| seen.spec.client)
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), MountError> {
        self.calls.lock().unwrap().push(format!("publish {} at {}", request.volume, request.target));
        let gate = self.gate.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.unwrap().forget();
        }
        self.published.lock().unwrap().push(request);
        Ok(())
    }

    async fn unpublish(&self, volume: &VolumeId, target: &TargetPath) -> Result<(), MountError> {
        self.calls.lock().unwrap().push(format!("unpublish {volume} at {target}"));
        self.published.lock().unwrap().retain(|seen| seen.target != *target);
        Ok(())
    }

    async fn stats(&self, volume: &VolumeId, target: &TargetPath) -> Result<VolumeStats, MountError> {
        if !self.targets(volume).contains(target) {
            return Err(MountError::NotMounted { volume: volume.clone(), target: target.clone() });
        }
        Ok(VolumeStats {
            bytes_total: 100,
            bytes_available: 60,
            bytes_used: 40,
            inodes_total: 10,
            inodes_free: 9,
            condition: Condition::Serving,
        })
    }
}

impl PublishedTargets for RecordingMounts {
    const KNOWLEDGE: Knowledge = Knowledge::ThisNode;

    fn targets(&self, volume: &VolumeId) -> Vec<TargetPath> {
        let published = self.published.lock().unwrap();
        published.iter().filter(|seen| seen.volume == *volume).map(|seen| seen.target.clone()).collect()
    }
}

struct Well;

impl Health for Well {
    async fn readiness(&self) -> Readiness {
        Readiness::Ready
    }
}

/// A driver that serves; its directory goes with it.
pub(crate) struct Driver {
    pub(crate) dir: tempfile::TempDir,
    pub(crate) mounts: Arc<RecordingMounts>,
    pub(crate) channel: Channel,
    pub(crate) stop: CancellationToken,
    pub(crate) serving: JoinHandle<Result<(), ServeError>>,
}

impl Driver {
    /// Serves roots `main` and `other`, both local to the node.
    pub(crate) async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mounts = Arc::new(RecordingMounts::default());
        let stop = CancellationToken::new();
        let serving = spawn(&socket(dir.path()), dir.path(), mounts.clone(), stop.clone());
        let channel = connect(&socket(dir.path())).await;
        Self { dir, mounts, channel, stop, serving }
    }

    pub(crate) fn root(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn socket(&self) -> PathBuf {
        socket(self.dir.path())
    }

    /// Stops serving and tells how that went.
    pub(crate) async fn stop(self) -> Result<(), ServeError> {
        self.stop.cancel();
        drop(self.channel);
        tokio::time::timeout(LIMIT, self.serving).await.expect("the driver stops in time").unwrap()
    }
}

fn socket(dir: &Path) -> PathBuf {
    dir.join("csi.sock")
}

/// Serves on a socket, with roots in a directory.
pub(crate) fn spawn(
    socket: &Path,
    dir: &Path,
    mounts: Arc<RecordingMounts>,
    stop: CancellationToken,
) -> JoinHandle<Result<(), ServeError>> {
    let root = |name: &str| HostdirRoot {
        name: name.parse().unwrap(),
        dir: dir.join(name),
        reach: Reach::NodeLocal,
        missing: MissingRoot::Create,
    };
    let hostdir = Hostdir::new(vec![root("main"), root("other")]).unwrap();
    let endpoint: Endpoint = format!("unix://{}", socket.display()).parse().unwrap();
    let node: NodeId = NODE.parse().unwrap();
    let edge = Edge::default();
    let one = vec!["/srv/jfs".parse().unwrap()];
    let directories = HostDirectories::Listed(one);
    let facts = NodeFacts {
        id: node.clone(),
        volumes_max: 7,
        key: NodeKey::new(vec![1; 32]),
        juicefs: JuicefsClient::Present,
        directories: directories.clone(),
    };
    let identity = IdentityDesk::new("csi.mountpod.dev".parse().unwrap(), Well, edge.clone());
    let provisioners = Provisioners::<RecordingMounts>::new(hostdir.clone(), None);
    let desks = Desks::new(identity, edge.clone())
        .and_controller(ControllerDesk::new(provisioners, mounts.clone(), node, directories, edge.clone()))
        .and_node(NodeDesk::new(hostdir, mounts, facts, edge));
    tokio::spawn(async move { serve(&endpoint, desks, stop).await })
}

/// Connects as soon as somebody serves.
pub(crate) async fn connect(socket: &Path) -> Channel {
    let endpoint = tonic::transport::Endpoint::try_from(format!("unix://{}", socket.display())).unwrap();
    let connecting = async {
        loop {
            if let Ok(channel) = endpoint.connect().await {
                return channel;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LIMIT, connecting).await.expect("the driver serves in time")
}

/// Every path below a directory, and the content of each file.
pub(crate) fn picture(dir: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_file() { std::fs::read(&path).unwrap() } else { Vec::new() };
            seen.insert(path.clone(), content);
            if meta.is_dir() {
                pending.push(path);
            }
        }
    }
    seen
}
