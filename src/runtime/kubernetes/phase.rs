//! How far is a mount pod, by its status?

use k8s_openapi::api::core::v1::{ContainerStatus, Pod, PodStatus};

use crate::mountpod::facts::PodPhase;

/// Reasons of a waiting container that time alone is not known to end (kubelet: pkg/kubelet/images, kuberuntime).
const CANNOT_START: [&str; 8] = [
    "ErrImagePull",
    "ImagePullBackOff",
    "InvalidImageName",
    "ErrImageNeverPull",
    "CreateContainerConfigError",
    "CreateContainerError",
    "RunContainerError",
    "RegistryUnavailable",
];

/// What the scheduler says, in lower case, while a claim of the pod is being made and bound, or an earlier pod's claim of
/// the same name is going (kube-scheduler: pkg/scheduler/framework/plugins/volumebinding).
const WAITS_FOR_A_CLAIM: [&str; 3] = ["persistentvolumeclaim", "pvc", "persistent volumes to bind"];

/// The scheduler's word for a pod that has no place.
const UNSCHEDULABLE: &str = "Unschedulable";

/// How far the pod is.
pub(super) fn phase_of(pod: &Pod) -> PodPhase {
    let Some(status) = &pod.status else { return PodPhase::Starting { waits_for: None } };
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => PodPhase::Ended { why: ending(status) },
        Some("Running") => PodPhase::Running,
        _ => starting(status),
    }
}

fn containers(status: &PodStatus) -> &[ContainerStatus] {
    status.container_statuses.as_deref().unwrap_or_default()
}

/// A pod that does not run yet: what the kubelet says of its containers, else what the scheduler says of it.
fn starting(status: &PodStatus) -> PodPhase {
    let waiting =
        containers(status).iter().filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let mut waiting = waiting.filter_map(|state| Some((state.reason.as_deref()?, state.message.as_deref())));
    if let Some((reason, message)) = waiting.next() {
        let why = told(reason, message);
        return if CANNOT_START.contains(&reason) {
            PodPhase::Stuck { why }
        } else {
            PodPhase::Starting { waits_for: Some(why) }
        };
    }
    let conditions = status.conditions.iter().flatten();
    let mut placing =
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let unplaced = placing.find(|condition| condition.reason.as_deref() == Some(UNSCHEDULABLE));
    let Some(unplaced) = unplaced else { return PodPhase::Starting { waits_for: None } };
    let message = unplaced.message.as_deref();
    let words = message.unwrap_or_default().to_lowercase();
    let why = told(UNSCHEDULABLE, message);
    // The scheduler makes room by ending pods of lower priority: it has named the node for it.
    let makes_room = status.nominated_node_name.as_ref().is_some_and(|node| !node.is_empty());
    if makes_room || WAITS_FOR_A_CLAIM.iter().any(|part| words.contains(part)) {
        PodPhase::Starting { waits_for: Some(why) }
    } else {
        PodPhase::Stuck { why }
    }
}

fn ending(status: &PodStatus) -> String {
    let of_pod = status.reason.as_deref().map(|reason| told(reason, status.message.as_deref()));
    let ended =
        containers(status).iter().filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    let of_containers = ended.map(|state| {
        let code = state
            .signal
            .map_or(format!("exit code {}", state.exit_code), |signal| format!("signal {signal}"));
        match state.reason.as_deref() {
            Some("OOMKilled") => told("out of memory (OOMKilled)", Some(&code)),
            Some(reason) => told(&format!("{reason}, {code}"), state.message.as_deref()),
            None => told(&code, state.message.as_deref()),
        }
    });
    let parts: Vec<_> = of_pod.into_iter().chain(of_containers).collect();
    if parts.is_empty() { "its agent has ended".to_owned() } else { parts.join("; ") }
}

fn told(reason: &str, message: Option<&str>) -> String {
    match message.map(str::trim).filter(|message| !message.is_empty()) {
        Some(message) => format!("{reason}: {message}"),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use serde_json::{Value, json};

    use super::*;

    fn of(status: &Value) -> PodPhase {
        phase_of(&serde_json::from_value(json!({ "status": status })).unwrap())
    }

    fn unschedulable() -> Value {
        json!([{ "type": "PodScheduled", "status": "False", "reason": "Unschedulable",
            "message": "0/1 nodes are available: 1 Insufficient cpu." }])
    }

    fn waiting(reason: &str) -> Value {
        json!({ "phase": "Pending", "containerStatuses": [{ "name": "mount", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "waiting": { "reason": reason, "message": "no such image" } } }] })
    }

    fn ended(phase: &str, terminated: &Value) -> PodPhase {
        of(
            &json!({ "phase": phase, "containerStatuses": [{ "name": "mount", "image": "i", "imageID": "", "ready": false,
            "restartCount": 0, "state": { "terminated": terminated } }] }),
        )
    }

    fn starting(waits_for: Option<&str>) -> PodPhase {
        PodPhase::Starting { waits_for: waits_for.map(str::to_owned) }
    }

    fn stuck(why: &str) -> PodPhase {
        PodPhase::Stuck { why: why.to_owned() }
    }

    fn over(why: &str) -> PodPhase {
        PodPhase::Ended { why: why.to_owned() }
    }

    #[test]
    fn a_pod_on_its_way_is_starting() {
        assert_eq!(phase_of(&Pod::default()), starting(None));
        assert_eq!(of(&json!({ "phase": "Pending" })), starting(None));
        assert_eq!(of(&waiting("ContainerCreating")), starting(Some("ContainerCreating: no such image")));
        assert_eq!(of(&json!({ "phase": "Running" })), PodPhase::Running);
    }

    #[test]
    fn what_waiting_does_not_cure_is_told() {
        assert_eq!(of(&waiting("ErrImagePull")), stuck("ErrImagePull: no such image"));
        assert_eq!(
            of(&waiting("CreateContainerConfigError")),
            stuck("CreateContainerConfigError: no such image")
        );
        let full = json!({ "phase": "Pending", "conditions": unschedulable() });
        assert_eq!(of(&full), stuck("Unschedulable: 0/1 nodes are available: 1 Insufficient cpu."));
        for waits in [
            "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. not found",
            "0/1 nodes are available: waiting for ephemeral volume controller to create the persistentvolumeclaim \"a\".",
            "0/1 nodes are available: PVC a/b was not created for pod a/b (pod is not owner).",
            "0/1 nodes are available: 1 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s).",
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
        ] {
            let mut pending = full.clone();
            pending["conditions"][0]["message"] = json!(waits);
            assert_eq!(of(&pending), starting(Some(&format!("Unschedulable: {waits}"))));
        }
        let makes_room =
            json!({ "phase": "Pending", "conditions": unschedulable(), "nominatedNodeName": "n" });
        let message = "Unschedulable: 0/1 nodes are available: 1 Insufficient cpu.";
        assert_eq!(of(&makes_room), starting(Some(message)));
    }

    #[test]
    fn an_end_has_its_reasons() {
        let oom = json!({ "exitCode": 137, "reason": "OOMKilled" });
        assert_eq!(ended("Failed", &oom), over("out of memory (OOMKilled): exit code 137"));
        let error = json!({ "exitCode": 2, "reason": "Error", "message": "no socket" });
        assert_eq!(ended("Failed", &error), over("Error, exit code 2: no socket"));
        assert_eq!(
            ended("Succeeded", &json!({ "exitCode": 0, "reason": "Completed" })),
            over("Completed, exit code 0")
        );
        let evicted =
            json!({ "phase": "Failed", "reason": "Evicted", "message": "The node was low on memory." });
        assert_eq!(of(&evicted), over("Evicted: The node was low on memory."));
        assert_eq!(of(&json!({ "phase": "Failed" })), over("its agent has ended"));
    }
}
