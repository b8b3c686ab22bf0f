#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::num::NonZeroU16;

use serde_json::{Value, json};

use super::*;
use crate::juicefs::taken::is_taken;
use crate::mountpod::facts::Generation;
use crate::mountpod::pod::new_pod;
use crate::mountpod::refs::Refs;
use crate::volume::{
    CpuMillis, Exclusivity, MemoryBytes, MountSpec, PodShape, Requests, Resources, SecretFiles, TargetPath,
};

fn home(node: &str) -> Home {
    Home {
        namespace: "mountpod-volumes".to_owned(),
        node: node.to_owned(),
        node_uid: "node-uid".to_owned(),
        owner: "node".to_owned(),
        driver: "csi.mountpod.dev".to_owned(),
    }
}

fn template() -> PodTemplate {
    PodTemplate {
        image: "mountpod/mount:1".to_owned(),
        image_pull_policy: Some("Never".to_owned()),
        image_pull_secrets: vec!["pull".to_owned()],
        priority_class: "system-node-critical".to_owned(),
        grace: Duration::from_secs(300),
        metrics_port: NonZeroU16::new(9567),
    }
}

fn made(resources: Resources, node: &str) -> Value {
    made_for(ClientKind::Hostdir, resources, node)
}

fn made_for(client: ClientKind, resources: Resources, node: &str) -> Value {
    shaped(client, resources, PodShape::default(), node)
}

fn shaped(client: ClientKind, resources: Resources, pod: PodShape, node: &str) -> Value {
    let spec = MountSpec {
        client,
        filesystem: "data".parse().unwrap(),
        subdirectory: "v".to_owned(),
        options: BTreeMap::new(),
        credentials: None,
    };
    let served = ServedVolume { pod, ..ServedVolume::new("data#v".parse().unwrap(), spec, resources) };
    let session = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let target: TargetPath = "/t".parse().unwrap();
    let refs: Refs = [(target, Exclusivity::Shared)].into_iter().collect();
    let record = new_pod("node", &session, Generation(2), &refs, &served).unwrap();
    serde_json::to_value(manifest(record, &template(), &home(node)).unwrap()).unwrap()
}

#[test]
fn a_client_with_metrics_tells_them_on_a_port_with_a_name() {
    let pod = made_for(ClientKind::Juicefs, Resources::default(), "n1");
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["ports"], json!([{ "name": "metrics", "containerPort": 9567 }]));
    let args: Vec<_> =
        container["args"].as_array().unwrap().iter().map(|arg| arg.as_str().unwrap()).collect();
    assert!(args.ends_with(&["--metrics-port", "9567", "--metrics-volume", "data#v"]), "{args:?}");
    let hostdir = made_for(ClientKind::Hostdir, Resources::default(), "n1");
    assert!(hostdir["spec"]["containers"][0]["ports"].is_null());
}

#[test]
fn a_pod_of_juicefs_has_no_privilege_and_room_for_open_files_only() {
    let pod = made_for(ClientKind::Juicefs, Resources::default(), "n1");
    let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
    assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    assert_eq!(container["securityContext"]["capabilities"], json!({ "drop": ["ALL"] }));
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
    let mounts = json!([
        { "name": "agent", "mountPath": "/run/mountpod" },
        { "name": "tmp", "mountPath": "/tmp" },
    ]);
    assert_eq!(container["volumeMounts"], mounts);
    assert_eq!(spec["volumes"][1]["emptyDir"], json!({ "medium": "Memory", "sizeLimit": "64Mi" }));
}

fn cached(cache: CacheVolume) -> Value {
    let pod = PodShape { cache, ..PodShape::default() };
    shaped(ClientKind::Juicefs, Resources::default(), pod, "n1")["spec"].clone()
}

#[test]
fn directories_of_the_node_are_at_their_own_places() {
    let host_directories = ["/srv/a", "/srv/b"].map(|path| path.parse().unwrap()).into();
    let pod = PodShape { host_directories, ..PodShape::default() };
    let pod = shaped(ClientKind::Juicefs, Resources::default(), pod, "node1");
    let plain = shaped(ClientKind::Juicefs, Resources::default(), PodShape::default(), "node1");
    let items = |pod: &Value, pointer: &str| pod.pointer(pointer).unwrap().as_array().unwrap().clone();
    let (volumes, mounts) = ("/spec/volumes", "/spec/containers/0/volumeMounts");
    let (usual, usual_mounts) = (items(&plain, volumes), items(&plain, mounts));
    assert!(usual.iter().all(|volume| volume.get("hostPath").is_none()), "{usual:?}");
    let added = &items(&pod, volumes)[usual.len()..];
    let of_node = |number: u8, path: &str| json!({"name": format!("node-{number}"), "hostPath": {"path": path, "type": "DirectoryOrCreate"}});
    assert_eq!(added, [of_node(0, "/srv/a"), of_node(1, "/srv/b")]);
    let added = &items(&pod, mounts)[usual_mounts.len()..];
    assert_eq!(
        added,
        [json!({"name": "node-0", "mountPath": "/srv/a"}), json!({"name": "node-1", "mountPath": "/srv/b"})]
    );
}

#[test]
fn a_cache_is_a_volume_of_the_pod_and_changes_none_of_its_rights() {
    let disk = cached(CacheVolume::Disk { bytes: Some(10 << 30) });
    assert_eq!(disk["volumes"][2], json!({ "name": "cache", "emptyDir": { "sizeLimit": "10737418240" } }));
    let unlimited = cached(CacheVolume::Disk { bytes: None });
    assert_eq!(unlimited["volumes"][2], json!({ "name": "cache", "emptyDir": {} }));
    let claim = cached(CacheVolume::Claim { bytes: 5 << 30, storage_class: Some("fast".to_owned()) });
    let template = json!({ "spec": {
        "accessModes": ["ReadWriteOnce"],
        "resources": { "requests": { "storage": "5368709120" } },
        "storageClassName": "fast",
    } });
    assert_eq!(
        claim["volumes"][2],
        json!({ "name": "cache", "ephemeral": { "volumeClaimTemplate": template } })
    );
    assert_eq!(claim["securityContext"]["fsGroup"], 65532);
    let plain = cached(CacheVolume::None);
    assert_eq!(plain["volumes"].as_array().unwrap().len(), 2);
    for spec in [&disk, &unlimited, &claim] {
        let container = &spec["containers"][0];
        assert_eq!(container["volumeMounts"][2], json!({ "name": "cache", "mountPath": "/cache" }));
        assert_eq!(container["securityContext"], plain["containers"][0]["securityContext"]);
        assert_eq!(spec["securityContext"]["runAsNonRoot"], true);
    }
    assert_eq!(disk["securityContext"], plain["securityContext"]);
}

#[test]
fn files_of_secrets_are_mounted_by_the_kubelet_and_change_none_of_its_rights() {
    let plain = cached(CacheVolume::Disk { bytes: None });
    let file = |secret: &str, path: &str| SecretFiles {
        secret: secret.parse().unwrap(),
        path: path.parse().unwrap(),
    };
    let files = vec![file("gcs-key", "/etc/gcs"), file("tls", "/etc/tls")];
    let pod = PodShape { cache: CacheVolume::Disk { bytes: None }, files, ..PodShape::default() };
    let shown = shaped(ClientKind::Juicefs, Resources::default(), pod, "n1")["spec"].clone();
    let volumes = shown["volumes"].as_array().unwrap();
    assert_eq!(volumes[..3], plain["volumes"].as_array().unwrap()[..]);
    let secrets = [("files-0", "gcs-key"), ("files-1", "tls")]
        .map(|(name, secret)| json!({ "name": name, "secret": { "secretName": secret } }));
    assert_eq!(volumes[3..], secrets);
    let (container, without) = (&shown["containers"][0], &plain["containers"][0]);
    let mounts = container["volumeMounts"].as_array().unwrap();
    let read_only = [("files-0", "/etc/gcs"), ("files-1", "/etc/tls")]
        .map(|(name, path)| json!({ "name": name, "mountPath": path, "readOnly": true }));
    assert_eq!(mounts[3..], read_only);
    for kept in ["securityContext", "args", "env", "resources"] {
        assert_eq!(container[kept], without[kept], "{kept}");
    }
    assert_eq!(shown["securityContext"], plain["securityContext"]);
}

#[test]
fn a_secrets_files_can_not_cover_what_a_pod_has() {
    let cached = cached(CacheVolume::Disk { bytes: None });
    for mount in cached["containers"][0]["volumeMounts"].as_array().unwrap() {
        let path = mount["mountPath"].as_str().unwrap();
        assert!(is_taken(path), "{path} is free for files");
    }
}

#[test]
fn a_pod_has_no_more_than_it_needs() {
    let pod = made(Resources::default(), "n1");
    let (spec, container) = (&pod["spec"], &pod["spec"]["containers"][0]);
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["enableServiceLinks"], false);
    let user = json!({ "runAsUser": 0, "runAsGroup": 0, "seccompProfile": { "type": "RuntimeDefault" } });
    assert_eq!(spec["securityContext"], user);
    let context = json!({
        "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
        "capabilities": { "drop": ["ALL"], "add": ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"] },
    });
    assert_eq!(container["securityContext"], context);
    let volumes = json!([{ "name": "agent", "emptyDir": { "medium": "Memory", "sizeLimit": "1Mi" } }]);
    assert_eq!(spec["volumes"], volumes);
    for absent in ["env", "envFrom", "command", "ports", "livenessProbe"] {
        assert_eq!(container[absent], Value::Null, "{absent}");
    }
    for absent in ["hostNetwork", "hostPID", "hostIPC", "nodeName", "serviceAccountName", "initContainers"] {
        assert_eq!(spec[absent], Value::Null, "{absent}");
    }
}

#[test]
fn a_pod_stays_with_its_node_and_its_workloads() {
    let pod = made(Resources::default(), "n1");
    let spec = &pod["spec"];
    let owner =
        json!([{ "apiVersion": "v1", "kind": "Node", "name": "n1", "uid": "node-uid", "controller": true }]);
    assert_eq!(pod["metadata"]["ownerReferences"], owner);
    assert_eq!(pod["metadata"]["annotations"][SAFE_TO_EVICT], "true");
    let node = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    let by_name =
        json!([{ "matchFields": [{ "key": "metadata.name", "operator": "In", "values": ["n1"] }] }]);
    assert_eq!(node["nodeSelectorTerms"], by_name);
    assert_eq!(spec["tolerations"], json!([{ "operator": "Exists" }]));
    assert_eq!(spec["priorityClassName"], "system-node-critical");
    assert_eq!(
        (&spec["restartPolicy"], &spec["terminationGracePeriodSeconds"]),
        (&json!("Never"), &json!(300))
    );
    let args = json!(["--socket", "/run/mountpod/agent.sock", "--grace", "300"]);
    assert_eq!(spec["containers"][0]["args"], args);
}

#[test]
fn what_is_asked_for_is_reserved() {
    let resources = Resources { cpu_limit: Some(CpuMillis(500)), memory_limit: Some(MemoryBytes(1 << 30)) };
    let asked = json!({ "cpu": "500m", "memory": "1073741824" });
    let given = made(resources, "n1")["spec"]["containers"][0]["resources"].clone();
    assert_eq!(given, json!({ "requests": asked, "limits": asked }));
    let given = made(Resources::default(), "n1")["spec"]["containers"][0]["resources"].clone();
    assert_eq!(given, json!({ "requests": { "cpu": "10m", "memory": "32Mi" } }));
    let requests = Requests { cpu: Some(CpuMillis(50)), memory: None };
    let pod = PodShape { requests, ..PodShape::default() };
    let given = shaped(ClientKind::Juicefs, resources, pod.clone(), "n1");
    let given = given["spec"]["containers"][0]["resources"].clone();
    assert_eq!(given["requests"], json!({ "cpu": "50m", "memory": "1073741824" }));
    let given = shaped(ClientKind::Juicefs, Resources::default(), pod, "n1");
    let given = given["spec"]["containers"][0]["resources"].clone();
    assert_eq!(given, json!({ "requests": { "cpu": "50m", "memory": "64Mi" } }));
}

#[test]
fn nodes_and_engines_never_share_a_name_or_a_watch() {
    let name = |node| made(Resources::default(), node)["metadata"]["name"].as_str().unwrap().to_owned();
    assert_ne!(name("n1"), name("n2"));
    assert!(name("n1").starts_with(OF_THE_DRIVER) && name("n1").ends_with("-2"), "{}", name("n1"));
    assert!(name("n1").len() <= LABEL_MAX);
    assert_eq!(
        home("n1").selector(),
        "app.kubernetes.io/managed-by=csi.mountpod.dev,mountpod.dev/node=n1,mountpod.dev/owner=node"
    );
    let labels = made(Resources::default(), "n1")["metadata"]["labels"].clone();
    for (name, value) in home("n1").labels() {
        assert_eq!(labels[name], value);
    }
    let long = "n".repeat(200);
    assert_eq!(label_form(&long).len(), LABEL_MAX);
    assert_ne!(label_form(&long), label_form(&"n".repeat(201)));
}
