//! What is to be done next, and why?

use std::fmt;
use std::time::Duration;

use super::facts::{Generation, PodId, ResourceVersion, Timestamp};
use super::refs::Refs;
use crate::volume::{Exclusivity, TargetPath, Writability};

/// What somebody wants of a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Goal {
    /// The volume is to be mounted at a target.
    Publish {
        /// Where.
        target: TargetPath,
        /// Writable?
        writability: Writability,
        /// Beside others?
        exclusivity: Exclusivity,
        /// Mount pods that this publish has already created and seen fail.
        attempts: u32,
    },
    /// The volume is to be mounted at a target no more.
    Unpublish {
        /// Where.
        target: TargetPath,
    },
    /// The session is to be as its refs say: replaced where it is dead, ended where nobody is counted.
    Reconcile,
}

impl fmt::Display for Goal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Publish { target, .. } => write!(f, "publish at {target}"),
            Self::Unpublish { target } => write!(f, "unpublish of {target}"),
            Self::Reconcile => f.write_str("reconcile"),
        }
    }
}

/// How long steps may take, and how often they are tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest wait for the agent of a new mount pod.
    pub agent: Duration,
    /// Longest wait for a client to answer requests.
    pub serving: Duration,
    /// Longest wait for a client to stop when its session goes to another pod.
    pub release: Duration,
    /// Longest wait for a client to flush and exit at the end of its session.
    pub close: Duration,
    /// How long a mount pod is kept after its last ref.
    pub delete_delay: Duration,
    /// How many mount pods one publish may create.
    pub attempts_max: u32,
}

/// An image may have to be pulled; the kubelet gives a publish 2 minutes in all.
const AGENT_LIMIT: Duration = Duration::from_secs(60);
/// A client reaches its metadata engine and its object store in seconds, or not at all.
const SERVING_LIMIT: Duration = Duration::from_secs(60);
/// The client is stopped by a signal; what it had read is sent to the next one again.
const RELEASE_LIMIT: Duration = Duration::from_secs(20);
/// A client may hold much unwritten data; the kubelet gives an unpublish 2 minutes in all.
const CLOSE_LIMIT: Duration = Duration::from_secs(90);
/// The agent has restarted its client several times already: one more pod rules out an accident of the first.
const ATTEMPTS_MAX: u32 = 2;

impl Default for Limits {
    fn default() -> Self {
        Self {
            agent: AGENT_LIMIT,
            serving: SERVING_LIMIT,
            release: RELEASE_LIMIT,
            close: CLOSE_LIMIT,
            delete_delay: Duration::ZERO,
            attempts_max: ATTEMPTS_MAX,
        }
    }
}

/// Steps in their order, and what they amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To be carried out one after the other; the first that does not succeed ends the plan.
    pub steps: Vec<PlannedStep>,
    /// What holds when all steps succeeded.
    pub verdict: Verdict,
    /// When the session is to be reconciled again although nothing changes: a mount pod that nobody is counted on
    /// may end then.
    pub look_again_at: Option<Timestamp>,
}

/// A step with its reason in words, for logs and events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedStep {
    /// What.
    pub step: Step,
    /// Why.
    pub reason: String,
}

/// What a plan amounts to once its steps have succeeded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The goal is reached.
    Reached,
    /// Facts must be read anew and decided again.
    LookAgain,
    /// The goal can't be reached; nothing more is to be tried.
    Refused(Refusal),
}

/// Why a goal can't be reached.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// `SINGLE_NODE_SINGLE_WRITER`: another target has the volume, or asked to have it alone.
    #[error(
        "the volume is published at {other} and its access mode admits a single target; unpublish it there first"
    )]
    InUse {
        /// The other target.
        other: TargetPath,
    },
    /// The target has the volume with another `readonly`.
    #[error("the volume is already published at {target}, but {}; unpublish it there first", was(*.writability))]
    BoundOtherwise {
        /// The target.
        target: TargetPath,
        /// How it is bound.
        writability: Writability,
    },
    /// Mount pods were started and ended before they served.
    #[error("the mount pod failed {attempts} times, the last time: {why}")]
    PodFails {
        /// How often.
        attempts: u32,
        /// The last reason.
        why: String,
    },
    /// The mount pod can't start, and waiting is not known to help.
    #[error("the mount pod can't start: {why}")]
    PodStuck {
        /// What keeps it.
        why: String,
    },
}

fn was(writability: Writability) -> &'static str {
    match writability {
        Writability::ReadOnly => "read-only",
        Writability::ReadWrite => "writable",
    }
}

/// One effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Create the pod of this generation with these refs in it.
    CreatePod {
        /// Its number.
        generation: Generation,
        /// Who is counted from the start.
        refs: Refs,
    },
    /// Count a target on a pod by one commutative patch; a planned end of the pod is called off.
    AddRef {
        /// The pod.
        pod: PodId,
        /// Who.
        target: TargetPath,
        /// Beside others?
        exclusivity: Exclusivity,
    },
    /// Count a target no longer; after the last one, say when the pod may end.
    DropRef {
        /// The pod.
        pod: PodId,
        /// Who.
        target: TargetPath,
        /// Set when this was the last ref.
        delete_after: Option<Timestamp>,
    },
    /// Delete the pod, if it still is as it was seen.
    DeletePod {
        /// The pod; its uid is a precondition.
        pod: PodId,
        /// The other precondition: a ref added in between wins.
        resource_version: ResourceVersion,
    },
    /// Open the device, mount the session, answer INIT. The session is not served yet.
    OpenSession,
    /// Take the session's descriptors back from the agent that holds them.
    Adopt {
        /// The holder.
        pod: PodId,
    },
    /// Wait until a pod's agent can be reached. The session stays where it is: the pod that serves it now goes on.
    AwaitAgent {
        /// Of which pod.
        pod: PodId,
        /// Longest wait.
        limit: Duration,
    },
    /// Give the session to a pod's agent, waiting until the agent can be reached.
    Offer {
        /// To whom.
        pod: PodId,
        /// Longest wait for the agent.
        limit: Duration,
    },
    /// Ask the pod that serves to stop its client and give the session up; then wait until it has.
    Release {
        /// The holder.
        pod: PodId,
        /// Longest wait.
        limit: Duration,
    },
    /// Wait until the pod's client answers requests.
    AwaitServing {
        /// Of which pod.
        pod: PodId,
        /// Longest wait.
        limit: Duration,
    },
    /// Bind the session's mount at the target.
    Bind {
        /// Where.
        target: TargetPath,
        /// Writable?
        writability: Writability,
    },
    /// Unmount every mount of this session stacked on the target.
    Unbind {
        /// Where.
        target: TargetPath,
    },
    /// Unmount the session and wait until its client has flushed and exited; abort the connection at the limit.
    CloseSession {
        /// Longest wait for the client.
        limit: Duration,
    },
    /// Wait until another task's `CloseSession` is over.
    AwaitClosed {
        /// Longest wait.
        limit: Duration,
    },
}

impl Step {
    /// May the step take longer than a system call or a write? Then the session's lock is not held across it, and
    /// facts are read anew after it.
    #[must_use]
    pub fn is_slow(&self) -> bool {
        match self {
            Self::AwaitAgent { .. }
            | Self::Offer { .. }
            | Self::Release { .. }
            | Self::AwaitServing { .. }
            | Self::CloseSession { .. }
            | Self::AwaitClosed { .. } => true,
            Self::CreatePod { .. }
            | Self::AddRef { .. }
            | Self::DropRef { .. }
            | Self::DeletePod { .. }
            | Self::OpenSession
            | Self::Adopt { .. }
            | Self::Bind { .. }
            | Self::Unbind { .. } => false,
        }
    }
}

impl Step {
    /// Does the step give the session to a pod or take it away? Then no other such step of this session runs beside it,
    /// so that two pods never serve one connection.
    #[must_use]
    pub fn moves_session(&self) -> bool {
        matches!(self, Self::Offer { .. } | Self::Release { .. } | Self::CloseSession { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreatePod { generation, refs } => {
                write!(f, "create mount pod, generation {}, {} refs", generation.0, refs.len())
            }
            Self::AddRef { pod, target, .. } => write!(f, "add ref {target} to {}", pod.name.0),
            Self::DropRef { pod, target, .. } => write!(f, "drop ref {target} from {}", pod.name.0),
            Self::DeletePod { pod, .. } => write!(f, "delete {}", pod.name.0),
            Self::OpenSession => f.write_str("open session"),
            Self::Adopt { pod } => write!(f, "adopt session from {}", pod.name.0),
            Self::AwaitAgent { pod, .. } => write!(f, "await the agent of {}", pod.name.0),
            Self::Offer { pod, .. } => write!(f, "offer session to {}", pod.name.0),
            Self::Release { pod, .. } => write!(f, "release session from {}", pod.name.0),
            Self::AwaitServing { pod, .. } => write!(f, "await serving of {}", pod.name.0),
            Self::Bind { target, .. } => write!(f, "bind {target}"),
            Self::Unbind { target } => write!(f, "unbind {target}"),
            Self::CloseSession { .. } => f.write_str("close session"),
            Self::AwaitClosed { .. } => f.write_str("await the end of closing"),
        }
    }
}
