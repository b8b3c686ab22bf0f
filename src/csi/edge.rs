//! How is a call run: under a limit, logged, and never left half done because its caller hung up?

use std::future::Future;
use std::time::Duration;

use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use tonic::{Response, Status};
use tracing::{debug, error, info, warn};

use super::inflight::{Claim, Guard, InFlight};
use super::status::RpcError;

/// Longest wait for an answer about what is there.
const QUESTION_LIMIT: Duration = Duration::from_secs(30);
/// Longest wait for a change. kubelet hangs up after 120 s (pkg/volume/csi, `csiTimeout`): it is to read why.
const CHANGE_LIMIT: Duration = Duration::from_secs(110);

/// What is known of a call before it is run.
#[derive(Debug)]
pub(super) struct Call {
    method: &'static str,
    subject: String,
    kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Question,
    Change,
}

impl Kind {
    fn limit(self) -> Duration {
        match self {
            Self::Question => QUESTION_LIMIT,
            Self::Change => CHANGE_LIMIT,
        }
    }
}

impl Call {
    /// A call that changes nothing; `subject` is the volume or snapshot, if there is one.
    pub(super) fn question(method: &'static str, subject: &str) -> Self {
        Self { method, subject: crate::config::field::quoted(subject), kind: Kind::Question }
    }

    /// A call that changes something.
    pub(super) fn change(method: &'static str, subject: &str) -> Self {
        Self { method, subject: crate::config::field::quoted(subject), kind: Kind::Change }
    }
}

/// Runs calls; one for all desks of a driver.
#[derive(Debug, Clone, Default)]
pub struct Edge {
    tasks: TaskTracker,
    in_flight: InFlight,
}

impl Edge {
    /// Waits until all calls have ended, also those that nobody waits for any more.
    ///
    /// # Errors
    /// How many calls were still running at the limit.
    pub async fn drain(&self, limit: Duration) -> Result<(), usize> {
        self.tasks.close();
        tokio::time::timeout(limit, self.tasks.wait()).await.map_err(|_| self.tasks.len())
    }

    /// Claims what a call touches, until the guard is dropped.
    pub(super) fn claim(&self, claims: Vec<Claim>) -> Result<Guard, RpcError> {
        Ok(self.in_flight.claim(claims)?)
    }

    /// Runs a call in a task of its own. At the limit, or when the caller hangs up, the task goes on with its claims: a
    /// second call for the same is then answered with `ABORTED`, and this one's code says truly that work goes on.
    pub(super) async fn answer<T: Send + 'static>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, RpcError>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        let (limit, tasks) = (call.kind.limit(), self.tasks.clone());
        let task = self.tasks.spawn(async move {
            let started = Instant::now();
            let outcome = work.await;
            let took = started.elapsed();
            match &outcome {
                // After the answer: each line wakes those who collect logs, and the caller would wait behind them.
                Ok(_) => drop(tasks.spawn(async move { log(&call, took, None) })),
                Err(failure) => log(&call, took, Some(failure)),
            }
            outcome
        });
        let outcome = match tokio::time::timeout(limit, task).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_panicked)) => Err(RpcError::Panicked),
            Err(_elapsed) => Err(RpcError::Deadline { limit }),
        };
        outcome.map(Response::new).map_err(|error| Status::from(&error))
    }

    /// Answers a call that this driver does not offer; no capability claims it.
    pub(super) async fn refuse<T: Send + 'static>(
        &self,
        method: &'static str,
    ) -> Result<Response<T>, Status> {
        self.answer(Call::question(method, ""), async move { Err(RpcError::NotOffered { method }) }).await
    }
}

fn log(call: &Call, took: Duration, failure: Option<&RpcError>) {
    let (method, subject, took_ms) = (call.method, &call.subject, took.as_millis());
    match (failure, call.kind) {
        (None, Kind::Question) => debug!(method, %subject, took_ms, "answered"),
        (None, Kind::Change) => info!(method, %subject, took_ms, "done"),
        (Some(failure), _) => {
            let (code, why) = (failure.code(), failure.chain());
            if failure.is_failure() {
                error!(method, %subject, took_ms, ?code, why, "failed");
            } else {
                warn!(method, %subject, took_ms, ?code, why, "refused");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::sync::Arc;

    use tokio::sync::Notify;

    use super::super::inflight::Thing;
    use super::*;

    fn claims() -> Vec<Claim> {
        vec![Claim::Alone(Thing::VolumeName("a".to_owned()))]
    }

    #[tokio::test(start_paused = true)]
    async fn a_call_past_its_limit_goes_on_and_keeps_its_claims() {
        let edge = Edge::default();
        let end = Arc::new(Notify::new());
        let (claiming, ending) = (edge.clone(), end.clone());
        let slow = async move {
            let _guard = claiming.claim(claims())?;
            ending.notified().await;
            Ok(())
        };
        let status = edge.answer(Call::change("Test", "a"), slow).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(edge.claim(claims()).is_err(), "the claim must last as long as the work");
        assert_eq!(edge.drain(Duration::from_secs(1)).await, Err(1));
        end.notify_one();
        edge.drain(Duration::from_secs(1)).await.unwrap();
        assert!(edge.claim(claims()).is_ok());
    }

    #[tokio::test]
    async fn a_call_whose_caller_hung_up_goes_on() {
        let edge = Edge::default();
        let (begun, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
        let (beginning, ending, running) = (begun.clone(), end.clone(), edge.clone());
        let caller = tokio::spawn(async move {
            let work = async move {
                beginning.notify_one();
                ending.notified().await;
                Ok(())
            };
            running.answer(Call::change("Test", "a"), work).await.map(drop)
        });
        begun.notified().await;
        caller.abort();
        assert_eq!(edge.drain(Duration::from_millis(50)).await, Err(1));
        end.notify_one();
        edge.drain(Duration::from_secs(10)).await.unwrap();
    }

    #[tokio::test]
    async fn a_panic_is_an_internal_error_and_not_the_end() {
        let edge = Edge::default();
        let work = async { if edge_is_wrong() { panic!("0xdecaf") } else { Ok(()) } };
        let status = edge.answer(Call::question("Test", ""), work).await.unwrap_err();
        assert_eq!(status.code(), tonic::Code::Internal);
        assert!(!status.message().contains("0xdecaf"));
    }

    fn edge_is_wrong() -> bool {
        true
    }
}
