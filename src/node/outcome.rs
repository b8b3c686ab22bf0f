//! How are the failures of the rooms below told to the engine, and to the desks where no plan is carried out?

use std::error::Error;

use crate::mountpod::effects::EffectError;
use crate::mountpod::service::MountError;
use crate::mounts::bind::{BindError, UnbindError};
use crate::mounts::target::TargetError;
use crate::runtime::RuntimeError;
use crate::session::link::LinkError;
use crate::session::tree::TreeError;
use crate::volume::{ClientFault, VolumeId};

/// It did not happen.
pub(super) fn failed(
    what: impl Into<String>,
    source: impl Into<Box<dyn Error + Send + Sync>>,
) -> EffectError {
    EffectError::Failed { what: what.into(), source: source.into() }
}

/// The facts were stale.
pub(super) fn stale(what: impl Into<String>) -> EffectError {
    EffectError::Stale { what: what.into() }
}

/// What a call to the runtime came to. A pod that is gone or has changed is a stale fact.
pub(super) fn of_runtime(what: &str, error: RuntimeError) -> EffectError {
    match error {
        RuntimeError::AlreadyExists(_) | RuntimeError::Gone(_) | RuntimeError::Conflict(_) => stale(what),
        RuntimeError::Unknown { .. } => {
            EffectError::Unknown { what: what.to_owned(), source: Some(Box::new(error)) }
        }
        RuntimeError::Refused { by, why, .. } => failed(what, MountError::PodRefused { by, why }),
        RuntimeError::NoFiles { why, .. } => failed(what, MountError::NoFiles(why)),
        RuntimeError::Failed { .. } => failed(what, error),
    }
}

/// What a request to an agent came to. A request without an answer may have been carried out.
pub(super) fn of_link(what: &str, error: LinkError) -> EffectError {
    match error {
        LinkError::Silent | LinkError::Broken(_) => {
            EffectError::Unknown { what: what.to_owned(), source: Some(Box::new(error)) }
        }
        // The desks check what an agent could refuse.
        LinkError::Refused(why) => EffectError::ClientFailed { why, fault: ClientFault::Unknown },
    }
}

/// Why a volume's directory could not be had.
pub(super) fn of_tree(volume: &VolumeId, error: TreeError) -> EffectError {
    let what = format!("open the directory of volume {volume}");
    match error {
        TreeError::Missing { .. } => failed(what, MountError::NoSuchVolume { volume: volume.clone() }),
        other => failed(what, other),
    }
}

/// Why a session could not be bound.
pub(super) fn of_bind(error: BindError) -> EffectError {
    match error {
        BindError::Target(error) => failed("bind the volume", target_error(error)),
        BindError::NoSession { .. } => stale("the session's mount"),
        other @ BindError::Kernel { .. } => failed("bind the volume", other),
    }
}

/// Why a target could not be freed.
pub(super) fn of_unbind(error: UnbindError) -> EffectError {
    match error {
        UnbindError::Target(error) => failed("unbind the volume", target_error(error)),
        UnbindError::Foreign { ref target, .. } => {
            let known = MountError::Target { target: target.clone(), why: error.to_string() };
            failed("unbind the volume", known)
        }
        other @ (UnbindError::LastOfSession { .. } | UnbindError::Kernel { .. }) => {
            failed("unbind the volume", other)
        }
    }
}

/// A target that can't be used, as the desks know it.
pub(super) fn target_error(error: TargetError) -> MountError {
    MountError::Target { target: error.target, why: error.why }
}

/// The failure of an effect outside of a plan, as the desks know it.
pub(super) fn mount_error(error: EffectError) -> MountError {
    match error {
        EffectError::Failed { what, source } => MountError::failed(what, source),
        EffectError::TimedOut { what, limit_s, state } => MountError::TimedOut { what, limit_s, state },
        other => MountError::Failed { what: "looking at the node".to_owned(), source: Box::new(other) },
    }
}
