//! How do the driver's effects act on the simulated world?
//!
//! Each effect is applied at one moment, after a wait; before and after it the driver may be killed, and its outcome
//! may be lost on the way back.

use std::future::pending;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use mountpod::mountpod::effects::{EffectError, Effects};
use mountpod::mountpod::facts::{Facts, Generation, PodId, PodName, PodUid};
use mountpod::mountpod::plan::Step;
use mountpod::mountpod::refs::Refs;
use mountpod::volume::SessionId;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

use crate::facts;
use crate::invariants;
use crate::world::{Bound, Broken, Client, Connection, Event, Pod, Processes, World};

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

/// A wait's answer so far.
type Answer = Option<Result<(), EffectError>>;

impl Effects for SimEffects {
    async fn observe(&self, session: &SessionId) -> Result<Facts, EffectError> {
        self.pause(0, 5).await;
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

pub(crate) fn stale(what: &str) -> Result<(), EffectError> {
    Err(EffectError::Stale { what: what.to_owned() })
}

impl SimEffects {
    async fn pause(&self, least_ms: u64, most_ms: u64) {
        let wait = self.shared.world().rng.within(least_ms..most_ms);
        sleep(Duration::from_millis(wait)).await;
        self.unless_killed().await;
    }

    /// A driver that was killed does nothing more, although its tasks may be polled once more.
    async fn unless_killed(&self) {
        if self.shared.world().crashed {
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

fn late_landing(world: &mut World, session: &SessionId, step: &Step) {
    let Step::AddRef { pod, target, .. } = step else { return };
    let (at_deletion, wait) = (world.rng.happens(700), world.rng.within(10..400));
    if at_deletion {
        world.session(session).late_refs.push((pod.clone(), target.clone()));
    } else {
        world.schedule(session, wait, Event::LateRef(pod.clone(), target.clone()));
    }
}

fn create_pod(
    world: &mut World,
    session: &SessionId,
    generation: Generation,
    refs: &Refs,
) -> Result<(), EffectError> {
    let name = PodName(format!("mount-{session}-{}", generation.0));
    let uid = PodUid(world.number().to_string());
    let slow = world.faults && world.rng.happens(20);
    let starts_in = if slow { world.rng.within(10_000..100_000) } else { world.rng.within(20..500) };
    let room = world.session(session);
    if room.pods.iter().any(|pod| pod.has_record && pod.id.name == name) {
        return stale("the name of the pod, which is taken,");
    }
    let id = PodId { name, uid };
    room.pods.push(Pod {
        id: id.clone(),
        generation,
        version: 1,
        has_record: true,
        deletion_asked: false,
        deleted_at: None,
        refs: refs.clone(),
        delete_after: None,
        processes: Processes::Starting,
        agent: false,
        holds: None,
        client: Client::None,
        starts: 0,
        hidden: false,
    });
    room.find_refs(refs);
    world.schedule(session, starts_in, Event::PodRuns(id));
    Ok(())
}

fn drop_ref(
    world: &mut World,
    session: &SessionId,
    pod: &PodId,
    target: &mountpod::volume::TargetPath,
    delete_after: Option<mountpod::mountpod::facts::Timestamp>,
) {
    let newest_only = world.is(Broken::DropRefOnNewestOnly);
    let room = world.session(session);
    let newest = room.pods.iter().map(|pod| pod.generation).max();
    if let Some(record) = room.record(pod)
        && (!newest_only || Some(record.generation) == newest)
    {
        record.refs.remove(target);
        record.delete_after = delete_after.or(record.delete_after);
        record.version += 1;
    }
    invariants::hold(world);
    let room = world.session(session);
    if room.put_off.remove(target) {
        room.binds.remove(target);
    }
}

fn delete_pod(world: &mut World, session: &SessionId, pod: &PodId, version: &str) -> Result<(), EffectError> {
    let unchecked = world.is(Broken::DeleteWithoutPrecondition);
    let room = world.session(session);
    let late: Vec<_> = room.late_refs.iter().filter(|(late, _)| late == pod).cloned().collect();
    room.late_refs.retain(|(late, _)| late != pod);
    for (pod, target) in late {
        room.land_late_ref(&pod, &target);
    }
    match room.record(pod) {
        None => return Ok(()),
        Some(record) if record.deletion_asked => return Ok(()),
        Some(record) if !unchecked && record.version.to_string() != version => {
            return stale("the pod's resource version");
        }
        Some(_) => {}
    }
    invariants::deletion_is_allowed(world, session, pod);
    world.ask_deletion(session, pod);
    Ok(())
}

fn open_session(world: &mut World, session: &SessionId) {
    let number = u32::try_from(world.number()).unwrap();
    let hangs = world.faults && world.rng.happens(20);
    let room = world.session(session);
    if room.mount.is_none() {
        room.connections.insert(number, Connection { hangs, ..Connection::default() });
        (room.mount, room.offered_to) = (Some(number), None);
        room.driver_holds = Some(number);
    }
}

fn adopt(world: &mut World, session: &SessionId, pod: &PodId) -> Result<(), EffectError> {
    let room = world.session(session);
    let mount = room.mount;
    match room.living(pod) {
        Some(holder) if holder.holds == mount && mount.is_some() => {
            room.driver_holds = mount;
            room.offered_to = Some(pod.clone());
            Ok(())
        }
        _ => stale("the holder of the session"),
    }
}

fn agent_listens(world: &mut World, session: &SessionId, id: &PodId) -> Answer {
    let room = world.session(session);
    match room.pods.iter().find(|pod| pod.id == *id) {
        Some(pod) if pod.deletion_asked || !pod.lives() || !pod.has_record => Some(stale("the pod")),
        Some(pod) if pod.agent => Some(Ok(())),
        Some(_) => None,
        None => Some(stale("the pod")),
    }
}

fn offer(world: &mut World, session: &SessionId, id: &PodId) -> Result<(), EffectError> {
    let copies = !world.is(Broken::NoCopyOfDescriptor);
    let room = world.session(session);
    let Some(connection) = room.driver_holds.filter(|held| room.mount == Some(*held)) else {
        return stale("the session");
    };
    let Some(pod) = room.living(id) else { return stale("the pod") };
    let fresh = pod.holds.is_none();
    if !fresh && pod.holds != Some(connection) {
        return stale("the agent, which holds another session,");
    }
    pod.holds = Some(connection);
    room.offered_to = Some(id.clone());
    if !copies {
        room.driver_holds = None;
    }
    if fresh {
        world.start_client(session, id);
    }
    Ok(())
}

/// The client is dead and the descriptor is back with the driver; then the agent exits.
fn released(world: &mut World, session: &SessionId, id: &PodId, stopped: bool) -> Answer {
    let room = world.session(session);
    if let Some(pod) = room.living(id) {
        if !stopped || !pod.agent {
            return None;
        }
        let held = pod.holds.take();
        (pod.client, pod.agent) = (Client::None, false);
        room.driver_holds = held.or(room.driver_holds);
        world.schedule(session, 30, Event::PodExits(id.clone(), "released"));
    }
    let room = world.session(session);
    if room.offered_to.as_ref() == Some(id) {
        room.offered_to = None;
    }
    Some(Ok(()))
}

fn serving(world: &mut World, session: &SessionId, id: &PodId) -> Answer {
    match world.session(session).living(id).map(|pod| pod.client) {
        Some(Client::Serving) => Some(Ok(())),
        Some(Client::Failed) => Some(Err(EffectError::ClientFailed { why: "no such bucket".to_owned() })),
        Some(Client::Starting) => None,
        Some(Client::None) | None => Some(stale("the pod")),
    }
}

/// The mount is taken away; clients see it, flush and exit.
fn begin_to_close(world: &mut World, session: &SessionId) {
    let flush_in = world.rng.within(10..1_500);
    let room = world.session(session);
    let Some(connection) = room.mount.take() else { return };
    (room.driver_holds, room.offered_to) = (None, None);
    let hangs = room.connections.get(&connection).is_some_and(|state| state.hangs);
    let holders: Vec<_> = room.pods.iter().filter(|pod| pod.holds == Some(connection)).cloned().collect();
    for pod in holders {
        if !hangs {
            world.schedule(session, flush_in, Event::ClientFlushed(pod.id, connection));
        }
    }
}

fn closed(world: &mut World, session: &SessionId) -> Answer {
    let room = world.session(session);
    let held = room.pods.iter().any(|pod| pod.holds.is_some() && pod.holds != room.mount);
    (!held).then_some(Ok(()))
}

/// The client had its time: what it has not written is lost, and it dies.
fn abort(world: &mut World, session: &SessionId) {
    let room = world.session(session);
    let mount = room.mount;
    let hung: Vec<_> =
        room.pods.iter().filter(|pod| pod.holds.is_some() && pod.holds != mount).cloned().collect();
    for pod in hung {
        if let Some(state) = pod.holds.and_then(|number| world.session(session).connections.get_mut(&number))
        {
            (state.aborted, state.dirty) = (true, false);
        }
        world.end_pod(session, &pod.id, "its connection was aborted");
    }
}
