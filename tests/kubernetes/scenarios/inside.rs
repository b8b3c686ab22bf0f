//! What can a mount pod do?

use serde_json::{Value, json};

use crate::Figures;
use crate::node::{self, Process};
use crate::objects::{self, IDLE};
use crate::observe::{self, MountPod};
use crate::world::{VOLUMES_NAMESPACE, World};

/// CHOWN, `DAC_OVERRIDE`, FOWNER, FSETID: bits 0, 1, 3 and 4 (capabilities(7), linux/capability.h).
const HOSTDIR_CAPABILITIES: u64 = 0b1_1011;
/// `SECCOMP_MODE_FILTER` (`proc_pid_status(5)`).
const SECCOMP_FILTER: &str = "2";

/// No more than design section 7 allows, looked at from the spec and from the kernel's side.
pub fn least_privilege(world: &World) -> Figures {
    let space = world.space("inside");
    space.claim("claim");
    let volume = space.bound("claim");
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    let mount_pod = observe::mount_pod_of(world, &space.pod("user").unwrap());

    spec_is_small(&mount_pod);
    let running = node::processes_of_pod(mount_pod.uid());
    let programs: Vec<&Process> = running.iter().filter(|one| one.is_of_a_mount_pod()).collect();
    assert!(programs.len() >= 2, "an agent and a client run in the mount pod; there are: {running:?}");
    programs.iter().for_each(|program| process_is_confined(program));
    assert_eq!(
        secret_words(&programs),
        Vec::<String>::new(),
        "variables and arguments that look like a secret"
    );

    let figures = vec![format!("{} processes checked", programs.len())];
    space.finish(&["user"], &[("claim", &volume)]);
    figures
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

fn process_is_confined(process: &Process) {
    let capabilities = |set: &str| u64::from_str_radix(&process.status(set), 16).expect("a mask");
    assert_eq!(
        capabilities("CapBnd") & !HOSTDIR_CAPABILITIES,
        0,
        "capabilities that {process} could get: {:x}",
        capabilities("CapBnd")
    );
    assert_eq!(
        capabilities("CapEff") & !HOSTDIR_CAPABILITIES,
        0,
        "capabilities of {process}: {:x}",
        capabilities("CapEff")
    );
    if process.command.starts_with("mount-hostdir serve") {
        assert_eq!(capabilities("CapEff"), HOSTDIR_CAPABILITIES, "capabilities of {process}");
    }
    assert_eq!(process.status("NoNewPrivs"), "1", "NoNewPrivs of {process}");
    assert_eq!(process.status("Seccomp"), SECCOMP_FILTER, "Seccomp of {process}");
    let mounts = process.proc("mountinfo");
    let root = mounts.lines().find(|line| line.split(' ').nth(4) == Some("/")).unwrap_or_default();
    let options = root.split(' ').nth(5).unwrap_or_default();
    assert!(options.split(',').any(|option| option == "ro"), "the root of {process} is mounted {options}");
    assert!(!mounts.contains("serviceaccount"), "{process} sees a service account's token");
}

/// Arguments and variables that name a key, a token or a password; those of Kubernetes' own Services are no secrets.
fn secret_words(programs: &[&Process]) -> Vec<String> {
    let suspicious = |word: &&str| {
        let low = word.to_lowercase();
        ["secret", "token", "password", "test-secret-value"].iter().any(|part| low.contains(part))
    };
    let all = programs.iter().map(|program| program.proc("environ") + "\0" + &program.proc("cmdline"));
    all.flat_map(|words| words.split('\0').filter(suspicious).map(str::to_owned).collect::<Vec<_>>())
        .collect()
}
