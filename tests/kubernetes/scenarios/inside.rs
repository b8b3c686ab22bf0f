//! What can a mount pod do?

use serde_json::{Value, json};

use crate::Figures;
use crate::juicefs::Filesystem;
use crate::node::{self, Process};
use crate::objects::{self, IDLE};
use crate::observe::{self, MountPod};
use crate::world::{Space, VOLUMES_NAMESPACE, World};

/// What the mount pods of a client may have.
struct Allowed {
    /// The client's command line begins so.
    client: &'static str,
    /// Its capabilities, as a mask.
    capabilities: u64,
    user: u32,
}

/// CHOWN, `DAC_OVERRIDE`, FOWNER, FSETID: bits 0, 1, 3 and 4 (capabilities(7), linux/capability.h).
const HOSTDIR: Allowed = Allowed { client: "mount-hostdir serve", capabilities: 0b1_1011, user: 0 };
const JUICEFS: Allowed = Allowed { client: "juicefs mount", capabilities: 0, user: 65532 };
const DATABASE: u8 = 13;
/// `SECCOMP_MODE_FILTER` (`proc_pid_status(5)`).
const SECCOMP_FILTER: &str = "2";

/// No more than docs/kubernetes.md, "What runs, and what it may do", allows, looked at from the spec and from the kernel's side.
pub fn least_privilege(world: &World) -> Figures {
    let space = world.space("inside");
    space.claim("claim");
    let volume = space.bound("claim");
    let (_, programs) = looked_into(&space, &HOSTDIR);
    assert_eq!(
        secret_words(&programs),
        Vec::<String>::new(),
        "variables and arguments that look like a secret"
    );

    let figures = vec![format!("{} processes checked", programs.len())];
    space.finish(&["user"], &[("claim", &volume)]);
    figures
}

/// A mount pod of JuiceFS has no capability at all, is not root, and is what Pod Security admits as `restricted`.
pub fn least_privilege_of_juicefs(world: &World) -> Figures {
    let space = world.space("jfs-inside");
    let filesystem = Filesystem::new(&space, "inside", DATABASE);
    filesystem.claim("claim", "64Mi");
    let volume = space.bound("claim");
    let (mount_pod, programs) = looked_into(&space, &JUICEFS);
    is_restricted(&space, &mount_pod);
    let figures = vec![format!("{} processes checked", programs.len())];
    filesystem.finish(&["user"], &[("claim", &volume)]);
    figures
}

/// A namespace that enforces the profile admits the pod, and not one with a capability more.
pub(super) fn is_restricted(space: &Space<'_>, mount_pod: &MountPod) {
    let api = &space.world.api;
    let labels = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
    api.patch(&format!("/api/v1/namespaces/{}", space.name), &labels);
    let mut spec = mount_pod.0["spec"].clone();
    let fields = spec.as_object_mut().expect("a spec");
    fields.retain(|field, _| !["nodeName", "serviceAccount", "serviceAccountName"].contains(&field.as_str()));
    let pods = space.path("pods", "") + "?dryRun=All";
    let answer = |spec: &Value| {
        api.call("POST", &pods, "application/json", &json!({"metadata": {"name": "probe"}, "spec": spec}))
    };
    let admitted = answer(&spec);
    assert_eq!(admitted.code, 201, "the mount pod's spec in a restricted namespace: {}", admitted.body);
    spec["containers"][0]["securityContext"]["capabilities"]["add"] = json!(["CHOWN"]);
    let refused = answer(&spec);
    assert_eq!(refused.code, 403, "a pod with a capability in a restricted namespace: {}", refused.body);
}

/// Starts a pod `user` of the claim; its mount pod, and the programs in there, have no more than is allowed.
fn looked_into(space: &Space<'_>, allowed: &Allowed) -> (MountPod, Vec<Process>) {
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    let mount_pod = observe::mount_pod_of(space.world, &space.pod("user").unwrap());
    spec_is_small(&mount_pod);
    let mut running = node::processes_of_pod(mount_pod.uid());
    running.retain(Process::is_of_a_mount_pod);
    let clients = running.iter().filter(|one| one.command.starts_with(allowed.client)).count();
    assert!(
        clients >= 1 && clients < running.len(),
        "an agent and a client run there; there are: {running:?}"
    );
    running.iter().for_each(|program| process_is_confined(program, allowed));
    (mount_pod, running)
}

fn spec_is_small(mount_pod: &MountPod) {
    let spec = &mount_pod.0["spec"];
    let metadata = &mount_pod.0["metadata"];
    assert_eq!(metadata["namespace"], VOLUMES_NAMESPACE);
    assert_eq!(spec["automountServiceAccountToken"], false);
    assert_eq!(spec["priorityClassName"], "system-node-critical");
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        assert_ne!(spec[shared], true, "{shared} of the mount pod");
    }
    assert_eq!(metadata["ownerReferences"][0]["kind"], "Node", "owner: {}", metadata["ownerReferences"]);
    assert_eq!(metadata["ownerReferences"][0]["controller"], true, "owner: {}", metadata["ownerReferences"]);
    let volumes = spec["volumes"].as_array().cloned().unwrap_or_default();
    let foreign: Vec<&Value> = volumes.iter().filter(|volume| volume.get("emptyDir").is_none()).collect();
    assert!(foreign.is_empty(), "volumes other than emptyDir: {foreign:?}");
    let containers = spec["containers"].as_array().cloned().unwrap_or_default();
    assert_eq!(containers.len(), 1, "containers: {containers:?}");
    let container = &containers[0];
    let variables = container["env"].as_array().cloned().unwrap_or_default();
    let from_secrets: Vec<&Value> =
        variables.iter().filter(|one| one["valueFrom"].get("secretKeyRef").is_some()).collect();
    assert!(from_secrets.is_empty(), "variables from secrets: {from_secrets:?}");
    assert!(container.get("envFrom").is_none(), "envFrom: {}", container["envFrom"]);
    let context = &container["securityContext"];
    assert_eq!(context["readOnlyRootFilesystem"], true);
    assert_eq!(context["allowPrivilegeEscalation"], false);
    assert_ne!(context["privileged"], true);
    assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
    let profile = [&context["seccompProfile"]["type"], &spec["securityContext"]["seccompProfile"]["type"]];
    assert!(profile.iter().any(|one| **one == "RuntimeDefault"), "seccomp profiles: {profile:?}");
}

fn process_is_confined(process: &Process, allowed: &Allowed) {
    let capabilities = |set: &str| u64::from_str_radix(&process.status(set), 16).expect("a mask");
    for (set, what) in [("CapBnd", "that it could get"), ("CapEff", "that it has")] {
        let more = capabilities(set) & !allowed.capabilities;
        assert_eq!(more, 0, "capabilities of {process} {what}: {:x}", capabilities(set));
    }
    if process.command.starts_with(allowed.client) {
        assert_eq!(capabilities("CapEff"), allowed.capabilities, "capabilities of {process}");
    }
    let users = process.status("Uid");
    let user = allowed.user.to_string();
    assert!(users.split_whitespace().all(|one| one == user), "users of {process}: {users}");
    assert_eq!(process.status("NoNewPrivs"), "1", "NoNewPrivs of {process}");
    assert_eq!(process.status("Seccomp"), SECCOMP_FILTER, "Seccomp of {process}");
    let mounts = process.proc("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    let options = root.split(' ').nth(5).unwrap_or_default();
    assert!(options.split(',').any(|option| option == "ro"), "the root of {process} is mounted {options}");
    assert!(!mounts.contains("serviceaccount"), "{process} sees a service account's token");
}

/// Arguments and variables that name a key, a token or a password; those of Kubernetes' own Services are no secrets.
fn secret_words(programs: &[Process]) -> Vec<String> {
    let suspicious = |word: &&str| {
        let low = word.to_lowercase();
        ["secret", "token", "password", "test-secret-value"].iter().any(|part| low.contains(part))
    };
    let all = programs.iter().map(|program| program.proc("environ") + "\0" + &program.proc("cmdline"));
    all.flat_map(|words| words.split('\0').filter(suspicious).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
