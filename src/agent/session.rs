//! How is the session that this agent holds, and what becomes of its client?

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::time::Instant;

use super::clients::{Client, Complaint, EndMeans, Hope, LaunchError, Parting, Places, Serving, client_for};
use super::frames::{ClientState, FromAgent};
use super::keeper::{ClientEvent, Keeper, Role};
use super::processes::{ExitKind, Reaped, kill_all};
use super::restarts::{Record, Restarts, Verdict, WAIT_LONGEST};
use super::supervisor::End;
use super::tail::Tail;
use crate::session::device::has_ended;
use crate::volume::{ClientFault, SessionId};

/// A process that was killed is gone in milliseconds, unless it waits for a device or a network mount (D state).
const KILL_LIMIT: Duration = Duration::from_secs(30);
/// A client that leaves its open files to a successor first writes what it has; one that is still at it after this long is
/// killed, so that the driver hears of it within its own limit for an answer.
const PART_LIMIT: Duration = Duration::from_secs(12);
/// Formatting a filesystem makes a bucket and tries it, three times if need be.
const PREPARE_LIMIT: Duration = Duration::from_secs(60);
/// Between two tries to have the place where a client leaves its open files.
const PART_RETRY: Duration = Duration::from_millis(20);

/// Between two looks whether a session has ended that no client serves any more.
const END_LOOK: Duration = Duration::from_secs(1);

/// A message with its descriptors.
pub(super) type Answer = (FromAgent, Vec<OwnedFd>);

/// The one session of an agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    serving: Serving,
    how: Box<dyn Client>,
    client: ClientState,
    starts: u32,
    /// Has any client of this agent answered requests?
    has_served: bool,
    tail: Tail,
    /// Of the last error that was no client's own.
    fault: ClientFault,
    restarts: Restarts,
    run: Run,
}

/// What runs now.
#[derive(Debug)]
enum Run {
    /// A program: one that prepares, or the client, which has served or not.
    Client(Box<Running>),
    /// The rest of a client's processes, which were killed: a second client must not begin before they are gone.
    Rest { then: Then, until: Instant },
    /// Nothing; a client is to be started.
    Nothing { until: Instant },
    /// Nothing, and that is final.
    GivenUp,
}

#[derive(Debug)]
struct Running {
    keeper: Keeper,
    record: Record,
    /// It is killed then, unless it serves.
    start_until: Option<Instant>,
    parting: Option<Farewell>,
}

/// A client that is to leave its state to a successor.
#[derive(Debug)]
struct Farewell {
    then: Then,
    /// It knows; otherwise it is told as soon as that can be.
    told: bool,
    until: Instant,
}

/// What follows when the last process of a client is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Start(Duration),
    GiveUp,
    End(End),
}

impl Session {
    /// A session whose client is yet to be started.
    ///
    /// # Errors
    /// When the client could not be run as the offer says.
    pub(super) fn new(serving: Serving, places: &Places) -> Result<Self, LaunchError> {
        let how = client_for(&serving, places)?;
        Ok(Self {
            id: serving.session.clone(),
            tail: Tail::without(how.hidden(&serving)).hearing(how.ear()),
            serving,
            how,
            client: ClientState::Starting { starts: 1 },
            starts: 1,
            has_served: false,
            fault: ClientFault::Unknown,
            restarts: Restarts::new(),
            run: Run::GivenUp,
        })
    }

    pub(super) fn state(&self) -> &ClientState {
        &self.client
    }

    /// When time alone changes something.
    pub(super) fn deadline(&self) -> Option<Instant> {
        match &self.run {
            Run::Rest { until, .. } | Run::Nothing { until } => Some(*until),
            Run::Client(running) => match &running.parting {
                Some(farewell) if farewell.told => Some(farewell.until),
                Some(farewell) => Some(farewell.until.min(Instant::now() + PART_RETRY)),
                None => running.start_until,
            },
            Run::GivenUp => Some(Instant::now() + END_LOOK),
        }
    }

    /// Is it given up, and has it ended? There is no client that would see its end.
    pub(super) fn is_over(&self) -> bool {
        matches!(self.run, Run::GivenUp) && has_ended(self.serving.fds.fuse.as_fd()).unwrap_or(false)
    }

    pub(super) async fn next_client_event(&mut self) -> ClientEvent {
        match &mut self.run {
            Run::Client(running) => running.keeper.next(&mut self.tail).await,
            Run::Rest { .. } | Run::Nothing { .. } | Run::GivenUp => std::future::pending().await,
        }
    }

    /// Starts the client, or what prepares it. What can't even be started counts as a client that died.
    pub(super) fn start_client(&mut self) {
        self.tail.begin();
        self.fault = ClientFault::Unknown;
        match self.launch() {
            Ok(running) => {
                tracing::info!(
                    "{:?}: process {}, start {}",
                    running.keeper.role,
                    running.keeper.pid,
                    self.starts
                );
                self.run = Run::Client(Box::new(running));
            }
            Err(error) => {
                self.note_error(&error);
                match self.after_death(Record::NeverServed) {
                    Verdict::Restart(wait) => self.run = Run::Nothing { until: Instant::now() + wait },
                    Verdict::GiveUp => self.give_up(),
                }
            }
        }
    }

    fn launch(&mut self) -> Result<Running, LaunchError> {
        let (launch, limit) = match self.how.preparation(&self.serving)? {
            Some(preparation) => (preparation, Some(PREPARE_LIMIT)),
            None => (self.how.serve(&self.serving)?, self.how.start_limit()),
        };
        let keeper = Keeper::start(launch)?;
        let start_until = limit.and_then(|limit| Instant::now().checked_add(limit));
        Ok(Running { keeper, record: Record::NeverServed, start_until, parting: None })
    }

    pub(super) fn client_said(&mut self, event: ClientEvent) {
        let Run::Client(running) = &mut self.run else { return };
        match event {
            ClientEvent::Serving { pid } => {
                running.record = Record::Served;
                running.start_until = None;
                self.has_served = true;
                // It serves in spite of what it met on its way.
                self.tail.settle();
                self.how.serves(&self.serving);
                if running.parting.is_none() {
                    self.client = ClientState::Serving { starts: self.starts, pid };
                }
            }
            ClientEvent::ServerDied { signal } => {
                let how =
                    signal.map_or_else(|| "by itself".to_owned(), |signal| format!("by signal {signal}"));
                tracing::warn!("the client's serving process died {how}");
                self.starts += 1;
                self.client = ClientState::Starting { starts: self.starts };
            }
            ClientEvent::PreparationFailed => {
                let then = self.then_after(Record::NeverServed);
                self.end_client(then);
            }
        }
    }

    /// Lets the client leave its state to a successor and end, if it can; otherwise it is killed. What follows comes when
    /// all its processes are gone.
    pub(super) fn part_with_client(&mut self, then: Then) {
        let (tail, how) = (&self.tail, &mut self.how);
        let Run::Client(running) = &mut self.run else { return self.end_client(then) };
        if let Some(farewell) = &mut running.parting {
            farewell.then = then;
            return;
        }
        if running.record != Record::Served || running.keeper.role != Role::Serves {
            return self.end_client(then);
        }
        let told = match how.part(running.keeper.pid, tail) {
            Parting::Told => true,
            Parting::Later => false,
            Parting::Impossible => return self.end_client(then),
        };
        running.parting = Some(Farewell { then, told, until: Instant::now() + PART_LIMIT });
        if told {
            self.client = ClientState::Parting { starts: self.starts };
        }
    }

    /// Starts the client anew without loss, if it can leave its state to a successor.
    pub(super) fn renew_client(&mut self) {
        self.part_with_client(Then::Start(Duration::ZERO));
    }

    /// Kills the client; what follows comes when all its processes are gone.
    pub(super) fn end_client(&mut self, then: Then) {
        if let Run::Client(running) = &mut self.run {
            // It is told nowhere else what a client said last; its events do not count any more.
            drop(running.keeper.last_words(&mut self.tail));
        }
        self.run = Run::Rest { then, until: Instant::now() + KILL_LIMIT };
        if matches!(self.client, ClientState::Serving { .. } | ClientState::Parting { .. }) {
            self.client = ClientState::Starting { starts: self.starts };
        }
        kill_all();
    }

    /// Takes note of ended processes.
    pub(super) fn reaped(&mut self, reaped: Reaped) -> Option<End> {
        for (pid, how, kind) in reaped.ended {
            let Run::Client(running) = &mut self.run else { continue };
            if running.keeper.pid != pid {
                continue;
            }
            let last_events = running.keeper.last_words(&mut self.tail);
            if last_events.iter().any(|event| matches!(event, ClientEvent::Serving { .. })) {
                running.record = Record::Served;
                self.has_served = true;
            }
            let then = match running.keeper.role {
                Role::Prepares => self.prepared(&how, kind),
                Role::Serves => match self.how.end_means(kind, self.serving.fds.fuse.as_fd()) {
                    EndMeans::SessionEnded => {
                        self.client = ClientState::Ended;
                        return Some(End::SessionEnded);
                    }
                    EndMeans::Died => self.died(&how),
                },
            };
            self.end_client(then);
        }
        match self.run {
            Run::Rest { then, .. } if reaped.alone => self.follow(then),
            Run::Rest { .. } => {
                // A killed process left children behind, which are ours now.
                kill_all();
                None
            }
            Run::Client(..) | Run::Nothing { .. } | Run::GivenUp => None,
        }
    }

    fn prepared(&mut self, how: &str, kind: ExitKind) -> Then {
        if kind == ExitKind::Success {
            return match self.how.prepared(&self.serving) {
                Ok(()) => Then::Start(Duration::ZERO),
                Err(error) => {
                    self.note_error(&error);
                    Then::GiveUp
                }
            };
        }
        self.note(&format!("the client's preparation {how}"));
        self.then_after(Record::NeverServed)
    }

    fn died(&mut self, how: &str) -> Then {
        let Run::Client(running) = &mut self.run else { return Then::GiveUp };
        let record = running.record;
        if let Some(farewell) = running.parting.take() {
            self.how.parted(&self.serving, &self.tail);
            self.starts += 1;
            return farewell.then;
        }
        if record == Record::NeverServed && self.how.remedy(&self.tail.said()) {
            return Then::Start(Duration::ZERO);
        }
        self.note(&format!("the client {how}"));
        self.then_after(record)
    }

    fn then_after(&mut self, record: Record) -> Then {
        match self.after_death(record) {
            Verdict::Restart(wait) => Then::Start(wait),
            Verdict::GiveUp => Then::GiveUp,
        }
    }

    /// Does what is due.
    ///
    /// # Errors
    /// A sentence for the driver, whose request could not be fulfilled.
    pub(super) fn time_is_up(&mut self, now: Instant) -> Result<Option<End>, String> {
        if self.is_over() {
            self.client = ClientState::Ended;
            return Ok(Some(End::SessionEnded));
        }
        match &mut self.run {
            Run::Nothing { until } if now >= *until => self.start_client(),
            Run::Client(running) => match &running.parting {
                Some(farewell) if now >= farewell.until => {
                    let then = farewell.then;
                    self.note(&format!(
                        "it did not hand on its open files within {PART_LIMIT:?}: it is killed"
                    ));
                    self.end_client(then);
                }
                Some(farewell) if !farewell.told => self.tell_to_part(),
                Some(_) => {}
                None if running.start_until.is_some_and(|until| now >= until) => self.took_too_long(),
                None => {}
            },
            Run::Rest { then: Then::End(End::Stopped | End::GraceOver), until } if now >= *until => {
                // Nothing more can be done for it; the death of PID 1 is its last chance.
                return Ok(Some(End::Stopped));
            }
            Run::Rest { then, until } if now >= *until => {
                let then = *then;
                self.note(&format!("its processes did not end within {KILL_LIMIT:?} after SIGKILL"));
                self.give_up();
                if then == Then::End(End::Released) {
                    return Err(format!("the client's processes did not end within {KILL_LIMIT:?}"));
                }
            }
            _ => (),
        }
        Ok(None)
    }

    fn tell_to_part(&mut self) {
        let Run::Client(running) = &mut self.run else { return };
        let Some(farewell) = &mut running.parting else { return };
        match self.how.part(running.keeper.pid, &self.tail) {
            Parting::Told => {
                farewell.told = true;
                self.client = ClientState::Parting { starts: self.starts };
            }
            Parting::Later => {}
            Parting::Impossible => {
                let then = farewell.then;
                self.end_client(then);
            }
        }
    }

    fn took_too_long(&mut self) {
        let Run::Client(running) = &mut self.run else { return };
        running.start_until = None;
        drop(running.keeper.last_words(&mut self.tail));
        let (what, limit) = match running.keeper.role {
            Role::Prepares => ("its preparation did not end", PREPARE_LIMIT),
            Role::Serves => ("it did not serve", self.how.start_limit().unwrap_or_default()),
        };
        self.note(&format!("{what} within {limit:?}: it is killed"));
        // Another try would take as long, and whoever waits for it waits no longer.
        let then = if self.has_served { self.then_after(Record::NeverServed) } else { Then::GiveUp };
        self.end_client(then);
    }

    /// The answer to `Status`.
    ///
    /// # Errors
    /// When a descriptor can't be duplicated.
    pub(super) fn status(&self) -> io::Result<Answer> {
        let complaint = self.tail.complaint().map(str::to_owned);
        let word = FromAgent::Status { session: self.id.clone(), client: self.client.clone(), complaint };
        let fds = match (&self.client, &self.run) {
            (ClientState::Serving { .. }, Run::Client(running)) => vec![running.keeper.pidfd.try_clone()?],
            _ => Vec::new(),
        };
        Ok((word, fds))
    }

    /// The answer to `Adopt`.
    ///
    /// # Errors
    /// When a descriptor can't be duplicated.
    pub(super) fn holding(&self) -> io::Result<Answer> {
        let mut fds = self.session_fds()?;
        if let Run::Client(running) = &self.run {
            fds.push(running.keeper.pidfd.try_clone()?);
        }
        let (session, client, negotiated) = (self.id.clone(), self.client.clone(), self.serving.negotiated);
        Ok((FromAgent::Holding { session, client, negotiated }, fds))
    }

    /// The answer to `Release`.
    ///
    /// # Errors
    /// When a descriptor can't be duplicated.
    pub(super) fn released(&self) -> io::Result<Answer> {
        Ok((FromAgent::Released { session: self.id.clone() }, self.session_fds()?))
    }

    fn session_fds(&self) -> io::Result<Vec<OwnedFd>> {
        Ok(vec![self.serving.fds.fuse.try_clone()?, self.serving.fds.state.try_clone()?])
    }

    fn after_death(&mut self, record: Record) -> Verdict {
        self.starts += 1;
        self.client = ClientState::Starting { starts: self.starts };
        let verdict = self.restarts.after_death(record, Instant::now());
        let hope = self.how.complaint(&self.tail.said()).hope;
        match (verdict, hope) {
            // Workloads wait for it, and what is wrong may be put right: a server that comes back, a password.
            (Verdict::GiveUp, _) if self.has_served && self.how.start_limit().is_some() => {
                Verdict::Restart(WAIT_LONGEST)
            }
            (_, Hope::None) if record == Record::NeverServed && !self.has_served => Verdict::GiveUp,
            (verdict, _) => verdict,
        }
    }

    fn follow(&mut self, then: Then) -> Option<End> {
        match then {
            Then::Start(Duration::ZERO) => self.start_client(),
            Then::Start(wait) => self.run = Run::Nothing { until: Instant::now() + wait },
            Then::GiveUp => self.give_up(),
            Then::End(end) => return Some(end),
        }
        None
    }

    fn give_up(&mut self) {
        self.run = Run::GivenUp;
        let Complaint { explanation, fault, .. } = self.how.complaint(&self.tail.said());
        let words = self.tail.text();
        let why =
            if explanation.is_empty() { words } else { format!("{explanation}; its last words: {words}") };
        let fault = if self.fault == ClientFault::Unknown { fault } else { self.fault };
        self.client = ClientState::Failed { why, fault };
        tracing::error!("the client of session {} can't be brought to serve; the session is kept", self.id);
    }

    /// What the agent itself has seen belongs to the last words.
    fn note(&mut self, what: &str) {
        for line in self.tail.take(format!("{what}\n").as_bytes()) {
            tracing::warn!("{line}");
        }
    }

    fn note_error(&mut self, error: &LaunchError) {
        self.fault = error.fault();
        let why = std::error::Error::source(error).map(|source| format!(": {source}"));
        self.note(&format!("{error}{}", why.unwrap_or_default()));
    }
}
