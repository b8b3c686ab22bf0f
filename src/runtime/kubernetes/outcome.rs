//! What did a request to the API server come to?

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

use crate::mountpod::service::RefusedBy;
use crate::runtime::RuntimeError;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The API server or the way there failed.
    #[error(transparent)]
    Api(#[from] kube::Error),
    /// No answer came.
    #[error("the API server did not answer within {} s", .0.as_secs())]
    TimedOut(Duration),
}

impl CallError {
    /// What the API server has answered, where it has.
    pub(super) fn status(&self) -> Option<&Status> {
        match self {
            Self::Api(kube::Error::Api(status)) => Some(status),
            _ => None,
        }
    }

    /// Is there no such thing?
    pub(super) fn is_not_found(&self) -> bool {
        self.status().is_some_and(|status| status.code == 404)
    }
}

/// The failure of a request that would `what` the pod of that name.
pub(super) fn runtime_error(what: &'static str, name: &str, error: CallError) -> RuntimeError {
    let known = error.status().and_then(|status| answered(what, name, status));
    known.unwrap_or_else(|| {
        let unsent = matches!(&error, CallError::Api(error) if is_unsent(error));
        let (name, unknown) = (name.to_owned(), error.status().is_none_or(|status| status.code >= 500) && !unsent);
        let source: Box<dyn Error + Send + Sync> = Box::new(error);
        if unknown { RuntimeError::Unknown { name, source } } else { RuntimeError::Failed { what, name, source } }
    })
}

/// Did the request never leave this process?
fn is_unsent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::BuildRequest(_) | kube::Error::HttpError(_) | kube::Error::Auth(_))
}

fn answered(what: &str, name: &str, status: &Status) -> Option<RuntimeError> {
    let name = || name.to_owned();
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => Some(RuntimeError::AlreadyExists(name())),
        // The uid in a patch is another's: that of a pod that came later under the same name.
        (422, _) if what == "change" && status.message.contains("metadata.uid") => Some(RuntimeError::Gone(name())),
        (409, _) => Some(RuntimeError::Conflict(name())),
        (404, _) if what != "create" => Some(RuntimeError::Gone(name())),
        (403 | 422, _) | (400, "BadRequest") => {
            let by = if status.message.contains("exceeded quota") { RefusedBy::Quota } else { RefusedBy::Policy };
            Some(RuntimeError::Refused { name: name(), by, why: status.message.clone() })
        }
        _ => None,
    }
}
