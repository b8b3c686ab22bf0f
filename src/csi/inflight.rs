//! Is something going on that this call would collide with?
//!
//! CSI spec, "Concurrency": a caller sees to it that one call is in flight per volume, but may lose track, for example
//! when it restarts. A call that would collide is answered with `ABORTED` and is asked again later.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use crate::volume::{SnapshotId, TargetPath, VolumeId};

/// What a call touches.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Thing {
    /// The name of a volume to be, in whatever root.
    VolumeName(String),
    /// A volume's existence and data.
    Volume(VolumeId),
    /// What is promised of a volume: its size and limits.
    VolumeRecord(VolumeId),
    /// The name of a snapshot to be, in whatever root.
    SnapshotName(String),
    /// A snapshot's existence and data.
    Snapshot(SnapshotId),
    /// A target on this node.
    Target(TargetPath),
    /// Whether a volume may have another target on this node.
    Sharing(VolumeId),
}

impl fmt::Display for Thing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VolumeName(name) => write!(f, "volume name {name:?}"),
            Self::Volume(id) | Self::VolumeRecord(id) | Self::Sharing(id) => write!(f, "volume {id}"),
            Self::SnapshotName(name) => write!(f, "snapshot name {name:?}"),
            Self::Snapshot(id) => write!(f, "snapshot {id}"),
            Self::Target(target) => write!(f, "target {target}"),
        }
    }
}

/// How a call touches a thing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Claim {
    /// It changes the thing: nobody else may touch it.
    Alone(Thing),
    /// It relies on the thing: nobody may change it.
    Shared(Thing),
}

/// Something is going on already.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("another operation on {0} is going on; ask again when it has ended")]
pub(super) struct Busy(pub Thing);

/// What is claimed now.
#[derive(Debug, Clone, Default)]
pub(super) struct InFlight(Arc<Mutex<BTreeMap<Thing, Held>>>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Alone,
    Shared(usize),
}

/// Holds claims until it is dropped.
#[derive(Debug)]
pub(super) struct Guard {
    in_flight: InFlight,
    claims: Vec<Claim>,
}

impl InFlight {
    /// Takes all claims, or none.
    ///
    /// # Errors
    /// [`Busy`] with the first thing that is claimed already in a way that excludes this one.
    pub(super) fn claim(&self, claims: Vec<Claim>) -> Result<Guard, Busy> {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in &claims {
            let (Claim::Alone(thing) | Claim::Shared(thing)) = claim;
            match (claim, held.get(thing)) {
                (_, None) | (Claim::Shared(_), Some(Held::Shared(_))) => {}
                (Claim::Alone(_), Some(_)) | (Claim::Shared(_), Some(Held::Alone)) => {
                    return Err(Busy(thing.clone()));
                }
            }
        }
        for claim in &claims {
            match claim {
                Claim::Alone(thing) => held.insert(thing.clone(), Held::Alone),
                Claim::Shared(thing) => {
                    let others = match held.get(thing) {
                        Some(Held::Shared(others)) => *others,
                        _ => 0,
                    };
                    held.insert(thing.clone(), Held::Shared(others + 1))
                }
            };
        }
        Ok(Guard { in_flight: self.clone(), claims })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let mut held = self.in_flight.0.lock().unwrap_or_else(PoisonError::into_inner);
        for claim in &self.claims {
            let (Claim::Alone(thing) | Claim::Shared(thing)) = claim;
            match held.get_mut(thing) {
                Some(Held::Shared(count)) if *count > 1 => *count -= 1,
                _ => {
                    held.remove(thing);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn volume() -> Thing {
        Thing::Volume("main#a".parse().unwrap())
    }

    fn target() -> Thing {
        Thing::Target("/t".parse().unwrap())
    }

    #[test]
    fn what_is_held_alone_excludes_everybody() {
        let in_flight = InFlight::default();
        let guard = in_flight.claim(vec![Claim::Alone(volume())]).unwrap();
        assert_eq!(in_flight.claim(vec![Claim::Alone(volume())]).unwrap_err(), Busy(volume()));
        assert_eq!(in_flight.claim(vec![Claim::Shared(volume())]).unwrap_err(), Busy(volume()));
        drop(guard);
        assert!(in_flight.claim(vec![Claim::Alone(volume())]).is_ok());
    }

    #[test]
    fn what_is_shared_excludes_only_who_wants_it_alone() {
        let in_flight = InFlight::default();
        let first = in_flight.claim(vec![Claim::Shared(volume())]).unwrap();
        let second = in_flight.claim(vec![Claim::Shared(volume()), Claim::Alone(target())]).unwrap();
        drop(first);
        assert!(in_flight.claim(vec![Claim::Alone(volume())]).is_err());
        drop(second);
        assert!(in_flight.claim(vec![Claim::Alone(volume())]).is_ok());
    }

    #[test]
    fn a_claim_that_is_refused_takes_nothing() {
        let in_flight = InFlight::default();
        let _target = in_flight.claim(vec![Claim::Alone(target())]).unwrap();
        assert!(in_flight.claim(vec![Claim::Alone(volume()), Claim::Alone(target())]).is_err());
        assert!(in_flight.claim(vec![Claim::Alone(volume())]).is_ok());
    }
}
