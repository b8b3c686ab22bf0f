//! Volumes that share a mount pod, whose cache is a volume of its own.

use std::time::Instant;

use serde_json::json;

use crate::Figures;
use crate::juicefs::Filesystem;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::wait::{GONE, eventually, seconds, so};
use crate::world::{VOLUMES_NAMESPACE, World};

const DATABASE: u8 = 12;
/// The class of both volumes, and of the Secret that it names.
const CLASS: &str = "test-sharing-one";

/// Two volumes of a StorageClass have one mount pod: each workload sees its own directory with its own quota, also after
/// the mount pod was replaced, and the cache's claim goes with the pod.
pub fn one_mount_pod(world: &World) -> Figures {
    let space = world.space("jfs-sharing");
    let filesystem = Filesystem::new(&space, "sharing", DATABASE);
    filesystem.secret(CLASS, &[]);
    let cache = json!({
        "sharing": "storageclass",
        "cacheMedium": "claim", "cacheSize": "64Mi", "cacheStorageClass": objects::CLASS,
    });
    filesystem.class(CLASS, &cache, &[]);
    for name in ["left", "right"] {
        space.create("persistentvolumeclaims", &filesystem.claim_of(CLASS, name, "64Mi"));
    }
    let [left, right] = ["left", "right"].map(|claim| space.bound(claim));
    let begun = Instant::now();
    ["left", "right"].iter().for_each(|name| space.start(&objects::pod(name, name, IDLE)));
    for pod in ["left", "right"] {
        space.ready(pod);
        // The scheduler calls a pod unschedulable while a claim of it is being made.
        let events = space.events(pod);
        assert!(!events.iter().any(|event| event.starts_with("FailedMount")), "{events:?}");
    }
    let figures = vec![format!("two volumes on one mount pod with a cache of its own: {}", seconds(begun))];

    let shared = || {
        let [one, other] =
            ["left", "right"].map(|pod| observe::mount_pod_of(world, &space.pod(pod).expect("a pod")));
        assert_eq!(one.name(), other.name(), "the mount pods of two volumes that share one");
        assert_eq!(one.refs().len(), 2);
        one
    };
    let size = |pod: &str| space.sh(pod, "df -P -m /data | tail -n 1 | awk '{print $2}'");
    let mount_pod = shared();
    let claims = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/persistentvolumeclaims");
    let caches = world.api.list(&claims);
    let phases: Vec<_> = caches.iter().map(|claim| claim["status"]["phase"].to_string()).collect();
    assert_eq!(phases, ["\"Bound\""], "the claims of caches");

    for (pod, other) in [("left", "right"), ("right", "left")] {
        space.sh(pod, &format!("echo of {pod} >/data/{pod} && sync"));
        assert_eq!(space.sh(pod, "ls -A /data"), pod, "{other}'s files are not seen by {pod}");
        assert_eq!(size(pod), "64", "MiB of {pod}");
    }
    let refused = space.sh_fails("left", "dd if=/dev/zero of=/data/large bs=1M count=80 conv=fsync");
    assert!(refused.to_lowercase().contains("quota exceeded"), "a write past the quota said: {refused}");
    space.sh("right", "dd if=/dev/zero of=/data/fits bs=1M count=40 conv=fsync 2>/dev/null");

    world.api.delete(&mount_pod.path());
    eventually(GONE, "the mount pod to be gone", || {
        so(world.api.get(&mount_pod.path()).is_none(), || "there".to_owned())
    });
    assert_ne!(shared().uid(), mount_pod.uid());
    for pod in ["left", "right"] {
        assert_eq!(space.sh(pod, &format!("cat /data/{pod}")), format!("of {pod}"));
        assert_eq!(size(pod), "64", "MiB of {pod} on the next mount pod");
    }
    space.end("left");
    assert_eq!(space.sh("right", "cat /data/right"), "of right");
    filesystem.finish(&["right"], &[("left", &left), ("right", &right)]);
    eventually(GONE, "the claims of caches to be gone", || {
        let claims = world.api.list(&claims);
        so(claims.is_empty(), || format!("{claims:?}"))
    });
    observe::no_volume_left(world);
    figures
}
