//! What do the kubelet, administrators and bad luck do to the driver?

use std::sync::Arc;
use std::time::Duration;

use mountpod::mountpod::effects::Effects;
use mountpod::mountpod::engine::{Engine, EngineError};
use mountpod::mountpod::plan::{Goal, Limits};
use mountpod::volume::{Exclusivity, SessionId, TargetPath, Writability};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};

use crate::effects::{Shared, SimEffects};
use crate::invariants;
use crate::world::{Broken, Client, Event, Figures, Session, World};

/// The kubelet's own limit of a CSI call.
const RPC_LIMIT: Duration = Duration::from_secs(120);
/// What an answer may come later than that: undoing a failed publish.
const UNDO: Duration = Duration::from_secs(21);
/// A driver looks at its sessions that often, beside what publishes and unpublishes do.
const RECONCILED_EVERY: Duration = Duration::from_secs(1);
/// How often the kubelet unpublishes at the end, and how often the driver looks then.
const TRIES_AT_REST: usize = 30;

/// The driver and everybody around it.
pub(crate) struct Sim {
    pub(crate) shared: Shared,
    engine: Arc<Engine<SimEffects>>,
    limits: Limits,
    /// All tasks of the driver: they end with it.
    driver: JoinSet<()>,
    calls: Vec<AbortHandle>,
}

/// A call that is counted on its target while it lasts, whichever way it ends.
struct Call {
    shared: Shared,
    session: SessionId,
    target: TargetPath,
    begun: Instant,
}

impl Call {
    fn begin(shared: &Shared, session: &SessionId, target: &TargetPath) -> Self {
        let mut world = shared.world();
        world.session(session).targets.get_mut(target).unwrap().in_flight += 1;
        Self {
            shared: shared.clone(),
            session: session.clone(),
            target: target.clone(),
            begun: Instant::now(),
        }
    }

    fn answered(&self, world: &mut World, what: &str, result: &Result<impl Sized, EngineError>) {
        let told = result.as_ref().err().map_or_else(|| "OK".to_owned(), ToString::to_string);
        world.note(format!("{}: {what} at {}: answered {told}", self.session, self.target));
        invariants::answered_in_time(world, what, self.begun.elapsed(), RPC_LIMIT + UNDO);
        invariants::hold(world);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        let mut world = self.shared.world();
        world.session(&self.session).targets.get_mut(&self.target).unwrap().in_flight -= 1;
    }
}

impl Sim {
    pub(crate) fn start(seed: u64, broken: Option<Broken>) -> Self {
        let mut world = World::new(seed, broken);
        let target = |s: u32, t: u32| -> TargetPath { format!("/pods/{s}/{t}").parse().unwrap() };
        for (number, exclusivity, targets) in
            [(1, Exclusivity::Shared, 3), (2, Exclusivity::Shared, 2), (3, Exclusivity::SingleTarget, 2)]
        {
            let id: SessionId = format!("{number:x}{:031}", 0).parse().unwrap();
            world.sessions.insert(id, Session::new(exclusivity, (0..targets).map(|t| target(number, t))));
        }
        world.facts_at_once = world.rng.happens(500);
        let delete_delay = if world.rng.happens(400) { Duration::from_secs(5) } else { Duration::ZERO };
        let limits = Limits { delete_delay, ..Limits::default() };
        let shared = Shared::new(world);
        let engine = new_engine(&shared, limits);
        let mut sim = Self { shared, engine, limits, driver: JoinSet::new(), calls: Vec::new() };
        sim.start_driver();
        sim
    }

    fn start_driver(&mut self) {
        let mut world = self.shared.world();
        (world.crashed, world.crash_in, world.driver_since) = (false, None, Instant::now());
        let ids: Vec<SessionId> = world.sessions.keys().cloned().collect();
        drop(world);
        self.engine = new_engine(&self.shared, self.limits);
        let engine = Arc::clone(&self.engine);
        self.driver.spawn(async move {
            let mut looks = JoinSet::new();
            for session in engine.effects().sessions().await.unwrap_or_default() {
                let engine = Arc::clone(&engine);
                looks.spawn(async move {
                    engine.achieve(&session, Goal::Reconcile, Instant::now() + RPC_LIMIT).await
                });
            }
            // Their failures are seen by the loops below, which go on for ever.
            while looks.join_next().await.is_some() {}
        });
        for id in ids {
            let engine = Arc::clone(&self.engine);
            self.driver.spawn(async move {
                loop {
                    drop(engine.achieve(&id, Goal::Reconcile, Instant::now() + RPC_LIMIT).await);
                    sleep(RECONCILED_EVERY).await;
                }
            });
        }
    }

    /// Lets time pass; a driver that is killed meanwhile comes back after a while.
    pub(crate) async fn wait(&mut self, wait: Duration) {
        let until = Instant::now() + wait;
        loop {
            let crash = Arc::clone(&self.shared.crash);
            tokio::select! {
                biased;
                () = crash.notified() => self.restart().await,
                () = sleep_until(until) => break,
            }
        }
        let mut world = self.shared.world();
        write_through_targets(&mut world);
        invariants::hold(&mut world);
    }

    async fn restart(&mut self) {
        self.driver.abort_all();
        while self.driver.join_next().await.is_some() {}
        self.calls.clear();
        let down = {
            let mut world = self.shared.world();
            world.figures.crashes += 1;
            Duration::from_millis(world.rng.within(1..2_000))
        };
        sleep(down).await;
        self.shared.world().note("the driver starts");
        self.start_driver();
    }

    /// One thing happens.
    pub(crate) fn act(&mut self) {
        let mut world = self.shared.world();
        world.figures.actions += 1;
        let sessions: Vec<SessionId> = world.sessions.keys().cloned().collect();
        let session = world.rng.pick(&sessions).unwrap();
        let targets: Vec<TargetPath> = world.session(&session).targets.keys().cloned().collect();
        let target = world.rng.pick(&targets).unwrap();
        let choice = world.rng.within(0..100);
        drop(world);
        match choice {
            0..40 => self.publish(&session, &target),
            40..68 => self.unpublish(&session, &target),
            68..72 => self.cancel(),
            _ => self.fault(&session, &target),
        }
    }

    fn publish(&mut self, session: &SessionId, target: &TargetPath) {
        let call = Call::begin(&self.shared, session, target);
        let mut world = self.shared.world();
        let otherwise = world.rng.happens(50);
        world.note(format!("{session}: publish at {target}"));
        let exclusivity = world.session(session).exclusivity;
        let state = world.session(session).targets.get_mut(target).unwrap();
        (state.uncertain, state.forgotten) = (true, false);
        let seen = state.unpublishes;
        drop(world);
        let writability = if otherwise { Writability::ReadOnly } else { Writability::ReadWrite };
        let goal = Goal::Publish { target: target.clone(), writability, exclusivity, attempts: 0 };
        let engine = Arc::clone(&self.engine);
        self.calls.push(self.driver.spawn(async move {
            let result = engine.achieve(&call.session, goal, Instant::now() + RPC_LIMIT).await;
            let mut world = call.shared.world();
            world.figures.published += u64::from(result.is_ok());
            let state = world.session(&call.session).targets.get_mut(&call.target).unwrap();
            let alone = state.in_flight == 1;
            match &result {
                Ok(_) if state.unpublishes == seen => state.published = true,
                Err(error) if error.is_final() && alone && !state.published => {
                    let bound_otherwise = world.session(&call.session).binds.contains_key(&call.target);
                    let refused = matches!(error, EngineError::Refused(_));
                    if !(refused && bound_otherwise) {
                        invariants::nothing_of(&mut world, &call.session, &call.target);
                    }
                }
                Ok(_) | Err(_) => {}
            }
            call.answered(&mut world, "publish", &result);
        }));
    }

    fn unpublish(&mut self, session: &SessionId, target: &TargetPath) {
        let call = Call::begin(&self.shared, session, target);
        let mut world = self.shared.world();
        world.note(format!("{session}: unpublish of {target}"));
        let state = world.session(session).targets.get_mut(target).unwrap();
        (state.published, state.excused) = (false, false);
        state.unpublishes += 1;
        drop(world);
        let goal = Goal::Unpublish { target: target.clone() };
        let engine = Arc::clone(&self.engine);
        self.calls.push(self.driver.spawn(async move {
            let result = engine.achieve(&call.session, goal, Instant::now() + RPC_LIMIT).await;
            let mut world = call.shared.world();
            let state = world.session(&call.session).targets.get_mut(&call.target).unwrap();
            if result.is_ok() && state.in_flight == 1 && !state.published {
                state.uncertain = false;
                invariants::nothing_of(&mut world, &call.session, &call.target);
            }
            call.answered(&mut world, "unpublish", &result);
        }));
    }

    /// The caller of an RPC goes away, and its future is dropped.
    fn cancel(&mut self) {
        let call = self.shared.world().rng.pick(&self.calls);
        if let Some(call) = call {
            self.shared.world().note("a call is cancelled");
            call.abort();
        }
    }

    fn fault(&mut self, session: &SessionId, target: &TargetPath) {
        let mut world = self.shared.world();
        world.figures.faults += 1;
        let ids: Vec<_> = world.session(session).pods.iter().map(|pod| pod.id.clone()).collect();
        let pod = world.rng.pick(&ids);
        match (world.rng.within(0..9), pod) {
            (0, Some(pod)) => {
                let serves =
                    world.session(session).living(&pod).is_some_and(|pod| pod.client == Client::Serving);
                if serves {
                    world.note(format!("the client of {} crashes", pod.name.0));
                    world.start_client(session, &pod);
                }
            }
            (1, Some(pod)) => world.end_pod(session, &pod, "OOMKilled"),
            (2, Some(pod)) => {
                world.note(format!("{} is drained", pod.name.0));
                world.ask_deletion(session, &pod);
            }
            (3, Some(pod)) => delete_by_force(&mut world, session, &pod),
            (4, Some(pod)) => {
                if let Some(pod) = world.session(session).record(&pod) {
                    pod.version += 1;
                }
            }
            (5 | 6, _) => world.crash_in = Some(world.rng.within(0..8)),
            (7, _) => {
                let by = i64::try_from(world.rng.within(0..7_200_000)).unwrap() - 3_600_000;
                world.note(format!("the clock jumps by {by} ms"));
                world.jump_clock(by);
            }
            _ => forget(&mut world, session, target),
        }
        invariants::hold(&mut world);
    }

    /// Faults end, everything is unpublished, and time passes: nothing may remain.
    pub(crate) async fn rest(&mut self) {
        {
            let mut world = self.shared.world();
            (world.faults, world.crash_in) = (false, None);
            world.note("faults end; everything is unpublished");
        }
        self.wait(RPC_LIMIT + UNDO).await;
        invariants::all_is_healed(&mut self.shared.world());
        for _ in 0..TRIES_AT_REST {
            for (session, target) in self.left_to_unpublish() {
                self.unpublish(&session, &target);
            }
            self.wait(Duration::from_secs(10)).await;
            let world = self.shared.world();
            if world.sessions.values().all(invariants::is_clean) || !world.violations.is_empty() {
                break;
            }
        }
        invariants::nothing_remains(&mut self.shared.world());
    }

    /// Whatever the kubelet still knows of; the rest it has forgotten.
    fn left_to_unpublish(&self) -> Vec<(SessionId, TargetPath)> {
        let mut left = Vec::new();
        for (id, session) in &mut self.shared.world().sessions {
            for (path, target) in &mut session.targets {
                target.forgotten |= !(target.published || target.uncertain);
                if !target.forgotten && target.in_flight == 0 {
                    left.push((id.clone(), path.clone()));
                }
            }
        }
        left
    }

    pub(crate) fn figures(&self) -> Figures {
        self.shared.world().figures
    }
}

fn new_engine(shared: &Shared, limits: Limits) -> Arc<Engine<SimEffects>> {
    let effects = SimEffects { shared: shared.clone(), old_facts: Vec::new().into() };
    Arc::new(Engine::new(effects, limits))
}

/// Each workload writes through its target.
fn write_through_targets(world: &mut World) {
    for session in world.sessions.values_mut() {
        for stack in session.binds.values() {
            if let Some(connection) =
                stack.last().and_then(|top| session.connections.get_mut(&top.connection))
            {
                connection.dirty = !connection.dead && !connection.aborted;
            }
        }
    }
}

/// `kubectl delete --force`: the record is gone at once, the processes live on for the grace period.
fn delete_by_force(world: &mut World, session: &SessionId, id: &mountpod::mountpod::facts::PodId) {
    world.note(format!("{} is deleted by force", id.name.0));
    let grace = world.rng.within(2_000..30_000);
    let room = world.session(session);
    let Some(pod) = room.record(id) else { return };
    pod.deletion_asked = true;
    pod.deleted_at.get_or_insert_with(Instant::now);
    let pod = pod.clone();
    room.lose_record(&pod);
    room.forget_pods();
    world.schedule(session, grace, Event::PodExits(id.clone(), "deleted by force"));
}

/// The workload goes, and with it all that the kubelet knew of a target that is not mounted.
fn forget(world: &mut World, session: &SessionId, target: &TargetPath) {
    let room = world.session(session);
    let bound = room.binds.contains_key(target);
    let state = room.targets.get_mut(target).unwrap();
    if !bound && state.in_flight == 0 && !state.published {
        (state.forgotten, state.uncertain) = (true, false);
        world.note(format!("{session}: the workload of {target} is gone"));
    }
}
