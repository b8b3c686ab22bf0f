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

/// Steps in their order, and what they amount to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// To be carried out one after the other; the first that does not succeed ends the plan.
    pub steps: Vec<PlannedStep>,
    /// What holds when all steps succeeded.
    pub verdict: Verdict,
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
            Self::Offer { .. }
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
