//! The runtime for one machine without Kubernetes: how does a mount pod become local processes, and end?
//!
//! A record (`records`) is a Kubernetes `Pod` in a file. Each record has one task (`pod`) that starts the pod's
//! processes through a launcher (`launch`), watches the first of them (`leader`), and ends them when the record is
//! marked as deleted. Pods outlive the driver: a new one reads the records back and finds the processes again.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use k8s_openapi::api::core::v1::Pod;
use kube::core::params::Preconditions;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::prctl;
use sha2::{Digest, Sha256};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

mod cgroups;
pub mod launch;
mod leader;
mod limits;
mod pod;
mod records;
mod sweep;
mod sys;

use super::{AnnotationPatch, MountPods, RunningPod, RuntimeError};
use crate::mountpod::facts::{PodId, PodName, PodUid};
use crate::mountpod::pod::served_volume;
use crate::mountpod::service::NoFiles;
use crate::volume::Secrets;
use cgroups::{GroupName, Hierarchies};
use records::{RecordError, Records, phase_of};

pub use records::WARNING;

/// The agent's socket in the directory of its pod.
const AGENT_SOCKET: &str = "agent.sock";
/// The cache of a client in the directory of its pod, which goes with it.
const CACHE_DIR: &str = "cache";
/// In the runtime's directory: held by the one driver that uses it.
const LOCK_FILE: &str = "lock";
/// In the runtime's directory: the highest resource version that may have been given out.
const VERSION_FILE: &str = "resource-version";
/// In the runtime's directory: the pods' records and directories.
const PODS_DIR: &str = "pods";
/// Bytes of a hash that tell the cgroups of several runtimes on a machine apart.
const INSTANCE_BYTES: usize = 8;
/// A deleted pod is asked to end for this long, then it is killed. Its client has flushed before: the engine deletes a
/// pod after its session was ended or handed over.
const DELETE_GRACE_DEFAULT: Duration = Duration::from_secs(10);

/// How a process runtime is set up.
#[derive(Debug, Clone)]
pub struct ProcessOptions {
    /// Where records, sockets and logs are kept; one driver at a time uses it.
    pub dir: PathBuf,
    /// The multi-call program with the subcommands `mount-pod-launch` and `mount-agent`.
    pub program: PathBuf,
    /// Another program (with its first arguments) to be the agent; `--socket PATH` is added.
    pub agent: Option<Vec<String>>,
    /// The JuiceFS client, instead of one beside the agent's program.
    pub juicefs_program: Option<PathBuf>,
    /// How long a deleted pod may take to end by itself.
    pub delete_grace: Duration,
}

impl ProcessOptions {
    /// The usual: this program is the agent.
    #[must_use]
    pub fn new(dir: PathBuf) -> Self {
        Self {
            dir,
            program: PathBuf::from("/proc/self/exe"),
            agent: None,
            juicefs_program: None,
            delete_grace: DELETE_GRACE_DEFAULT,
        }
    }
}

/// Why a process runtime can't begin.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another driver uses the directory.
    #[error("another driver uses the mount pods in {0}: stop it first, or choose another state directory")]
    InUse(PathBuf),
    /// A directory or file is not to be had.
    #[error("can't use {path} for mount pods")]
    Dir {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The records can't be read.
    #[error("can't read the records of the mount pods back")]
    Records(#[source] RecordError),
    /// Orphans can't be reaped.
    #[error("can't become the parent of the agents")]
    Subreaper(#[source] io::Error),
}

/// Mount pods as local processes.
#[derive(Debug)]
pub struct ProcessRuntime {
    shared: Arc<Shared>,
}

/// What the runtime and the tasks of its pods have in common.
#[derive(Debug)]
struct Shared {
    options: ProcessOptions,
    pods_dir: PathBuf,
    group: GroupName,
    instance: String,
    hierarchies: Hierarchies,
    /// Changed by one at a time, in the order of the files; held while a file is written, so only by blocking calls.
    records: Mutex<Records>,
    /// What `list` shows: a copy that is never held for long.
    shown: Mutex<Vec<RunningPod>>,
    changes: watch::Sender<u64>,
    shutdown: CancellationToken,
    /// Those of the pods, and changes that are being made.
    tasks: TaskTracker,
    _lock: Flock<File>,
}

impl ProcessRuntime {
    /// Reads the records back, finds living pods again, and removes what has no record.
    ///
    /// # Errors
    /// See [`OpenError`].
    pub async fn open(options: ProcessOptions) -> Result<Self, OpenError> {
        // Agents whose launcher has ended become children of this process, which reaps them.
        prctl::set_child_subreaper(true).map_err(|errno| OpenError::Subreaper(errno.into()))?;
        let shared = Arc::new(Shared::open(options)?);
        sweep::sweep(&shared).await;
        let runtime = Self { shared };
        for pod in runtime.list() {
            runtime.watch_pod(&pod.record);
        }
        Ok(runtime)
    }

    /// Ends the tasks of this runtime, and waits for changes that are being made. The pods go on.
    pub async fn shutdown(&self) {
        self.shared.shutdown.cancel();
        self.shared.tasks.close();
        self.shared.tasks.wait().await;
    }

    fn watch_pod(&self, record: &Pod) {
        if let Some(pod) = pod::PodTask::new(&self.shared, record) {
            self.shared.tasks.spawn(self.shared.shutdown.clone().run_until_cancelled_owned(pod.run()));
        }
    }
}

impl Drop for ProcessRuntime {
    fn drop(&mut self) {
        self.shared.shutdown.cancel();
    }
}

/// Tells the runtime of that directory from others on the machine.
fn instance_of(dir: &Path) -> String {
    HEXLOWER.encode(&Sha256::digest(dir.as_os_str().as_encoded_bytes())[..INSTANCE_BYTES])
}

/// The control groups on this machine that belong to the runtime of a directory, for who looks for what is left.
///
/// # Errors
/// When the directory can't be found, or a group can't be read.
pub fn control_groups_of(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let group = GroupName::of_runtime(&instance_of(&fs::canonicalize(dir)?));
    Hierarchies::of_this_machine().places(&group)
}

impl Shared {
    fn open(options: ProcessOptions) -> Result<Self, OpenError> {
        let dir_error = |path: &Path| {
            let path = path.to_owned();
            move |source| OpenError::Dir { path, source }
        };
        let pods_dir = options.dir.join(PODS_DIR);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&pods_dir).map_err(dir_error(&pods_dir))?;
        let lock_path = options.dir.join(LOCK_FILE);
        let lock_file =
            OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&lock_path);
        let lock_file = lock_file.map_err(dir_error(&lock_path))?;
        let lock = Flock::lock(lock_file, FlockArg::LockExclusiveNonblock)
            .map_err(|_| OpenError::InUse(options.dir.clone()))?;
        let dir = fs::canonicalize(&options.dir).map_err(dir_error(&options.dir))?;
        let instance = instance_of(&dir);
        let records = Records::open(&pods_dir, options.dir.join(VERSION_FILE)).map_err(OpenError::Records)?;
        let shared = Self {
            group: GroupName::of_runtime(&instance),
            instance,
            hierarchies: Hierarchies::of_this_machine(),
            shown: Mutex::new(shown(&records)),
            records: Mutex::new(records),
            changes: watch::Sender::new(0),
            shutdown: CancellationToken::new(),
            tasks: TaskTracker::new(),
            _lock: lock,
            pods_dir,
            options,
        };
        Ok(shared)
    }

    fn pod_dir(&self, name: &str) -> PathBuf {
        self.pods_dir.join(name)
    }

    /// Makes one change, apart from the asynchronous threads. It is made whole even if the caller goes away.
    async fn change<T: Send + 'static>(
        self: &Arc<Self>,
        change: impl FnOnce(&mut Records) -> Result<T, RecordError> + Send + 'static,
    ) -> Result<T, ChangeError> {
        let shared = Arc::clone(self);
        let changed = self.tasks.spawn_blocking(move || {
            let mut records = locked(&shared.records);
            let outcome = change(&mut records);
            *locked(&shared.shown) = shown(&records);
            drop(records);
            shared.changes.send_modify(|count| *count += 1);
            outcome
        });
        Ok(changed.await.map_err(ChangeError::Interrupted)??)
    }
}

/// A panic in a change leaves the records as they were before or after it, since the file is replaced at once.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn shown(records: &Records) -> Vec<RunningPod> {
    records
        .pods()
        .map(|(_, pod)| RunningPod { record: Arc::new(pod.clone()), phase: phase_of(pod) })
        .collect()
}

/// Why a change is not known to have been made.
#[derive(Debug, thiserror::Error)]
enum ChangeError {
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error("the change was interrupted")]
    Interrupted(#[source] tokio::task::JoinError),
}

fn runtime_error(what: &'static str, name: &str, error: ChangeError) -> RuntimeError {
    let name = name.to_owned();
    match error {
        ChangeError::Record(RecordError::Taken) => RuntimeError::AlreadyExists(name),
        ChangeError::Record(RecordError::Gone) => RuntimeError::Gone(name),
        ChangeError::Record(RecordError::Conflict) => RuntimeError::Conflict(name),
        ChangeError::Record(error) => RuntimeError::Failed { what, name, source: Box::new(error) },
        ChangeError::Interrupted(_) => RuntimeError::Unknown { name, source: Box::new(error) },
    }
}

impl MountPods for ProcessRuntime {
    fn list(&self) -> Vec<RunningPod> {
        locked(&self.shared.shown).clone()
    }

    fn changes(&self) -> watch::Receiver<u64> {
        self.shared.changes.subscribe()
    }

    async fn create(&self, pod: Pod) -> Result<Pod, RuntimeError> {
        let name = pod.metadata.name.clone().unwrap_or_default();
        // A record that can't be read is refused below, with its reason.
        if served_volume(&pod).is_ok_and(|served| !served.pod.files.is_empty()) {
            return Err(RuntimeError::NoFiles { name, why: NoFiles::NoCluster });
        }
        let shared = Arc::clone(&self.shared);
        let runtime = tokio::runtime::Handle::current();
        let created = self.shared.change(move |records| {
            limits::limits_of(&pod)?;
            let pod = records.create(pod)?;
            // Here, so that a created pod has its task even if the caller goes away.
            if let Some(task) = pod::PodTask::new(&shared, &pod) {
                let shutdown = shared.shutdown.clone();
                shared.tasks.spawn_on(shutdown.run_until_cancelled_owned(task.run()), &runtime);
            }
            Ok(pod)
        });
        created.await.map_err(|error| runtime_error("create", &name, error))
    }

    async fn patch(
        &self,
        name: &PodName,
        uid: &PodUid,
        patch: &AnnotationPatch,
    ) -> Result<Pod, RuntimeError> {
        let (pod, uid, patch) = (name.clone(), uid.clone(), patch.clone());
        let patched = self.shared.change(move |records| records.patch(&pod, &uid, &patch)).await;
        patched.map_err(|error| runtime_error("change", &name.0, error))
    }

    async fn delete(&self, name: &PodName, preconditions: &Preconditions) -> Result<(), RuntimeError> {
        let (pod, preconditions) = (name.clone(), preconditions.clone());
        // The pod's task sees the mark, and does the rest.
        let marked = self.shared.change(move |records| records.mark_deleted(&pod, &preconditions)).await;
        marked.map_err(|error| runtime_error("delete", &name.0, error))
    }

    fn agent_socket(&self, pod: &PodId) -> PathBuf {
        self.shared.pod_dir(&pod.name.0).join(AGENT_SOCKET)
    }

    // A file would hold them in the clear: after a restart the next publish brings them.
    async fn keep_credentials(&self, _: &PodId, _: &Secrets) -> Result<(), RuntimeError> {
        Ok(())
    }

    async fn credentials(&self, _: &PodId) -> Result<Secrets, RuntimeError> {
        Ok(Secrets::default())
    }
}
