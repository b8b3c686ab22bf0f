//! What of the driver is on the node and in the API now?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::node;
use crate::wait::{GONE, POD, eventually, so};
use crate::world::{DRIVER, VOLUMES_NAMESPACE, World};

/// The prefix of annotations that are refs (`src/mountpod/refs.rs`).
const REF: &str = "ref.mountpod.dev/";
/// Mount pods of the node's engine, and their Secrets, carry this label.
const OF_THE_NODE: &str = "mountpod.dev/owner=node";
/// Those of the controller's engine, which keeps filesystems mounted that it works on.
const OF_THE_CONTROLLER: &str = "mountpod.dev/owner=controller";

/// A mount pod.
pub struct MountPod(pub Value);

impl MountPod {
    pub fn name(&self) -> &str {
        self.0["metadata"]["name"].as_str().unwrap_or_default()
    }

    pub fn uid(&self) -> &str {
        self.0["metadata"]["uid"].as_str().unwrap_or_default()
    }

    pub fn path(&self) -> String {
        format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/pods/{}", self.name())
    }

    /// Target paths by annotation.
    pub fn refs(&self) -> BTreeMap<String, String> {
        let annotations = self.0["metadata"]["annotations"].as_object().cloned().unwrap_or_default();
        let refs = annotations.into_iter().filter(|(name, _)| name.starts_with(REF));
        refs.map(|(name, value)| (name, value.as_str().unwrap_or_default().to_owned())).collect()
    }

    /// Has it a ref of this workload (kubelet targets hold its uid), and no end in sight?
    pub fn serves(&self, workload: &Value) -> bool {
        let uid = workload["metadata"]["uid"].as_str().unwrap_or_default();
        !self.is_ending() && self.refs().values().any(|target| target.contains(uid))
    }

    fn is_ending(&self) -> bool {
        !self.0["metadata"]["deletionTimestamp"].is_null()
    }

    fn says(&self) -> String {
        let ending = if self.is_ending() { ", being deleted" } else { "" };
        format!("{} ({}, {} refs{ending})", self.name(), self.0["status"]["phase"], self.refs().len())
    }
}

/// The mount pods of the node's engine.
pub fn mount_pods(world: &World) -> Vec<MountPod> {
    mount_pods_of(world, OF_THE_NODE)
}

/// The mount pods of the controller's engine, on any node.
pub fn mount_pods_of_the_controller(world: &World) -> Vec<MountPod> {
    mount_pods_of(world, OF_THE_CONTROLLER)
}

fn mount_pods_of(world: &World, engine: &str) -> Vec<MountPod> {
    let path = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/pods?labelSelector={engine}");
    world.api.list(&path).into_iter().map(MountPod).collect()
}

/// The mount pod that takes the place of another one under a workload, when it has its ref.
pub fn next_generation(world: &World, workload: &Value, before: &MountPod) -> MountPod {
    eventually(POD, "a mount pod of a new generation with the workload's ref", || {
        let mut pods = mount_pods(world);
        let seen: Vec<String> = pods.iter().map(MountPod::says).collect();
        pods.retain(|pod| pod.uid() != before.uid() && pod.serves(workload));
        pods.pop().ok_or_else(|| format!("{seen:?}"))
    })
}

/// The one mount pod that refers to targets of this workload.
pub fn mount_pod_of(world: &World, workload: &Value) -> MountPod {
    let mut found = mount_pods(world);
    let seen: Vec<String> = found.iter().map(MountPod::says).collect();
    found.retain(|pod| pod.serves(workload));
    assert_eq!(
        found.len(),
        1,
        "mount pods with a ref of {}; there are: {seen:?}",
        workload["metadata"]["uid"]
    );
    found.remove(0)
}

/// Secrets of the node's mount pods.
pub fn secrets(world: &World) -> Vec<String> {
    names(
        &world
            .api
            .list(&format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/secrets?labelSelector={OF_THE_NODE}")),
    )
}

fn names(objects: &[Value]) -> Vec<String> {
    objects.iter().map(|one| one["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Mount points of mounts that the driver made: their source begins with `mountpod:`.
pub fn mounts() -> Vec<String> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let ours = table.lines().filter(|line| {
        line.split_once(" - ").is_some_and(|(_, end)| {
            end.split(' ').nth(1).is_some_and(|source| source.starts_with("mountpod:"))
        })
    });
    ours.map(|line| line.split(' ').nth(4).unwrap_or_default().to_owned()).collect()
}

/// Directories of sessions of the node's engine.
pub fn sessions() -> Vec<PathBuf> {
    let dir = format!("/var/lib/kubelet/plugins/{DRIVER}/node/engine/sessions");
    entries(Path::new(&dir))
}

/// Volumes in the root: their directories and their records.
pub fn volumes_on_disk(world: &World) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let mut directories = entries(&world.root);
    directories.retain(|path| path.file_name().is_some_and(|name| name != ".mountpod"));
    (directories, entries(&world.root.join(".mountpod/volumes")))
}

/// The paths in a directory; one that is not there has none.
pub fn entries(dir: &Path) -> Vec<PathBuf> {
    let Ok(found) = std::fs::read_dir(dir) else { return Vec::new() };
    found.filter_map(Result::ok).map(|entry| entry.path()).collect()
}

/// What of published volumes is left, in words; empty when nothing is.
pub fn left_of_publishes(world: &World) -> Vec<String> {
    let mut left: Vec<String> =
        mount_pods(world).iter().map(|pod| format!("mount pod {}", pod.says())).collect();
    left.extend(secrets(world).into_iter().map(|name| format!("secret {name}")));
    left.extend(mounts().into_iter().map(|path| format!("mount {path}")));
    left.extend(sessions().into_iter().map(|path| format!("session {}", path.display())));
    let controllers: Vec<_> =
        mount_pods_of_the_controller(world).iter().map(|pod| pod.uid().to_owned()).collect();
    left.extend(node::clients(&controllers).into_iter().map(|process| format!("process {process}")));
    left
}

/// Waits until nothing of published volumes is left.
pub fn no_publish_left(world: &World) {
    eventually(GONE, "all of the published volumes to be gone", || {
        let left = left_of_publishes(world);
        so(left.is_empty(), || left.join(", "))
    });
}

/// Waits until the root holds no volume.
pub fn no_volume_left(world: &World) {
    eventually(GONE, "volume directories and records to be gone", || {
        let (directories, records) = volumes_on_disk(world);
        so(directories.is_empty() && records.is_empty(), || format!("{directories:?} {records:?}"))
    });
}

/// After a failure: what a person wants to see.
pub fn explain(world: &World) {
    left_of_publishes(world).iter().for_each(|thing| println!("    there is: {thing}"));
    for pod in names(&world.api.list(&format!("/api/v1/namespaces/{}/pods", world.namespace))) {
        let words = ["logs", "-n", world.namespace.as_str(), &pod, "-c", "mountpod", "--tail=15"];
        let log = crate::api::kubectl(&words).unwrap_or_else(|why| why);
        println!("    the end of the log of {pod}:");
        log.lines().for_each(|line| println!("      {line}"));
    }
}

/// What a PersistentVolume calls its volume.
pub fn handle(world: &World, volume: &str) -> String {
    let object = world.api.get(&format!("/api/v1/persistentvolumes/{volume}")).expect("the PersistentVolume");
    object["spec"]["csi"]["volumeHandle"].as_str().expect("its handle").to_owned()
}
