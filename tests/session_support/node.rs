//! A node with everything real: process runtime, agents, hostdir clients, mounts.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use mountpod::mountpod::pod::served_volume;
use mountpod::mountpod::refs::Refs;
use mountpod::mountpod::service::{MountError, MountService, PublishRequest, SessionUse};
use mountpod::node::{NodeConfig, NodeService};
use mountpod::programs::processes;
use mountpod::runtime::MountPods;
use mountpod::runtime::process::{ProcessOptions, ProcessRuntime};
use mountpod::volume::{
    Access, Exclusivity, PodShape, Resources, Secrets, TargetPath, VolumeId, Writability,
};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::time::{sleep, timeout};

use super::{PROGRAM, mounts_below, spec, target, unmount_below, volume};

/// Longest wait for anything on a machine under load.
pub const LIMIT: Duration = Duration::from_secs(30);
/// How often a test looks at what tells nobody of its changes (processes, directories).
const LOOK: Duration = Duration::from_millis(20);

/// How often a test's driver looks for workloads that are gone.
const WORKLOADS_LOOK: Duration = Duration::from_millis(300);

/// The driver of one node.
pub struct Driver {
    pub runtime: Arc<ProcessRuntime>,
    pub service: NodeService<ProcessRuntime>,
}

/// A directory with a filesystem of one volume, and room for targets and the driver's state.
pub struct Node {
    pub directory: tempfile::TempDir,
    /// What its agents are besides the driver's own program: a program and its first arguments.
    pub agent: Option<Vec<String>>,
}

impl Node {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let node = Self { directory, agent: None };
        for name in ["root/v", "root/w", "targets"] {
            std::fs::create_dir_all(node.path(name)).unwrap();
        }
        node
    }

    pub fn path(&self, below: &str) -> PathBuf {
        self.directory.path().canonicalize().unwrap().join(below)
    }

    pub fn target(&self, name: &str) -> TargetPath {
        target(&self.path("targets").join(name))
    }

    pub async fn driver(&self) -> Driver {
        let mut options = ProcessOptions::new(self.path("engine"));
        options.program = PROGRAM.into();
        options.agent.clone_from(&self.agent);
        let runtime = Arc::new(ProcessRuntime::open(options).await.unwrap());
        let roots = BTreeMap::from([("test".parse().unwrap(), self.path("root"))]);
        let mut config = NodeConfig::new(self.path("engine"), "test", roots);
        config.helper_program = PROGRAM.into();
        config.kubelet_dir = Some(self.path("kubelet")).filter(|dir| dir.is_dir());
        config.limits.workloads = WORKLOADS_LOOK;
        let service = NodeService::start(Arc::clone(&runtime), config).unwrap();
        Driver { runtime, service }
    }

    /// The processes of this node whose command line has that word, oldest first.
    pub fn processes(&self, word: &str) -> Vec<Pid> {
        let here = self.path("");
        let here = here.to_str().unwrap();
        let all: BTreeMap<i32, (i32, String)> =
            processes::all().into_iter().map(|one| (one.pid, (one.parent, one.command()))).collect();
        let is_ours = |pid: i32| {
            let line = std::iter::successors(Some(pid), |pid| all.get(pid).map(|(parent, _)| *parent));
            line.take(8).any(|pid| all.get(&pid).is_some_and(|(_, command)| command.contains(here)))
        };
        let with_word = all.iter().filter(|(pid, (_, command))| command.contains(word) && is_ours(**pid));
        with_word.map(|(pid, _)| Pid::from_raw(*pid)).collect()
    }

    /// Kills what has that word in its command line, and waits until it is dead.
    pub async fn kill(&self, word: &str) {
        let found = self.processes(word);
        assert!(!found.is_empty(), "no process with {word} runs");
        for pid in &found {
            // A child may have died with its parent.
            kill(*pid, Signal::SIGKILL).ok();
        }
        eventually(&format!("{word} is dead"), || {
            let alive = found.iter().find(|pid| is_alive(pid.as_raw()));
            alive.map_or(Ok(()), |pid| Err(format!("{pid} lives")))
        })
        .await;
    }

    /// Waits until nothing of what was published is left.
    pub async fn until_nothing_is_left(&self) {
        eventually("nothing is left", || {
            let left = self.left();
            if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
        })
        .await;
    }

    fn left(&self) -> Vec<String> {
        let mut left = mounts_below(self.directory.path());
        left.extend(self.processes("mount-").iter().map(|pid| format!("process {pid}")));
        for directory in ["engine/sessions", "engine/pods", "targets"] {
            let entries = std::fs::read_dir(self.path(directory)).unwrap();
            let paths = entries.map(|entry| entry.unwrap().path());
            // The runtime's own counter, of no pod.
            let of_pods = paths.filter(|path| path.file_name() != Some("resource-version".as_ref()));
            left.extend(of_pods.map(|path| path.display().to_string()));
        }
        left
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        for pid in self.processes("mount-") {
            kill(pid, Signal::SIGKILL).ok();
        }
        unmount_below(self.directory.path());
    }
}

/// A process becomes a zombie only after its own PID namespace is empty: the children of a dead agent are dead, too.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The state follows the name, which may hold anything (proc_pid_stat(5)).
    stat.rsplit_once(") ").is_some_and(|(_, fields)| !fields.starts_with(['Z', 'X']))
}

/// Waits until `holds` is `Ok`, and says what was last seen if it never is.
pub async fn eventually(what: &str, mut holds: impl FnMut() -> Result<(), String>) {
    let mut seen = String::new();
    let wait = async {
        while let Err(now) = holds() {
            seen = now;
            sleep(LOOK).await;
        }
    };
    assert!(timeout(LIMIT, wait).await.is_ok(), "not within {LIMIT:?}: {what}; seen: {seen}");
}

/// Nothing may take longer.
pub async fn in_time<T>(what: &str, work: impl Future<Output = T>) -> T {
    timeout(LIMIT, work).await.unwrap_or_else(|_| panic!("{what} took longer than {LIMIT:?}"))
}

pub fn request(name: &str, target: &TargetPath, writability: Writability) -> PublishRequest {
    PublishRequest {
        volume: volume(name),
        target: target.clone(),
        spec: spec(name),
        access: Access { writability, exclusivity: Exclusivity::Shared },
        resources: Resources::default(),
        session: SessionUse::Own,
        pod: PodShape::default(),
        secrets: Secrets::default(),
    }
}

impl Driver {
    pub async fn publish(&self, name: &str, target: &TargetPath) -> Result<(), MountError> {
        in_time("publish", self.service.publish(request(name, target, Writability::ReadWrite))).await
    }

    pub async fn unpublish(&self, name: &str, target: &TargetPath) -> Result<(), MountError> {
        in_time("unpublish", self.service.unpublish(&volume(name), target)).await
    }

    /// The refs on each mount pod of a volume.
    pub fn refs(&self, volume: &VolumeId) -> Vec<usize> {
        let pods = self.runtime.list();
        let of_volume = pods.iter().filter(|pod| served_volume(&pod.record).unwrap().volume == *volume);
        of_volume.map(|pod| Refs::read(pod.record.metadata.annotations.as_ref().unwrap()).len()).collect()
    }

    /// Stops the driver as a SIGKILL would: no call is waited for.
    pub async fn stop(self) {
        let Self { runtime, service } = self;
        drop(service);
        runtime.shutdown().await;
        // Tasks of the service may still hold the runtime, and with it the lock, for a moment.
        eventually("the runtime is free", || {
            let users = Arc::strong_count(&runtime);
            if users == 1 { Ok(()) } else { Err(format!("{users} users")) }
        })
        .await;
    }
}

/// What a file holds, read without blocking the test's own tasks.
pub async fn read(path: &Path) -> std::io::Result<String> {
    let path = path.to_owned();
    in_time("reading", tokio::task::spawn_blocking(move || std::fs::read_to_string(path))).await.unwrap()
}

/// Writes a file, likewise.
pub async fn write(path: &Path, text: &str) -> std::io::Result<()> {
    let (path, text) = (path.to_owned(), text.to_owned());
    in_time("writing", tokio::task::spawn_blocking(move || std::fs::write(path, text))).await.unwrap()
}
