//! What does the kubelet say to the node plugin, and where are its targets?

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Secret;
use mountpod::csi::api::v1::node_client::NodeClient;
use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::csi::api::v1::{NodePublishVolumeRequest, NodeUnpublishVolumeRequest};
use mountpod::programs::caller::{Caller, capability};
use serde_json::Value;
use tonic::transport::Channel;

use crate::objects::{self, IDLE};
use crate::observe;
use crate::world::{DRIVER, Space, World};

/// The node plugin listens already.
const CONNECT: Duration = Duration::from_secs(10);
const KUBELET: &str = "/var/lib/kubelet";
/// Publish secrets of the class (tests/kubernetes/values.yaml).
const SECRET: (&str, &str) = ("default", "mountpod-test");

/// A pod of the cluster that uses no volume: targets are below its directory, which the kubelet therefore leaves alone.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    namespace: String,
    uid: String,
}

/// A bound volume, as its PersistentVolume tells it.
#[derive(Debug, Clone)]
struct Volume {
    name: String,
    handle: String,
    context: HashMap<String, String>,
}

/// Volumes, places for targets, and the way to the node plugin.
pub struct Stage<'a> {
    pub world: &'a World,
    node: NodeClient<Channel>,
    secrets: HashMap<String, String>,
    claims: Vec<String>,
    volumes: Vec<Volume>,
    /// Where a volume is published first, and where for the second time.
    pub first: Host,
    pub second: Host,
}

impl<'a> Stage<'a> {
    /// Makes the volumes.
    pub async fn set(space: &Space<'a>, volumes: usize) -> Self {
        let claims: Vec<String> = (0..volumes).map(|number| format!("claim-{number}")).collect();
        claims.iter().for_each(|claim| space.claim(claim));
        let hosts = ["first", "second"].map(|name| host(space, name));
        let [first, second] = hosts.map(|host| ready(space, host));
        let volumes = claims.iter().map(|claim| volume(space, claim)).collect();
        let socket = PathBuf::from(format!("{KUBELET}/plugins/{DRIVER}/node/csi.sock"));
        let caller = Caller::connect(&socket, CONNECT).await.expect("the node plugin's socket");
        let client = mountpod::runtime::kubernetes::connect().await.expect("the API server");
        let secret: Secret = kube::Api::namespaced(client, SECRET.0).get(SECRET.1).await.expect("the secret");
        let secrets = secret.data.unwrap_or_default().into_iter();
        let secrets = secrets.map(|(key, value)| (key, String::from_utf8(value.0).expect("text"))).collect();
        Self { world: space.world, node: caller.node, secrets, claims, volumes, first, second }
    }

    /// Takes everything down, and waits until it is gone.
    pub fn strike(self, space: &Space<'_>) {
        [&self.first, &self.second].into_iter().for_each(|host| space.end(&host.name));
        self.claims.iter().zip(&self.volumes).for_each(|(claim, volume)| space.unclaim(claim, &volume.name));
        observe::no_volume_left(self.world);
    }

    pub fn volumes(&self) -> std::ops::Range<usize> {
        0..self.volumes.len()
    }

    /// The call that publishes a volume below a pod's directory. It takes the time of the call alone.
    pub fn publish(&self, volume: usize, host: &Host) -> impl Future<Output = Duration> + Send + 'static {
        let volume = &self.volumes[volume];
        let target = target(host, volume);
        std::fs::create_dir_all(target.parent().expect("a directory of the volume")).expect("as the kubelet");
        let mut context = volume.context.clone();
        // podInfoOnMount (CSIDriver).
        context.extend(
            [
                ("csi.storage.k8s.io/pod.name", host.name.as_str()),
                ("csi.storage.k8s.io/pod.namespace", &host.namespace),
                ("csi.storage.k8s.io/pod.uid", &host.uid),
                ("csi.storage.k8s.io/serviceAccount.name", "default"),
                ("csi.storage.k8s.io/ephemeral", "false"),
            ]
            .map(|(name, value)| (name.to_owned(), value.to_owned())),
        );
        let request = NodePublishVolumeRequest {
            volume_id: volume.handle.clone(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability(Mode::MultiNodeMultiWriter)),
            volume_context: context,
            secrets: self.secrets.clone(),
            ..NodePublishVolumeRequest::default()
        };
        let mut node = self.node.clone();
        async move {
            let begun = Instant::now();
            node.node_publish_volume(request).await.expect("the volume is published");
            begun.elapsed()
        }
    }

    /// As [`publish`](Self::publish): the call that takes it back.
    pub fn unpublish(&self, volume: usize, host: &Host) -> impl Future<Output = Duration> + Send + 'static {
        let volume = &self.volumes[volume];
        let target = target(host, volume);
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume.handle.clone(),
            target_path: target.display().to_string(),
        };
        let mut node = self.node.clone();
        async move {
            let begun = Instant::now();
            node.node_unpublish_volume(request).await.expect("the volume is unpublished");
            let took = begun.elapsed();
            std::fs::remove_dir(target.parent().expect("a directory of the volume")).expect("as the kubelet");
            took
        }
    }
}

fn target(host: &Host, volume: &Volume) -> PathBuf {
    format!("{KUBELET}/pods/{}/volumes/kubernetes.io~csi/{}/mount", host.uid, volume.name).into()
}

fn host(space: &Space<'_>, name: &str) -> String {
    let mut pod = objects::pod(name, "none", IDLE);
    pod["spec"]["volumes"] = Value::Null;
    pod["spec"]["containers"][0]["volumeMounts"] = Value::Null;
    space.start(&pod);
    name.to_owned()
}

fn ready(space: &Space<'_>, name: String) -> Host {
    space.ready(&name);
    let pod = space.pod(&name).expect("the pod is ready");
    let uid = pod["metadata"]["uid"].as_str().expect("a uid").to_owned();
    Host { name, namespace: space.name.clone(), uid }
}

fn volume(space: &Space<'_>, claim: &str) -> Volume {
    let name = space.bound(claim);
    let path = format!("/api/v1/persistentvolumes/{name}");
    let csi = space.world.api.get(&path).expect("the volume is bound")["spec"]["csi"].clone();
    let context = csi["volumeAttributes"].as_object().cloned().unwrap_or_default().into_iter();
    let context = context.map(|(key, value)| (key, value.as_str().unwrap_or_default().to_owned())).collect();
    let handle = csi["volumeHandle"].as_str().expect("a handle").to_owned();
    Volume { name, handle, context }
}
