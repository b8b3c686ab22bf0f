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
    let waiting = containers(status).iter().filter_map(|container| container.state.as_ref()?.waiting.as_ref());
    let mut waiting = waiting.filter_map(|state| Some((state.reason.as_deref()?, state.message.as_deref())));
    if let Some((reason, message)) = waiting.find(|(reason, _)| CANNOT_START.contains(reason)) {
        return Some(told(reason, message));
    }
    // The scheduler makes room by ending pods of lower priority: it has named the node for it.
    if status.nominated_node_name.as_ref().is_some_and(|node| !node.is_empty()) {
        return None;
    }
    let conditions = status.conditions.iter().flatten();
    let mut placing = conditions.filter(|condition| condition.type_ == "PodScheduled" && condition.status == "False");
    let unplaced = placing.find(|condition| condition.reason.as_deref() == Some("Unschedulable"))?;
    Some(told("Unschedulable", unplaced.message.as_deref()))
}

fn ending(status: &PodStatus) -> String {
    let of_pod = status.reason.as_deref().map(|reason| told(reason, status.message.as_deref()));
    let ended = containers(status).iter().filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    let of_containers = ended.map(|state| {
        let code = state.signal.map_or(format!("exit code {}", state.exit_code), |signal| format!("signal {signal}"));
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
