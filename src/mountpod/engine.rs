//! How is a plan carried out?
//!
//! Look, decide, carry out, until the goal is reached; the engine itself chooses nothing. Under the session's lock facts
//! are read and quick steps are done; the lock is given up before a slow step, and facts are read anew after it.
//!
//! # Being stopped
//! A future of the engine may be dropped at any await: the caller went away, the driver is shutting down, or was killed.
//! What was done by then stays done, and a later publish, unpublish or reconcile goes on from there, because nothing
//! but facts decides what is next. Locks, wanted targets and the right to move the session are guards and go with the
//! future. What [`Effects::carry_out`] owes to this: a step dropped half-way leaves facts that say so.

use std::fmt;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};
use tracing::{Instrument, debug, info, info_span, warn};

use super::decide::decide;
use super::effects::{EffectError, Effects};
use super::facts::{ConnectionFact, Facts, Timestamp};
pub use super::failure::EngineError;
use super::failure::UNDO_LIMIT;
use super::locks::{Rooms, SessionRoom};
use super::plan::{Goal, Limits, PlannedStep, Step, Verdict};
use crate::retry::Waits;
use crate::volume::{SessionId, TargetPath};

/// The first wait before looking again at facts that were stale.
const LOOK_AGAIN_FIRST: Duration = Duration::from_millis(10);
/// The longest such wait: a watch that lags is seldom behind for longer.
const LOOK_AGAIN_LONGEST: Duration = Duration::from_secs(1);
/// The wait before a second pod is created in one run: a pod that dies at its start must not become a fork loop.
const NEXT_POD_FIRST: Duration = Duration::from_millis(500);
/// The longest such wait: what kills the pods (a memory limit, a full disk) may have been put right.
const NEXT_POD_LONGEST: Duration = Duration::from_secs(30);

/// Carries out what `decide` says.
#[derive(Debug)]
pub struct Engine<E> {
    effects: E,
    limits: Limits,
    sessions: Rooms<SessionId, SessionRoom>,
    /// One publish or unpublish per target at a time, so that undoing one never takes away what another has made.
    targets: Rooms<TargetPath, Mutex<()>>,
}

/// How one look, decision and carrying-out ended.
enum Round {
    Reached(Option<Timestamp>),
    LookAgain,
    /// The facts were stale, or an outcome is unknown.
    LookAgainLater,
    /// Another pod is to be created, but not before this moment.
    LookAgainAt(Instant),
}

/// One goal on its way.
struct Run<'a> {
    session: &'a SessionId,
    room: &'a SessionRoom,
    goal: Goal,
    /// What is being done, for people.
    doing: String,
    /// Was the goal's target bound when this run first looked?
    was_bound: Option<bool>,
    waits: Waits,
    /// Between the pods that this run creates.
    pod_waits: Waits,
    /// When this run may create another pod.
    next_pod_at: Option<Instant>,
}

impl<E: Effects> Engine<E> {
    /// An engine over these effects.
    #[must_use]
    pub fn new(effects: E, limits: Limits) -> Self {
        Self { effects, limits, sessions: Rooms::default(), targets: Rooms::default() }
    }

    /// What the engine acts through.
    pub fn effects(&self) -> &E {
        &self.effects
    }

    /// Reaches a goal of a session. The answer is the moment at which the session is to be reconciled again although
    /// nothing changes, if there is one.
    ///
    /// A publish and an unpublish of the same target follow each other, in the order in which they came.
    ///
    /// # Errors
    /// See [`EngineError`]. After a publish ended with a [final](EngineError::is_final) one, its ref, its bind and a pod
    /// that only it used are gone again; a target that was mounted before and is refused now stays as it was.
    pub async fn achieve(
        &self,
        session: &SessionId,
        goal: Goal,
        deadline: Instant,
    ) -> Result<Option<Timestamp>, EngineError> {
        let span = info_span!("achieve", %session, %goal);
        let work = async {
            match &goal {
                Goal::Reconcile => self.pursue(session, goal, deadline).await.1,
                Goal::Publish { target, .. } | Goal::Unpublish { target } => {
                    let target = target.clone();
                    self.in_turn(session, goal, &target, deadline).await
                }
            }
        };
        work.instrument(span).await
    }

    async fn in_turn(
        &self,
        session: &SessionId,
        goal: Goal,
        target: &TargetPath,
        deadline: Instant,
    ) -> Result<Option<Timestamp>, EngineError> {
        let (asked, turns) = (Instant::now(), self.targets.enter(target));
        let waited = timeout_at(deadline, turns.lock()).await;
        let _turn = waited.map_err(|_| {
            timed_out(&goal, asked.elapsed(), "another publish or unpublish of the target goes on")
        })?;
        let publishes = matches!(goal, Goal::Publish { .. });
        match self.pursue(session, goal, deadline).await {
            (was_bound, Err(failure)) if publishes && failure.is_final() => {
                if was_bound {
                    Err(failure.beside_a_mount())
                } else {
                    Err(self.undo(session, target, failure).await)
                }
            }
            (_, result) => result,
        }
    }

    /// Takes back what a failed publish has left: the kubelet will not call unpublish after a final error.
    async fn undo(&self, session: &SessionId, target: &TargetPath, failure: EngineError) -> EngineError {
        warn!(error = &failure as &dyn std::error::Error, "the publish failed and is undone");
        let goal = Goal::Unpublish { target: target.clone() };
        match self.pursue(session, goal, Instant::now() + UNDO_LIMIT).await.1 {
            Ok(_) => failure,
            Err(source) => EngineError::NotUndone { failure: Box::new(failure), source: Box::new(source) },
        }
    }

    /// Reaches a goal or fails; the flag says whether the goal's target was bound before.
    async fn pursue(
        &self,
        session: &SessionId,
        goal: Goal,
        deadline: Instant,
    ) -> (bool, Result<Option<Timestamp>, EngineError>) {
        let (begun, room) = (Instant::now(), self.sessions.enter(session));
        let _wanted = match &goal {
            Goal::Publish { target, .. } => Some(room.want(target)),
            Goal::Unpublish { .. } | Goal::Reconcile => None,
        };
        let mut run = Run {
            session,
            room: &room,
            goal,
            doing: "waiting for another task of the session".to_owned(),
            was_bound: None,
            waits: Waits::steady(LOOK_AGAIN_FIRST, LOOK_AGAIN_LONGEST),
            pod_waits: Waits::steady(NEXT_POD_FIRST, NEXT_POD_LONGEST),
            next_pod_at: None,
        };
        let result = match timeout_at(deadline, self.rounds(&mut run)).await {
            Ok(result) => result,
            Err(_) => Err(timed_out(&run.goal, begun.elapsed(), &run.doing)),
        };
        (run.was_bound == Some(true), result)
    }

    async fn rounds(&self, run: &mut Run<'_>) -> Result<Option<Timestamp>, EngineError> {
        loop {
            match self.round(run).await? {
                Round::Reached(moment) => return Ok(moment),
                Round::LookAgain => run.waits.start_over(),
                Round::LookAgainLater => sleep(run.waits.next_wait()).await,
                Round::LookAgainAt(moment) => sleep_until(moment).await,
            }
        }
    }

    async fn round(&self, run: &mut Run<'_>) -> Result<Round, EngineError> {
        let lock = run.room.lock.lock().await;
        let facts = match self.look(run).await {
            Ok(facts) => facts,
            Err(error) => return run.after(error),
        };
        let plan = decide(&facts, &run.goal, &self.limits);
        if let Verdict::Refused(refusal) = plan.verdict {
            return Err(refusal.into());
        }
        for PlannedStep { step, reason } in &plan.steps {
            if let Some(moment) = run.too_early_for(step) {
                return Ok(Round::LookAgainAt(moment));
            }
            run.doing = format!("{step} ({reason})");
            if step.is_slow() {
                return self.slow(run, step, reason, lock).await;
            }
            info!(%step, reason, "carry out");
            let outcome = self.effects.carry_out(run.session, step).await;
            run.note_attempt(step, &outcome);
            if let Err(error) = outcome {
                return run.after(error);
            }
        }
        match plan.verdict {
            Verdict::Reached => Ok(Round::Reached(plan.look_again_at)),
            Verdict::LookAgain | Verdict::Refused(_) => Ok(Round::LookAgain),
        }
    }

    /// The facts, with what only this process knows: publishes in flight, and a closing that has been decided.
    async fn look(&self, run: &mut Run<'_>) -> Result<Facts, EffectError> {
        let mut facts = self.effects.observe(run.session).await?;
        facts.wanted = run.room.wanted();
        if run.room.is_closing() && facts.connection != ConnectionFact::None {
            facts.connection = ConnectionFact::Closing;
        }
        if let Goal::Publish { target, .. } = &run.goal
            && run.was_bound.is_none()
        {
            run.was_bound = Some(facts.bound.iter().any(|bound| bound.target == *target));
        }
        Ok(facts)
    }

    /// A step that takes its time: others may work on the session meanwhile, but nobody else moves it.
    async fn slow(
        &self,
        run: &mut Run<'_>,
        step: &Step,
        reason: &str,
        lock: tokio::sync::MutexGuard<'_, ()>,
    ) -> Result<Round, EngineError> {
        let mover = if step.moves_session() {
            let Some(mover) = run.room.try_move(matches!(step, Step::CloseSession { .. })) else {
                drop(lock);
                debug!(%step, "another task moves the session; facts are read anew after it");
                run.room.until_moved().await;
                return Ok(Round::LookAgain);
            };
            Some(mover)
        } else {
            None
        };
        drop(lock);
        info!(%step, reason, "carry out");
        if matches!(step, Step::AwaitClosed { .. }) {
            run.room.until_moved().await;
        }
        let outcome = self.effects.carry_out(run.session, step).await;
        drop(mover);
        match outcome {
            Ok(()) => Ok(Round::LookAgain),
            Err(error) => run.after(error),
        }
    }
}

impl Run<'_> {
    /// A pod may have been created unless the effect surely did not happen.
    fn note_attempt(&mut self, step: &Step, outcome: &Result<(), EffectError>) {
        let created = matches!(outcome, Ok(()) | Err(EffectError::Unknown { .. }));
        if !matches!(step, Step::CreatePod { .. }) || !created {
            return;
        }
        self.next_pod_at = Some(Instant::now() + self.pod_waits.next_wait());
        if let Goal::Publish { attempts, .. } = &mut self.goal {
            *attempts += 1;
        }
    }

    fn too_early_for(&self, step: &Step) -> Option<Instant> {
        let creates = matches!(step, Step::CreatePod { .. });
        self.next_pod_at.filter(|moment| creates && *moment > Instant::now())
    }

    fn after(&self, error: EffectError) -> Result<Round, EngineError> {
        match error {
            EffectError::Stale { .. } | EffectError::Unknown { .. } => {
                info!(error = &error as &dyn std::error::Error, "look again");
                Ok(Round::LookAgainLater)
            }
            EffectError::TimedOut { what, limit_s, state } => Err(EngineError::TimedOut {
                goal: self.goal.to_string(),
                limit_s,
                state: format!("{what}: {state}"),
            }),
            EffectError::ClientFailed { why, fault } => Err(EngineError::ClientFailed { why, fault }),
            EffectError::Failed { what, source } => {
                Err(EngineError::Failed { goal: self.goal.to_string(), step: what, source })
            }
        }
    }
}

fn timed_out(goal: &(impl fmt::Display + ?Sized), limit: Duration, state: &str) -> EngineError {
    EngineError::TimedOut { goal: goal.to_string(), limit_s: limit.as_secs_f64(), state: state.to_owned() }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;
