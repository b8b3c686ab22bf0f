//! What does the engine offer to the CSI desks?

use std::future::Future;

use super::plan::Refusal;
use crate::volume::{
    Access, ClientFault, ClientKind, MountSpec, PodShape, Resources, SecretName, Secrets, TargetPath,
    VolumeId,
};

/// A volume to be mounted at a target.
#[derive(Debug, Clone)]
pub struct PublishRequest {
    /// The volume.
    pub volume: VolumeId,
    /// Where.
    pub target: TargetPath,
    /// How its client is run.
    pub spec: MountSpec,
    /// Whose session it uses.
    pub session: SessionUse,
    /// How the target may use it.
    pub access: Access,
    /// What the client may use; taken when a mount pod is created, not when one is there already.
    pub resources: Resources,
    /// How its mount pod is made and kept; likewise.
    pub pod: PodShape,
    /// Credentials for the client.
    pub secrets: Secrets,
}

/// Whose session does a volume use?
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum SessionUse {
    /// Its own: the spec names its directory.
    #[default]
    Own,
    /// One that others use too: the spec names no directory, and serves the whole filesystem.
    Shared {
        /// Only those of the same group share it; `None` lets all volumes of the filesystem.
        group: Option<String>,
        /// The volume's directory: plain, relative, without `..`; empty for the whole filesystem.
        directory: String,
    },
}

/// Whose publishes can be known?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knowledge {
    /// Those of this node.
    ThisNode,
    /// Nobody's: volumes are published by other processes.
    None,
}

/// Where volumes are published, as the controller desk sees it.
pub trait PublishedTargets: Send + Sync + 'static {
    /// Whose publishes are known; what depends on others must not be claimed.
    const KNOWLEDGE: Knowledge;

    /// The targets at which a volume is known to be published now.
    fn targets(&self, volume: &VolumeId) -> Vec<TargetPath>;
}

/// Volumes are published elsewhere, by node plugins. Kubernetes itself keeps a claim that a pod uses, and its volume with
/// it (finalizer `kubernetes.io/pvc-protection`).
#[derive(Debug, Clone, Copy, Default)]
pub struct Elsewhere;

impl PublishedTargets for Elsewhere {
    const KNOWLEDGE: Knowledge = Knowledge::None;

    fn targets(&self, _volume: &VolumeId) -> Vec<TargetPath> {
        Vec::new()
    }
}

/// The engine as the node desk sees it.
pub trait MountService: PublishedTargets {
    /// The client that serves a volume on this node; `None` when it is not published.
    fn client(&self, volume: &VolumeId) -> Option<ClientKind>;

    /// Mounts a volume at a target. Asked again for the same, it succeeds at once.
    ///
    /// # Errors
    /// See [`MountError`]. After a [final](MountError::is_final) one nothing of this publish is left: the kubelet may never
    /// call unpublish for it.
    fn publish(&self, request: PublishRequest) -> impl Future<Output = Result<(), MountError>> + Send;

    /// Unmounts whatever volume of ours is at the target, and removes the target. Asked again, it succeeds at once.
    ///
    /// # Errors
    /// See [`MountError`].
    fn unpublish(
        &self,
        volume: &VolumeId,
        target: &TargetPath,
    ) -> impl Future<Output = Result<(), MountError>> + Send;

    /// What is used and free at a target, and how its session is.
    ///
    /// # Errors
    /// [`MountError::NotMounted`] when no volume of ours is there; [`MountError::TimedOut`] when nobody answers.
    fn stats(
        &self,
        volume: &VolumeId,
        target: &TargetPath,
    ) -> impl Future<Output = Result<VolumeStats, MountError>> + Send;
}

/// Usage of a volume as statfs(2) tells it through the mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeStats {
    /// Bytes in all.
    pub bytes_total: u64,
    /// Bytes that an ordinary user can still write.
    pub bytes_available: u64,
    /// Bytes in use.
    pub bytes_used: u64,
    /// Inodes in all.
    pub inodes_total: u64,
    /// Inodes free.
    pub inodes_free: u64,
    /// How the session is.
    pub condition: Condition,
}

/// How a volume's session is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Its client answers.
    Serving,
    /// Its client answers, and says that something is wrong.
    Complaining {
        /// What it said, for people.
        message: String,
    },
    /// Its client is being replaced; requests wait.
    Recovering {
        /// What is known, for people.
        message: String,
    },
    /// Nobody serves it and nobody can.
    Lost {
        /// What is known, for people.
        message: String,
    },
}

/// Why can a mount pod not have the files that its client needs?
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoFiles {
    /// There is no such Secret.
    #[error(
        "there is no Secret {secret} in namespace {namespace}, where mount pods look for it; make it there"
    )]
    Missing {
        /// Its name.
        secret: SecretName,
        /// The mount pods' namespace.
        namespace: String,
    },
    /// There is no cluster.
    #[error(
        "mount pods are local processes here, which have no Secrets of a cluster; put the files on this machine, and \
         leave the key out"
    )]
    NoCluster,
}

/// What keeps a mount pod out of a cluster?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusedBy {
    /// A `ResourceQuota` is used up; there may be room later.
    Quota,
    /// A rule that the pod breaks: a `LimitRange`, Pod Security, a webhook, missing permission.
    Policy,
}

/// Why a volume could not be mounted, unmounted or looked at.
#[derive(Debug, thiserror::Error)]
pub enum MountError {
    /// The engine's rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The target's path can't be used: a symlink in it, a parent that is missing, not a directory.
    #[error("target_path {target} can't be used: {why}")]
    Target {
        /// The path.
        target: TargetPath,
        /// Why, for people.
        why: String,
    },
    /// The volume's directory does not exist in its filesystem.
    #[error("volume {volume} does not exist in filesystem {}", volume.filesystem())]
    NoSuchVolume {
        /// The volume.
        volume: VolumeId,
    },
    /// The volume has no directory in the session that it is to share.
    #[error("the directory {directory:?} of volume {volume} {why}")]
    NoSuchDirectory {
        /// The volume.
        volume: VolumeId,
        /// The directory, below the root of the filesystem.
        directory: String,
        /// Why, as the rest of the sentence.
        why: &'static str,
    },
    /// No volume of ours is mounted at the target.
    #[error("volume {volume} is not mounted at {target}")]
    NotMounted {
        /// The volume.
        volume: VolumeId,
        /// The path.
        target: TargetPath,
    },
    /// Not done in time; it may be tried again.
    #[error("{what} was not done within {limit_s:.1} s: {state}")]
    TimedOut {
        /// What was asked.
        what: String,
        /// Seconds.
        limit_s: f64,
        /// What was going on.
        state: String,
    },
    /// The client can't serve.
    #[error("the volume's client can't serve: {why}")]
    ClientFailed {
        /// Its last words, secrets removed.
        why: String,
        /// What they come to.
        fault: ClientFault,
    },
    /// The cluster does not admit the mount pod: a quota, a limit range, Pod Security, a webhook.
    #[error("the cluster refuses the mount pod: {why}")]
    PodRefused {
        /// What stands in the way.
        by: RefusedBy,
        /// The API server's words; they name the quota or the policy.
        why: String,
    },
    /// The mount pod can't have the files that the volume's Secret names.
    #[error("secrets[\"configs\"]: {0}")]
    NoFiles(NoFiles),
    /// The machine refused something.
    #[error("{what} failed")]
    Failed {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}

impl MountError {
    /// Is nothing left of a publish that ended so, and nothing more to be expected of it?
    #[must_use]
    pub fn is_final(&self) -> bool {
        !matches!(self, Self::TimedOut { .. })
    }

    /// What was asked has failed. A `MountError` that an effect gave as the reason (a target that can't be used, a volume
    /// that does not exist) comes out again as it was.
    #[must_use]
    pub fn failed(what: String, source: Box<dyn std::error::Error + Send + Sync>) -> Self {
        match source.downcast::<Self>() {
            Ok(known) => *known,
            Err(source) => Self::Failed { what, source },
        }
    }
}
