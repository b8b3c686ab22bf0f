//! How is the session that this agent holds, and what becomes of its client?

use std::io;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::Instant;

use super::frames::{ClientState, FromAgent};
use super::keeper::{ClientEvent, Keeper};
use super::processes::{ExitKind, Reaped, kill_all};
use super::programs::{ClientPrograms, LaunchError, Serving};
use super::restarts::{Record, Restarts, Verdict};
use super::supervisor::End;
use super::tail::Tail;
use crate::volume::SessionId;

/// A process that was killed is gone in milliseconds, unless it waits for a device or a network mount (D state).
const KILL_LIMIT: Duration = Duration::from_secs(30);

/// A message with its descriptors.
pub(super) type Answer = (FromAgent, Vec<OwnedFd>);

/// The one session of an agent.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: SessionId,
    serving: Serving,
    programs: ClientPrograms,
    hostdir_program: Option<PathBuf>,
    client: ClientState,
    starts: u32,
    tail: Tail,
    restarts: Restarts,
    run: Run,
}

/// What runs now.
#[derive(Debug)]
enum Run {
    /// A client, which has served or not.
    Client(Box<Keeper>, Record),
    /// The rest of a client's processes, which were killed: a second client must not begin before they are gone.
    Rest { then: Then, until: Instant },
    /// Nothing; a client is to be started.
    Nothing { until: Instant },
    /// Nothing, and that is final.
    GivenUp,
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
    pub(super) fn new(
        id: SessionId,
        serving: Serving,
        programs: ClientPrograms,
        hostdir_program: Option<PathBuf>,
    ) -> Result<Self, LaunchError> {
        serving.program(programs, hostdir_program.as_deref())?;
        serving.client_fds()?;
        Ok(Self {
            id,
            tail: Tail::without(serving.credentials.clone()),
            serving,
            programs,
            hostdir_program,
            client: ClientState::Starting { starts: 1 },
            starts: 1,
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
            Run::Client(..) | Run::GivenUp => None,
        }
    }

    pub(super) async fn next_client_event(&mut self) -> ClientEvent {
        match &mut self.run {
            Run::Client(keeper, _) => keeper.next(&mut self.tail).await,
            Run::Rest { .. } | Run::Nothing { .. } | Run::GivenUp => std::future::pending().await,
        }
    }

    /// Starts the client. A client that can't even be started counts as one that died.
    pub(super) fn start_client(&mut self) {
        match Keeper::start(&self.serving, self.programs, self.hostdir_program.as_deref()) {
            Ok(keeper) => {
                tracing::info!("client started, process {}, start {}", keeper.pid, self.starts);
                self.run = Run::Client(Box::new(keeper), Record::NeverServed);
            }
            Err(error) => {
                let why = std::error::Error::source(&error).map(|source| format!(": {source}"));
                self.note(&format!("{error}{}", why.unwrap_or_default()));
                match self.after_death(Record::NeverServed) {
                    Verdict::Restart(wait) => self.run = Run::Nothing { until: Instant::now() + wait },
                    Verdict::GiveUp => self.give_up(),
                }
            }
        }
    }

    pub(super) fn client_said(&mut self, event: ClientEvent) {
        let Run::Client(_, record) = &mut self.run else { return };
        match event {
            ClientEvent::Serving { pid } => {
                *record = Record::Served;
                self.client = ClientState::Serving { starts: self.starts, pid };
            }
            ClientEvent::ServerDied { signal } => {
                let how =
                    signal.map_or_else(|| "by itself".to_owned(), |signal| format!("by signal {signal}"));
                tracing::warn!("the client's serving process died {how}");
                self.starts += 1;
                self.client = ClientState::Starting { starts: self.starts };
            }
        }
    }

    /// Kills the client; what follows comes when all its processes are gone.
    pub(super) fn end_client(&mut self, then: Then) {
        if let Run::Client(keeper, _) = &mut self.run {
            // It is told nowhere else what a client said last; its events do not count any more.
            drop(keeper.last_words(&mut self.tail));
        }
        self.run = Run::Rest { then, until: Instant::now() + KILL_LIMIT };
        if matches!(self.client, ClientState::Serving { .. }) {
            self.client = ClientState::Starting { starts: self.starts };
        }
        kill_all();
    }

    /// Takes note of ended processes.
    pub(super) fn reaped(&mut self, reaped: Reaped) -> Option<End> {
        for (pid, how, kind) in reaped.ended {
            let Run::Client(keeper, record) = &mut self.run else { continue };
            if keeper.pid != pid {
                continue;
            }
            let mut record = *record;
            if keeper
                .last_words(&mut self.tail)
                .iter()
                .any(|event| matches!(event, ClientEvent::Serving { .. }))
            {
                record = Record::Served;
            }
            if kind == ExitKind::Success {
                self.client = ClientState::Ended;
                return Some(End::SessionEnded);
            }
            self.note(&format!("the client {how}"));
            let then = match self.after_death(record) {
                Verdict::Restart(wait) => Then::Start(wait),
                Verdict::GiveUp => Then::GiveUp,
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

    /// Does what is due.
    ///
    /// # Errors
    /// A sentence for the driver, whose request could not be fulfilled.
    pub(super) fn time_is_up(&mut self, now: Instant) -> Result<Option<End>, String> {
        match self.run {
            Run::Nothing { until } if now >= until => self.start_client(),
            Run::Rest { then: Then::End(End::Stopped | End::GraceOver), until } if now >= until => {
                // Nothing more can be done for it; the death of PID 1 is its last chance.
                return Ok(Some(End::Stopped));
            }
            Run::Rest { then, until } if now >= until => {
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

    /// The answer to `Status`.
    ///
    /// # Errors
    /// When a descriptor can't be duplicated.
    pub(super) fn status(&self) -> io::Result<Answer> {
        let word = FromAgent::Status { session: self.id.clone(), client: self.client.clone() };
        let fds = match (&self.client, &self.run) {
            (ClientState::Serving { .. }, Run::Client(keeper, _)) => vec![keeper.pidfd.try_clone()?],
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
        if let Run::Client(keeper, _) = &self.run {
            fds.push(keeper.pidfd.try_clone()?);
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
        self.restarts.after_death(record, Instant::now())
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
        self.client = ClientState::Failed { why: self.tail.text() };
        tracing::error!("the client of session {} can't be brought to serve; the session is kept", self.id);
    }

    /// What the agent itself has seen belongs to the last words.
    fn note(&mut self, what: &str) {
        for line in self.tail.take(format!("{what}\n").as_bytes()) {
            tracing::warn!("{line}");
        }
    }
}
