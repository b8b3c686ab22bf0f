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

/// How far the pod is.
pub(super) fn phase_of(pod: &Pod) -> PodPhase {
    let Some(status) = &pod.status else { return PodPhase::Starting };
    match status.phase.as_deref() {
        Some("Failed" | "Succeeded") => PodPhase::Ended { why: ending(status) },
        Some("Running") => PodPhase::Running,
        _ => match stuck(status) {
            Some(why) => PodPhase::Stuck { why },
            None => PodPhase::Starting,
        },
    }
}

fn containers(status: &PodStatus) -> &[ContainerStatus] {
    status.container_statuses.as_deref().unwrap_or_default()
}

fn stuck(status: &PodStatus) -> Option<String> {
    let waiting =
        containers(status).iter().filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let mut waiting = waiting.filter_map(|state| Some((state.reason.as_deref()?, state.message.as_deref())));
    if let Some((reason, message)) = waiting.find(|(reason, _)| CANNOT_START.contains(reason)) {
        return Some(told(reason, message));
    }
    // The scheduler makes room by ending pods of lower priority: it has named the node for it.
    if status.nominated_node_name.as_ref().is_some_and(|node| !node.is_empty()) {
        return None;
    }
    let conditions = status.conditions.iter().flatten();
    let mut placing =
        conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let unplaced = placing.find(|condition| condition.reason.as_deref() == Some("Unschedulable"))?;
    Some(told("Unschedulable", unplaced.message.as_deref()))
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

    fn stuck(why: &str) -> PodPhase {
        PodPhase::Stuck { why: why.to_owned() }
    }

    fn over(why: &str) -> PodPhase {
        PodPhase::Ended { why: why.to_owned() }
    }

    #[test]
    fn a_pod_on_its_way_is_starting() {
        assert_eq!(phase_of(&Pod::default()), PodPhase::Starting);
        assert_eq!(of(&json!({ "phase": "Pending" })), PodPhase::Starting);
        assert_eq!(of(&waiting("ContainerCreating")), PodPhase::Starting);
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
        let makes_room =
            json!({ "phase": "Pending", "conditions": unschedulable(), "nominatedNodeName": "n" });
        assert_eq!(of(&makes_room), PodPhase::Starting);
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
