//! What do the facts of a session amount to?

use crate::mountpod::facts::{
    AgentFact, BoundFact, ConnectionFact, Deletion, DeviceNumber, Facts, Generation, PodFact, PodPhase,
    Timestamp,
};
use crate::mountpod::plan::{Limits, Step};
use crate::mountpod::refs::Refs;
use crate::volume::{Exclusivity, TargetPath};

/// The facts of a session, and the conclusions that several rules draw from them.
pub(super) struct View<'a> {
    pub(super) facts: &'a Facts,
    pub(super) limits: &'a Limits,
    /// The pod that serves the session, or is to: the newest that can, one that can't start after all others.
    pub(super) current: Option<&'a PodFact>,
    /// Who uses the session: the refs on all pods, and targets that are bound although a ref was lost.
    pub(super) claims: Refs,
}

impl<'a> View<'a> {
    pub(super) fn new(facts: &'a Facts, limits: &'a Limits) -> Self {
        let able = facts.pods.iter().filter(|pod| can_serve(pod, &facts.connection));
        Self {
            facts,
            limits,
            current: able.max_by_key(|pod| (stuck(pod).is_none(), pod.generation)),
            claims: claims(facts),
        }
    }

    /// The device of the connection, while it can be used.
    pub(super) fn live_device(&self) -> Option<DeviceNumber> {
        match self.facts.connection {
            ConnectionFact::Held { device, .. } | ConnectionFact::HeldByAgent { device, .. } => Some(device),
            ConnectionFact::None | ConnectionFact::Closing | ConnectionFact::Lost { .. } => None,
        }
    }

    /// The mounts of this session at a target, bottom first.
    pub(super) fn bound_at(&self, target: &TargetPath) -> Vec<&'a BoundFact> {
        self.facts.bound.iter().filter(|bound| bound.target == *target).collect()
    }

    /// Does nobody use the session, and nobody want to?
    pub(super) fn is_unused(&self) -> bool {
        self.claims.is_empty() && self.facts.wanted.is_empty()
    }

    /// A new pod that takes over everybody who is counted.
    pub(super) fn replacement(&self, newcomer: Option<(&TargetPath, Exclusivity)>) -> Step {
        let newest = self.facts.pods.iter().map(|pod| pod.generation.0).max().unwrap_or(0);
        let mut refs = self.claims.clone();
        if let Some((target, exclusivity)) = newcomer {
            refs.insert(target.clone(), exclusivity);
        }
        Step::CreatePod { generation: Generation(newest.saturating_add(1)), refs }
    }

    /// When a session that is used until now is to end.
    pub(super) fn end_from_now(&self) -> Timestamp {
        self.facts.now.after(self.facts.delete_delay.unwrap_or(self.limits.delete_delay))
    }

    /// Until when is an unused session kept? `None`: it may end now.
    pub(super) fn kept_until(&self) -> Option<Timestamp> {
        // A pod that can't start is worth nothing to whoever comes next.
        self.current.filter(|pod| stuck(pod).is_none())?;
        let moment = self.facts.pods.iter().filter_map(|pod| pod.delete_after).max()?;
        // Further away than the delay: written before the clock was set back, or before the delay was shortened.
        let plausible = self.end_from_now();
        (moment > self.facts.now && moment <= plausible).then_some(moment)
    }
}

/// Can this pod serve the session, now or after a while?
fn can_serve(pod: &PodFact, connection: &ConnectionFact) -> bool {
    let failed = matches!(pod.agent, AgentFact::Failed { .. });
    let ended = matches!(pod.phase, PodPhase::Ended { .. });
    pod.deletion == Deletion::NotAsked && !ended && !failed && !is_spent(pod, connection)
}

/// May processes of the pod still run?
pub(super) fn is_alive(pod: &PodFact) -> bool {
    !matches!(pod.phase, PodPhase::Ended { .. } | PodPhase::Stuck { .. })
}

/// What keeps the pod from starting, if anything does.
pub(super) fn stuck(pod: &PodFact) -> Option<&str> {
    match &pod.phase {
        PodPhase::Stuck { why } => Some(why),
        PodPhase::Starting { .. } | PodPhase::Running | PodPhase::Ended { .. } => None,
    }
}

/// Was the pod's session closed under it? Its agent exits then, if it hasn't yet.
fn is_spent(pod: &PodFact, connection: &ConnectionFact) -> bool {
    let served = matches!(pod.agent, AgentFact::Starting | AgentFact::Serving);
    *connection == ConnectionFact::None && (served || pod.delete_after.is_some())
}

fn claims(facts: &Facts) -> Refs {
    let bound = facts.bound.iter().filter(|bound| !facts.gone.contains(&bound.target));
    // How a lost ref counted can't be known; a newcomer that wants the volume alone is refused in either case.
    let mut claims: Refs = bound.map(|bound| (bound.target.clone(), Exclusivity::Shared)).collect();
    for (target, exclusivity) in facts.pods.iter().flat_map(|pod| pod.refs.iter()) {
        if claims.exclusivity_of(target) != Some(Exclusivity::SingleTarget) {
            claims.insert(target.clone(), exclusivity);
        }
    }
    claims
}
