//! What do the objects look like that the scenarios make?

use serde_json::{Value, json};

/// The one image that holds a shell (tests/cluster/image.sh).
pub const BUSYBOX: &str = "mountpod.test/busybox:1";
/// Made by tests/kubernetes/values.yaml.
pub const CLASS: &str = "mountpod-test";
/// Made by tests/kubernetes/values.yaml.
pub const SNAPSHOT_CLASS: &str = "mountpod-test";
/// Made by tests/kubernetes/values.yaml: cpuLimit 500m, memoryLimit 128Mi.
pub const LIMITED_CLASS: &str = "mountpod-limited";
/// A pod that waits for its end.
pub const IDLE: &str = "trap 'exit 0' TERM; while :; do sleep 1 & wait; done";

/// A claim for a new, empty volume.
pub fn claim(name: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name},
        "spec": {
            "accessModes": ["ReadWriteMany"],
            "storageClassName": CLASS,
            "resources": {"requests": {"storage": size}},
        },
    })
}

/// A claim for a volume with the content of another claim, or of a snapshot.
pub fn claim_from(name: &str, size: &str, source: &Source) -> Value {
    let mut claim = claim(name, size);
    claim["spec"]["dataSource"] = match source {
        Source::Claim(name) => json!({"kind": "PersistentVolumeClaim", "name": name}),
        Source::Snapshot(name) => {
            json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": name})
        }
    };
    claim
}

/// Where a new volume's content comes from.
pub enum Source<'a> {
    Claim(&'a str),
    Snapshot(&'a str),
}

/// A snapshot of a claim.
pub fn snapshot(name: &str, claim: &str) -> Value {
    json!({
        "apiVersion": "snapshot.storage.k8s.io/v1",
        "kind": "VolumeSnapshot",
        "metadata": {"name": name},
        "spec": {"volumeSnapshotClassName": SNAPSHOT_CLASS, "source": {"persistentVolumeClaimName": claim}},
    })
}

/// A pod that uses one claim at /data and does what the script says.
pub fn pod(name: &str, claim: &str, script: &str) -> Value {
    pod_with(name, &json!({"persistentVolumeClaim": {"claimName": claim}}), script)
}

/// A pod with any volume at /data.
pub fn pod_with(name: &str, volume: &Value, script: &str) -> Value {
    let mut volume = volume.clone();
    volume["name"] = json!("data");
    json!({
        "metadata": {"name": name},
        "spec": {
            "terminationGracePeriodSeconds": 2,
            "automountServiceAccountToken": false,
            "restartPolicy": "Never",
            "containers": [{
                "name": "main",
                "image": BUSYBOX,
                "imagePullPolicy": "IfNotPresent",
                "command": ["sh", "-c", script],
                "volumeMounts": [{"name": "data", "mountPath": "/data"}],
            }],
            "volumes": [volume],
        },
    })
}
