//! What a pod may ask of its volumes: fsGroup, readOnly, subPath, resources, inline volumes.

use serde_json::json;

use crate::Figures;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::world::{DRIVER, World};

/// fsGroup, readOnly (of the volume and of the mount) and subPath are honoured.
pub fn of_pods(world: &World) -> Figures {
    let space = world.space("options");
    space.claim("claim");
    let volume = space.bound("claim");

    let mut pod = objects::pod("group", "claim", IDLE);
    pod["spec"]["securityContext"] = json!({"runAsUser": 1000, "runAsGroup": 1000, "fsGroup": 2000});
    space.start(&pod);
    space.ready("group");
    space.sh("group", "echo mine >/data/file; mkdir /data/part; echo inside >/data/part/file");
    assert_eq!(
        space.sh("group", "stat -c '%u %g' /data/file"),
        "1000 2000",
        "owner and group of a file with fsGroup"
    );

    let claim = json!({"persistentVolumeClaim": {"claimName": "claim", "readOnly": true}});
    space.start(&objects::pod_with("reader", &claim, IDLE));
    let mut pod = objects::pod("part", "claim", IDLE);
    pod["spec"]["containers"][0]["volumeMounts"][0]["subPath"] = json!("part");
    space.start(&pod);
    space.ready("reader");
    space.ready("part");
    assert_eq!(space.sh("reader", "cat /data/file"), "mine");
    let refused = space.sh_fails("reader", "echo x >/data/file");
    assert!(refused.contains("Read-only file system"), "a write through readOnly said: {refused}");
    assert_eq!(space.sh("part", "ls /data; cat /data/file"), "file\ninside", "what a subPath shows");
    space.sh("part", "echo more >/data/other");
    assert_eq!(space.sh("group", "cat /data/part/other"), "more");
    assert_eq!(observe::mount_pods(world).len(), 1, "mount pods of one volume with three kinds of use");

    space.finish(&["group", "reader", "part"], &[("claim", &volume)]);
    vec!["fsGroup, readOnly, subPath on one mount pod".to_owned()]
}

/// cpuLimit and memoryLimit of the StorageClass stand on the mount pod.
pub fn resources(world: &World) -> Figures {
    let space = world.space("resources");
    let mut claim = objects::claim("claim", "64Mi");
    claim["spec"]["storageClassName"] = json!(objects::LIMITED_CLASS);
    space.create("persistentvolumeclaims", &claim);
    let volume = space.bound("claim");
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    let mount_pod = observe::mount_pod_of(world, &space.pod("user").unwrap());
    let resources = mount_pod.0["spec"]["containers"][0]["resources"].clone();
    assert_eq!(resources["limits"]["cpu"], "500m", "resources of the mount pod: {resources}");
    assert_eq!(resources["limits"]["memory"], "134217728", "resources of the mount pod: {resources}");
    space.finish(&["user"], &[("claim", &volume)]);
    vec![format!("{resources}")]
}

/// An inline volume lives and dies with its pod.
pub fn inline(world: &World) -> Figures {
    let space = world.space("inline");
    let volume = json!({"csi": {"driver": DRIVER, "volumeAttributes": {"root": "data"}}});
    space.start(&objects::pod_with("user", &volume, IDLE));
    space.ready("user");
    space.sh("user", "echo scratch >/data/file");
    assert_eq!(space.sh("user", "cat /data/file"), "scratch");
    space.finish(&["user"], &[]);
    Figures::new()
}
