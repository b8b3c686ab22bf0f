//! How are the engine's steps carried out on this node?

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use super::config::NodeConfig;
use super::links::Links;
use super::outcome::{failed, of_runtime};
use super::parts::Parts;
use crate::mountpod::effects::{EffectError, Effects};
use crate::mountpod::facts::{Facts, PodId};
use crate::mountpod::plan::Step;
use crate::mountpod::pod::{ServedVolume, is_of, pod_id, served_volume, session_of};
use crate::mounts::cache::MountCache;
use crate::mounts::helper::Helpers;
use crate::mounts::table::MountTable;
use crate::mounts::watch::MountWatch;
use crate::runtime::MountPods;
use crate::session::link::Surroundings;
use crate::session::open::harmful_settings;
use crate::session::record::SessionRecord;
use crate::session::sessions::Sessions;
use crate::session::state_dir::StateDir;
use crate::volume::{FilesystemName, Secrets, SessionId};

/// Threads that may wait for one filesystem. All of the driver's share a pool of 512: without a limit, one filesystem
/// that hangs would in time take every thread from all volumes.
pub(super) const OPENERS_MAX: usize = 8;

/// What a session's client is started with: remembered from the publish, because credentials stand nowhere else.
#[derive(Debug, Clone)]
pub(super) struct Launch {
    pub(super) served: ServedVolume,
    pub(super) secrets: Secrets,
}

/// The effects of the engine on this node.
#[derive(Debug)]
pub struct NodeEffects<R> {
    pub(super) runtime: Arc<R>,
    pub(super) config: NodeConfig,
    pub(super) state_dir: Arc<StateDir>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) mounts: Arc<MountCache>,
    pub(super) links: Links,
    pub(super) helpers: Helpers,
    pub(super) parts: Parts,
    launches: Mutex<BTreeMap<SessionId, Arc<Launch>>>,
    /// Pods whose clients had their time to flush after the end of their session, and did not exit.
    overdue: Mutex<BTreeSet<PodId>>,
    /// Threads that open directories of a filesystem: on a network mount that hangs they do not come back.
    openers: Mutex<BTreeMap<FilesystemName, Arc<Semaphore>>>,
    pub(super) started: Instant,
    changes: watch::Sender<u64>,
    _mount_watch: AbortOnDropHandle<()>,
}

/// What a reconcile has left to a publish in flight is looked at after its end, whichever way that ends.
#[derive(Debug)]
pub(super) struct LookAfterwards(watch::Sender<u64>);

impl Drop for LookAfterwards {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count += 1);
    }
}

/// Why the node's part could not be started.
#[derive(Debug, thiserror::Error)]
#[error("can't {what}")]
pub struct StartError {
    what: &'static str,
    #[source]
    source: io::Error,
}

impl<R: MountPods> NodeEffects<R> {
    /// Takes up the sessions in the configured directory where an earlier driver left them; `shutdown` ends its tasks.
    ///
    /// # Errors
    /// When the directory or the mount table can't be used.
    pub fn start(
        runtime: Arc<R>,
        config: NodeConfig,
        shutdown: &CancellationToken,
    ) -> Result<Self, StartError> {
        let cant = |what| move |source| StartError { what, source };
        for setting in harmful_settings() {
            tracing::warn!(
                setting,
                "the kernel aborts FUSE connections whose client is slow: while a client is replaced, volumes may fail \
                 with ECONNABORTED; set it to 0"
            );
        }
        let state_dir = StateDir::create(&config.directory).map_err(cant("create the engine's directory"))?;
        let mounts = MountCache::new().map_err(cant("read the mount table"))?;
        let watch = MountWatch::new().map_err(cant("watch the mount table"))?;
        let changed = watch::Sender::new(0);
        let (mounts_changed, mount_changes) = watch::channel(0);
        let links = Links::new(Surroundings {
            mounts: mount_changes,
            changes: changed.clone(),
            shutdown: shutdown.clone(),
        });
        let mount_watch =
            tokio::spawn(tell_of_mounts(watch, mounts_changed, changed.clone(), shutdown.clone()));
        Ok(Self {
            helpers: Helpers::new(config.helper_program.clone(), shutdown.clone()),
            runtime,
            config,
            state_dir: Arc::new(state_dir),
            sessions: Arc::default(),
            mounts: Arc::new(mounts),
            links,
            parts: Parts::default(),
            launches: Mutex::default(),
            overdue: Mutex::default(),
            openers: Mutex::default(),
            started: Instant::now(),
            changes: changed,
            _mount_watch: AbortOnDropHandle::new(mount_watch),
        })
    }

    /// Changes with every link and with the mount table.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Lets the sessions be looked at when the guard is dropped.
    pub(super) fn look_afterwards(&self) -> LookAfterwards {
        LookAfterwards(self.changes.clone())
    }

    fn launches(&self) -> MutexGuard<'_, BTreeMap<SessionId, Arc<Launch>>> {
        self.launches.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Remembers what a session is started with, for as long as the answer or the session lives.
    pub(super) fn remember(&self, session: &SessionId, launch: Launch) -> Arc<Launch> {
        let launch = Arc::new(launch);
        self.launches().insert(session.clone(), Arc::clone(&launch));
        launch
    }

    /// Who may open directories of that filesystem.
    pub(super) fn openers(&self, filesystem: &FilesystemName) -> Arc<Semaphore> {
        let mut openers = self.openers.lock().unwrap_or_else(PoisonError::into_inner);
        let new = || Arc::new(Semaphore::new(OPENERS_MAX));
        Arc::clone(openers.entry(filesystem.clone()).or_insert_with(new))
    }

    fn overdue(&self) -> MutexGuard<'_, BTreeSet<PodId>> {
        self.overdue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The client of that pod is not waited for any more.
    pub(super) fn give_up_on(&self, pod: &PodId) {
        self.overdue().insert(pod.clone());
    }

    /// Has the client of that pod had its time?
    pub(super) fn is_overdue(&self, pod: &PodId) -> bool {
        self.overdue().contains(pod)
    }

    /// What a session is started with: from a publish, or from what is written down of it.
    pub(super) fn launch_of(&self, session: &SessionId) -> Result<Arc<Launch>, EffectError> {
        if let Some(launch) = self.launches().get(session) {
            return Ok(Arc::clone(launch));
        }
        let served = self.written_down(session)?.ok_or_else(|| {
            let nothing = io::Error::other("neither a mount pod nor a record says what the session serves");
            failed(format!("find out what session {session} serves"), nothing)
        })?;
        Ok(Arc::new(Launch { served, secrets: Secrets::default() }))
    }

    /// As [`launch_of`](Self::launch_of), with credentials that only the runtime has kept.
    pub(super) async fn launch_with_secrets(&self, session: &SessionId) -> Result<Arc<Launch>, EffectError> {
        let launch = self.launch_of(session)?;
        if launch.served.spec.credentials.is_none() || !launch.secrets.is_empty() {
            return Ok(launch);
        }
        let pods = self.runtime.list();
        let of_session = pods.iter().filter(|pod| is_of(&pod.record, session));
        for pod in of_session.filter_map(|pod| pod_id(&pod.record).ok()) {
            let kept = self.runtime.credentials(&pod).await;
            let secrets = kept.map_err(|error| of_runtime("read the credentials of the mount pod", error))?;
            if !secrets.is_empty() {
                let served = launch.served.clone();
                return Ok(self.remember(session, Launch { served, secrets }));
            }
        }
        Ok(launch)
    }

    fn written_down(&self, session: &SessionId) -> Result<Option<ServedVolume>, EffectError> {
        let pods = self.runtime.list();
        let mut of_session = pods.iter().filter(|pod| is_of(&pod.record, session));
        if let Some(served) = of_session.find_map(|pod| served_volume(&pod.record).ok()) {
            return Ok(Some(served));
        }
        let record = SessionRecord::read(&self.state_dir, session);
        Ok(record.map_err(|error| failed("read the session's record", error))?.map(|record| record.served))
    }

    /// The mount table as it is now.
    pub(super) async fn table(&self) -> Result<Arc<MountTable>, EffectError> {
        // Most looks find nothing new: a thread that only says so would cost more than the answer.
        if let Some(table) = self.mounts.unchanged() {
            return Ok(table);
        }
        let mounts = Arc::clone(&self.mounts);
        blocking("read the mount table", move || mounts.table()).await
    }

    /// Lets go of connections that have ended and whose mount is gone.
    fn let_go_of_ended(&self, table: &MountTable) {
        for session in self.sessions.names() {
            let mounted = !table.stack_at(&self.state_dir.mount_point(&session)).is_empty();
            if !mounted && self.sessions.get(&session).is_some_and(|held| !held.is_alive()) {
                self.sessions.let_go(&session);
            }
        }
    }

    async fn all_sessions(&self) -> Result<BTreeSet<SessionId>, EffectError> {
        let pods = self.runtime.list();
        let table = self.table().await?;
        let mut all: BTreeSet<_> = pods.iter().filter_map(|pod| session_of(&pod.record).ok()).collect();
        all.extend(table.iter().filter_map(|mount| self.state_dir.session_of(mount)));
        all.extend(self.sessions.names());
        Ok(all)
    }

    /// Forgets what belongs to sessions that are no more: their directories, and what they were started with.
    pub(super) async fn sweep(&self) -> Result<(), EffectError> {
        let state_dir = Arc::clone(&self.state_dir);
        let recorded = blocking("list the sessions", move || state_dir.recorded()).await?;
        self.let_go_of_ended(&*self.table().await?);
        let alive = self.all_sessions().await?;
        let pods: BTreeSet<PodId> =
            self.runtime.list().iter().filter_map(|pod| pod_id(&pod.record).ok()).collect();
        self.overdue().retain(|pod| pods.contains(pod));
        self.launches().retain(|session, launch| Arc::strong_count(launch) > 1 || alive.contains(session));
        let known: BTreeSet<SessionId> =
            self.launches().keys().cloned().chain(alive.iter().cloned()).collect();
        self.parts.retain(|session| known.contains(session));
        for session in recorded.into_iter().filter(|session| !alive.contains(session)) {
            let (state_dir, sessions) = (Arc::clone(&self.state_dir), Arc::clone(&self.sessions));
            let swept = blocking("remove a session's directory", move || {
                if sessions.is_unknown(&session) { state_dir.remove_session(&session) } else { Ok(()) }
            });
            if let Err(error) = swept.await {
                tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the directory of an ended session stays"
                );
            }
        }
        Ok(())
    }
}

impl<R: MountPods> Effects for NodeEffects<R> {
    async fn observe(&self, session: &SessionId) -> Result<Facts, EffectError> {
        self.look_at(session).await
    }

    async fn carry_out(&self, session: &SessionId, step: &Step) -> Result<(), EffectError> {
        match step {
            Step::CreatePod { generation, refs } => self.create_pod(session, *generation, refs).await,
            Step::AddRef { pod, target, exclusivity } => {
                self.add_ref(session, pod, target, *exclusivity).await
            }
            Step::DropRef { pod, target, delete_after } => self.drop_ref(pod, target, *delete_after).await,
            Step::DeletePod { pod, resource_version } => self.delete_pod(pod, resource_version).await,
            Step::OpenSession => self.open_session(session).await,
            Step::Adopt { pod } => self.adopt(session, pod).await,
            Step::AwaitAgent { pod, limit } => self.await_agent(pod, *limit).await,
            Step::Offer { pod, limit } => self.offer(session, pod, *limit).await,
            Step::Release { pod, limit } => self.release(session, pod, *limit).await,
            Step::AwaitServing { pod, limit } => self.await_serving(session, pod, *limit).await,
            Step::Bind { target, writability } => self.bind(session, target, *writability).await,
            Step::Unbind { target } => self.unbind(session, target).await,
            Step::CloseSession { limit } => self.close_session(session, *limit).await,
            Step::AwaitClosed { limit } => self.await_closed(session, *limit).await,
        }
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, EffectError> {
        self.links.follow(&*self.runtime, &self.runtime.list());
        Ok(self.all_sessions().await?.into_iter().collect())
    }
}

/// Runs what may block on a thread of its own; it goes on when the caller goes away.
pub(super) async fn blocking<T, E>(
    what: &'static str,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, EffectError>
where
    T: Send + 'static,
    E: std::error::Error + Send + Sync + 'static,
{
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| failed(what, error)),
        Err(panic) => Err(failed(what, panic)),
    }
}

/// Passes on that the mount table has changed: to the links, and to the reconciler.
async fn tell_of_mounts(
    watch: MountWatch,
    mounts_changed: watch::Sender<u64>,
    changed: watch::Sender<u64>,
    shutdown: CancellationToken,
) {
    let tell = async {
        while watch.changed().await.is_ok() {
            mounts_changed.send_modify(|count| *count += 1);
            changed.send_modify(|count| *count += 1);
        }
    };
    shutdown.run_until_cancelled(tell).await;
}
