//! What does each step change in the simulated world, at its one moment?

use mountpod::mountpod::effects::EffectError;
use mountpod::mountpod::facts::{Generation, PodId, PodName, PodUid, Timestamp};
use mountpod::mountpod::plan::Step;
use mountpod::mountpod::refs::Refs;
use mountpod::volume::{ClientFault, SessionId, TargetPath};

use crate::invariants;
use crate::world::{Broken, Client, Connection, Event, Pod, Processes, World};

/// A wait's answer so far.
pub(crate) type Answer = Option<Result<(), EffectError>>;

pub(crate) fn stale(what: &str) -> Result<(), EffectError> {
    Err(EffectError::Stale { what: what.to_owned() })
}

/// A patch of a driver that was killed may arrive later.
pub(crate) fn late_landing(world: &mut World, session: &SessionId, step: &Step) {
    let Step::AddRef { pod, target, .. } = step else { return };
    let (at_deletion, wait) = (world.rng.happens(700), world.rng.within(10..400));
    if at_deletion {
        world.session(session).late_refs.push((pod.clone(), target.clone()));
    } else {
        world.schedule(session, wait, Event::LateRef(pod.clone(), target.clone()));
    }
}

pub(crate) fn create_pod(
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

pub(crate) fn drop_ref(
    world: &mut World,
    session: &SessionId,
    pod: &PodId,
    target: &TargetPath,
    delete_after: Option<Timestamp>,
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

pub(crate) fn delete_pod(
    world: &mut World,
    session: &SessionId,
    pod: &PodId,
    version: &str,
) -> Result<(), EffectError> {
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

pub(crate) fn open_session(world: &mut World, session: &SessionId) {
    let number = u32::try_from(world.number()).unwrap();
    let hangs = world.faults && world.rng.happens(20);
    let room = world.session(session);
    if room.mount.is_none() {
        room.connections.insert(number, Connection { hangs, ..Connection::default() });
        (room.mount, room.offered_to) = (Some(number), None);
        room.driver_holds = Some(number);
    }
}

pub(crate) fn adopt(world: &mut World, session: &SessionId, pod: &PodId) -> Result<(), EffectError> {
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

pub(crate) fn agent_listens(world: &mut World, session: &SessionId, id: &PodId) -> Answer {
    let room = world.session(session);
    match room.pods.iter().find(|pod| pod.id == *id) {
        Some(pod) if pod.deletion_asked || !pod.lives() || !pod.has_record => Some(stale("the pod")),
        Some(pod) if pod.agent => Some(Ok(())),
        Some(_) => None,
        None => Some(stale("the pod")),
    }
}

pub(crate) fn offer(world: &mut World, session: &SessionId, id: &PodId) -> Result<(), EffectError> {
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
pub(crate) fn released(world: &mut World, session: &SessionId, id: &PodId, stopped: bool) -> Answer {
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

pub(crate) fn serving(world: &mut World, session: &SessionId, id: &PodId) -> Answer {
    match world.session(session).living(id).map(|pod| pod.client) {
        Some(Client::Serving) => Some(Ok(())),
        Some(Client::Failed) => Some(Err(EffectError::ClientFailed {
            why: "no such bucket".to_owned(),
            fault: ClientFault::Filesystem,
        })),
        Some(Client::Starting) => None,
        Some(Client::None) | None => Some(stale("the pod")),
    }
}

/// The mount is taken away; clients see it, flush and exit.
pub(crate) fn begin_to_close(world: &mut World, session: &SessionId) {
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

pub(crate) fn closed(world: &mut World, session: &SessionId) -> Answer {
    let room = world.session(session);
    let held = room.pods.iter().any(|pod| pod.holds.is_some() && pod.holds != room.mount);
    (!held).then_some(Ok(()))
}

/// The client had its time: what it has not written is lost, and it dies.
pub(crate) fn abort(world: &mut World, session: &SessionId) {
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
