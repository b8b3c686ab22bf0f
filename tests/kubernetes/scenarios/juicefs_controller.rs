//! The controller, which has an engine of its own for JuiceFS, is replaced and killed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use mountpod::csi::api::v1::{ControllerGetVolumeRequest, ListVolumesRequest};
use mountpod::programs::caller::Caller;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::Figures;
use crate::juicefs::{Filesystem, PODS};
use crate::node;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::wait::{GONE, POD, eventually, seconds, so};
use crate::world::{DRIVER, VOLUMES_NAMESPACE, World};

const DATABASE: u8 = 11;
/// Of its claims, which ask for 64Mi.
const CAPACITY_BYTES: i64 = 64 << 20;
/// The controller listens already.
const CONNECT: Duration = Duration::from_secs(10);

/// Mount pods of an earlier controller go, here and on other nodes; what a controller did is there for the next one.
pub fn replaced(world: &World) -> Figures {
    let space = world.space("jfs-controller");
    let filesystem = Filesystem::new(&space, "controller", DATABASE);
    filesystem.claim("source", "64Mi");
    let source = space.bound("source");
    filesystem.snapshot("before", "source");
    filesystem.snapshot_ready("before");
    let elsewhere = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/pods");
    world.api.create(&elsewhere, &of_another_node());
    let before = uids(world);
    assert!(!before.is_empty(), "the pod of another node is there, and perhaps one of this node");

    let begun = Instant::now();
    let name = controller(world)["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    world.api.delete(&format!("/api/v1/namespaces/{}/pods/{name}", world.namespace));
    eventually(GONE, "the mount pods of the earlier controller to be gone", || {
        let left: Vec<String> = uids(world).into_iter().filter(|uid| before.contains(uid)).collect();
        so(left.is_empty(), || format!("{left:?}"))
    });
    let mut figures = vec![format!(
        "controller deleted: {} earlier mount pods gone after {}",
        before.len(),
        seconds(begun)
    )];
    filesystem.snapshot("after", "source");
    filesystem.snapshot_ready("after");
    figures.push(format!("the next snapshot was ready after {}", seconds(begun)));

    let begun = Instant::now();
    let process = process().expect("a controller that runs");
    kill(Pid::from_raw(process), Signal::SIGKILL).expect("the controller can be killed");
    let mut claim = objects::claim_from("restored", "64Mi", &objects::Source::Snapshot("before"));
    claim["spec"]["storageClassName"] = json!(filesystem.name);
    space.create("persistentvolumeclaims", &claim);
    let restored = space.bound("restored");
    figures.push(format!(
        "controller killed: a new volume from the first snapshot was Bound after {}",
        seconds(begun)
    ));
    eventually(POD, "the controller to be ready", || {
        let pod = controller(world);
        let states = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        so(!states.is_empty() && states.iter().all(|one| one["ready"] == true), || pod["status"].to_string())
    });
    figures.push(listed(world, &[&source, &restored]));
    ["before", "after"].iter().for_each(|shot| world.api.delete(&space.path("volumesnapshots", shot)));
    ["before", "after"].iter().for_each(|shot| space.gone("volumesnapshots", shot));
    filesystem.finish(&[], &[("source", &source), ("restored", &restored)]);
    figures
}

fn uids(world: &World) -> Vec<String> {
    observe::mount_pods_of_the_controller(world).iter().map(|pod| pod.uid().to_owned()).collect()
}

fn controller(world: &World) -> Value {
    let pods = world.api.list(&format!("/api/v1/namespaces/{}/pods", world.namespace));
    let mut found =
        pods.into_iter().filter(|pod| pod["metadata"]["ownerReferences"][0]["kind"] == "StatefulSet");
    found.next().unwrap_or_default()
}

/// The controller tells the volumes of its PersistentVolumes: a list, page by page, and each by its handle.
fn listed(world: &World, volumes: &[&str]) -> String {
    let uid = controller(world)["metadata"]["uid"].as_str().expect("the controller's uid").to_owned();
    let socket = PathBuf::from(format!("{PODS}/{uid}/volumes/kubernetes.io~empty-dir/csi/csi.sock"));
    let mut wanted: Vec<String> = volumes.iter().map(|volume| observe::handle(world, volume)).collect();
    wanted.sort();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let mut controller = Caller::connect(&socket, CONNECT).await.expect("its socket").controller;
        let (mut seen, mut starting_token) = (Vec::new(), String::new());
        loop {
            let request = ListVolumesRequest { max_entries: 1, starting_token };
            let page = controller.list_volumes(request).await.expect("a page").into_inner();
            seen.extend(page.entries.into_iter().filter_map(|entry| entry.volume));
            starting_token = page.next_token;
            if starting_token.is_empty() {
                break;
            }
        }
        let juicefs = seen.iter().filter(|volume| volume.volume_context["client"] == "juicefs");
        let ids: Vec<String> = juicefs.map(|volume| volume.volume_id.clone()).collect();
        assert_eq!(ids, wanted, "listed volumes of JuiceFS");
        for volume_id in wanted {
            let request = ControllerGetVolumeRequest { volume_id: volume_id.clone() };
            let found = controller.controller_get_volume(request).await.expect("a volume").into_inner();
            let volume = found.volume.expect("a volume");
            assert_eq!((volume.volume_id, volume.capacity_bytes), (volume_id, CAPACITY_BYTES));
        }
    });
    format!("{} volumes listed, and found by their handles", volumes.len())
}

fn process() -> Option<i32> {
    let running = node::processes("mountpod controller");
    running.iter().find(|process| process.is("mountpod")).map(|process| process.pid)
}

/// A pod with the labels of a mount pod that a controller made on another node.
fn of_another_node() -> Value {
    let mut pod = objects::pod("mount-of-another-node", "", IDLE);
    pod["metadata"]["labels"] = json!({
        "mountpod.dev/owner": "controller", "mountpod.dev/node": "elsewhere", "app.kubernetes.io/managed-by": DRIVER,
    });
    pod["spec"]["volumes"] = json!([]);
    let container = &mut pod["spec"]["containers"][0];
    container["volumeMounts"] = json!([]);
    container["securityContext"] = json!({"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}, "runAsNonRoot": true, "runAsUser": 65532});
    pod["spec"]["securityContext"] = json!({"seccompProfile": {"type": "RuntimeDefault"}});
    pod
}
