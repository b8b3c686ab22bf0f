//! What can't be done is told to the workload, soon.

use std::time::Instant;

use serde_json::{Value, json};

use crate::Figures;
use crate::node;
use crate::objects::{self, IDLE};
use crate::told::{self, Awaited, ON_POD};
use crate::wait::{GONE, TOLD, eventually, so};
use crate::world::{DRIVER, VOLUMES_NAMESPACE, World};

/// A mount image that nobody has.
const NO_IMAGE: &str = "mountpod.test/no-such-image:1";

/// A ResourceQuota that admits no mount pod is named on the workload; when it goes, the workload starts.
pub fn by_quota(world: &World) -> Figures {
    told_while_in_force(
        world,
        &Rule {
            kind: "resourcequotas",
            name: "no-mount-pods",
            spec: json!({"hard": {"pods": "0"}}),
            says: "no-mount-pods",
            class: objects::CLASS,
        },
    )
}

/// So is a LimitRange that allows less than the StorageClass wants.
pub fn by_limit_range(world: &World) -> Figures {
    told_while_in_force(
        world,
        &Rule {
            kind: "limitranges",
            name: "small-mount-pods",
            spec: json!({"limits": [{"type": "Container", "max": {"memory": "64Mi"}}]}),
            says: "maximum memory usage per Container is 64Mi",
            class: objects::LIMITED_CLASS,
        },
    )
}

/// What an administrator may lay down for mount pods.
struct Rule {
    kind: &'static str,
    name: &'static str,
    spec: Value,
    /// What the API server says of a pod that it refuses.
    says: &'static str,
    /// Whose mount pods it refuses.
    class: &'static str,
}

fn told_while_in_force(world: &World, rule: &Rule) -> Figures {
    let space = world.space(rule.kind);
    let mut claim = objects::claim("claim", "64Mi");
    claim["spec"]["storageClassName"] = json!(rule.class);
    space.create("persistentvolumeclaims", &claim);
    let volume = space.bound("claim");
    let rules = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/{}", rule.kind);
    world.api.create(&rules, &json!({"metadata": {"name": rule.name}, "spec": rule.spec}));
    let taken_away = Removal { world, path: format!("{rules}/{}", rule.name) };
    eventually(GONE, "the rule to be in force", || {
        let pods = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/pods?dryRun=All");
        let answer = world.api.call("POST", &pods, "application/json", &like_a_mount_pod());
        so(answer.code == 403 && answer.body.contains(rule.says), || answer.body.clone())
    });
    let begun = Instant::now();
    space.start(&objects::pod("user", "claim", IDLE));
    let figures = told::each(&space, TOLD, begun, vec![failed_mount(rule.says)]);
    drop(taken_away);
    space.ready("user");
    space.finish(&["user"], &[("claim", &volume)]);
    figures
}

/// A pod that only the rules of the scenarios refuse.
fn like_a_mount_pod() -> Value {
    json!({
        "metadata": {"name": "probe"},
        "spec": {
            "securityContext": {"runAsNonRoot": true, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "probe",
                "image": objects::BUSYBOX,
                "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}},
                "resources": {"limits": {"memory": "128Mi"}},
            }],
        },
    })
}

/// A mount image that can't be had is named on the workload; with the right one again the workload starts.
pub fn for_its_image(world: &World) -> Figures {
    let space = world.space("image");
    space.claim("claim");
    let volume = space.bound("claim");
    let other_image = MountImage::replaced(world, NO_IMAGE);
    let begun = Instant::now();
    space.start(&objects::pod("user", "claim", IDLE));
    let figures = told::each(&space, TOLD, begun, vec![failed_mount(NO_IMAGE)]);
    drop(other_image);
    space.ready("user");
    space.finish(&["user"], &[("claim", &volume)]);
    figures
}

/// The node plugin with another mount image, until this is dropped, also when the scenario fails.
struct MountImage<'a> {
    world: &'a World,
    arguments: Value,
}

impl<'a> MountImage<'a> {
    fn replaced(world: &'a World, image: &str) -> Self {
        let arguments = node::daemon_set(world)["spec"]["template"]["spec"]["containers"][0]["args"].clone();
        let mut others = arguments.clone();
        let flags = others.as_array_mut().expect("the arguments of the node plugin");
        let flag = flags
            .iter_mut()
            .find(|flag| flag.as_str().is_some_and(|flag| flag.starts_with("--mount-image=")));
        *flag.expect("the flag for the mount image") = json!(format!("--mount-image={image}"));
        node::run_plugin_with(world, &others);
        Self { world, arguments }
    }
}

impl Drop for MountImage<'_> {
    fn drop(&mut self) {
        node::run_plugin_with(self.world, &self.arguments);
    }
}

/// An inline volume of a root that nobody named is refused by its name, and leaves nothing.
pub fn unknown_root(world: &World) -> Figures {
    let space = world.space("unknown");
    let volume = json!({"csi": {"driver": DRIVER, "volumeAttributes": {"root": "nowhere"}}});
    let begun = Instant::now();
    space.start(&objects::pod_with("user", &volume, IDLE));
    let figures = told::each(&space, TOLD, begun, vec![failed_mount("nowhere")]);
    space.finish(&["user"], &[]);
    figures
}

/// The pod's event that names the cause.
fn failed_mount(cause: &'static str) -> Awaited {
    Awaited { object: "user".to_owned(), reason: ON_POD, words: vec![cause] }
}

/// Takes an object of the mount pods' namespace away, also when the scenario fails.
struct Removal<'a> {
    world: &'a World,
    path: String,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.world.api.delete(&self.path);
    }
}
