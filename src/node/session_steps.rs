//! How are the engine's steps on sessions and targets carried out?

use std::collections::BTreeMap;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::effects::{Launch, NodeEffects, blocking};
use super::outcome::{failed, of_bind, of_link, of_tree, of_unbind, stale};
use super::wait::{PodLife, describe};
use super::wake::run_beside_wake;
use crate::agent::frames::{ClientLaunch, ClientState, Negotiated, Offer, ToAgent};
use crate::agent::messages::{SessionFds, Word};
use crate::mountpod::effects::EffectError;
use crate::mountpod::facts::{DeviceNumber, PodId, PodPhase};
use crate::mountpod::parts::Shown;
use crate::mounts::bind::{LastMount, UnbindError, bind, remove_target, unbind};
use crate::mounts::helper::{HelperError, HelperJob};
use crate::runtime::MountPods;
use crate::session::clients::needs_of;
use crate::session::close::abort_and_detach;
use crate::session::device::check_device;
use crate::session::link::{AgentView, LinkError};
use crate::session::open::open_session;
use crate::session::sessions::HeldSession;
use crate::session::state::check_state;
use crate::session::tree::open_volume_tree;
use crate::volume::{ClientKind, SessionId, TargetPath, Writability};

/// A directory is opened in microseconds, unless it lies on a network mount whose server is away.
const TREE_LIMIT: Duration = Duration::from_secs(20);
/// Between two tries to have the one helper of a session.
const HELPER_BUSY_WAIT: Duration = Duration::from_millis(100);

impl<R: MountPods> NodeEffects<R> {
    pub(super) async fn open_session(&self, session: &SessionId) -> Result<(), EffectError> {
        let launch = self.launch_of(session)?;
        let (state_dir, sessions) = (Arc::clone(&self.state_dir), Arc::clone(&self.sessions));
        let session = session.clone();
        // Held before the thread ends: a caller that goes away loses nothing.
        blocking("open the session", move || {
            let _opening = sessions.opening(&session);
            let opened = open_session(&state_dir, &session, &launch.served)?;
            let held = HeldSession {
                fuse: Arc::new(opened.fuse),
                state: Arc::new(opened.state),
                device: opened.record.device,
                negotiated: opened.record.negotiated,
                offered_to: None,
            };
            sessions.hold(&session, held);
            Ok::<_, crate::session::open::OpenError>(())
        })
        .await
    }

    pub(super) async fn adopt(&self, session: &SessionId, pod: &PodId) -> Result<(), EffectError> {
        const WHAT: &str = "adopt the session";
        match self.ask(WHAT, pod, ToAgent::Adopt, Vec::new()).await? {
            Word::Holding { session: held, negotiated, fds, .. } if held == *session => {
                self.hold_checked(session, negotiated, fds, Some(pod.clone())).await
            }
            _ => Err(stale(WHAT)),
        }
    }

    /// Holds what an agent gave, after looking at it: beside the agent runs a client, which may be hostile.
    async fn hold_checked(
        &self,
        session: &SessionId,
        negotiated: Negotiated,
        fds: SessionFds,
        offered_to: Option<PodId>,
    ) -> Result<(), EffectError> {
        const WHAT: &str = "take the session from the agent";
        let needs = needs_of(&self.launch_of(session)?.served.spec).map_err(|error| failed(WHAT, error))?;
        check_device(fds.fuse.as_fd()).map_err(|error| failed(WHAT, error))?;
        check_state(fds.state.as_fd(), needs.state_bytes).map_err(|error| failed(WHAT, error))?;
        let table = self.table().await?;
        let stack = table.stack_at(&self.state_dir.mount_point(session));
        let device = stack.last().map(|top| top.device).ok_or_else(|| stale("the session's mount"))?;
        let (fuse, state) = (Arc::new(fds.fuse), Arc::new(fds.state));
        self.sessions.hold(session, HeldSession { fuse, state, device, negotiated, offered_to });
        Ok(())
    }

    pub(super) async fn await_agent(&self, pod: &PodId, limit: Duration) -> Result<(), EffectError> {
        self.until(pod, "reaching the agent", limit, |view| match view {
            AgentView::Silent => None,
            AgentView::Dead => Some(Err(stale("the agent"))),
            AgentView::Idle | AgentView::Holding { .. } => Some(Ok(())),
        })
        .await
    }

    pub(super) async fn offer(
        &self,
        session: &SessionId,
        pod: &PodId,
        limit: Duration,
    ) -> Result<(), EffectError> {
        const WHAT: &str = "offer the session";
        self.await_agent(pod, limit).await?;
        let held = self.sessions.get(session).ok_or_else(|| stale("the session"))?;
        let launch = self.launch_with_secrets(session).await?;
        let mut fds = vec![duplicate(&held.fuse)?, duplicate(&held.state)?];
        fds.extend(self.tree_of(&launch).await?);
        // Before the offer: if the answer is lost, the agent may have it.
        self.sessions.set_offered_to(session, Some(pod.clone()));
        let offer = Offer {
            session: session.clone(),
            client: ClientLaunch {
                kind: launch.served.spec.client,
                subdirectory: launch.served.spec.subdirectory.clone(),
                options: launch.served.spec.options.clone(),
            },
            negotiated: held.negotiated,
            credentials: credentials(&launch),
        };
        match self.ask(WHAT, pod, ToAgent::Offer(Box::new(offer)), fds).await? {
            Word::Status { session: taken, .. } if taken == *session => Ok(()),
            _ => Err(stale(WHAT)),
        }
    }

    /// For hostdir: the directory that it serves. Other clients open theirs themselves.
    pub(super) async fn tree_of(&self, launch: &Launch) -> Result<Option<OwnedFd>, EffectError> {
        let spec = &launch.served.spec;
        match spec.client {
            ClientKind::Hostdir => {}
            ClientKind::Juicefs => return Ok(None),
        }
        let Some(root) = self.config.roots.get(&spec.filesystem).cloned() else {
            let unknown = std::io::Error::other("it is none of the configured roots (--hostdir-root)");
            return Err(failed(format!("open the directory of filesystem {}", spec.filesystem), unknown));
        };
        let subdirectory = spec.subdirectory.clone();
        let late = |_| EffectError::TimedOut {
            what: format!("opening the directory of volume {}", launch.served.volume),
            limit_s: TREE_LIMIT.as_secs_f64(),
            state: format!("filesystem {} does not answer", spec.filesystem),
        };
        let openers = self.openers(&spec.filesystem);
        let opened = timeout(TREE_LIMIT, async move {
            let opener = openers.acquire_owned().await;
            // Given back by the thread, whenever it ends.
            tokio::task::spawn_blocking(move || {
                let _opener = opener;
                open_volume_tree(&root, &subdirectory)
            })
            .await
        });
        let opened = opened.await.map_err(late)?;
        let tree = opened.map_err(|panic| failed("open the volume's directory", panic))?;
        tree.map(Some).map_err(|error| of_tree(&launch.served.volume, error))
    }

    pub(super) async fn await_serving(
        &self,
        session: &SessionId,
        pod: &PodId,
        limit: Duration,
    ) -> Result<(), EffectError> {
        self.until(pod, "serving", limit, |view| match view {
            // Of a pod that has ended more will be known: why.
            AgentView::Silent | AgentView::Dead => None,
            // It has lost the session, or never got it: it must be offered again.
            AgentView::Idle => Some(Err(stale("the agent's session"))),
            AgentView::Holding { session: held, .. } if held != session => {
                Some(Err(stale("the agent's session")))
            }
            AgentView::Holding { client, .. } => match client {
                ClientState::Starting { .. } | ClientState::Parting { .. } => None,
                ClientState::Serving { .. } => Some(Ok(())),
                ClientState::Failed { why, fault } => {
                    Some(Err(EffectError::ClientFailed { why: why.clone(), fault: *fault }))
                }
                ClientState::Ended => Some(Err(stale("the session"))),
            },
        })
        .await
    }

    pub(super) async fn release(
        &self,
        session: &SessionId,
        pod: &PodId,
        limit: Duration,
    ) -> Result<(), EffectError> {
        let deadline = Instant::now() + limit;
        while self.life_of(pod) == PodLife::Alive {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.await_agent(pod, left).await {
                Ok(()) => {}
                // It has ended, and with it its client.
                Err(EffectError::Stale { .. }) => break,
                Err(error) => return Err(error),
            }
            match self.ask("release the session", pod, ToAgent::Release, Vec::new()).await {
                Ok(Word::Released { session: released, fds }) if released == *session => {
                    if self.sessions.get(session).is_none() {
                        self.hold_released(session, fds).await?;
                    }
                    break;
                }
                Ok(_) => break,
                // The connection broke: the agent is connected again, or its pod ends.
                Err(EffectError::Unknown { .. }) if Instant::now() < deadline => {}
                Err(error) => return Err(error),
            }
        }
        if self.sessions.get(session).is_some_and(|held| held.offered_to.as_ref() == Some(pod)) {
            self.sessions.set_offered_to(session, None);
        }
        Ok(())
    }

    async fn hold_released(&self, session: &SessionId, fds: SessionFds) -> Result<(), EffectError> {
        let state_dir = Arc::clone(&self.state_dir);
        let name = session.clone();
        let record = blocking("read the session's record", move || {
            crate::session::record::SessionRecord::read(&state_dir, &name)
        })
        .await?;
        let Some(record) = record else { return Err(stale("the session's record")) };
        self.hold_checked(session, record.negotiated, fds, None).await
    }

    pub(super) async fn bind(
        &self,
        session: &SessionId,
        target: &TargetPath,
        writability: Writability,
    ) -> Result<(), EffectError> {
        if self.launch_of(session)?.served.shown == Shown::Part {
            return self.bind_part(session, target, writability).await;
        }
        let (mount_point, source) =
            (self.state_dir.mount_point(session), self.state_dir.mount_source(session));
        let (mounts, target) = (Arc::clone(&self.mounts), target.clone());
        let work = move || bind(&mounts, &mount_point, &source, "", &target, writability);
        let bound = tokio::task::spawn_blocking(work).await;
        bound.map_err(|panic| failed("bind the volume", panic))?.map_err(of_bind)
    }

    pub(super) async fn unbind(&self, session: &SessionId, target: &TargetPath) -> Result<(), EffectError> {
        let lives = self.sessions.get(session).is_some_and(|held| held.is_alive());
        let last = if lives { LastMount::Keep } else { LastMount::Take };
        match self.unbind_now(session, target, last).await? {
            Err(UnbindError::LastOfSession { .. }) => {
                let job = HelperJob::Unmount { path: target.as_path().to_owned() };
                let asked = run_beside_wake(&self.helpers, session, &job, self.config.limits.unbind).await;
                asked.map(drop).map_err(|error| of_helper("unbind the volume", error))
            }
            done => done.map_err(of_unbind),
        }
    }

    async fn unbind_now(
        &self,
        session: &SessionId,
        target: &TargetPath,
        last: LastMount,
    ) -> Result<Result<(), UnbindError>, EffectError> {
        let (state_dir, session, target) = (Arc::clone(&self.state_dir), session.clone(), target.clone());
        let ours = move |mount: &crate::mounts::table::MountEntry| {
            state_dir.session_of(mount).as_ref() == Some(&session)
        };
        let mounts = Arc::clone(&self.mounts);
        let work = move || {
            unbind(&mounts, &target, ours, last)?;
            // With the mount, so that an unpublish has nothing left to wait for once the target is no longer counted.
            // A directory that stays is told by that unpublish; a bind makes it anew.
            if let Err(leftover) = remove_target(&target) {
                tracing::debug!(%leftover, "the target stays");
            }
            Ok(())
        };
        let unbound = tokio::task::spawn_blocking(work).await;
        unbound.map_err(|panic| failed("unbind the volume", panic))
    }

    pub(super) async fn close_session(
        &self,
        session: &SessionId,
        limit: Duration,
    ) -> Result<(), EffectError> {
        let deadline = Instant::now() + limit;
        let mount_point = self.state_dir.mount_point(session);
        let pods = self.serving_pods(session);
        if self.is_mounted(session).await? && !pods.is_empty() {
            self.unmount_served(session, deadline).await;
        }
        // Nothing is left to be done here after an unmount in good order.
        blocking("take the session's mount away", move || abort_and_detach(&mount_point)).await?;
        self.await_ends(session, &pods, deadline).await;
        self.sessions.let_go(session);
        let (state_dir, session) = (Arc::clone(&self.state_dir), session.clone());
        blocking("remove the session's directory", move || state_dir.remove_session(&session)).await
    }

    /// The engine has waited for its own task; this waits for what an earlier driver, or a task that was cut off, began.
    pub(super) async fn await_closed(&self, session: &SessionId, limit: Duration) -> Result<(), EffectError> {
        if !self.is_mounted(session).await? {
            self.await_ends(session, &self.serving_pods(session), Instant::now() + limit).await;
        }
        Ok(())
    }

    async fn is_mounted(&self, session: &SessionId) -> Result<bool, EffectError> {
        Ok(!self.table().await?.stack_at(&self.state_dir.mount_point(session)).is_empty())
    }

    /// The pods whose clients answer the session's requests, or will soon, or may without being heard of.
    pub(super) fn serving_pods(&self, session: &SessionId) -> Vec<PodId> {
        let pods = self.runtime.list();
        let alive = pods.iter().filter(|pod| !matches!(pod.phase, PodPhase::Ended { .. }));
        let ids = alive.filter_map(|pod| crate::mountpod::pod::pod_id(&pod.record).ok());
        ids.filter(|pod| !self.is_overdue(pod) && self.may_serve(session, pod)).collect()
    }

    fn may_serve(&self, session: &SessionId, pod: &PodId) -> bool {
        match self.links.view(pod) {
            AgentView::Holding { session: held, client } => {
                held == *session
                    && matches!(
                        client,
                        ClientState::Serving { .. }
                            | ClientState::Starting { .. }
                            | ClientState::Parting { .. }
                    )
            }
            AgentView::Silent => {
                self.sessions.get(session).is_some_and(|held| held.offered_to.as_ref() == Some(pod))
            }
            AgentView::Idle | AgentView::Dead => false,
        }
    }

    /// The last unmount of a session: its client gets to write what it has.
    async fn unmount_served(&self, session: &SessionId, deadline: Instant) {
        let job = HelperJob::Unmount { path: self.state_dir.mount_point(session) };
        let error = loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.helpers.run(session, &job, left).await {
                Ok(_) => return,
                // Somebody asks for statistics just now; that has a limit of its own.
                Err(HelperError::StillWaiting { .. }) if !left.is_zero() => sleep(HELPER_BUSY_WAIT).await,
                Err(error) => break error,
            }
        };
        tracing::warn!(
            error = &error as &dyn std::error::Error, %session,
            "the session could not be unmounted in good order; its connection is aborted"
        );
    }

    /// Waits until the clients of these pods have seen the end of the session; who takes too long is not waited for
    /// again.
    async fn await_ends(&self, session: &SessionId, pods: &[PodId], deadline: Instant) {
        for pod in pods {
            let left = deadline.saturating_duration_since(Instant::now());
            let ended = self.until(pod, "the end of the client", left, |view| match view {
                AgentView::Holding { session: held, client } if held == session => {
                    matches!(client, ClientState::Ended | ClientState::Failed { .. }).then_some(Ok(()))
                }
                // It may come back, and its client may flush meanwhile.
                AgentView::Silent => None,
                AgentView::Idle | AgentView::Dead | AgentView::Holding { .. } => Some(Ok(())),
            });
            match ended.await {
                Ok(()) | Err(EffectError::Stale { .. }) => {}
                Err(error) => {
                    self.give_up_on(pod);
                    tracing::warn!(error = &error as &dyn std::error::Error, %session, "its client is not waited for");
                }
            }
        }
    }

    /// Asks an agent, within the limit for an answer.
    async fn ask(
        &self,
        what: &'static str,
        pod: &PodId,
        message: ToAgent,
        fds: Vec<OwnedFd>,
    ) -> Result<Word, EffectError> {
        let speaker = self.links.speaker(pod).ok_or_else(|| stale(&*pod.name.0))?;
        let limit = self.config.limits.answer;
        match timeout(limit, speaker.ask(message, fds)).await {
            Ok(answer) => answer.map_err(|error: LinkError| of_link(what, error)),
            Err(_) => Err(EffectError::TimedOut {
                what: format!("{what}: the answer of {}", pod.name.0),
                limit_s: limit.as_secs_f64(),
                state: describe(&self.links.view(pod)),
            }),
        }
    }

    /// The device of a session that is held.
    pub(super) fn device_of(&self, session: &SessionId) -> Option<DeviceNumber> {
        self.sessions.get(session).map(|held| held.device)
    }
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, EffectError> {
    fd.try_clone().map_err(|error| failed("duplicate a descriptor of the session", error))
}

/// Exposed for one message over the agent's socket.
fn credentials(launch: &Launch) -> BTreeMap<String, String> {
    launch.secrets.expose().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Why a helper gave no answer.
fn of_helper(what: &str, error: HelperError) -> EffectError {
    match error {
        HelperError::TimedOut { limit, .. } => EffectError::TimedOut {
            what: what.to_owned(),
            limit_s: limit.as_secs_f64(),
            state: error.to_string(),
        },
        other => failed(what, other),
    }
}

#[cfg(test)]
#[path = "session_steps_tests.rs"]
mod tests;
