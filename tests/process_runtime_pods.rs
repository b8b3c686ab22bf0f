//! Do local processes keep the promises of a mount pod: records, limits, isolation, restarts of the driver, ends?

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a failed expectation is the failure of the test"
)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::{Container, Pod, PodSpec, ResourceRequirements};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;
use kube::core::params::Preconditions;
use mountpod::agent::connect::connect;
use mountpod::mountpod::facts::{Generation, PodName, PodPhase, PodUid};
use mountpod::mountpod::pod::{ServedVolume, new_pod, pod_id};
use mountpod::mountpod::refs::Refs;
use mountpod::mountpod::service::NoFiles;
use mountpod::runtime::process::{OpenError, ProcessOptions, ProcessRuntime, control_groups_of};
use mountpod::runtime::{MountPods, RunningPod, RuntimeError};
use mountpod::volume::{ClientKind, MountSpec, PodShape, Resources, SecretFiles};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far more than any of these waits needs on a busy machine.
const LIMIT: Duration = Duration::from_secs(30);

fn options(dir: &Path) -> ProcessOptions {
    let mut options = ProcessOptions::new(dir.to_owned());
    options.program = PathBuf::from(env!("CARGO_BIN_EXE_mountpod"));
    options
}

fn pod(name: &str, limits: &[(&str, &str)]) -> Pod {
    let limits = limits.iter().map(|(name, value)| ((*name).to_owned(), Quantity((*value).to_owned())));
    let resources =
        ResourceRequirements { limits: Some(limits.collect()), ..ResourceRequirements::default() };
    let container = Container { resources: Some(resources), ..Container::default() };
    let mut pod =
        Pod { spec: Some(PodSpec { containers: vec![container], ..PodSpec::default() }), ..Pod::default() };
    pod.metadata.name = Some(name.to_owned());
    pod
}

fn uid(pod: &Pod) -> PodUid {
    PodUid(pod.metadata.uid.clone().unwrap())
}

fn name(name: &str) -> PodName {
    PodName(name.to_owned())
}

fn find(runtime: &ProcessRuntime, name: &str) -> Option<RunningPod> {
    runtime.list().into_iter().find(|pod| pod.record.metadata.name.as_deref() == Some(name))
}

/// Waits for a state of the pod by `changes`, as the engine does.
async fn until(runtime: &ProcessRuntime, name: &str, is: impl Fn(Option<&RunningPod>) -> bool) {
    let mut changes = runtime.changes();
    let waited = tokio::time::timeout(LIMIT, async {
        while !is(find(runtime, name).as_ref()) {
            changes.changed().await.unwrap();
        }
    });
    waited.await.unwrap_or_else(|_| panic!("{name} is {:?}", find(runtime, name)));
}

async fn running(runtime: &ProcessRuntime, name: &str) -> i32 {
    until(runtime, name, |pod| pod.is_some_and(|pod| pod.phase == PodPhase::Running)).await;
    let pod = find(runtime, name).unwrap();
    let leader = &pod.record.metadata.annotations.as_ref().unwrap()["process.mountpod.dev/leader"];
    let leader: serde_json::Value = serde_json::from_str(leader).unwrap();
    i32::try_from(leader["pid"].as_i64().unwrap()).unwrap()
}

async fn listening(runtime: &ProcessRuntime, pod: &str) {
    let socket = runtime.agent_socket(&pod_id(&find(runtime, pod).unwrap().record).unwrap());
    let waited = tokio::time::timeout(LIMIT, async {
        while connect(&socket, LIMIT).await.is_err() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    waited.await.expect("the agent listens");
}

async fn deleted(runtime: &ProcessRuntime, pod: &str) {
    runtime.delete(&name(pod), &Preconditions::default()).await.unwrap();
    until(runtime, pod, |pod| pod.is_none()).await;
}

/// The control groups of the pod in the runtime of that directory.
fn cgroups_of(dir: &Path, pod: &str) -> Vec<PathBuf> {
    let groups = control_groups_of(dir).unwrap();
    groups.into_iter().filter(|group| group.file_name().is_some_and(|name| name == pod)).collect()
}

fn status_of(pid: i32) -> BTreeMap<String, String> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let fields = status.lines().filter_map(|line| line.split_once(':'));
    fields.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect()
}

#[tokio::test]
async fn files_of_a_clusters_secrets_are_refused_without_a_cluster() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::open(options(dir.path())).await.unwrap();
    let spec = MountSpec {
        client: ClientKind::Juicefs,
        filesystem: "fs".parse().unwrap(),
        subdirectory: String::new(),
        options: BTreeMap::new(),
        credentials: None,
    };
    let files = vec![SecretFiles { secret: "tls".parse().unwrap(), path: "/etc/tls".parse().unwrap() }];
    let served = ServedVolume {
        pod: PodShape { files, ..PodShape::default() },
        ..ServedVolume::new("fs#v".parse().unwrap(), spec, Resources::default())
    };
    let session = "0123456789abcdef0123456789abcdef".parse().unwrap();
    let wanted = new_pod("standalone", &session, Generation(1), &Refs::default(), &served).unwrap();
    let refused = runtime.create(wanted).await.unwrap_err();
    assert!(matches!(refused, RuntimeError::NoFiles { why: NoFiles::NoCluster, .. }), "{refused}");
    assert!(runtime.list().is_empty());
    runtime.shutdown().await;
}

#[tokio::test]
async fn records_have_the_preconditions_of_kubernetes() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::open(options(dir.path())).await.unwrap();
    let created = runtime.create(pod("rec-1", &[])).await.unwrap();
    assert!(matches!(runtime.create(pod("rec-1", &[])).await, Err(RuntimeError::AlreadyExists(_))));
    assert!(runtime.create(pod("../up", &[])).await.is_err(), "a name is never a path");
    let stranger = PodUid("another".to_owned());
    let none = BTreeMap::new();
    assert!(matches!(runtime.patch(&name("rec-1"), &stranger, &none).await, Err(RuntimeError::Gone(_))));
    running(&runtime, "rec-1").await;
    let stale = created.metadata.resource_version.clone();
    let conflict = Preconditions { uid: None, resource_version: stale };
    assert!(matches!(runtime.delete(&name("rec-1"), &conflict).await, Err(RuntimeError::Conflict(_))));
    let gone = Preconditions { uid: Some("another".to_owned()), resource_version: None };
    assert!(matches!(runtime.delete(&name("rec-1"), &gone).await, Err(RuntimeError::Gone(_))));
    // Patches at the same time lose nothing.
    let patches = (0..50).map(|n| {
        let runtime = &runtime;
        let uid = uid(&created);
        async move {
            let patch = BTreeMap::from([(format!("ref.mountpod.dev/{n}"), Some(format!("/t/{n}")))]);
            runtime.patch(&name("rec-1"), &uid, &patch).await.unwrap()
        }
    });
    let mut versions: Vec<u64> = Vec::new();
    for patched in join_all(patches.collect()).await {
        versions.push(patched.metadata.resource_version.unwrap().parse().unwrap());
    }
    let refs = find(&runtime, "rec-1").unwrap().record.metadata.annotations.clone().unwrap();
    assert_eq!(refs.keys().filter(|key| key.starts_with("ref.")).count(), 50);
    versions.sort_unstable();
    versions.dedup();
    assert_eq!(versions.len(), 50, "every change has a version of its own");
    runtime.delete(&name("rec-1"), &Preconditions::default()).await.unwrap();
    assert!(
        matches!(runtime.create(pod("rec-1", &[])).await, Err(RuntimeError::AlreadyExists(_))),
        "still going"
    );
    until(&runtime, "rec-1", |pod| pod.is_none()).await;
    let again = runtime.create(pod("rec-1", &[])).await.unwrap();
    assert_ne!(uid(&again), uid(&created));
    deleted(&runtime, "rec-1").await;
}

/// All at once, on this task.
async fn join_all<F: Future>(futures: Vec<F>) -> Vec<F::Output> {
    let mut futures: Vec<_> = futures.into_iter().map(|future| (Box::pin(future), None)).collect();
    std::future::poll_fn(move |context| {
        let mut pending = false;
        for (future, output) in &mut futures {
            if output.is_none() {
                match future.as_mut().poll(context) {
                    std::task::Poll::Ready(value) => *output = Some(value),
                    std::task::Poll::Pending => pending = true,
                }
            }
        }
        if pending {
            return std::task::Poll::Pending;
        }
        std::task::Poll::Ready(futures.iter_mut().filter_map(|(_, output)| output.take()).collect())
    })
    .await
}

#[tokio::test]
async fn an_agent_has_four_capabilities_and_its_limits_and_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    // Longer than an address of a socket may be.
    let deep = dir.path().join("d".repeat(120));
    std::fs::create_dir(&deep).unwrap();
    let runtime = ProcessRuntime::open(options(&deep)).await.unwrap();
    runtime.create(pod("iso-1", &[("cpu", "250m"), ("memory", "268435456")])).await.unwrap();
    let pid = running(&runtime, "iso-1").await;
    listening(&runtime, "iso-1").await;
    let status = status_of(pid);
    for set in ["CapEff", "CapPrm", "CapBnd"] {
        assert_eq!(status[set], "000000000000001b", "{set}: CHOWN, DAC_OVERRIDE, FOWNER, FSETID");
    }
    assert_eq!(
        (status["CapInh"].as_str(), status["CapAmb"].as_str()),
        ("0000000000000000", "0000000000000000")
    );
    assert_eq!(status["NoNewPrivs"], "1");
    assert_eq!(status["NSpid"].split_ascii_whitespace().last(), Some("1"), "PID 1 of its own namespace");
    let mine = std::fs::read_link("/proc/self/ns/mnt").unwrap();
    assert_eq!(
        std::fs::read_link(format!("/proc/{pid}/ns/mnt")).unwrap(),
        mine,
        "no mount namespace of its own"
    );
    assert!(std::fs::read(format!("/proc/{pid}/environ")).unwrap().is_empty());
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let files: Vec<_> =
        limits.lines().find(|line| line.starts_with("Max open files")).unwrap().split_whitespace().collect();
    assert_eq!(files[3], files[4]);
    let mut limited = Vec::new();
    for group in cgroups_of(&deep, "iso-1") {
        let wants = [
            ("memory", "memory.limit_in_bytes", "268435456"),
            ("memory", "memory.max", "268435456"),
            ("cpu", "cpu.cfs_quota_us", "25000"),
            ("cpu", "cpu.max", "25000 100000"),
        ];
        for (resource, file, value) in wants {
            if let Ok(got) = std::fs::read_to_string(group.join(file)) {
                assert_eq!(got.trim(), value, "{}", group.join(file).display());
                limited.push(resource);
            }
        }
        let procs = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
        assert!(procs.lines().any(|line| line == pid.to_string()), "{}", group.display());
    }
    let warned = find(&runtime, "iso-1").unwrap().record.metadata.annotations.clone().unwrap();
    limited.sort_unstable();
    assert!(
        limited == ["cpu", "memory"] || warned.contains_key("process.mountpod.dev/warning"),
        "limits hold, or it is said"
    );
    deleted(&runtime, "iso-1").await;
    assert!(!Path::new(&format!("/proc/{pid}")).exists(), "reaped");
    assert!(cgroups_of(&deep, "iso-1").is_empty());
    let left: Vec<_> =
        std::fs::read_dir(deep.join("pods")).unwrap().flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}

#[tokio::test]
async fn a_pod_outlives_its_driver_and_its_end_is_seen() {
    let dir = tempfile::tempdir().unwrap();
    let runtime = ProcessRuntime::open(options(dir.path())).await.unwrap();
    let created = runtime.create(pod("sur-1", &[])).await.unwrap();
    let pid = running(&runtime, "sur-1").await;
    listening(&runtime, "sur-1").await;
    assert!(matches!(ProcessRuntime::open(options(dir.path())).await, Err(OpenError::InUse(_))));
    runtime.shutdown().await;
    drop(runtime);
    let runtime = ProcessRuntime::open(options(dir.path())).await.unwrap();
    assert_eq!(running(&runtime, "sur-1").await, pid, "the same process");
    assert_eq!(uid(&find(&runtime, "sur-1").unwrap().record), uid(&created));
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    until(&runtime, "sur-1", |pod| matches!(pod.map(|pod| &pod.phase), Some(PodPhase::Ended { .. }))).await;
    let PodPhase::Ended { why } = find(&runtime, "sur-1").unwrap().phase else { panic!("ended") };
    assert!(why.contains("SIGKILL"), "{why}");
    assert!(cgroups_of(dir.path(), "sur-1").is_empty(), "its cgroups go with its processes");
    deleted(&runtime, "sur-1").await;
    runtime.shutdown().await;
    drop(runtime);
    // A record that names a process which is another one now: PID 1 of this machine, with another start time.
    let mut record = created;
    let leader = r#"{"pid":1,"start_time":1,"boot_id":"x"}"#.to_owned();
    let annotations = record.metadata.annotations.get_or_insert_default();
    annotations.insert("process.mountpod.dev/leader".to_owned(), leader);
    std::fs::write(dir.path().join("pods/sur-1.json"), serde_json::to_vec(&record).unwrap()).unwrap();
    std::fs::create_dir_all(dir.path().join("pods/orphan-1")).unwrap();
    let runtime = ProcessRuntime::open(options(dir.path())).await.unwrap();
    until(&runtime, "sur-1", |pod| matches!(pod.map(|pod| &pod.phase), Some(PodPhase::Ended { .. }))).await;
    assert!(!dir.path().join("pods/orphan-1").exists(), "a directory without a record is swept");
    deleted(&runtime, "sur-1").await;
}

#[tokio::test]
async fn the_memory_limit_is_enforced_and_told() {
    if !Path::new("/sys/fs/cgroup/memory").exists()
        && !Path::new("/sys/fs/cgroup/cgroup.controllers").exists()
    {
        // The other half of the promise, that a pod starts without limits and says so, is tested above.
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    // A stand-in for an agent: it asks for memory without end.
    let hog = "x=$(tr '\\0' x </dev/zero)".to_owned();
    options.agent = Some(vec!["/bin/sh".to_owned(), "-c".to_owned(), hog]);
    let runtime = ProcessRuntime::open(options).await.unwrap();
    runtime.create(pod("oom-1", &[("memory", "33554432")])).await.unwrap();
    until(&runtime, "oom-1", |pod| matches!(pod.map(|pod| &pod.phase), Some(PodPhase::Ended { .. }))).await;
    let PodPhase::Ended { why } = find(&runtime, "oom-1").unwrap().phase else { panic!("ended") };
    assert!(why.contains("out of memory"), "{why}");
    deleted(&runtime, "oom-1").await;
}
