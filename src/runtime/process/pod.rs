//! What is done for one pod, from its record's first moment to its last?

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use nix::sys::signal::Signal;
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, timeout, timeout_at};

use super::launch::{LOG_FILE, Launched, launched};
use super::leader::Leader;
use super::limits::limits_of;
use super::records::{Ending, RecordError, Records, leader_of, phase_of};
use super::sys::{signal_process, watched};
use super::{AGENT_SOCKET, CACHE_DIR, ChangeError, Shared, locked};
use crate::mountpod::facts::{PodName, PodPhase, PodUid};
use crate::mountpod::pod::served_volume;
use crate::retry::Waits;
use crate::volume::{ClientKind, CpuMillis, MemoryBytes};

/// A launcher takes milliseconds; on an overloaded machine a process start can take seconds.
const LAUNCH_LIMIT: Duration = Duration::from_secs(30);
/// SIGTERM is sent again and again: PID 1 gets none before it has a handler for it.
const TERM_WAIT_FIRST: Duration = Duration::from_millis(20);
const TERM_WAIT_LONGEST: Duration = Duration::from_secs(1);
/// A process that can't be looked at (no room for descriptors) is looked at again after such waits.
const LOOK_WAIT_FIRST: Duration = Duration::from_millis(50);
/// As above, and for records that can't be written (a full disk).
const LOOK_WAIT_LONGEST: Duration = Duration::from_secs(10);
/// How often it is told that a killed pod lives on (in D state), and its cleaning up is tried again.
const STUCK_REPORT_EVERY: Duration = Duration::from_secs(30);
/// Bytes of a pod's log that belong to the reason of its end.
const LAST_WORDS_BYTES: u64 = 2048;

/// The task of one pod.
#[derive(Debug)]
pub(super) struct PodTask {
    shared: Arc<Shared>,
    name: PodName,
    uid: PodUid,
    dir: PathBuf,
    pod: Pod,
}

impl PodTask {
    /// The task of a recorded pod; `None` when the record has no name or uid, which ours have.
    pub(super) fn new(shared: &Arc<Shared>, pod: &Pod) -> Option<Self> {
        let name = PodName(pod.metadata.name.clone()?);
        let uid = PodUid(pod.metadata.uid.clone()?);
        let dir = shared.pod_dir(&name.0);
        Some(Self { shared: Arc::clone(shared), name, uid, dir, pod: pod.clone() })
    }

    /// Brings the pod up, watches it, and takes everything of it away when it was deleted.
    pub(super) async fn run(self) {
        if !matches!(phase_of(&self.pod), PodPhase::Ended { .. }) {
            let ending = match self.process().await {
                Ok(Some((leader, process))) => self.watch(&leader, process).await,
                Ok(None) => {
                    Ending { why: self.with_last_words("its processes are gone").await, success: false }
                }
                Err(error) => {
                    Ending { why: format!("its processes were not started: {error}"), success: false }
                }
            };
            self.remove_groups().await;
            tracing::info!("mount pod {} has ended: {}", self.name.0, ending.why);
            self.write_down(|| {
                let (name, uid, ending) = (self.name.clone(), self.uid.clone(), ending.clone());
                move |records: &mut Records| records.ended(&name, &uid, ending).map(drop)
            })
            .await;
        }
        self.deleted().await;
        self.remove().await;
    }

    /// The pod's first process, found again or started; `None` when it is gone.
    async fn process(&self) -> io::Result<Option<(Leader, AsyncFd<OwnedFd>)>> {
        let leader = match leader_of(&self.pod) {
            Some(leader) => leader,
            None => self.start().await?,
        };
        Ok(self.find(&leader).await.map(|process| (leader, process)))
    }

    /// A process that was started is gone only when the kernel says so. Taken for dead because this process had no
    /// descriptor left, it would go on serving beside its successor.
    async fn find(&self, leader: &Leader) -> Option<AsyncFd<OwnedFd>> {
        let mut waits = Waits::new(LOOK_WAIT_FIRST, LOOK_WAIT_LONGEST);
        loop {
            match leader.open().and_then(|pidfd| pidfd.map(watched).transpose()) {
                Ok(found) => return found,
                Err(error) => {
                    tracing::error!("can't look at the agent of mount pod {}: {error}", self.name.0);
                }
            }
            tokio::time::sleep(waits.next_wait()).await;
        }
    }

    /// Makes a change that nothing else makes up for, as often as it takes: an end that is not written down would
    /// leave the pod running for ever in the eyes of the engine.
    async fn write_down<C>(&self, change: impl Fn() -> C)
    where
        C: FnOnce(&mut Records) -> Result<(), RecordError> + Send + 'static,
    {
        let mut waits = Waits::new(LOOK_WAIT_FIRST, LOOK_WAIT_LONGEST);
        loop {
            match self.shared.change(change()).await {
                Err(error @ ChangeError::Record(RecordError::File { .. })) => self.note::<()>(Err(error)),
                made => return self.note(made),
            }
            tokio::time::sleep(waits.next_wait()).await;
        }
    }

    async fn start(&self) -> io::Result<Leader> {
        let dir = self.dir.clone();
        // A driver that died between launch and record left word in the pod's directory.
        let before = tokio::task::spawn_blocking(move || {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(&dir)?;
            launched(&dir)
        });
        let launched = match before.await.map_err(io::Error::other)?? {
            Some(launched) => launched,
            None => self.launch().await?,
        };
        for warning in &launched.warnings {
            tracing::warn!("mount pod {}: {warning}", self.name.0);
        }
        let (name, uid, leader) = (self.name.clone(), self.uid.clone(), launched.leader.clone());
        let started = self
            .shared
            .change(move |records| records.started(&name, &uid, &launched.leader, &launched.warnings));
        self.note(started.await);
        Ok(leader)
    }

    async fn launch(&self) -> io::Result<Launched> {
        let options = &self.shared.options;
        let limits = limits_of(&self.pod).map_err(io::Error::other)?;
        let mut command = tokio::process::Command::new(&options.program);
        command
            .arg("mount-pod-launch")
            .arg("--pod-dir")
            .arg(&self.dir)
            .arg("--instance")
            .arg(&self.shared.instance);
        if let Some(CpuMillis(millis)) = limits.cpu_limit {
            command.arg("--cpu-millis").arg(millis.to_string());
        }
        if let Some(MemoryBytes(bytes)) = limits.memory_limit {
            command.arg("--memory-bytes").arg(bytes.to_string());
        }
        let client = served_volume(&self.pod).ok().map(|served| served.spec.client);
        if client.is_some_and(|client| !client.sets_owners()) {
            command.arg("--no-capabilities");
        }
        command.arg("--");
        match &options.agent {
            Some(agent) => command.args(agent.iter().take(1)).args(agent),
            None => command.arg(&options.program).args(["mountpod", "mount-agent"]),
        };
        command.arg("--socket").arg(self.dir.join(AGENT_SOCKET));
        if client == Some(ClientKind::Juicefs) {
            command.arg("--cache-dir").arg(self.dir.join(CACHE_DIR));
            if let Some(program) = &options.juicefs_program {
                command.arg("--juicefs-program").arg(program);
            }
        }
        command.env_clear().stdin(Stdio::null()).kill_on_drop(true);
        let output = timeout(LAUNCH_LIMIT, command.output()).await.map_err(|_| io::ErrorKind::TimedOut)??;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).trim().to_owned()));
        }
        Ok(serde_json::from_slice(&output.stdout)?)
    }

    /// Waits for the end, and brings it about when the pod is deleted.
    async fn watch(&self, leader: &Leader, process: AsyncFd<OwnedFd>) -> Ending {
        tokio::select! {
            () = ended(&process) => (),
            () = self.deleted() => self.end(&process).await,
        }
        let (how, success) = exit_of(leader, &process);
        if success {
            return Ending { why: how, success };
        }
        let how = match self.shared.hierarchies.out_of_memory_kills(&self.shared.group.pod(&self.name.0)) {
            0 => how,
            kills => format!(
                "{how}; out of memory: the kernel killed {kills} of its processes at the memory limit"
            ),
        };
        Ending { why: self.with_last_words(&how).await, success }
    }

    async fn end(&self, process: &AsyncFd<OwnedFd>) {
        let deadline = Instant::now() + self.shared.options.delete_grace;
        let mut waits = Waits::new(TERM_WAIT_FIRST, TERM_WAIT_LONGEST);
        while Instant::now() < deadline {
            self.signal(process, Signal::SIGTERM);
            let next = deadline.min(Instant::now() + waits.next_wait());
            if timeout_at(next, ended(process)).await.is_ok() {
                return;
            }
        }
        self.signal(process, Signal::SIGKILL);
        while timeout(STUCK_REPORT_EVERY, ended(process)).await.is_err() {
            tracing::error!(
                "mount pod {} was killed and does not end: a process waits for a device",
                self.name.0
            );
        }
    }

    fn signal(&self, process: &AsyncFd<OwnedFd>, signal: Signal) {
        if let Err(error) = signal_process(process.as_fd(), signal) {
            tracing::warn!("can't send {signal} to mount pod {}: {error}", self.name.0);
        }
    }

    /// Waits until the pod's deletion was asked for.
    async fn deleted(&self) {
        let mut changes = self.shared.changes.subscribe();
        while !self.is_deleted() {
            if changes.changed().await.is_err() {
                return;
            }
        }
    }

    fn is_deleted(&self) -> bool {
        let shown = locked(&self.shared.shown);
        let mine = shown.iter().find(|pod| pod.record.metadata.uid.as_ref() == Some(&self.uid.0));
        mine.is_some_and(|pod| pod.record.metadata.deletion_timestamp.is_some())
    }

    async fn remove(&self) {
        loop {
            let removed = self.remove_groups().await;
            let directory = remove_dir(&self.dir).await;
            match directory {
                Ok(()) if removed => break,
                Ok(()) => (),
                Err(error) => tracing::error!("can't remove {}: {error}", self.dir.display()),
            }
            tokio::time::sleep(STUCK_REPORT_EVERY).await;
        }
        // Last: a record that is left after a crash leads here again.
        self.write_down(|| {
            let name = self.name.clone();
            move |records: &mut Records| records.remove(&name)
        })
        .await;
    }

    async fn remove_groups(&self) -> bool {
        let removed = self.shared.hierarchies.remove(&self.shared.group.pod(&self.name.0)).await;
        self.shared.hierarchies.remove_if_unused(&self.shared.group);
        if let Err(error) = &removed {
            tracing::error!("can't remove the cgroup of mount pod {}: {error}", self.name.0);
        }
        removed.is_ok()
    }

    async fn with_last_words(&self, how: &str) -> String {
        let log = self.dir.join(LOG_FILE);
        let words = tokio::task::spawn_blocking(move || last_words(&log)).await;
        match words {
            Ok(Ok(words)) if !words.is_empty() => format!("{how}; its log ends: {words}"),
            _ => how.to_owned(),
        }
    }

    fn note<T>(&self, changed: Result<T, ChangeError>) {
        if let Err(error) = changed {
            tracing::error!("can't record what became of mount pod {}: {error}", self.name.0);
        }
    }
}

async fn ended(process: &AsyncFd<OwnedFd>) {
    // An error means that the runtime shuts down, and this task with it.
    if process.readable().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// How the process ended, and whether well. Reaps it when it is this process's child.
fn exit_of(leader: &Leader, process: &AsyncFd<OwnedFd>) -> (String, bool) {
    match waitid(Id::PIDFd(process.as_fd()), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
        Ok(WaitStatus::Exited(_, 0)) => ("its agent exited".to_owned(), true),
        Ok(WaitStatus::Exited(_, code)) => (format!("its agent exited with code {code}"), false),
        Ok(WaitStatus::Signaled(_, signal, _)) => (format!("its agent was killed by {signal}"), false),
        // After a restart of the driver another process is the parent.
        _ => (format!("its agent (process {}) has ended", leader.pid), false),
    }
}

pub(super) async fn remove_dir(dir: &Path) -> io::Result<()> {
    match tokio::fs::remove_dir_all(dir).await {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn last_words(log: &Path) -> io::Result<String> {
    let mut log = fs::File::open(log)?;
    let from = log.metadata()?.len().saturating_sub(LAST_WORDS_BYTES);
    log.seek(SeekFrom::Start(from))?;
    let mut words = Vec::new();
    log.take(LAST_WORDS_BYTES).read_to_end(&mut words)?;
    Ok(String::from_utf8_lossy(&words).trim().to_owned())
}
