//! How much of a volume is used, and how is its session?

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::effects::NodeEffects;
use super::wake::run_beside_wake;
use crate::agent::frames::{ClientState, ToAgent};
use crate::agent::messages::Word;
use crate::mountpod::effects::EffectError;
use crate::mountpod::facts::{AgentFact, ConnectionFact, Facts, PodFact, PodPhase};
use crate::mountpod::service::{Condition, MountError, VolumeStats};
use crate::mounts::helper::{HelperAnswer, HelperError, HelperJob, Usage};
use crate::runtime::MountPods;
use crate::volume::{SessionId, TargetPath, VolumeId};

/// A client that is being replaced serves again within this time, or something is wrong that the caller should hear of.
const RECOVERY_WAIT: Duration = Duration::from_secs(2);
/// An agent answers within milliseconds; without its answer nothing is known of complaints.
const COMPLAINT_WAIT: Duration = Duration::from_secs(1);

impl<R: MountPods> NodeEffects<R> {
    /// The session of a volume that a target shows.
    pub(super) async fn session_at(
        &self,
        volume: &VolumeId,
        target: &TargetPath,
    ) -> Result<SessionId, MountError> {
        let not_mounted = || MountError::NotMounted { volume: volume.clone(), target: target.clone() };
        let table = self.table().await.map_err(|error| looking(target, error))?;
        let stack = table.stack_at(target.as_path());
        let session = stack.last().and_then(|top| self.state_dir.session_of(top)).ok_or_else(not_mounted)?;
        if self.volume_at(&session, target).as_ref() == Some(volume) {
            Ok(session)
        } else {
            Err(not_mounted())
        }
    }

    /// Usage and condition of a volume. Without a client that answers there is no usage: all of it is 0 then.
    pub(super) async fn stats_of(
        &self,
        session: &SessionId,
        target: &TargetPath,
    ) -> Result<VolumeStats, MountError> {
        let condition = self.condition(session).await.map_err(|error| looking(target, error))?;
        if matches!(condition, Condition::Recovering { .. } | Condition::Lost { .. }) {
            return Ok(stats(Usage::default(), condition));
        }
        let job = HelperJob::Statfs { path: self.place_of(session, target) };
        match run_beside_wake(&self.helpers, session, &job, self.config.limits.stats).await {
            Ok(HelperAnswer::Usage(usage)) => Ok(stats(usage, condition)),
            Ok(_) => {
                Err(looking(target, std::io::Error::other("the helper gave the answer to another question")))
            }
            Err(error @ (HelperError::TimedOut { .. } | HelperError::StillWaiting { .. })) => {
                Err(MountError::TimedOut {
                    what: format!("statfs of the volume at {target}"),
                    limit_s: self.config.limits.stats.as_secs_f64(),
                    state: error.to_string(),
                })
            }
            Err(error) => Err(looking(target, error)),
        }
    }

    /// How the session is; a client that is just being replaced is waited for.
    async fn condition(&self, session: &SessionId) -> Result<Condition, EffectError> {
        let deadline = Instant::now() + RECOVERY_WAIT;
        let (mut links, mut pods) = (self.changes(), self.runtime.changes());
        loop {
            links.mark_unchanged();
            pods.mark_unchanged();
            let facts = self.look_at(session).await?;
            let condition = condition_of(&facts);
            if condition == Condition::Serving {
                return Ok(self.complaint_of(&facts).await.unwrap_or(condition));
            }
            if !matches!(condition, Condition::Recovering { .. }) {
                return Ok(condition);
            }
            tokio::select! {
                _ = links.changed() => {}
                _ = pods.changed() => {}
                () = sleep_until(deadline) => return Ok(condition),
            }
        }
    }

    /// What the client that serves complains of. Its agent is asked: it does not tell every word by itself.
    async fn complaint_of(&self, facts: &Facts) -> Option<Condition> {
        let serving = facts.pods.iter().find(|pod| pod.agent == AgentFact::Serving)?;
        let speaker = self.links.speaker(&serving.id)?;
        match timeout(COMPLAINT_WAIT, speaker.ask(ToAgent::Status, Vec::new())).await {
            Ok(Ok(Word::Status { client: ClientState::Serving { .. }, complaint: Some(words), .. })) => {
                Some(Condition::Complaining { message: format!("its client complains: {words}") })
            }
            _ => None,
        }
    }
}

fn stats(usage: Usage, condition: Condition) -> VolumeStats {
    VolumeStats {
        bytes_total: usage.bytes_total,
        bytes_available: usage.bytes_available,
        bytes_used: usage.bytes_total.saturating_sub(usage.bytes_free),
        inodes_total: usage.inodes_total,
        inodes_free: usage.inodes_free,
        condition,
    }
}

fn condition_of(facts: &Facts) -> Condition {
    match &facts.connection {
        ConnectionFact::Held { .. } | ConnectionFact::HeldByAgent { .. } => {
            if facts.pods.iter().any(|pod| pod.agent == AgentFact::Serving) {
                return Condition::Serving;
            }
            let why = facts.pods.iter().find_map(what_keeps);
            let message = why.unwrap_or_else(|| "its client is being started".to_owned());
            Condition::Recovering { message }
        }
        ConnectionFact::Closing => {
            Condition::Recovering { message: "its session is being closed".to_owned() }
        }
        ConnectionFact::None => Condition::Lost { message: "it has no session".to_owned() },
        ConnectionFact::Lost { device } => Condition::Lost {
            message: format!("nobody holds its connection {device} any more; a new one is being made"),
        },
    }
}

/// Why a mount pod does not serve yet, where that is known.
fn what_keeps(pod: &PodFact) -> Option<String> {
    match (&pod.agent, &pod.phase) {
        (AgentFact::Failed { why }, _) => Some(why.clone()),
        (_, PodPhase::Stuck { why }) => Some(format!("its mount pod can't start: {why}")),
        (_, PodPhase::Starting { waits_for }) => {
            waits_for.as_ref().map(|words| format!("its mount pod is being started: {words}"))
        }
        _ => None,
    }
}

fn looking(target: &TargetPath, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> MountError {
    MountError::Failed { what: format!("looking at the volume at {target}"), source: source.into() }
}
