//! How do the driver's effects act on the simulated world?
//!
//! Each effect is applied at one moment, after a wait; before and after it the driver may be killed, and its outcome
//! may be lost on the way back.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mountpod::mountpod::effects::{EffectError, Effects};
use mountpod::mountpod::facts::{Facts, PodId};
use mountpod::mountpod::plan::Step;
use mountpod::volume::SessionId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::facts;
use crate::invariants;
use crate::steps::*;
use crate::world::{Bound, Broken, Event, World};

/// How often a waiting effect looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How old the facts of a driver are whose facts do not show its writes.
const STALE_FOR: Duration = Duration::from_millis(300);

/// The world, shared by the effects and whoever acts in it.
#[derive(Debug, Clone)]
pub(crate) struct Shared {
    world: Arc<Mutex<World>>,
    pub(crate) crash: Arc<Notify>,
}

impl Shared {
    pub(crate) fn new(world: World) -> Self {
        Self { world: Arc::new(Mutex::new(world)), crash: Arc::new(Notify::new()) }
    }

    /// The world as it is now. Never kept across an await.
    pub(crate) fn world(&self) -> MutexGuard<'_, World> {
        let mut world = self.world.lock().unwrap_or_else(PoisonError::into_inner);
        world.advance();
        world
    }
}

/// The effects of one incarnation of the driver.
#[derive(Debug)]
pub(crate) struct SimEffects {
    pub(crate) shared: Shared,
    pub(crate) old_facts: Mutex<Vec<(Instant, Facts)>>,
}

impl Effects for SimEffects {
    async fn observe(&self, session: &SessionId) -> Result<Facts, EffectError> {
        self.look().await;
        let world = self.shared.world();
        let facts = facts::of(&world, session);
        Ok(if world.is(Broken::StaleFacts) { self.stale(facts) } else { facts })
    }

    async fn carry_out(&self, session: &SessionId, step: &Step) -> Result<(), EffectError> {
        self.pause(0, 20).await;
        self.maybe_crash(session, step).await;
        if let Some(refused) = self.api_fault(step, Fault::NotDone) {
            return Err(refused);
        }
        let result = self.apply(session, step).await;
        self.shared.world().note(format!("{session}: {step}: {}", told(&result)));
        invariants::hold(&mut self.shared.world());
        self.maybe_crash(session, step).await;
        if result.is_ok()
            && let Some(lost) = self.api_fault(step, Fault::Done)
        {
            return Err(lost);
        }
        result
    }

    async fn sessions(&self) -> Result<Vec<SessionId>, EffectError> {
        self.pause(0, 5).await;
        Ok(self.shared.world().sessions.keys().cloned().collect())
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    NotDone,
    Done,
}

fn told(result: &Result<(), EffectError>) -> String {
    match result {
        Ok(()) => "done".to_owned(),
        Err(error) => error.to_string(),
    }
}

impl SimEffects {
    async fn look(&self) {
        if !self.shared.world().facts_at_once {
            self.pause(0, 5).await;
        }
        self.shared.world().look();
        self.unless_killed().await;
    }

    async fn pause(&self, least_ms: u64, most_ms: u64) {
        let wait = self.shared.world().rng.within(least_ms..most_ms);
        sleep(Duration::from_millis(wait)).await;
        self.unless_killed().await;
    }

    /// A driver that was killed does nothing more, although its tasks may be polled once more; nor does a broken one.
    async fn unless_killed(&self) {
        if self.shared.world().crashed || !self.shared.world().violations.is_empty() {
            pending::<()>().await;
        }
    }

    /// The driver may be killed here; a patch on its way may then land later.
    async fn maybe_crash(&self, session: &SessionId, step: &Step) {
        {
            let mut world = self.shared.world();
            world.figures.effects += 1;
            let due = world.crash_in.is_some_and(|left| left == 0);
            world.crash_in = world.crash_in.and_then(|left| left.checked_sub(1));
            if due && !world.crashed {
                world.note(format!("the driver is killed at: {step}"));
                world.crashed = true;
                world.kill_driver();
                late_landing(&mut world, session, step);
                self.shared.crash.notify_one();
            } else if !world.crashed {
                return;
            }
        }
        pending::<()>().await;
    }

    /// The API may fail, or its answer be lost.
    fn api_fault(&self, step: &Step, fault: Fault) -> Option<EffectError> {
        let api = matches!(
            step,
            Step::CreatePod { .. } | Step::AddRef { .. } | Step::DropRef { .. } | Step::DeletePod { .. }
        );
        let mut world = self.shared.world();
        if !api || !world.faults || !world.rng.happens(30) {
            return None;
        }
        world.figures.faults += 1;
        let what = step.to_string();
        let error = match (fault, world.rng.within(0..4)) {
            (Fault::NotDone, 0) => EffectError::Failed { what, source: "403 Forbidden".into() },
            (Fault::NotDone, 1) => EffectError::Stale { what },
            _ => EffectError::Unknown { what, source: Some("504 Gateway Timeout".into()) },
        };
        world.note(format!("the API: {error}"));
        Some(error)
    }

    fn stale(&self, facts: Facts) -> Facts {
        let mut seen = self.old_facts.lock().unwrap();
        let now = Instant::now();
        seen.push((now, facts));
        seen.retain(|(at, _)| now.duration_since(*at) < STALE_FOR);
        let session = seen.last().unwrap().1.session.clone();
        seen.iter().find(|(_, facts)| facts.session == session).unwrap().1.clone()
    }

    async fn apply(&self, session: &SessionId, step: &Step) -> Result<(), EffectError> {
        let world = || self.shared.world();
        match step {
            Step::CreatePod { generation, refs } => create_pod(&mut world(), session, *generation, refs),
            Step::AddRef { pod, target, exclusivity } => {
                let mut world = world();
                let room = world.session(session);
                let Some(record) = room.record(pod) else { return stale("the pod") };
                record.refs.insert(target.clone(), *exclusivity);
                record.delete_after = None;
                record.version += 1;
                let going = record.deletion_asked;
                room.find_refs(&[(target.clone(), *exclusivity)].into_iter().collect());
                if going { stale("the pod, which is being deleted,") } else { Ok(()) }
            }
            Step::DropRef { pod, target, delete_after } => {
                drop_ref(&mut world(), session, pod, target, *delete_after);
                Ok(())
            }
            Step::DeletePod { pod, resource_version } => {
                delete_pod(&mut world(), session, pod, &resource_version.0)
            }
            Step::OpenSession => {
                open_session(&mut world(), session);
                Ok(())
            }
            Step::Adopt { pod } => adopt(&mut world(), session, pod),
            Step::AwaitAgent { pod, limit } => {
                self.until(step, *limit, |w| agent_listens(w, session, pod)).await
            }
            Step::Offer { pod, limit } => {
                self.until(step, *limit, |w| agent_listens(w, session, pod)).await?;
                offer(&mut world(), session, pod)
            }
            Step::Release { pod, limit } => self.release(session, step, pod, *limit).await,
            Step::AwaitServing { pod, limit } => self.until(step, *limit, |w| serving(w, session, pod)).await,
            Step::Bind { target, writability } => {
                let mut world = world();
                let room = world.session(session);
                let Some(connection) = room.mount else { return stale("the session's mount") };
                let bound = Bound { connection, writability: *writability };
                room.targets.entry(target.clone()).or_default().excused = false;
                room.binds.entry(target.clone()).or_default().push(bound);
                Ok(())
            }
            Step::Unbind { target } => {
                let mut world = world();
                if world.is(Broken::DropRefBeforeUnbind) {
                    world.session(session).put_off.insert(target.clone());
                } else {
                    world.session(session).binds.remove(target);
                }
                Ok(())
            }
            Step::CloseSession { limit } => self.close(session, step, *limit).await,
            Step::AwaitClosed { limit } => self.until(step, *limit, |w| closed(w, session)).await,
        }
    }

    async fn until(
        &self,
        step: &Step,
        limit: Duration,
        mut answer: impl FnMut(&mut World) -> Answer,
    ) -> Result<(), EffectError> {
        let deadline = Instant::now() + limit;
        loop {
            self.unless_killed().await;
            if let Some(answer) = answer(&mut self.shared.world()) {
                return answer;
            }
            if Instant::now() >= deadline {
                let (what, limit_s) = (step.to_string(), limit.as_secs_f64());
                return Err(EffectError::TimedOut { what, limit_s, state: "nothing changed".to_owned() });
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn release(
        &self,
        session: &SessionId,
        step: &Step,
        pod: &PodId,
        limit: Duration,
    ) -> Result<(), EffectError> {
        {
            let mut world = self.shared.world();
            if world.is(Broken::OfferBesideLivingClient) {
                if let Some(old) = world.session(session).living(pod) {
                    old.hidden = true;
                }
                world.schedule(session, 700, Event::PodExits(pod.clone(), "released at last"));
                world.session(session).offered_to = None;
                return Ok(());
            }
        }
        let (begun, takes) = (Instant::now(), self.shared.world().rng.within(5..60));
        self.until(step, limit, |world| {
            released(world, session, pod, begun.elapsed().as_millis() >= takes.into())
        })
        .await
    }

    async fn close(&self, session: &SessionId, step: &Step, limit: Duration) -> Result<(), EffectError> {
        begin_to_close(&mut self.shared.world(), session);
        invariants::hold(&mut self.shared.world());
        if self.shared.world().is(Broken::DeleteBeforeFlush) {
            return Ok(());
        }
        let waited = self.until(step, limit, |world| closed(world, session)).await;
        if matches!(waited, Err(EffectError::TimedOut { .. })) {
            abort(&mut self.shared.world(), session);
        }
        Ok(())
    }
}
