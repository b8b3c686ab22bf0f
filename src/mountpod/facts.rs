//! What was seen of one session, at one moment?

use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::refs::Refs;
use crate::volume::{SessionId, TargetPath, Writability};

/// A moment, in milliseconds since the Unix epoch. It is a fact like any other: nothing pure reads a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(pub u64);

impl Timestamp {
    /// The moment that much later.
    #[must_use]
    pub fn after(self, wait: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)))
    }
}

/// Which mount pod of a session this is: 1, 2, 3 ...; a replacement has the next number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Generation(pub u32);

/// The name of a mount pod: `mount-<session>-<generation>`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodName(pub String);

/// The uid of one incarnation of a pod: a name can come back, a uid cannot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct PodUid(pub String);

/// The version of a pod's record, opaque as in Kubernetes: compared for equality only.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ResourceVersion(pub String);

/// One incarnation of a mount pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PodId {
    /// Its name.
    pub name: PodName,
    /// Its uid; every write carries it.
    pub uid: PodUid,
}

/// A device number of a mount, as mountinfo prints it; the minor is the number of the FUSE connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct DeviceNumber {
    /// Major number; 0 for FUSE.
    pub major: u32,
    /// Minor number.
    pub minor: u32,
}

impl fmt::Display for DeviceNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.major, self.minor)
    }
}

/// Everything that `decide` may know of one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The session.
    pub session: SessionId,
    /// When the facts were read.
    pub now: Timestamp,
    /// Its mount pods, oldest generation first.
    pub pods: Vec<PodFact>,
    /// The FUSE connection.
    pub connection: ConnectionFact,
    /// Bind mounts of this session at targets, bottom of a stack first.
    pub bound: Vec<BoundFact>,
    /// Targets of publishes in flight, the goal's own included.
    pub wanted: BTreeSet<TargetPath>,
    /// Targets whose workload is known to be gone: nobody will call unpublish for them.
    pub gone: BTreeSet<TargetPath>,
    /// How long its mount pods are to be kept when nobody uses them, where its volume says so.
    pub delete_delay: Option<Duration>,
}

/// A mount pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodFact {
    /// Which one.
    pub id: PodId,
    /// The version that the other fields were read at; a precondition of deletion.
    pub resource_version: ResourceVersion,
    /// Its place in the order of the session's pods.
    pub generation: Generation,
    /// How far it is.
    pub phase: PodPhase,
    /// Was its deletion asked for? Deletion is asynchronous: a deleted pod may live on.
    pub deletion: Deletion,
    /// Who is counted on it.
    pub refs: Refs,
    /// When it may end, once nobody is counted.
    pub delete_after: Option<Timestamp>,
    /// What its agent says.
    pub agent: AgentFact,
}

/// How far a mount pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PodPhase {
    /// Created, not known to run yet.
    Starting {
        /// What it waits for, for people, where that is known.
        waits_for: Option<String>,
    },
    /// Its processes run.
    Running,
    /// It can't start: no image, no room on the node. None of its processes runs; it may start yet.
    Stuck {
        /// What keeps it, for people.
        why: String,
    },
    /// All its processes are gone for good.
    Ended {
        /// What is known of the reason, for people.
        why: String,
    },
}

/// Was a pod's deletion asked for?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deletion {
    /// No.
    NotAsked,
    /// Yes; it can't be taken back.
    Asked,
}

/// What the agent of a mount pod says over its socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentFact {
    /// No word from it (yet).
    Silent,
    /// It waits for a session.
    Idle,
    /// It holds the session; its client is being started or restarted.
    Starting,
    /// It holds the session and its client answers requests.
    Serving,
    /// It holds the session, but its client can't be brought to serve.
    Failed {
        /// The client's last words, without secrets.
        why: String,
    },
}

/// The FUSE connection of a session, as the driver sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectionFact {
    /// There is none.
    None,
    /// The driver holds its descriptor and the session's mount stands.
    Held {
        /// Of its mount.
        device: DeviceNumber,
        /// The pod whose agent accepted it last.
        offered_to: Option<PodId>,
    },
    /// The driver doesn't hold it, but an agent does (the driver was restarted).
    HeldByAgent {
        /// Of its mount.
        device: DeviceNumber,
        /// The holder's pod.
        holder: PodId,
    },
    /// Its mount is being taken down; its client flushes.
    Closing,
    /// Its mount stands, but nobody holds the descriptor any more: every access fails for ever.
    Lost {
        /// Of the dead mount.
        device: DeviceNumber,
    },
}

/// A bind mount at a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BoundFact {
    /// Where.
    pub target: TargetPath,
    /// Of which connection; an older one of the same session may be left under or over it.
    pub device: DeviceNumber,
    /// Writable?
    pub writability: Writability,
}
