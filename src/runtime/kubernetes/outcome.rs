//! What did a request to the API server come to?

use std::error::Error;
use std::time::Duration;

use kube::core::Status;

use crate::mountpod::service::RefusedBy;
use crate::runtime::RuntimeError;

/// A token that is renewed meanwhile, a request that came too slowly, and too many of them.
const AGAIN: [u16; 3] = [401, 408, 429];

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

    /// May the same request have another answer soon, though nobody changes anything?
    pub(super) fn is_passing(&self) -> bool {
        match (self, self.status()) {
            (_, Some(status)) => status.code >= 500 || AGAIN.contains(&status.code),
            (Self::Api(kube::Error::BuildRequest(_) | kube::Error::HttpError(_)), None) => false,
            (_, None) => true,
        }
    }
}

/// The failure of a request that would `what` the pod of that name.
pub(super) fn runtime_error(what: &'static str, name: &str, error: CallError) -> RuntimeError {
    let known = error.status().and_then(|status| answered(what, name, status));
    known.unwrap_or_else(|| {
        let unsent = matches!(&error, CallError::Api(error) if is_unsent(error));
        let (name, unknown) =
            (name.to_owned(), error.status().is_none_or(|status| status.code >= 500) && !unsent);
        let source: Box<dyn Error + Send + Sync> = Box::new(error);
        if unknown {
            RuntimeError::Unknown { name, source }
        } else {
            RuntimeError::Failed { what, name, source }
        }
    })
}

/// Did the request never leave this process?
fn is_unsent(error: &kube::Error) -> bool {
    matches!(error, kube::Error::BuildRequest(_) | kube::Error::HttpError(_) | kube::Error::Auth(_))
}

/// In the words of the API server for a patch (validation of object metadata) and for a precondition.
fn speaks_of_uid(message: &str) -> bool {
    message.contains("metadata.uid") || message.contains("UID in precondition")
}

fn answered(what: &str, name: &str, status: &Status) -> Option<RuntimeError> {
    let name = || name.to_owned();
    match (status.code, status.reason.as_str()) {
        (409, "AlreadyExists") => Some(RuntimeError::AlreadyExists(name())),
        // The uid is another's: that of a pod that came later under the same name.
        (409 | 422, _) if what != "create" && speaks_of_uid(&status.message) => {
            Some(RuntimeError::Gone(name()))
        }
        (409, _) => Some(RuntimeError::Conflict(name())),
        (404, _) if what != "create" => Some(RuntimeError::Gone(name())),
        (403 | 422, _) | (400, "BadRequest") => {
            let by =
                if status.message.contains("exceeded quota") { RefusedBy::Quota } else { RefusedBy::Policy };
            Some(RuntimeError::Refused { name: name(), by, why: status.message.clone() })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: u16, reason: &str, message: &str) -> CallError {
        let status = Status { code, ..Status::failure(message, reason) };
        CallError::Api(kube::Error::Api(status.boxed()))
    }

    fn of(what: &'static str, code: u16, reason: &str, message: &str) -> RuntimeError {
        runtime_error(what, "mount-a-1", answer(code, reason, message))
    }

    #[test]
    fn conflicts_are_told_apart() {
        assert!(matches!(of("create", 409, "AlreadyExists", "exists"), RuntimeError::AlreadyExists(_)));
        let other = "Precondition failed: UID in precondition: a, UID in object meta: b";
        assert!(matches!(of("delete", 409, "Conflict", other), RuntimeError::Gone(_)));
        let changed = "the ResourceVersion in the precondition (1) does not match the one in the record (2)";
        assert!(matches!(of("delete", 409, "Conflict", changed), RuntimeError::Conflict(_)));
        let immutable = "Pod is invalid: metadata.uid: Invalid value: field is immutable";
        assert!(matches!(of("change", 422, "Invalid", immutable), RuntimeError::Gone(_)));
        assert!(matches!(of("delete", 404, "NotFound", "not found"), RuntimeError::Gone(_)));
    }

    #[test]
    fn a_refusal_names_what_refuses() {
        let quota =
            "pods is forbidden: exceeded quota: small, requested: pods=1, used: pods=2, limited: pods=2";
        let refused = of("create", 403, "Forbidden", quota);
        assert!(matches!(refused, RuntimeError::Refused { by: RefusedBy::Quota, .. }));
        assert!(refused.to_string().contains("exceeded quota: small"), "{refused}");
        let limits = "pods is forbidden: maximum memory usage per Container is 64Mi, but limit is 1Gi";
        assert!(matches!(
            of("create", 403, "Forbidden", limits),
            RuntimeError::Refused { by: RefusedBy::Policy, .. }
        ));
        // The namespace is missing: nothing of the pod is "gone".
        assert!(matches!(of("create", 404, "NotFound", "namespaces"), RuntimeError::Failed { .. }));
    }

    #[test]
    fn without_a_clear_answer_the_outcome_is_unknown() {
        assert!(matches!(of("create", 504, "Timeout", "etcd"), RuntimeError::Unknown { .. }));
        let silent = runtime_error("create", "mount-a-1", CallError::TimedOut(Duration::from_secs(25)));
        assert!(matches!(silent, RuntimeError::Unknown { .. }));
        assert!(matches!(of("create", 429, "TooManyRequests", "later"), RuntimeError::Failed { .. }));
    }

    #[test]
    fn what_passes_is_told_from_what_somebody_must_change() {
        for code in [401, 408, 429, 500, 503, 504] {
            assert!(answer(code, "", "later").is_passing(), "{code}");
        }
        for code in [400, 403, 404, 422] {
            assert!(!answer(code, "", "no").is_passing(), "{code}");
        }
        assert!(CallError::TimedOut(Duration::from_secs(25)).is_passing());
    }
}
