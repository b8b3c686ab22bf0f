//! What are the facts of a session?

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use super::effects::{NodeEffects, blocking};
use super::workloads::{self, is_subpath};
use crate::agent::frames::ClientState;
use crate::mountpod::effects::EffectError;
use crate::mountpod::facts::{
    AgentFact, BoundFact, ConnectionFact, DeviceNumber, Facts, PodFact, PodId, PodPhase, Timestamp,
};
use crate::mountpod::pod::{is_of, pod_fact};
use crate::mounts::table::{MountEntry, MountTable};
use crate::runtime::MountPods;
use crate::session::link::AgentView;
use crate::volume::{SessionId, TargetPath};

impl<R: MountPods> NodeEffects<R> {
    /// Reads the facts of one session: from memory, and from the mount table.
    pub(super) async fn look_at(&self, session: &SessionId) -> Result<Facts, EffectError> {
        let table = self.table().await?;
        let own_mount = self.own_mount(session, &table);
        let mut pods = self.pods_of(session);
        let is_new = self.started.elapsed() < self.config.limits.settle;
        if (own_mount.is_some() || is_new) && self.sessions.get(session).is_none() {
            // After a restart nothing but an agent's word tells a session that is kept from one that is lost, and one
            // that is being closed from one that is closed.
            for pod in pods.iter().filter(|pod| !matches!(pod.phase, PodPhase::Ended { .. })) {
                self.links.settled(&pod.id, self.config.limits.settle).await;
            }
            pods = self.pods_of(session);
        }
        let bound = self.bound(session, &table);
        let connection = match own_mount {
            Some(device) => self.connection(session, device, &pods),
            // Its mounts are gone, and its client flushes: it was being closed, perhaps by a driver that was killed.
            None if bound.is_empty() && !self.serving_pods(session).is_empty() => ConnectionFact::Closing,
            None => ConnectionFact::None,
        };
        let gone = self.gone(&pods, &bound).await?;
        Ok(Facts {
            session: session.clone(),
            now: now(),
            connection,
            bound,
            pods,
            wanted: BTreeSet::new(),
            gone,
            delete_delay: self.launch_of(session).ok().and_then(|launch| launch.served.pod.delete_delay),
        })
    }

    /// The targets that are counted or bound and whose workload is gone.
    async fn gone(&self, pods: &[PodFact], bound: &[BoundFact]) -> Result<BTreeSet<TargetPath>, EffectError> {
        let Some(kubelet_dir) = self.config.kubelet_dir.clone() else { return Ok(BTreeSet::new()) };
        let counted = pods.iter().flat_map(|pod| pod.refs.iter().map(|(target, _)| target));
        let targets = counted.chain(bound.iter().map(|bound| &bound.target)).cloned().collect();
        blocking("look for the workloads", move || {
            Ok::<_, Infallible>(workloads::gone(&kubelet_dir, &targets))
        })
        .await
    }

    /// The mount at the session's own mount point.
    fn own_mount(&self, session: &SessionId, table: &MountTable) -> Option<DeviceNumber> {
        let stack = table.stack_at(&self.state_dir.mount_point(session));
        let top = stack.last().filter(|top| self.state_dir.session_of(top).as_ref() == Some(session));
        top.map(|top| top.device)
    }

    fn pods_of(&self, session: &SessionId) -> Vec<PodFact> {
        let running = self.runtime.list();
        self.links.follow(&*self.runtime, &running);
        let of_session = running.into_iter().filter(|pod| is_of(&pod.record, session));
        let mut pods: Vec<PodFact> = Vec::new();
        for pod in of_session {
            match pod_fact(&pod.record, pod.phase, AgentFact::Silent) {
                Ok(fact) => {
                    pods.push(PodFact { agent: agent_fact(session, self.links.view(&fact.id)), ..fact });
                }
                Err(error) => tracing::warn!(%error, %session, "a mount pod of the session is left alone"),
            }
        }
        pods.sort_by_key(|pod| pod.generation);
        pods
    }

    fn connection(&self, session: &SessionId, device: DeviceNumber, pods: &[PodFact]) -> ConnectionFact {
        match self.sessions.get(session) {
            Some(held) if held.device == device && held.is_alive() => {
                ConnectionFact::Held { device, offered_to: held.offered_to }
            }
            Some(_) => ConnectionFact::Lost { device },
            None => match pods.iter().find(|pod| self.is_holder(session, &pod.id)) {
                Some(pod) => ConnectionFact::HeldByAgent { device, holder: pod.id.clone() },
                None => ConnectionFact::Lost { device },
            },
        }
    }

    /// Can the agent of the pod give the session back?
    fn is_holder(&self, session: &SessionId, pod: &PodId) -> bool {
        match self.links.view(pod) {
            AgentView::Holding { session: held, client } => held == *session && client != ClientState::Ended,
            AgentView::Silent | AgentView::Dead | AgentView::Idle => false,
        }
    }

    fn bound(&self, session: &SessionId, table: &MountTable) -> Vec<BoundFact> {
        let shows_parts = self.is_shared(session);
        let is_root = |mount: &MountEntry| shows_parts || mount.root == Path::new("/");
        let of_session = |mount: &&MountEntry| is_root(mount) && self.is_bind_of(session, mount);
        let targets: BTreeSet<_> = table.iter().filter(of_session).map(|mount| &mount.mount_point).collect();
        let stacks = targets.into_iter().flat_map(|target| table.stack_at(target));
        stacks.filter(of_session).filter_map(bound_fact).collect()
    }

    /// Is that mount of the session, bound at a target? What a container's `subPath` names was bound by the kubelet, also
    /// where it is "." and the whole. Of a session that is one volume's own, targets show the whole alone.
    fn is_bind_of(&self, session: &SessionId, mount: &MountEntry) -> bool {
        self.state_dir.session_of(mount).as_ref() == Some(session)
            && !self.state_dir.is_own_mount(mount)
            && !self.config.kubelet_dir.as_ref().is_some_and(|dir| is_subpath(dir, &mount.mount_point))
    }
}

fn bound_fact(mount: &MountEntry) -> Option<BoundFact> {
    // No target of ours has a path of another form: publish refuses it.
    let target = mount.mount_point.to_str()?.parse().ok()?;
    Some(BoundFact { target, device: mount.device, writability: mount.writability })
}

/// What an agent says, as far as it matters for one session.
fn agent_fact(session: &SessionId, view: AgentView) -> AgentFact {
    match view {
        AgentView::Silent | AgentView::Dead => AgentFact::Silent,
        AgentView::Idle => AgentFact::Idle,
        AgentView::Holding { session: held, .. } if held != *session => {
            AgentFact::Failed { why: format!("its agent holds session {held}") }
        }
        AgentView::Holding { client, .. } => match client {
            ClientState::Starting { .. } | ClientState::Parting { .. } => AgentFact::Starting,
            ClientState::Serving { .. } => AgentFact::Serving,
            ClientState::Failed { why, .. } => AgentFact::Failed { why },
            ClientState::Ended => AgentFact::Failed { why: "its session has ended".to_owned() },
        },
    }
}

/// The wall clock: what is written down must mean the same after a restart.
fn now() -> Timestamp {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX))
}
