//! How is a case put down in one line?

use std::time::Duration;

use crate::mountpod::decide::decide;
use crate::mountpod::facts::{
    AgentFact, BoundFact, ConnectionFact, Deletion, DeviceNumber, Facts, Generation, PodFact, PodId, PodName,
    PodPhase, PodUid, ResourceVersion, Timestamp,
};
use crate::mountpod::plan::{Goal, Limits, Plan, Step, Verdict};
use crate::mountpod::refs::Refs;
use crate::volume::{Exclusivity, SessionId, TargetPath, Writability};

pub(super) const NOW: u64 = 100_000;
/// The connection's device unless said otherwise; smaller numbers are older ones.
pub(super) const LIVE: u32 = 9;

pub(super) fn target(name: &str) -> TargetPath {
    format!("/{name}").parse().unwrap()
}

fn device(minor: u32) -> DeviceNumber {
    DeviceNumber { major: 0, minor }
}

fn pod_id(generation: u32) -> PodId {
    PodId { name: PodName(generation.to_string()), uid: PodUid(format!("uid-{generation}")) }
}

/// A pod that runs, with an idle agent and no refs.
pub(super) fn pod(generation: u32) -> PodFact {
    PodFact {
        id: pod_id(generation),
        resource_version: ResourceVersion(format!("v{generation}")),
        generation: Generation(generation),
        phase: PodPhase::Running,
        deletion: Deletion::NotAsked,
        refs: Refs::default(),
        delete_after: None,
        agent: AgentFact::Idle,
    }
}

impl PodFact {
    pub(super) fn refs(mut self, names: &[&str]) -> Self {
        self.refs.extend_with(names, Exclusivity::Shared);
        self
    }

    pub(super) fn alone(mut self, name: &str) -> Self {
        self.refs.extend_with(&[name], Exclusivity::SingleTarget);
        self
    }

    pub(super) fn agent(mut self, agent: AgentFact) -> Self {
        self.agent = agent;
        self
    }

    pub(super) fn serving(self) -> Self {
        self.agent(AgentFact::Serving)
    }

    pub(super) fn starting(self) -> Self {
        self.agent(AgentFact::Starting)
    }

    pub(super) fn silent(self) -> Self {
        self.agent(AgentFact::Silent)
    }

    pub(super) fn failed(self, why: &str) -> Self {
        self.agent(AgentFact::Failed { why: why.to_owned() })
    }

    pub(super) fn ended(mut self, why: &str) -> Self {
        self.phase = PodPhase::Ended { why: why.to_owned() };
        self.silent()
    }

    pub(super) fn stuck(mut self, why: &str) -> Self {
        self.phase = PodPhase::Stuck { why: why.to_owned() };
        self.silent()
    }

    pub(super) fn deleted(mut self) -> Self {
        self.deletion = Deletion::Asked;
        self
    }

    pub(super) fn until(mut self, moment: u64) -> Self {
        self.delete_after = Some(Timestamp(moment));
        self
    }
}

impl Refs {
    fn extend_with(&mut self, names: &[&str], exclusivity: Exclusivity) {
        for name in names {
            self.insert(target(name), exclusivity);
        }
    }
}

/// A session without a connection, of these pods.
pub(super) fn facts(pods: impl IntoIterator<Item = PodFact>) -> Facts {
    Facts {
        session: "0123456789abcdef0123456789abcdef".parse::<SessionId>().unwrap(),
        now: Timestamp(NOW),
        pods: pods.into_iter().collect(),
        connection: ConnectionFact::None,
        bound: Vec::new(),
        wanted: [].into(),
        gone: [].into(),
        delete_delay: None,
    }
}

impl Facts {
    pub(super) fn delayed(mut self, delay: Duration) -> Self {
        self.delete_delay = Some(delay);
        self
    }

    pub(super) fn connection(mut self, connection: ConnectionFact) -> Self {
        self.connection = connection;
        self
    }

    pub(super) fn held(self) -> Self {
        self.connection(ConnectionFact::Held { device: device(LIVE), offered_to: None })
    }

    pub(super) fn held_by(self, generation: u32) -> Self {
        let offered_to = Some(pod_id(generation));
        self.connection(ConnectionFact::Held { device: device(LIVE), offered_to })
    }

    pub(super) fn left_with(self, generation: u32) -> Self {
        self.connection(ConnectionFact::HeldByAgent { device: device(LIVE), holder: pod_id(generation) })
    }

    pub(super) fn closing(self) -> Self {
        self.connection(ConnectionFact::Closing)
    }

    pub(super) fn lost(self) -> Self {
        self.connection(ConnectionFact::Lost { device: device(LIVE) })
    }

    pub(super) fn bound(self, name: &str) -> Self {
        self.mount(name, LIVE, Writability::ReadWrite)
    }

    pub(super) fn bound_read_only(self, name: &str) -> Self {
        self.mount(name, LIVE, Writability::ReadOnly)
    }

    pub(super) fn stale(self, name: &str, writability: Writability) -> Self {
        self.mount(name, LIVE - 1, writability)
    }

    pub(super) fn abandoned(self, name: &str) -> Self {
        self.bound(name).gone(&[name])
    }

    fn mount(mut self, name: &str, minor: u32, writability: Writability) -> Self {
        self.bound.push(BoundFact { target: target(name), device: device(minor), writability });
        self
    }

    pub(super) fn wanted(mut self, names: &[&str]) -> Self {
        self.wanted.extend(names.iter().map(|name| target(name)));
        self
    }

    pub(super) fn gone(mut self, names: &[&str]) -> Self {
        self.gone.extend(names.iter().map(|name| target(name)));
        self
    }
}

pub(super) fn publish(name: &str) -> Goal {
    Goal::Publish {
        target: target(name),
        writability: Writability::ReadWrite,
        exclusivity: Exclusivity::Shared,
        attempts: 0,
    }
}

pub(super) fn publish_alone(name: &str) -> Goal {
    Goal::Publish {
        target: target(name),
        writability: Writability::ReadWrite,
        exclusivity: Exclusivity::SingleTarget,
        attempts: 0,
    }
}

pub(super) fn publish_again(name: &str, attempts: u32) -> Goal {
    Goal::Publish {
        target: target(name),
        writability: Writability::ReadWrite,
        exclusivity: Exclusivity::Shared,
        attempts,
    }
}

pub(super) fn unpublish(name: &str) -> Goal {
    Goal::Unpublish { target: target(name) }
}

/// One rule on one case.
pub(super) struct Row {
    pub(super) rule: &'static str,
    pub(super) facts: Facts,
    pub(super) goal: Goal,
    pub(super) expected: &'static str,
}

pub(super) fn row(rule: &'static str, facts: Facts, goal: Goal, expected: &'static str) -> Row {
    Row { rule, facts, goal, expected }
}

/// Decides each row with limits of this delete delay, and compares.
pub(super) fn check(rows: Vec<Row>, delete_delay: Duration) {
    let limits = Limits { delete_delay, ..Limits::default() };
    for Row { rule, facts, goal, expected } in rows {
        let plan = decide(&facts, &goal, &limits);
        assert_eq!(told(&plan), expected, "{rule}");
        assert!(plan.steps.iter().all(|planned| !planned.reason.is_empty()), "{rule}: a step without reason");
        let slow = plan.steps.iter().position(|planned| planned.step.is_slow());
        assert!(slow.is_none_or(|at| at + 1 == plan.steps.len()), "{rule}: a slow step is the last");
    }
}

/// A plan in words: its steps and its verdict.
fn told(plan: &Plan) -> String {
    let mut words: Vec<_> = plan.steps.iter().map(|planned| step(&planned.step)).collect();
    words.push(match &plan.verdict {
        Verdict::Reached => "reached".to_owned(),
        Verdict::LookAgain => "look again".to_owned(),
        Verdict::Refused(refusal) => format!("refused: {refusal}"),
    });
    words.extend(plan.look_again_at.map(|moment| format!("look again at {}", moment.0)));
    words.join("; ")
}

fn step(step: &Step) -> String {
    let name = |target: &TargetPath| target.as_str().trim_start_matches('/').to_owned();
    match step {
        Step::CreatePod { generation, refs } => {
            let refs: Vec<_> = refs.iter().map(|(target, how)| name(target) + mark(how)).collect();
            format!("create {} [{}]", generation.0, refs.join(" "))
        }
        Step::AddRef { pod, target, exclusivity } => {
            format!("add {}{} to {}", name(target), mark(*exclusivity), pod.name.0)
        }
        Step::DropRef { pod, target, delete_after } => {
            let until = delete_after.map(|moment| format!(" until {}", moment.0)).unwrap_or_default();
            format!("drop {} from {}{until}", name(target), pod.name.0)
        }
        Step::DeletePod { pod, resource_version } => format!("delete {} {}", pod.name.0, resource_version.0),
        Step::OpenSession => "open".to_owned(),
        Step::Adopt { pod } => format!("adopt from {}", pod.name.0),
        Step::AwaitAgent { pod, .. } => format!("await agent {}", pod.name.0),
        Step::Offer { pod, .. } => format!("offer to {}", pod.name.0),
        Step::Release { pod, .. } => format!("release {}", pod.name.0),
        Step::AwaitServing { pod, .. } => format!("await serving {}", pod.name.0),
        Step::Bind { target, writability: Writability::ReadOnly } => {
            format!("bind {} read-only", name(target))
        }
        Step::Bind { target, writability: Writability::ReadWrite } => format!("bind {}", name(target)),
        Step::Unbind { target } => format!("unbind {}", name(target)),
        Step::CloseSession { .. } => "close".to_owned(),
        Step::AwaitClosed { .. } => "await closed".to_owned(),
    }
}

fn mark(exclusivity: Exclusivity) -> &'static str {
    match exclusivity {
        Exclusivity::Shared => "",
        Exclusivity::SingleTarget => "!",
    }
}
