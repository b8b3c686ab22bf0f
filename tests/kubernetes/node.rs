//! Which processes run on the node, and how is the node plugin killed?

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::wait::{POD, eventually, so};
use crate::world::World;

/// A process of the node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    pub pid: i32,
    pub command: String,
}

impl std::fmt::Display for Process {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", self.pid, self.command)
    }
}

impl Process {
    /// An agent or a client, whose command lines begin with their names.
    pub fn is_of_a_mount_pod(&self) -> bool {
        ["/usr/bin/mount-agent", "mount-hostdir", "juicefs mount"]
            .iter()
            .any(|name| self.command.starts_with(name))
    }

    /// Does it run the program of this name?
    pub fn is(&self, program: &str) -> bool {
        let exe = std::fs::read_link(format!("/proc/{}/exe", self.pid));
        exe.is_ok_and(|exe| exe.file_name().is_some_and(|name| name == program))
    }

    /// A file of its directory in /proc; empty when it has ended.
    pub fn proc(&self, file: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{file}", self.pid)).unwrap_or_default()
    }

    /// How many files (`fd`) or threads (`task`) it has.
    pub fn entries_of(&self, directory: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{directory}", self.pid)).map_or(0, Iterator::count)
    }

    /// A line of its status.
    pub fn status(&self, field: &str) -> String {
        let status = self.proc("status");
        let line =
            status.lines().find_map(|line| line.strip_prefix(field).and_then(|rest| rest.strip_prefix(':')));
        line.unwrap_or_default().trim().to_owned()
    }
}

/// All processes whose command line holds the words.
pub fn processes(words: &str) -> Vec<Process> {
    let numbers = std::fs::read_dir("/proc").expect("/proc").filter_map(Result::ok);
    let all = numbers.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(|pid| {
        let bytes = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        Process { pid, command: String::from_utf8_lossy(&bytes).replace('\0', " ").trim().to_owned() }
    });
    all.filter(|process| process.command.contains(words)).collect()
}

/// The programs of the node's mount pods; `others` are the uids of pods that are another engine's.
pub fn clients(others: &[String]) -> Vec<Process> {
    let ours = |process: &Process| {
        let groups = process.proc("cgroup");
        process.is_of_a_mount_pod() && !others.iter().any(|uid| groups.contains(uid.as_str()))
    };
    processes("mount").into_iter().filter(ours).collect()
}

/// Processes in the control groups of a pod.
pub fn processes_of_pod(uid: &str) -> Vec<Process> {
    processes("").into_iter().filter(|process| process.proc("cgroup").contains(uid)).collect()
}

/// The process of the node plugin.
pub fn plugin() -> Option<Process> {
    let mut found = processes("mountpod node");
    found.retain(|process| {
        std::fs::read_link(format!("/proc/{}/exe", process.pid)).is_ok_and(|exe| is_driver(&exe))
    });
    found.pop()
}

fn is_driver(exe: &std::path::Path) -> bool {
    exe.file_name().is_some_and(|name| name == "mountpod")
}

/// Memory of the node plugin that is in RAM.
pub fn resident_kib() -> u64 {
    let plugin = plugin().expect("a node plugin");
    plugin.status("VmRSS").split(' ').next().and_then(|word| word.parse().ok()).unwrap_or_default()
}

/// Ends the node plugin as a crash would.
pub fn kill_plugin() {
    let process = eventually(POD, "a node plugin that runs", || plugin().ok_or_else(|| "none".to_owned()));
    kill(Pid::from_raw(process.pid), Signal::SIGKILL).expect("the node plugin can be killed");
}

/// The node plugin's DaemonSet.
pub fn daemon_set(world: &World) -> Value {
    let path = format!("/apis/apps/v1/namespaces/{}/daemonsets", world.namespace);
    world.api.list(&path).into_iter().next().expect("the driver has a DaemonSet")
}

/// The user that the node plugin is to the API server.
pub fn plugin_user(world: &World) -> String {
    let account = daemon_set(world)["spec"]["template"]["spec"]["serviceAccountName"].clone();
    format!("system:serviceaccount:{}:{}", world.namespace, account.as_str().unwrap_or("default"))
}

/// Ends the node plugin as `kubectl delete pod` would.
pub fn delete_plugin_pod(world: &World) {
    let pod = plugin_pod(world).expect("a node plugin");
    let name = pod["metadata"]["name"].as_str().unwrap_or_default();
    world.api.delete(&format!("/api/v1/namespaces/{}/pods/{name}", world.namespace));
}

/// The node plugin's pod that isn't being deleted.
fn plugin_pod(world: &World) -> Option<Value> {
    let pods = world.api.list(&format!("/api/v1/namespaces/{}/pods", world.namespace));
    pods.into_iter().find(|pod| {
        pod["metadata"]["ownerReferences"][0]["kind"] == "DaemonSet"
            && pod["metadata"]["deletionTimestamp"].is_null()
    })
}

/// Gives the node plugin other arguments, and waits until it runs with them.
pub fn run_plugin_with(world: &World, arguments: &Value) {
    let name = daemon_set(world)["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let path = format!("/apis/apps/v1/namespaces/{}/daemonsets/{name}", world.namespace);
    let change =
        json!([{"op": "replace", "path": "/spec/template/spec/containers/0/args", "value": arguments}]);
    let answer = world.api.call("PATCH", &path, "application/json-patch+json", &change);
    assert!(answer.code == 200, "PATCH {path}: {}: {}", answer.code, answer.body);
    eventually(POD, "the node plugin to run with other arguments", || {
        let set = daemon_set(world);
        let status = &set["status"];
        let seen = status["observedGeneration"] == set["metadata"]["generation"];
        let wanted = &status["desiredNumberScheduled"];
        let updated = status["updatedNumberScheduled"] == *wanted && status["numberAvailable"] == *wanted;
        so(seen && updated, || status.to_string())
    });
    plugin_ready(world);
}

/// Waits until the node plugin serves: its pod is ready and its process runs.
pub fn plugin_ready(world: &World) {
    eventually(POD, "the node plugin to be ready", || {
        let pod = plugin_pod(world).ok_or("no pod")?;
        let states = pod["status"]["containerStatuses"].as_array().cloned().unwrap_or_default();
        let ready = !states.is_empty() && states.iter().all(|one| one["ready"] == true);
        so(ready && plugin().is_some(), || pod["status"]["containerStatuses"].to_string())
    });
}
