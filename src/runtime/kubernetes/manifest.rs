//! How does the record of a mount pod become a pod that a cluster admits, places and leaves alone?
//!
//! What docs/kubernetes.md, "What runs, and what it may do", promises, field by field: no privilege, no token, no
//! directory of the node unless the administrator allows it, nothing that evicts it before its workloads.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use data_encoding::{BASE32_NOPAD, HEXLOWER};
use k8s_openapi::api::core::v1::{
    Affinity, Capabilities, Container, ContainerPort, EmptyDirVolumeSource, EphemeralVolumeSource,
    HostPathVolumeSource, LocalObjectReference, NodeAffinity, NodeSelector, NodeSelectorRequirement,
    NodeSelectorTerm, PersistentVolumeClaimSpec, PersistentVolumeClaimTemplate, Pod, PodSecurityContext,
    PodSpec, ResourceRequirements, SeccompProfile, SecurityContext, Toleration, Volume, VolumeMount,
    VolumeResourceRequirements,
};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use sha2::{Digest, Sha256};

use super::files;
use crate::juicefs::options::CACHE_IN_POD;
use crate::mountpod::facts::Generation;
use crate::mountpod::pod::{
    NotAMountPod, OWNER_LABEL, ServedVolume, generation_of, served_volume, session_of,
};
use crate::volume::{CacheVolume, ClientKind, HostDirectory, OF_THE_DRIVER, UNPRIVILEGED_USER};

/// Label: the node that the pod serves, in the form that labels allow.
pub const NODE_LABEL: &str = "mountpod.dev/node";
/// Label: the driver; two drivers in one namespace never see each other's pods.
pub const DRIVER_LABEL: &str = "app.kubernetes.io/managed-by";
/// The volume with the agent's socket, as it is called in the kubelet's directory of the pod.
pub(super) const AGENT_VOLUME: &str = "agent";
/// Its place in the container.
const AGENT_DIR: &str = "/run/mountpod";
/// The socket in it.
pub(super) const AGENT_SOCKET: &str = "agent.sock";
/// A socket takes a page; the rest is room for what a client may leave there.
const AGENT_DIR_SIZE: &str = "1Mi";
/// 300,000 open files of a JuiceFS client (`juicefs::saved`); what is not used takes no memory.
const OPEN_FILES_SIZE: &str = "64Mi";
/// What an idle agent and its client are sure to need, so that the scheduler counts the pod at all.
const CPU_REQUEST: &str = "10m";
/// As above, with the built-in client.
const MEMORY_REQUEST: &str = "32Mi";
/// As above, with an idle JuiceFS client, which alone takes 30 MiB. What it needs at work, StorageClass parameters say.
const MEMORY_REQUEST_OF_JUICEFS: &str = "64Mi";
/// The volume with the client's cache.
const CACHE_VOLUME: &str = "cache";
/// The volumes with directories of the node, before their numbers.
const HOST_VOLUME: &str = "node";
/// The user of a client that gives files to others; the image's own user is nobody.
const ROOT: i64 = 0;
/// Cluster autoscaler: the workloads decide whether a node can go, their mount pods never keep it.
const SAFE_TO_EVICT: &str = "cluster-autoscaler.kubernetes.io/safe-to-evict";
/// hostdir gives files the owners and modes that workloads ask for. No more than Pod Security `baseline` allows.
const OWNER_CAPABILITIES: [&str; 4] = ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID"];
/// The name of the port with a client's metrics, for monitors that look for pods by port names.
const METRICS: &str = "metrics";
/// Longest value of a label (Kubernetes API, "Labels and Selectors").
const LABEL_MAX: usize = 63;
/// Hex digits that tell long node names apart.
const LABEL_HASH_DIGITS: usize = 16;
/// Bytes of the hash in a pod's name: 26 digits in base 32.
const NAME_HASH_BYTES: usize = 16;

/// What all mount pods of a driver have in common.
#[derive(Debug, Clone)]
pub struct PodTemplate {
    /// The mount pods' image.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`; the cluster's default when absent.
    pub image_pull_policy: Option<String>,
    /// Names of pull secrets in the mount pods' namespace.
    pub image_pull_secrets: Vec<String>,
    /// The priority class; `system-node-critical` unless the administrator wants otherwise.
    pub priority_class: String,
    /// How long an agent that is asked to end may go on serving: the pod's termination grace period as well.
    pub grace: Duration,
    /// Where clients that have metrics tell them; `None`: nowhere.
    pub metrics_port: Option<NonZeroU16>,
}

/// Where the mount pods of an engine belong.
#[derive(Debug, Clone)]
pub(super) struct Home {
    pub(super) namespace: String,
    pub(super) node: String,
    pub(super) node_uid: String,
    pub(super) owner: String,
    pub(super) driver: String,
}

impl Home {
    /// The labels of all its pods.
    pub(super) fn labels(&self) -> BTreeMap<String, String> {
        BTreeMap::from([
            (OWNER_LABEL.to_owned(), self.owner.clone()),
            (NODE_LABEL.to_owned(), label_form(&self.node)),
            (DRIVER_LABEL.to_owned(), self.driver.clone()),
        ])
    }

    /// Selects its pods. By labels alone: a field selector on `spec.nodeName` would not show a pod that the scheduler
    /// has not placed, and one that it can't place must be seen.
    pub(super) fn selector(&self) -> String {
        let terms: Vec<_> =
            self.labels().into_iter().map(|(name, value)| format!("{name}={value}")).collect();
        terms.join(",")
    }
}

/// The name of a node as the value of a label: itself, or for the few that are too long, its beginning and a hash.
pub(super) fn label_form(node: &str) -> String {
    if node.len() <= LABEL_MAX {
        return node.to_owned();
    }
    let hash = HEXLOWER.encode(&Sha256::digest(node));
    let start: String = node.chars().take(LABEL_MAX - LABEL_HASH_DIGITS - 1).collect();
    format!("{start}-{}", &hash[..LABEL_HASH_DIGITS])
}

/// The full manifest of the pod that the engine's record asks for.
///
/// # Errors
/// When the record is none of a mount pod.
pub(super) fn manifest(record: Pod, template: &PodTemplate, home: &Home) -> Result<Pod, NotAMountPod> {
    let served = served_volume(&record)?;
    let name = pod_name(&record, home)?;
    let Pod { mut metadata, spec, .. } = record;
    metadata.name = Some(name);
    metadata.namespace = Some(home.namespace.clone());
    metadata.labels.get_or_insert_default().extend(home.labels());
    metadata.annotations.get_or_insert_default().insert(SAFE_TO_EVICT.to_owned(), "true".to_owned());
    // A controller, so that `kubectl drain` takes the pod for managed; an owner, so that the garbage collector cleans
    // up after a node that is gone. No blockOwnerDeletion: that would need the right to change nodes' finalizers.
    metadata.owner_references = Some(vec![OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: home.node.clone(),
        uid: home.node_uid.clone(),
        controller: Some(true),
        block_owner_deletion: None,
    }]);
    let asked = spec.and_then(|spec| spec.containers.into_iter().next()).unwrap_or_default();
    Ok(Pod { metadata, spec: Some(pod_spec(&served, asked, template, home)), status: None })
}

/// The same session may be served on several nodes, and by several engines of one node: the name tells them apart.
fn pod_name(record: &Pod, home: &Home) -> Result<String, NotAMountPod> {
    let session = session_of(record)?;
    let Generation(generation) = generation_of(record)?;
    let mut hash = Sha256::new();
    for part in [&home.driver, &home.owner, &home.node, session.as_str()] {
        hash.update(part);
        hash.update(b"\0");
    }
    let digits = BASE32_NOPAD.encode(&hash.finalize()[..NAME_HASH_BYTES]).to_lowercase();
    Ok(format!("{OF_THE_DRIVER}{digits}-{generation}"))
}

fn pod_spec(served: &ServedVolume, asked: Container, template: &PodTemplate, home: &Home) -> PodSpec {
    let (client, cache) = (served.spec.client, &served.pod.cache);
    let user = rights_of(client).user;
    let directories = named(&served.pod.host_directories);
    let secrets = template.image_pull_secrets.iter();
    PodSpec {
        affinity: Some(on_node(&home.node)),
        automount_service_account_token: Some(false),
        containers: vec![container(served, asked, template)],
        enable_service_links: Some(false),
        image_pull_secrets: Some(secrets.map(|name| LocalObjectReference { name: name.clone() }).collect()),
        priority_class_name: Some(template.priority_class.clone()),
        // A pod that ended is replaced by one of the next generation, behind the same session.
        restart_policy: Some("Never".to_owned()),
        security_context: Some(PodSecurityContext {
            seccomp_profile: Some(SeccompProfile {
                type_: "RuntimeDefault".to_owned(),
                ..Default::default()
            }),
            run_as_user: Some(user),
            run_as_group: Some(user),
            run_as_non_root: Some(true).filter(|_| user != ROOT),
            // The root of a new volume is root's own; that of an emptyDir is everybody's.
            fs_group: matches!(cache, CacheVolume::Claim { .. }).then_some(user),
            ..Default::default()
        }),
        termination_grace_period_seconds: Some(seconds(template.grace)),
        // It goes where its workload is, whatever taints that node has or gets.
        tolerations: Some(vec![Toleration { operator: Some("Exists".to_owned()), ..Default::default() }]),
        volumes: Some(
            places_of(client)
                .iter()
                .map(in_memory)
                .chain(cache_volume(cache))
                .chain(files::volumes(&served.pod.files))
                .chain(directories.map(|(name, directory)| of_the_node(name, directory)))
                .collect(),
        ),
        ..Default::default()
    }
}

/// A directory of a mount pod that can be written to: nothing else can.
struct Writable {
    name: &'static str,
    path: &'static str,
    size: &'static str,
}

/// Where the agent listens.
const FOR_THE_AGENT: Writable = Writable { name: AGENT_VOLUME, path: AGENT_DIR, size: AGENT_DIR_SIZE };
/// Where the agent of JuiceFS listens, and lays the open files ready for a client that takes over.
const FOR_THE_AGENT_OF_JUICEFS: Writable = Writable { size: OPEN_FILES_SIZE, ..FOR_THE_AGENT };
/// Where a JuiceFS client that ends leaves its open files.
const FOR_JUICEFS: Writable = Writable { name: "tmp", path: "/tmp", size: OPEN_FILES_SIZE };

fn places_of(client: ClientKind) -> &'static [Writable] {
    match client {
        ClientKind::Hostdir => &[FOR_THE_AGENT],
        ClientKind::Juicefs => &[FOR_THE_AGENT_OF_JUICEFS, FOR_JUICEFS],
    }
}

fn in_memory(place: &Writable) -> Volume {
    Volume {
        name: place.name.to_owned(),
        empty_dir: Some(EmptyDirVolumeSource {
            medium: Some("Memory".to_owned()),
            size_limit: Some(Quantity(place.size.to_owned())),
        }),
        ..Default::default()
    }
}

fn mounted(place: &Writable) -> VolumeMount {
    VolumeMount { name: place.name.to_owned(), mount_path: place.path.to_owned(), ..Default::default() }
}

fn cache_volume(cache: &CacheVolume) -> Option<Volume> {
    let volume = Volume { name: CACHE_VOLUME.to_owned(), ..Default::default() };
    let quantity = |bytes: u64| Quantity(bytes.to_string());
    match cache {
        CacheVolume::None => None,
        CacheVolume::Disk { bytes } => {
            let size_limit = bytes.map(quantity);
            Some(Volume { empty_dir: Some(EmptyDirVolumeSource { medium: None, size_limit }), ..volume })
        }
        CacheVolume::Claim { bytes, storage_class } => {
            let requests = BTreeMap::from([("storage".to_owned(), quantity(*bytes))]);
            let resources = VolumeResourceRequirements { requests: Some(requests), limits: None };
            let spec = PersistentVolumeClaimSpec {
                access_modes: Some(vec!["ReadWriteOnce".to_owned()]),
                resources: Some(resources),
                storage_class_name: storage_class.clone(),
                ..Default::default()
            };
            let volume_claim_template = Some(PersistentVolumeClaimTemplate { metadata: None, spec });
            Some(Volume { ephemeral: Some(EphemeralVolumeSource { volume_claim_template }), ..volume })
        }
    }
}

fn cache_mount(cache: &CacheVolume) -> Option<VolumeMount> {
    let (name, mount_path) = (CACHE_VOLUME.to_owned(), CACHE_IN_POD.to_owned());
    (*cache != CacheVolume::None).then(|| VolumeMount { name, mount_path, ..Default::default() })
}

/// The node's directories, each with the name of its volume.
fn named(directories: &BTreeSet<HostDirectory>) -> impl Iterator<Item = (String, &HostDirectory)> {
    directories.iter().enumerate().map(|(number, directory)| (format!("{HOST_VOLUME}-{number}"), directory))
}

/// One that is missing is made, as root's, and the agent tells whose it must be: were it only wanted, the pod would wait
/// for it without a word of that in its status.
fn of_the_node(name: String, directory: &HostDirectory) -> Volume {
    let type_ = Some("DirectoryOrCreate".to_owned());
    let host_path = Some(HostPathVolumeSource { path: directory.to_string(), type_ });
    Volume { name, host_path, ..Default::default() }
}

fn at_its_own_path(name: String, directory: &HostDirectory) -> VolumeMount {
    VolumeMount { name, mount_path: directory.to_string(), ..Default::default() }
}

/// Through the scheduler, not by `spec.nodeName`: a node without room is then found out before the kubelet rejects it,
/// and a pod of higher priority takes the place of others.
fn on_node(node: &str) -> Affinity {
    let by_name = NodeSelectorRequirement {
        key: "metadata.name".to_owned(),
        operator: "In".to_owned(),
        values: Some(vec![node.to_owned()]),
    };
    let term = NodeSelectorTerm { match_fields: Some(vec![by_name]), ..Default::default() };
    let required = NodeSelector { node_selector_terms: vec![term] };
    Affinity {
        node_affinity: Some(NodeAffinity {
            required_during_scheduling_ignored_during_execution: Some(required),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn container(served: &ServedVolume, asked: Container, template: &PodTemplate) -> Container {
    let (client, cache) = (served.spec.client, &served.pod.cache);
    let directories = named(&served.pod.host_directories);
    let socket = PathBuf::from(AGENT_DIR).join(AGENT_SOCKET);
    let grace = seconds(template.grace).to_string();
    let metrics = template.metrics_port.filter(|_| client.has_metrics());
    let added: Vec<_> = rights_of(client).capabilities.iter().map(|name| (*name).to_owned()).collect();
    let mut args = vec!["--socket".to_owned(), socket.display().to_string(), "--grace".to_owned(), grace];
    if let Some(port) = metrics {
        args.extend(["--metrics-port".to_owned(), port.to_string()]);
        args.extend(["--metrics-volume".to_owned(), served.volume.handle()]);
    }
    Container {
        name: asked.name,
        image: Some(template.image.clone()),
        image_pull_policy: template.image_pull_policy.clone(),
        args: Some(args),
        ports: metrics.map(|port| {
            let container_port = i32::from(port.get());
            vec![ContainerPort { name: Some(METRICS.to_owned()), container_port, ..Default::default() }]
        }),
        resources: Some(resources(client, asked.resources.unwrap_or_default())),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities {
                drop: Some(vec!["ALL".to_owned()]),
                add: Some(added).filter(|added| !added.is_empty()),
            }),
            ..Default::default()
        }),
        volume_mounts: Some(
            places_of(client)
                .iter()
                .map(mounted)
                .chain(cache_mount(cache))
                .chain(files::mounts(&served.pod.files))
                .chain(directories.map(|(name, directory)| at_its_own_path(name, directory)))
                .collect(),
        ),
        ..Default::default()
    }
}

/// What is not said of the requests are the limits, where there are some: what a client may use, it will use in time.
fn resources(client: ClientKind, asked: ResourceRequirements) -> ResourceRequirements {
    let (said, limits) = (asked.requests.unwrap_or_default(), asked.limits.unwrap_or_default());
    let memory = match client {
        ClientKind::Hostdir => MEMORY_REQUEST,
        ClientKind::Juicefs => MEMORY_REQUEST_OF_JUICEFS,
    };
    let requests = [("cpu", CPU_REQUEST), ("memory", memory)].map(|(name, default)| {
        let quantity = said.get(name).or_else(|| limits.get(name)).cloned();
        (name.to_owned(), quantity.unwrap_or_else(|| Quantity(default.to_owned())))
    });
    ResourceRequirements {
        requests: Some(requests.into()),
        limits: Some(limits).filter(|limits| !limits.is_empty()),
        claims: None,
    }
}

/// Who a client is in its container, and what that user may do there.
struct Rights {
    user: i64,
    capabilities: &'static [&'static str],
}

fn rights_of(client: ClientKind) -> Rights {
    if client.sets_owners() {
        Rights { user: ROOT, capabilities: &OWNER_CAPABILITIES }
    } else {
        Rights { user: i64::from(UNPRIVILEGED_USER), capabilities: &[] }
    }
}

fn seconds(time: Duration) -> i64 {
    i64::try_from(time.as_secs()).unwrap_or(i64::MAX)
}

#[cfg(test)]
#[path = "manifest_tests.rs"]
mod tests;
