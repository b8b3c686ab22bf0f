//! What can the engine do to the world?
//!
//! One trait: the API (or the process runtime's state), the kernel, the agents and the clock. Two implement it: the
//! node's own effects, and the simulator of the tests.

use std::future::Future;

use super::facts::Facts;
use super::plan::Step;
use crate::volume::{ClientFault, SessionId};

/// Everything the engine reads and does. Each call is bounded: by a limit in the step, or by one of the implementor's.
pub trait Effects: Send + Sync + 'static {
    /// Reads the facts of one session, targets of publishes in flight excepted (the engine adds those).
    ///
    /// They show every write that this process has made and that was not answered by an error; what others wrote may
    /// show later. A pod that was deleted by force, while its processes live on, is shown as being deleted.
    ///
    /// # Errors
    /// [`EffectError::Failed`] when a source of facts can't be read; nothing was changed.
    fn observe(&self, session: &SessionId) -> impl Future<Output = Result<Facts, EffectError>> + Send;

    /// Carries out one step of that session. It makes no choices: everything it needs is in the step, in the
    /// session's mount spec, or in what it holds.
    ///
    /// The future may be dropped at any await. As after a crash the step is then done, not done or half done, and the
    /// facts say which: a session that was unmounted stays [`Closing`](super::facts::ConnectionFact::Closing) until its
    /// client is gone, and another `CloseSession` carries on, its limit included. A wait for a pod ends with `Stale` as
    /// soon as the pod has ended or (`Offer`, `AwaitAgent`) its deletion was asked for.
    ///
    /// # Errors
    /// See [`EffectError`]. A step whose purpose already holds succeeds.
    fn carry_out(
        &self,
        session: &SessionId,
        step: &Step,
    ) -> impl Future<Output = Result<(), EffectError>> + Send;

    /// All sessions that have a mount pod, a mount, a record or a bound target, for the reconciler and after a restart.
    ///
    /// # Errors
    /// [`EffectError::Failed`] when a source of facts can't be read.
    fn sessions(&self) -> impl Future<Output = Result<Vec<SessionId>, EffectError>> + Send;
}

/// How an effect can end otherwise than well.
#[derive(Debug, thiserror::Error)]
pub enum EffectError {
    /// A precondition no longer holds, or the thing is gone: the facts were stale. Look again.
    #[error("{what} had changed meanwhile")]
    Stale {
        /// What was to be done.
        what: String,
    },
    /// It may or may not have happened (a request timed out on its way back). Look again.
    #[error("the outcome of {what} is unknown")]
    Unknown {
        /// What was to be done.
        what: String,
        /// The reason, where there is one.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// A wait reached its limit.
    #[error("{what} took longer than {limit_s:.1} s: {state}")]
    TimedOut {
        /// What was waited for.
        what: String,
        /// The limit, in seconds.
        limit_s: f64,
        /// The last that was seen of it.
        state: String,
    },
    /// The client of the mount pod says that it can't serve: no use in waiting.
    #[error("the client can't serve: {why}")]
    ClientFailed {
        /// Its last words, secrets removed.
        why: String,
        /// What they come to.
        fault: ClientFault,
    },
    /// It failed and did not happen.
    #[error("{what} failed")]
    Failed {
        /// What was to be done.
        what: String,
        /// The reason.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
}
