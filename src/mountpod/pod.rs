//! How is a mount pod written down, and what does such a record say?
//!
//! The record is a Kubernetes `Pod` in every runtime: the process runtime keeps the same object in a file, so that
//! annotations, preconditions and resource versions mean the same in both.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::{Deserialize, Serialize};

use super::facts::{
    AgentFact, Deletion, Generation, PodFact, PodId, PodName, PodPhase, PodUid, ResourceVersion, Timestamp,
};
use super::parts::Shown;
use super::refs::{DELETE_AFTER, Refs};
use crate::volume::{CpuMillis, MemoryBytes, MountSpec, PodShape, Requests, Resources, SessionId, VolumeId};

/// Label: the session that the pod serves.
pub const SESSION_LABEL: &str = "mountpod.dev/session";
/// Label: the engine that the pod belongs to (`standalone`, `node`, `controller`).
pub const OWNER_LABEL: &str = "mountpod.dev/owner";
/// Annotation: the number of the pod among those of its session.
const GENERATION: &str = "mountpod.dev/generation";
/// Annotation: what the pod serves, as JSON of [`ServedVolume`]; it holds no secret.
pub const SERVED_VOLUME: &str = "mountpod.dev/volume";
/// The one container of a mount pod.
const CONTAINER: &str = "mount";

/// What a mount pod serves: enough to serve it again after a restart of the driver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServedVolume {
    /// The volume.
    pub volume: VolumeId,
    /// How its client is run.
    pub spec: MountSpec,
    /// What the client may use.
    pub resources: Resources,
    /// How its mount pods are made and kept; a record of an older driver says nothing of it.
    #[serde(default)]
    pub pod: PodShape,
    /// What its targets show. Where that is a part each, `volume` is only the first of the volumes.
    #[serde(default)]
    pub shown: Shown,
}

impl ServedVolume {
    /// A volume with a session of its own, and mount pods as the driver makes them.
    #[must_use]
    pub fn new(volume: VolumeId, spec: MountSpec, resources: Resources) -> Self {
        Self { volume, spec, resources, pod: PodShape::default(), shown: Shown::Whole }
    }
}

/// Why a record is none of a mount pod.
#[derive(Debug, thiserror::Error)]
pub enum NotAMountPod {
    /// A field that every mount pod has is missing.
    #[error("the record of the pod has no {0}")]
    Missing(&'static str),
    /// A field is there, but not in our form.
    #[error("the {field} in the record of the pod can't be read")]
    Unreadable {
        /// Which field.
        field: &'static str,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

/// The name of a session's pod of that generation, unlike that of any other pod of this engine. A runtime that keeps
/// pods of several engines gives names of its own.
#[must_use]
pub fn pod_name(session: &SessionId, generation: Generation) -> PodName {
    PodName(format!("mount-{session}-{}", generation.0))
}

/// The record of a new mount pod, with its first refs in it.
///
/// # Errors
/// Never in practice: the served volume always has a JSON form.
pub fn new_pod(
    owner: &str,
    session: &SessionId,
    generation: Generation,
    refs: &Refs,
    served: &ServedVolume,
) -> Result<Pod, serde_json::Error> {
    let mut annotations = refs.annotations();
    annotations.insert(GENERATION.to_owned(), generation.0.to_string());
    annotations.insert(SERVED_VOLUME.to_owned(), serde_json::to_string(served)?);
    let labels = BTreeMap::from([
        (SESSION_LABEL.to_owned(), session.to_string()),
        (OWNER_LABEL.to_owned(), owner.to_owned()),
    ]);
    Ok(Pod {
        metadata: ObjectMeta {
            name: Some(pod_name(session, generation).0),
            labels: Some(labels),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        spec: Some(PodSpec {
            containers: vec![Container {
                name: CONTAINER.to_owned(),
                resources: Some(requirements(served.resources, served.pod.requests)),
                ..Container::default()
            }],
            ..PodSpec::default()
        }),
        ..Pod::default()
    })
}

fn requirements(limits: Resources, requests: Requests) -> ResourceRequirements {
    ResourceRequirements {
        limits: Some(quantities(limits.cpu_limit, limits.memory_limit)),
        requests: Some(quantities(requests.cpu, requests.memory)).filter(|requests| !requests.is_empty()),
        claims: None,
    }
}

fn quantities(cpu: Option<CpuMillis>, memory: Option<MemoryBytes>) -> BTreeMap<String, Quantity> {
    let cpu = cpu.map(|CpuMillis(millis)| ("cpu".to_owned(), Quantity(format!("{millis}m"))));
    let memory = memory.map(|MemoryBytes(bytes)| ("memory".to_owned(), Quantity(bytes.to_string())));
    cpu.into_iter().chain(memory).collect()
}

/// The session that a record belongs to.
///
/// # Errors
/// When the record is none of a mount pod.
pub fn session_of(pod: &Pod) -> Result<SessionId, NotAMountPod> {
    let label = pod.metadata.labels.as_ref().and_then(|labels| labels.get(SESSION_LABEL));
    label.ok_or(NotAMountPod::Missing("session label"))?.parse().map_err(unreadable("session label"))
}

/// Is the record that of a pod of this session?
#[must_use]
pub fn is_of(pod: &Pod, session: &SessionId) -> bool {
    session_of(pod).is_ok_and(|of| of == *session)
}

/// Which of its session's pods a record is of.
///
/// # Errors
/// When the record is none of a mount pod.
pub fn generation_of(pod: &Pod) -> Result<Generation, NotAMountPod> {
    let number = annotation(pod, GENERATION, "generation")?.parse();
    number.map(Generation).map_err(unreadable("generation"))
}

/// The refs in a record.
#[must_use]
pub fn refs_of(pod: &Pod) -> Refs {
    pod.metadata.annotations.as_ref().map(Refs::read).unwrap_or_default()
}

/// What a record says is served.
///
/// # Errors
/// When the record is none of a mount pod.
pub fn served_volume(pod: &Pod) -> Result<ServedVolume, NotAMountPod> {
    serde_json::from_str(annotation(pod, SERVED_VOLUME, "volume annotation")?)
        .map_err(unreadable("volume annotation"))
}

/// The facts in a record, beside what its runtime and its agent say.
///
/// # Errors
/// When the record is none of a mount pod.
pub fn pod_fact(pod: &Pod, phase: PodPhase, agent: AgentFact) -> Result<PodFact, NotAMountPod> {
    let meta = &pod.metadata;
    let generation = generation_of(pod)?;
    let delete_after = annotation(pod, DELETE_AFTER, "delete-after").ok().map(str::parse).transpose();
    Ok(PodFact {
        id: pod_id(pod)?,
        resource_version: ResourceVersion(
            meta.resource_version.clone().ok_or(NotAMountPod::Missing("resourceVersion"))?,
        ),
        generation,
        phase,
        deletion: if meta.deletion_timestamp.is_some() { Deletion::Asked } else { Deletion::NotAsked },
        refs: refs_of(pod),
        delete_after: delete_after.map_err(unreadable("delete-after"))?.map(Timestamp),
        agent,
    })
}

/// Which incarnation a record is of.
///
/// # Errors
/// When the record has no name or uid.
pub fn pod_id(pod: &Pod) -> Result<PodId, NotAMountPod> {
    let meta = &pod.metadata;
    Ok(PodId {
        name: PodName(meta.name.clone().ok_or(NotAMountPod::Missing("name"))?),
        uid: PodUid(meta.uid.clone().ok_or(NotAMountPod::Missing("uid"))?),
    })
}

fn annotation<'a>(pod: &'a Pod, name: &str, field: &'static str) -> Result<&'a str, NotAMountPod> {
    let annotations = pod.metadata.annotations.as_ref();
    annotations.and_then(|all| all.get(name)).map(String::as_str).ok_or(NotAMountPod::Missing(field))
}

fn unreadable<E: std::error::Error + Send + Sync + 'static>(
    field: &'static str,
) -> impl Fn(E) -> NotAMountPod {
    move |source| NotAMountPod::Unreadable { field, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use std::time::Duration;

    use super::*;
    use crate::volume::{ClientKind, Exclusivity, SecretFiles, TargetPath};

    fn served() -> ServedVolume {
        let spec = MountSpec {
            client: ClientKind::Hostdir,
            filesystem: "data".parse().unwrap(),
            subdirectory: "v".to_owned(),
            options: BTreeMap::new(),
            credentials: None,
        };
        let resources =
            Resources { cpu_limit: Some(CpuMillis(500)), memory_limit: Some(MemoryBytes(1 << 20)) };
        let pod = PodShape { delete_delay: Some(Duration::from_secs(60)), ..PodShape::default() };
        let volume = "data#v".parse().unwrap();
        ServedVolume { volume, spec, resources, pod, shown: Shown::Whole }
    }

    fn stored() -> Pod {
        let session = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let target: TargetPath = "/a".parse().unwrap();
        let refs = [(target, Exclusivity::SingleTarget)].into_iter().collect();
        let mut pod = new_pod("node", &session, Generation(3), &refs, &served()).unwrap();
        pod.metadata.uid = Some("u".to_owned());
        pod.metadata.resource_version = Some("7".to_owned());
        pod
    }

    #[test]
    fn a_record_says_what_was_written() {
        let pod = stored();
        let fact = pod_fact(&pod, PodPhase::Running, AgentFact::Idle).unwrap();
        assert_eq!(fact.id.name.0, "mount-0123456789abcdef0123456789abcdef-3");
        assert_eq!((fact.generation, fact.deletion), (Generation(3), Deletion::NotAsked));
        assert_eq!((fact.refs.len(), fact.delete_after), (1, None));
        assert_eq!(served_volume(&pod).unwrap(), served());
        assert_eq!(session_of(&pod).unwrap().as_str(), "0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn a_record_of_an_older_driver_is_read() {
        let mut older = serde_json::to_value(served()).unwrap();
        // Nor has it directories of the node, like the record of every pod without any.
        assert!(older["pod"].get("host_directories").is_none());
        for newer in ["pod", "shown"] {
            older.as_object_mut().unwrap().remove(newer).unwrap();
        }
        let read: ServedVolume = serde_json::from_value(older).unwrap();
        assert_eq!(read, ServedVolume { pod: PodShape::default(), ..served() });
    }

    #[test]
    fn files_are_kept_for_the_next_generation_and_an_older_driver_wrote_none() {
        let files = vec![SecretFiles { secret: "tls".parse().unwrap(), path: "/etc/tls".parse().unwrap() }];
        let with_files = ServedVolume { pod: PodShape { files, ..served().pod }, ..served() };
        let session = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let record = new_pod("node", &session, Generation(1), &Refs::default(), &with_files).unwrap();
        assert_eq!(served_volume(&record).unwrap(), with_files);
        let without = serde_json::to_string(&served()).unwrap();
        assert!(!without.contains("\"files\""), "{without}");
        assert_eq!(serde_json::from_str::<ServedVolume>(&without).unwrap(), served());
    }

    #[test]
    fn a_planned_end_and_a_deletion_are_seen() {
        let mut pod = stored();
        let annotations = pod.metadata.annotations.as_mut().unwrap();
        annotations.insert(DELETE_AFTER.to_owned(), "1234".to_owned());
        let seen = pod_fact(&pod, PodPhase::Starting { waits_for: None }, AgentFact::Silent).unwrap();
        assert_eq!(seen.delete_after, Some(Timestamp(1234)));
        pod.metadata.annotations.as_mut().unwrap().insert(DELETE_AFTER.to_owned(), "soon".to_owned());
        let unreadable =
            pod_fact(&pod, PodPhase::Starting { waits_for: None }, AgentFact::Silent).unwrap_err();
        assert_eq!(unreadable.to_string(), "the delete-after in the record of the pod can't be read");
    }

    #[test]
    fn a_stranger_is_no_mount_pod() {
        let stranger = Pod::default();
        assert!(session_of(&stranger).is_err());
        assert!(served_volume(&stranger).is_err());
        let fact = pod_fact(&stranger, PodPhase::Running, AgentFact::Silent).unwrap_err();
        assert_eq!(fact.to_string(), "the record of the pod has no generation");
    }
}
