//! What does the node offer to the CSI desks?

use std::future::Future;
use std::sync::Arc;

use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use super::config::{NodeConfig, NodeLimits};
use super::effects::{Launch, NodeEffects, StartError, blocking};
use super::outcome::{mount_error, target_error};
use super::reconcile::keep_reconciled;
use super::wake::keep_awake;
use crate::mountpod::engine::Engine;
use crate::mountpod::parts::{Part, Shown, refs_of_volume};
use crate::mountpod::plan::{Goal, Refusal};
use crate::mountpod::pod::{ServedVolume, is_of, refs_of, served_volume, session_of};
use crate::mountpod::service::{
    Knowledge, MountError, MountService, PublishRequest, PublishedTargets, SessionUse, VolumeStats,
};
use crate::mounts::bind::remove_target;
use crate::mounts::target::Place;
use crate::runtime::MountPods;
use crate::volume::{ClientKind, Exclusivity, MountSpec, SessionId, ShareKey, TargetPath, VolumeId};

/// The engine on this node, and the tasks that keep what was published.
#[derive(Debug)]
pub struct NodeService<R: MountPods> {
    engine: Arc<Engine<NodeEffects<R>>>,
    limits: NodeLimits,
    calls: TaskTracker,
    shutdown: CancellationToken,
    _reconciler: AbortOnDropHandle<()>,
    _waker: AbortOnDropHandle<()>,
}

impl<R: MountPods> NodeService<R> {
    /// Starts the engine over these mount pods: sessions of an earlier driver are taken up again. Dropping the service
    /// ends its tasks; what is published stays published.
    ///
    /// # Errors
    /// When the engine's directory or the mount table can't be used.
    pub fn start(runtime: Arc<R>, config: NodeConfig) -> Result<Self, StartError> {
        let shutdown = CancellationToken::new();
        let (limits, engine_limits) = (config.limits, config.engine);
        let effects = NodeEffects::start(runtime, config, &shutdown)?;
        let engine = Arc::new(Engine::new(effects, engine_limits));
        let reconciler =
            tokio::spawn(keep_reconciled(Arc::clone(&engine), limits.reconcile, shutdown.clone()));
        let waker = tokio::spawn(keep_awake(Arc::clone(&engine), shutdown.clone()));
        Ok(Self {
            engine,
            limits,
            calls: TaskTracker::new(),
            shutdown,
            _reconciler: AbortOnDropHandle::new(reconciler),
            _waker: AbortOnDropHandle::new(waker),
        })
    }

    /// Takes no more calls, waits for those in flight, and ends the tasks. Nothing is unmounted: workloads go on.
    pub async fn shut_down(&self) {
        self.calls.close();
        if timeout(self.limits.shutdown, self.calls.wait()).await.is_err() {
            tracing::warn!(
                calls = self.calls.len(),
                "calls in flight are cut off; they go on after the restart"
            );
        }
        self.shutdown.cancel();
    }

    /// Runs a call, unless the service is shutting down.
    async fn call<T>(
        &self,
        what: &str,
        work: impl Future<Output = Result<T, MountError>>,
    ) -> Result<T, MountError> {
        if self.calls.is_closed() {
            return Err(MountError::TimedOut {
                what: what.to_owned(),
                limit_s: 0.0,
                state: "the driver is shutting down".to_owned(),
            });
        }
        self.calls.track_future(work).await
    }

    fn effects(&self) -> &NodeEffects<R> {
        self.engine.effects()
    }

    async fn publish_now(&self, request: PublishRequest) -> Result<(), MountError> {
        let PublishRequest { volume, target, spec, session: wanted, access, resources, pod, secrets } =
            request;
        let what = format!("publish of volume {volume}");
        let hash = spec.hash().map_err(|error| MountError::Failed { what, source: error.into() })?;
        let session = SessionId::new(&share_key(&volume, &spec, &wanted), &hash);
        self.refuse_own_places(&target)?;
        self.refuse_beside_others(&volume, &session, &target, access.exclusivity)?;
        let before = self.look_at_target(&session, &target).await?;
        // Held through the publish, so that the sweep does not forget it.
        let (shown, part, exclusivity) = match wanted {
            SessionUse::Own => (Shown::Whole, None, access.exclusivity),
            SessionUse::Shared { directory, .. } => {
                let part = Part { volume: Some(volume.clone()), directory, exclusivity: access.exclusivity };
                if before == TargetBefore::Mounted && self.effects().shows_another(&session, &target, &part) {
                    return Err(taken(target));
                }
                // The engine counts targets of all volumes of the session; who is in whose way was looked at above.
                (Shown::Part, Some(part), Exclusivity::Shared)
            }
        };
        let served = ServedVolume { volume, spec, resources, pod, shown };
        let launch = self.effects().remember(&session, Launch { served, secrets });
        if let Some(part) = part {
            self.effects().parts.show(&session, &target, part);
        }
        if self.effects().device_of(&session).is_none() {
            // Before anything is created for it: does the volume exist?
            self.effects().tree_of(&launch).await.map_err(mount_error)?;
        }
        let goal = Goal::Publish {
            target: target.clone(),
            writability: access.writability,
            exclusivity,
            attempts: 0,
        };
        let _look = self.effects().look_afterwards();
        let published = self.engine.achieve(&session, goal, Instant::now() + self.limits.publish).await;
        match published {
            Ok(_) => Ok(()),
            Err(error) => {
                if error.is_final() {
                    self.effects().parts.forget(&session, &target);
                }
                if error.is_final() && before == TargetBefore::Absent {
                    self.give_back(target).await;
                }
                Err(error.into())
            }
        }
    }

    /// A target among the volumes themselves, or in the engine's own directory, would be mounted over what it shows, and
    /// its unpublish would remove a volume's directory.
    fn refuse_own_places(&self, target: &TargetPath) -> Result<(), MountError> {
        let config = &self.effects().config;
        let places = config.roots.values().chain([&config.directory]);
        match places.into_iter().find(|place| target.as_path().starts_with(place)) {
            None => Ok(()),
            Some(place) => Err(MountError::Target {
                target: target.clone(),
                why: format!("it lies in {}, which is the driver's own", place.display()),
            }),
        }
    }

    /// A volume has several sessions when it is published with several credentials; the engine sees one of them. And in a
    /// session that several volumes share, it does not know which targets are of one volume.
    fn refuse_beside_others(
        &self,
        volume: &VolumeId,
        session: &SessionId,
        target: &TargetPath,
        exclusivity: Exclusivity,
    ) -> Result<(), MountError> {
        for pod in self.effects().runtime.list() {
            let Ok(served) = served_volume(&pod.record) else { continue };
            if served.shown == Shown::Whole && is_of(&pod.record, session) {
                continue;
            }
            let refs = refs_of_volume(&pod.record, &served, volume);
            if let Some(other) = refs.in_the_way(target, exclusivity) {
                return Err(Refusal::InUse { other: other.clone() }.into());
            }
        }
        Ok(())
    }

    /// Is the target free for this session, and was its directory there?
    async fn look_at_target(
        &self,
        session: &SessionId,
        target: &TargetPath,
    ) -> Result<TargetBefore, MountError> {
        let table = self.effects().table().await.map_err(mount_error)?;
        if let Some(top) = table.stack_at(target.as_path()).last() {
            return match self.effects().state_dir.session_of(top) {
                Some(other) if other == *session => Ok(TargetBefore::Mounted),
                Some(_) => Err(taken(target.clone())),
                None => Err(MountError::Target {
                    target: target.clone(),
                    why: format!("{} ({}) is mounted there", top.source, top.fs_type),
                }),
            };
        }
        let place = target.clone();
        let look =
            move || Place::find(&place).and_then(|place| place.is_there_and_empty()).map_err(target_error);
        let is_there = blocking("look at the target", look).await.map_err(mount_error)?;
        Ok(if is_there { TargetBefore::There } else { TargetBefore::Absent })
    }

    /// Removes a target directory that a failed publish may have made.
    async fn give_back(&self, target: TargetPath) {
        if let Err(error) = blocking("remove the target", move || remove_target(&target)).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "a target of a failed publish stays");
        }
    }

    async fn unpublish_now(&self, volume: &VolumeId, target: &TargetPath) -> Result<(), MountError> {
        self.refuse_own_places(target)?;
        let deadline = Instant::now() + self.limits.unpublish;
        let sessions = self.sessions_at(target).await?;
        if let Some(other) = sessions.iter().find_map(|session| self.other_volume(session, target, volume)) {
            // CSI spec, NodeUnpublishVolume: a volume that is not published at the target is no error.
            tracing::warn!(%volume, %target, %other, "another volume is published there; it is left alone");
            return Ok(());
        }
        for session in sessions {
            let goal = Goal::Unpublish { target: target.clone() };
            self.engine.achieve(&session, goal, deadline).await?;
            self.effects().parts.forget(&session, target);
        }
        let target = target.clone();
        let remove = move || remove_target(&target).map_err(target_error);
        blocking("remove the target", remove).await.map_err(mount_error)
    }

    /// The volume that a session shows at a target, when it is known to be another one.
    fn other_volume(&self, session: &SessionId, target: &TargetPath, volume: &VolumeId) -> Option<VolumeId> {
        self.effects().volume_at(session, target).filter(|shown| shown != volume)
    }

    /// The sessions that are mounted at a target, topmost first, and those that count it.
    async fn sessions_at(&self, target: &TargetPath) -> Result<Vec<SessionId>, MountError> {
        let effects = self.effects();
        let table = effects.table().await.map_err(mount_error)?;
        let stack = table.stack_at(target.as_path());
        let mounted = stack.iter().rev().filter_map(|mount| effects.state_dir.session_of(mount));
        let pods = effects.runtime.list();
        let counting = pods.iter().filter(|pod| refs_of(&pod.record).contains(target));
        let counting = counting.filter_map(|pod| session_of(&pod.record).ok());
        let mut sessions: Vec<SessionId> = Vec::new();
        for session in mounted.chain(counting) {
            if !sessions.contains(&session) {
                sessions.push(session);
            }
        }
        Ok(sessions)
    }
}

fn share_key(volume: &VolumeId, spec: &MountSpec, wanted: &SessionUse) -> ShareKey {
    let filesystem = || spec.filesystem.clone();
    match wanted {
        SessionUse::Own => ShareKey::Volume(volume.clone()),
        SessionUse::Shared { group: Some(group), .. } => ShareKey::Group(filesystem(), group.clone()),
        SessionUse::Shared { group: None, .. } => ShareKey::Filesystem(filesystem()),
    }
}

fn taken(target: TargetPath) -> MountError {
    let why =
        "another volume, or this one with other parameters, is mounted there; unpublish it first".to_owned();
    MountError::Target { target, why }
}

/// What a publish found at its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TargetBefore {
    Mounted,
    There,
    Absent,
}

impl<R: MountPods> MountService for NodeService<R> {
    fn client(&self, volume: &VolumeId) -> Option<ClientKind> {
        let pods = self.effects().runtime.list();
        let mut served = pods.iter().filter_map(|pod| Some((pod, served_volume(&pod.record).ok()?)));
        let of_volume = served.find(|(pod, served)| !refs_of_volume(&pod.record, served, volume).is_empty());
        of_volume.map(|(_, served)| served.spec.client)
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), MountError> {
        let what = format!("publish at {}", request.target);
        self.call(&what, self.publish_now(request)).await
    }

    async fn unpublish(&self, volume: &VolumeId, target: &TargetPath) -> Result<(), MountError> {
        self.call(&format!("unpublish of {target}"), self.unpublish_now(volume, target)).await
    }

    async fn stats(&self, volume: &VolumeId, target: &TargetPath) -> Result<VolumeStats, MountError> {
        self.call(&format!("statfs of the volume at {target}"), async {
            let session = self.effects().session_at(volume, target).await?;
            self.effects().stats_of(&session, target).await
        })
        .await
    }
}

impl<R: MountPods> PublishedTargets for NodeService<R> {
    const KNOWLEDGE: Knowledge = Knowledge::ThisNode;

    fn targets(&self, volume: &VolumeId) -> Vec<TargetPath> {
        let pods = self.effects().runtime.list();
        let mut targets: Vec<TargetPath> = Vec::new();
        for pod in &pods {
            if let Ok(served) = served_volume(&pod.record) {
                let refs = refs_of_volume(&pod.record, &served, volume);
                targets.extend(refs.iter().map(|(target, _)| target.clone()));
            }
        }
        targets.sort();
        targets.dedup();
        targets
    }
}
