//! How can a goal of the engine be missed, and what does the CSI desk hear of it?

use std::time::Duration;

use super::plan::Refusal;
use super::service::MountError;
use crate::volume::ClientFault;

/// Undoing a failed publish must end before the caller's own deadline has long passed: the kubelet waits 2 minutes.
pub(super) const UNDO_LIMIT: Duration = Duration::from_secs(20);

/// Why a goal was not reached.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The rules forbid it.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Not done in time; what was done stays, and the goal may be tried again.
    #[error("{goal} was not done within {limit_s:.1} s: {state}")]
    TimedOut {
        /// The goal.
        goal: String,
        /// Seconds.
        limit_s: f64,
        /// The last step and how far it was.
        state: String,
    },
    /// The client says that it can't serve.
    #[error("the volume's client can't serve: {why}")]
    ClientFailed {
        /// Its last words, secrets removed.
        why: String,
        /// What they come to.
        fault: ClientFault,
    },
    /// An effect failed.
    #[error("{goal} failed at: {step}")]
    Failed {
        /// The goal.
        goal: String,
        /// The step.
        step: String,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A publish failed, but the target was mounted before, perhaps for a workload that runs: that mount is left alone,
    /// and the publish may be tried again.
    #[error("{failure}; the target stays mounted as it was before")]
    StillMounted {
        /// Why the publish failed.
        failure: Box<EngineError>,
    },
    /// A publish failed, and undoing it did too: something of it may be left, so it must be tried again or unpublished.
    #[error("{failure}; undoing it failed as well")]
    NotUndone {
        /// Why the publish failed.
        failure: Box<EngineError>,
        /// Why it could not be undone.
        #[source]
        source: Box<EngineError>,
    },
}

impl EngineError {
    /// Is nothing more to be expected of the same attempt? A publish that ends so must leave nothing behind.
    #[must_use]
    pub fn is_final(&self) -> bool {
        match self {
            Self::TimedOut { .. } | Self::StillMounted { .. } | Self::NotUndone { .. } => false,
            Self::Refused(_) | Self::ClientFailed { .. } | Self::Failed { .. } => true,
        }
    }

    /// What a final failure amounts to when the target was mounted before. A refusal of what was asked for stays one;
    /// otherwise the caller must go on trying or unpublish, since there is something to unpublish.
    pub(super) fn beside_a_mount(self) -> Self {
        match self {
            Self::Refused(Refusal::InUse { .. } | Refusal::BoundOtherwise { .. }) => self,
            failure => Self::StillMounted { failure: Box::new(failure) },
        }
    }
}

impl From<EngineError> for MountError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::Refused(refusal) => Self::Refused(refusal),
            EngineError::TimedOut { goal, limit_s, state } => Self::TimedOut { what: goal, limit_s, state },
            EngineError::ClientFailed { why, fault } => Self::ClientFailed { why, fault },
            EngineError::Failed { goal, step, source } => Self::failed(format!("{goal}: {step}"), source),
            EngineError::StillMounted { .. } => Self::TimedOut {
                what: "publishing again what is mounted already".to_owned(),
                limit_s: 0.0,
                state: error.to_string(),
            },
            EngineError::NotUndone { failure, source } => Self::TimedOut {
                what: "undoing the failed publish".to_owned(),
                limit_s: UNDO_LIMIT.as_secs_f64(),
                state: format!("{failure}; {source}"),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn failed(source: impl std::error::Error + Send + Sync + 'static) -> EngineError {
        EngineError::Failed {
            goal: "publish at /t".to_owned(),
            step: "bind /t".to_owned(),
            source: Box::new(source),
        }
    }

    #[test]
    fn what_an_effect_knows_better_comes_out_as_it_was() {
        let known = MountError::NoSuchVolume { volume: "data#v".parse().unwrap() };
        assert!(matches!(MountError::from(failed(known)), MountError::NoSuchVolume { .. }));
        let unknown = MountError::from(failed(std::io::Error::other("disk")));
        assert_eq!(unknown.to_string(), "publish at /t: bind /t failed");
    }

    #[test]
    fn what_may_be_left_is_never_final() {
        let in_use = || EngineError::from(Refusal::InUse { other: "/o".parse().unwrap() });
        assert!(in_use().is_final() && in_use().beside_a_mount().is_final());
        let fails = EngineError::ClientFailed { why: "bad key".to_owned(), fault: ClientFault::Credentials };
        assert!(fails.is_final());
        let mounted = fails.beside_a_mount();
        assert!(!mounted.is_final());
        assert!(
            matches!(MountError::from(mounted), MountError::TimedOut { state, .. } if state.contains("bad key"))
        );
        let not_undone = EngineError::NotUndone { failure: Box::new(in_use()), source: Box::new(in_use()) };
        assert!(!not_undone.is_final());
        assert!(matches!(MountError::from(not_undone), MountError::TimedOut { .. }));
    }
}
