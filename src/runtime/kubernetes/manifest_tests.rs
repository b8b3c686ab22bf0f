#![allow(clippy::unwrap_used, reason = "a test may panic")]

use serde_json::{Value, json};

use super::*;
use crate::mountpod::facts::Generation;
use crate::mountpod::pod::{ServedVolume, new_pod};
use crate::mountpod::refs::Refs;
use crate::volume::{CpuMillis, Exclusivity, MemoryBytes, MountSpec, Resources, TargetPath};

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
    }
}

fn made(resources: Resources, node: &str) -> Value {
    made_for(ClientKind::Hostdir, resources, node)
}

fn made_for(client: ClientKind, resources: Resources, node: &str) -> Value {
    let spec = MountSpec {
        client,
        filesystem: "data".parse().unwrap(),
        subdirectory: "v".to_owned(),
        options: BTreeMap::new(),
        credentials: None,
    };
    let served = ServedVolume { volume: "data#v".parse().unwrap(), spec, resources };
    let session = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let target: TargetPath = "/t".parse().unwrap();
    let refs: Refs = [(target, Exclusivity::Shared)].into_iter().collect();
    let record = new_pod("node", &session, Generation(2), &refs, &served).unwrap();
    serde_json::to_value(manifest(record, &template(), &home(node)).unwrap()).unwrap()
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
}

#[test]
fn nodes_and_engines_never_share_a_name_or_a_watch() {
    let name = |node| made(Resources::default(), node)["metadata"]["name"].as_str().unwrap().to_owned();
    assert_ne!(name("n1"), name("n2"));
    assert!(name("n1").starts_with("mount-") && name("n1").ends_with("-2"), "{}", name("n1"));
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
