//! What is there in the simulated world, and what happens in it by itself?
//!
//! Pods with records and processes, connections with their holders, mounts, and what the kubelet expects. Everything
//! that takes time is an event in a queue, worked off in order whenever somebody looks.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use mountpod::mountpod::facts::{Generation, PodId, Timestamp};
use mountpod::mountpod::refs::Refs;
use mountpod::volume::{Exclusivity, SessionId, TargetPath, Writability};
use tokio::time::Instant;

use crate::rng::Rng;

/// The simulated clock begins here, in milliseconds since the epoch.
const BEGINNING: u64 = 1_800_000_000_000;
/// A driver that came back had this long to take its sessions back before their loss counts as its fault.
const ADOPTION_GRACE: Duration = Duration::from_secs(5);

/// A way to break the effects, to prove that the invariants see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Broken {
    /// `DeletePod` does not look at the resource version.
    DeleteWithoutPrecondition,
    /// `Unbind` is put off until the ref is dropped.
    DropRefBeforeUnbind,
    /// `Release` answers before the client is dead.
    OfferBesideLivingClient,
    /// `CloseSession` does not wait for the client.
    DeleteBeforeFlush,
    /// The driver keeps no copy of the descriptor.
    NoCopyOfDescriptor,
    /// A pod that was deleted by force is forgotten while its processes live.
    ForcedPodUnseen,
    /// `DropRef` is done on one pod only.
    DropRefOnNewestOnly,
    /// Facts do not show the last writes.
    StaleFacts,
}

/// One FUSE connection, by its device's minor number.
#[derive(Debug, Default, Clone)]
pub(crate) struct Connection {
    /// Written data that the client has not flushed.
    pub(crate) dirty: bool,
    pub(crate) aborted: bool,
    /// Its client hangs when it is to flush.
    pub(crate) hangs: bool,
    /// All its holders were killed: nobody is to blame for errors.
    pub(crate) excused: bool,
    /// It once had a holder, and has none now.
    pub(crate) dead: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Client {
    None,
    Starting,
    Serving,
    Failed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Processes {
    Starting,
    Running,
    Ended,
}

/// A mount pod: its record at the API and its processes, which may outlive each other.
#[derive(Debug, Clone)]
pub(crate) struct Pod {
    pub(crate) id: PodId,
    pub(crate) generation: Generation,
    pub(crate) version: u64,
    pub(crate) has_record: bool,
    pub(crate) deletion_asked: bool,
    pub(crate) deleted_at: Option<Instant>,
    pub(crate) refs: Refs,
    pub(crate) delete_after: Option<Timestamp>,
    pub(crate) processes: Processes,
    /// The agent listens.
    pub(crate) agent: bool,
    pub(crate) holds: Option<u32>,
    pub(crate) client: Client,
    /// Counts the starts of the client: an event of an earlier start is void.
    pub(crate) starts: u64,
    /// The client runs on although the effects say that it is dead (`OfferBesideLivingClient`).
    pub(crate) hidden: bool,
}

impl Pod {
    pub(crate) fn lives(&self) -> bool {
        self.processes != Processes::Ended
    }

    pub(crate) fn client_runs(&self) -> bool {
        self.lives() && matches!(self.client, Client::Starting | Client::Serving)
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) connection: u32,
    pub(crate) writability: Writability,
}

/// What the kubelet knows of a target.
#[derive(Debug, Clone, Default)]
pub(crate) struct Target {
    /// A publish was answered OK and no unpublish was called since: the workload uses it.
    pub(crate) published: bool,
    /// Something of it may be left: unpublish will be called.
    pub(crate) uncertain: bool,
    /// The workload is gone, and the kubelet has forgotten the target.
    pub(crate) forgotten: bool,
    /// Its ref was lost with a record that somebody deleted by force.
    pub(crate) ref_lost: bool,
    /// A patch of a driver that was killed has landed late, and may do so again.
    pub(crate) landed_late: bool,
    /// All holders of the connection that it showed were killed; until it is bound anew nobody is to blame.
    pub(crate) excused: bool,
    /// How many unpublishes were called.
    pub(crate) unpublishes: u64,
    pub(crate) in_flight: u32,
}

/// One session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) exclusivity: Exclusivity,
    pub(crate) pods: Vec<Pod>,
    /// The session's own mount.
    pub(crate) mount: Option<u32>,
    /// The driver's descriptor: gone with the driver.
    pub(crate) driver_holds: Option<u32>,
    pub(crate) offered_to: Option<PodId>,
    pub(crate) connections: BTreeMap<u32, Connection>,
    pub(crate) binds: BTreeMap<TargetPath, Vec<Bound>>,
    pub(crate) targets: BTreeMap<TargetPath, Target>,
    /// Patches that were on their way when the driver was killed, and land when the pod is about to be deleted.
    pub(crate) late_refs: Vec<(PodId, TargetPath)>,
    /// Unbinds that a broken driver puts off.
    pub(crate) put_off: BTreeSet<TargetPath>,
}

/// What happens by itself.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    PodRuns(PodId),
    AgentListens(PodId),
    ClientServes(PodId, u64),
    ClientFails(PodId, u64),
    ClientFlushed(PodId, u32),
    PodExits(PodId, &'static str),
    LateRef(PodId, TargetPath),
}

/// Looks at facts at one moment of the simulated clock: a dozen tasks may do it, each more than once.
const LOOKS_AT_ONCE_MAX: u32 = 1_000;

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) rng: Rng,
    pub(crate) broken: Option<Broken>,
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    pub(crate) log: Vec<String>,
    pub(crate) violations: Vec<String>,
    /// Effects until the driver is killed.
    pub(crate) crash_in: Option<u64>,
    pub(crate) crashed: bool,
    /// Faults of the API and of pods; off while the world comes to rest.
    pub(crate) faults: bool,
    pub(crate) driver_since: Instant,
    /// Does the driver have the facts in memory, and so reads them without a wait? On Kubernetes it has most of them.
    pub(crate) facts_at_once: bool,
    /// When facts were last looked at, and how often at that moment.
    looks: (Instant, u32),
    pub(crate) figures: Figures,
    started: Instant,
    clock_offset: i64,
    events: BTreeMap<(Instant, u64), (SessionId, Event)>,
    numbers: u64,
}

/// What a run has done.
#[derive(Debug, Default, Clone, Copy)]
pub(crate) struct Figures {
    pub(crate) actions: u64,
    pub(crate) crashes: u64,
    pub(crate) faults: u64,
    pub(crate) published: u64,
    pub(crate) effects: u64,
}

impl World {
    pub(crate) fn new(seed: u64, broken: Option<Broken>) -> Self {
        Self {
            rng: Rng::new(seed),
            broken,
            sessions: BTreeMap::new(),
            log: Vec::new(),
            violations: Vec::new(),
            crash_in: None,
            crashed: false,
            faults: true,
            driver_since: Instant::now(),
            facts_at_once: false,
            looks: (Instant::now(), 0),
            figures: Figures::default(),
            started: Instant::now(),
            clock_offset: 0,
            events: BTreeMap::new(),
            numbers: 0,
        }
    }

    pub(crate) fn is(&self, broken: Broken) -> bool {
        self.broken == Some(broken)
    }

    pub(crate) fn number(&mut self) -> u64 {
        self.numbers += 1;
        self.numbers
    }

    pub(crate) fn note(&mut self, line: impl fmt::Display) {
        let at = self.started.elapsed().as_millis();
        // Session ids of the simulator are a digit and zeros.
        self.log.push(format!("{at:>8} ms  {line}").replace(&"0".repeat(31), ""));
    }

    pub(crate) fn violate(&mut self, invariant: &str, what: impl fmt::Display) {
        self.note(format!("VIOLATION of '{invariant}': {what}"));
        self.violations.push(format!("{invariant}: {what}"));
    }

    /// What the machine's clock says; it may jump.
    pub(crate) fn now(&self) -> Timestamp {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap();
        Timestamp((BEGINNING + elapsed).checked_add_signed(self.clock_offset).unwrap())
    }

    pub(crate) fn jump_clock(&mut self, by_ms: i64) {
        self.clock_offset += by_ms;
    }

    /// Somebody looks at facts: tasks of the driver that only wake each other would do it for ever.
    pub(crate) fn look(&mut self) {
        let (last, before) = self.looks;
        let count = if last == Instant::now() { before + 1 } else { 1 };
        self.looks = (Instant::now(), count);
        if count == LOOKS_AT_ONCE_MAX {
            self.violate(
                "facts are looked at again only after something has happened",
                format!("{count} looks"),
            );
        }
    }

    pub(crate) fn session(&mut self, id: &SessionId) -> &mut Session {
        self.sessions.get_mut(id).unwrap()
    }

    pub(crate) fn schedule(&mut self, session: &SessionId, in_ms: u64, event: Event) {
        let key = (Instant::now() + Duration::from_millis(in_ms), self.number());
        self.events.insert(key, (session.clone(), event));
    }

    /// Works off everything that has happened until now.
    pub(crate) fn advance(&mut self) {
        while let Some(entry) = self.events.first_entry() {
            if entry.key().0 > Instant::now() {
                break;
            }
            let (session, event) = entry.remove();
            self.note(format!("{session}: {event:?}"));
            self.happen(&session, event);
        }
    }

    fn happen(&mut self, session: &SessionId, event: Event) {
        match event {
            Event::PodRuns(id) => self.pod_runs(session, &id),
            Event::AgentListens(id) => {
                if let Some(pod) = self.session(session).living(&id) {
                    pod.agent = true;
                }
            }
            Event::ClientServes(id, start) => self.client_becomes(session, &id, start, Client::Serving),
            Event::ClientFails(id, start) => self.client_becomes(session, &id, start, Client::Failed),
            Event::ClientFlushed(id, connection) => self.client_flushed(session, &id, connection),
            Event::PodExits(id, why) => self.end_pod(session, &id, why),
            Event::LateRef(id, target) => self.session(session).land_late_ref(&id, &target),
        }
    }

    fn pod_runs(&mut self, session: &SessionId, id: &PodId) {
        let fails = self.faults && self.rng.happens(40);
        let agent_in = self.rng.within(0..800);
        let Some(pod) = self.session(session).living(id) else { return };
        pod.processes = Processes::Running;
        let event =
            if fails { Event::PodExits(id.clone(), "exit 1") } else { Event::AgentListens(id.clone()) };
        self.schedule(session, agent_in, event);
    }

    fn client_becomes(&mut self, session: &SessionId, id: &PodId, start: u64, state: Client) {
        if let Some(pod) = self.session(session).living(id)
            && pod.starts == start
            && pod.client == Client::Starting
        {
            pod.client = state;
        }
    }

    /// Starts (again) the client of a pod that holds a session.
    pub(crate) fn start_client(&mut self, session: &SessionId, id: &PodId) {
        let (fails, wait) = (self.faults && self.rng.happens(30), self.rng.within(5..400));
        let Some(pod) = self.session(session).living(id) else { return };
        pod.client = Client::Starting;
        pod.starts += 1;
        let start = pod.starts;
        let event = if fails {
            Event::ClientFails(id.clone(), start)
        } else {
            Event::ClientServes(id.clone(), start)
        };
        self.schedule(session, wait, event);
    }

    fn client_flushed(&mut self, session: &SessionId, id: &PodId, connection: u32) {
        let exit_in = self.rng.within(0..200);
        let room = self.session(session);
        let Some(pod) = room.living(id).filter(|pod| pod.holds == Some(connection)) else { return };
        (pod.holds, pod.client) = (None, Client::None);
        pod.agent = false;
        if let Some(connection) = room.connections.get_mut(&connection) {
            connection.dirty = false;
        }
        self.schedule(session, exit_in, Event::PodExits(id.clone(), "its session has ended"));
    }

    /// PID 1 is gone, and takes the client and the pod's descriptor along.
    pub(crate) fn end_pod(&mut self, session: &SessionId, id: &PodId, why: &str) {
        let excused = self.crashed || self.driver_since.elapsed() < ADOPTION_GRACE;
        self.note(format!("{session}: {} ends: {why}", id.name.0));
        let room = self.session(session);
        if let Some(pod) = room.pods.iter_mut().find(|pod| pod.id == *id) {
            (pod.processes, pod.agent, pod.holds, pod.client) = (Processes::Ended, false, None, Client::None);
        }
        room.forget_pods();
        room.bury_connections(excused);
    }

    /// The driver is killed: its descriptors and its memory are gone.
    pub(crate) fn kill_driver(&mut self) {
        for session in self.sessions.values_mut() {
            (session.driver_holds, session.offered_to) = (None, None);
            session.put_off.clear();
            session.bury_connections(true);
        }
    }

    /// Somebody asks for the deletion of a pod. It ends by itself when it holds no session, else after its grace.
    pub(crate) fn ask_deletion(&mut self, session: &SessionId, id: &PodId) {
        let (soon, grace) = (self.rng.within(10..400), self.rng.within(2_000..30_000));
        let room = self.session(session);
        let Some(pod) = room.pods.iter_mut().find(|pod| pod.id == *id) else { return };
        pod.deletion_asked = true;
        pod.deleted_at.get_or_insert_with(Instant::now);
        pod.version += 1;
        let wait = if pod.holds.is_some() { grace } else { soon };
        room.forget_pods();
        self.schedule(session, wait, Event::PodExits(id.clone(), "deleted"));
    }
}

impl Session {
    pub(crate) fn new(exclusivity: Exclusivity, targets: impl IntoIterator<Item = TargetPath>) -> Self {
        Self {
            exclusivity,
            pods: Vec::new(),
            mount: None,
            driver_holds: None,
            offered_to: None,
            connections: BTreeMap::new(),
            binds: BTreeMap::new(),
            targets: targets.into_iter().map(|target| (target, Target::default())).collect(),
            late_refs: Vec::new(),
            put_off: BTreeSet::new(),
        }
    }

    pub(crate) fn living(&mut self, id: &PodId) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.id == *id && pod.lives())
    }

    pub(crate) fn record(&mut self, id: &PodId) -> Option<&mut Pod> {
        self.pods.iter_mut().find(|pod| pod.id == *id && pod.has_record)
    }

    pub(crate) fn is_held(&self, connection: u32) -> bool {
        self.driver_holds == Some(connection) || self.pods.iter().any(|pod| pod.holds == Some(connection))
    }

    pub(crate) fn is_usable(&self, connection: u32) -> bool {
        let state = self.connections.get(&connection);
        self.is_held(connection) && state.is_some_and(|state| !state.aborted && !state.dead)
    }

    /// A patch that was on its way arrives.
    pub(crate) fn land_late_ref(&mut self, id: &PodId, target: &TargetPath) {
        let exclusivity = self.exclusivity;
        // Of a volume that is had alone it could only come too late to be checked: no driver sends it twice.
        if exclusivity == Exclusivity::Shared
            && let Some(pod) = self.record(id)
        {
            pod.refs.insert(target.clone(), exclusivity);
            pod.delete_after = None;
            pod.version += 1;
            self.targets.entry(target.clone()).or_default().landed_late = true;
        }
    }

    /// A record goes when its deletion was asked for and its processes are gone; then nothing is left of the pod.
    pub(crate) fn forget_pods(&mut self) {
        let gone: Vec<_> =
            self.pods.iter().filter(|p| p.has_record && p.deletion_asked && !p.lives()).cloned().collect();
        for pod in gone {
            self.lose_record(&pod);
        }
        self.pods.retain(|pod| pod.has_record || pod.lives());
    }

    /// A record goes, and with it refs that no other record has. Whether we may delete it was checked before.
    pub(crate) fn lose_record(&mut self, gone: &Pod) {
        for pod in self.pods.iter_mut().filter(|pod| pod.id == gone.id) {
            pod.has_record = false;
        }
        for (target, _) in gone.refs.iter() {
            let counted = self.pods.iter().any(|pod| pod.has_record && pod.refs.contains(target));
            self.targets.entry(target.clone()).or_default().ref_lost |= !counted;
        }
    }

    /// A lost ref is there again: from now on it is our own to keep.
    pub(crate) fn find_refs(&mut self, refs: &Refs) {
        for (target, _) in refs.iter() {
            self.targets.entry(target.clone()).or_default().ref_lost = false;
        }
    }

    fn excuse_targets(&mut self, connection: u32) {
        if !self.connections.get(&connection).is_some_and(|dead| dead.excused) {
            return;
        }
        for (target, stack) in &self.binds {
            if stack.iter().any(|bound| bound.connection == connection) {
                self.targets.entry(target.clone()).or_default().excused = true;
            }
        }
    }

    fn bury_connections(&mut self, excused: bool) {
        let dead: Vec<u32> = self.connections.keys().copied().filter(|c| !self.is_held(*c)).collect();
        for number in dead {
            if let Some(connection) = self.connections.get_mut(&number)
                && !connection.dead
            {
                (connection.dead, connection.excused) = (true, excused);
                self.excuse_targets(number);
            }
        }
    }
}
