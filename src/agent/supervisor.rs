//! What does an agent do next? One loop that takes one event after the other and never waits for anybody.

use std::fmt;
use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep, sleep_until};

use super::clients::{ClientPrograms, LaunchError, Metrics, Places, Serving};
use super::connect::{is_trusted, peer_uid};
use super::connection::Connection;
use super::frames::FromAgent;
use super::keeper::ClientEvent;
use super::listen::{AgentSocket, ListenError};
use super::messages::Request;
use super::options::AgentOptions;
use super::processes::{adopt_orphans, reap};
use super::session::{Session, Then};
use crate::volume::Secrets;

/// Wait after an error of accept(2), such as too many open files, before the next try.
pub(super) const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why an agent could not do its work.
#[derive(Debug, thiserror::Error)]
pub(super) enum AgentError {
    /// The asynchronous runtime did not start.
    #[error("can't start the agent's runtime")]
    Runtime(#[source] io::Error),
    /// Signals can't be received.
    #[error("can't receive signals")]
    Signals(#[source] io::Error),
    /// The socket can't be made.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Orphans can't be reaped.
    #[error("can't become the parent of orphans")]
    Orphans(#[source] io::Error),
}

/// Why an agent ended as it should.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    SessionEnded,
    Released,
    Stopped,
    Terminated,
    GraceOver,
    NoOffer,
}

impl End {
    pub(super) fn exit_code(self) -> ExitCode {
        match self {
            Self::NoOffer => ExitCode::FAILURE,
            _ => ExitCode::SUCCESS,
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SessionEnded => "the session has ended",
            Self::Released => "the session was given away",
            Self::Stopped => "the driver said stop",
            Self::Terminated => "terminated without a session",
            Self::GraceOver => "terminated, and the grace period is over",
            Self::NoOffer => "no session was offered in time (see --idle-limit)",
        })
    }
}

/// What can happen to an agent.
#[derive(Debug)]
enum Event {
    Connected(UnixStream),
    Asked(Request),
    DriverGone,
    ChildrenChanged,
    Terminate,
    Renew,
    Client(ClientEvent),
    Time,
}

/// Serves until the end.
///
/// # Errors
/// When the agent can't even begin.
pub(super) async fn supervise(options: AgentOptions, programs: ClientPrograms) -> Result<End, AgentError> {
    adopt_orphans().map_err(AgentError::Orphans)?;
    let children = signal(SignalKind::child()).map_err(AgentError::Signals)?;
    let terminate = signal(SignalKind::terminate()).map_err(AgentError::Signals)?;
    let renew = signal(SignalKind::hangup()).map_err(AgentError::Signals)?;
    let socket = AgentSocket::bind(&options.socket)?;
    let idle_until = Instant::now() + options.idle_limit;
    let places = Places {
        programs,
        hostdir_program: options.hostdir_program.clone(),
        juicefs_program: options.juicefs_program.clone(),
        cache: options.cache_dir.clone(),
        metrics: Metrics { port: options.metrics_port, volume: options.metrics_volume.clone() },
        directory: options.socket.parent().unwrap_or(Path::new(".")).to_owned(),
    };
    let mut supervisor = Supervisor {
        options,
        places,
        socket,
        children,
        terminate,
        renew,
        driver: None,
        session: None,
        idle_until,
        grace_until: None,
    };
    let end = loop {
        let event = supervisor.next_event().await;
        if let Some(end) = supervisor.handle(event) {
            break end;
        }
    };
    if let Some(driver) = supervisor.driver.take() {
        driver.farewell().await;
    }
    Ok(end)
}

struct Supervisor {
    options: AgentOptions,
    places: Places,
    socket: AgentSocket,
    children: Signal,
    terminate: Signal,
    /// SIGHUP: start the client anew, without loss.
    renew: Signal,
    driver: Option<Connection>,
    session: Option<Session>,
    idle_until: Instant,
    /// Set by the first SIGTERM during a session.
    grace_until: Option<Instant>,
}

impl Supervisor {
    async fn next_event(&mut self) -> Event {
        let deadline = self.next_deadline();
        let Self { socket, children, terminate, renew, driver, session, .. } = self;
        loop {
            // Deaths first: a client that is dead is not believed any more.
            tokio::select! {
                biased;
                _ = children.recv() => return Event::ChildrenChanged,
                _ = terminate.recv() => return Event::Terminate,
                _ = renew.recv() => return Event::Renew,
                event = client_event(session.as_mut()) => return Event::Client(event),
                request = driver_request(driver.as_mut()) => {
                    return request.map_or(Event::DriverGone, Event::Asked);
                }
                () = time(deadline) => return Event::Time,
                // Last: without a free descriptor it fails at once, again and again.
                accepted = socket.listener.accept() => match accepted {
                    Ok((stream, _)) => return Event::Connected(stream),
                    Err(error) => {
                        tracing::warn!("can't accept a connection: {error}");
                        sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let own = match &self.session {
            None => Some(self.idle_until),
            Some(session) => session.deadline(),
        };
        [own, self.grace_until].into_iter().flatten().min()
    }

    fn handle(&mut self, event: Event) -> Option<End> {
        match event {
            Event::Connected(stream) => self.connected(stream),
            Event::Asked(request) => return self.asked(request),
            Event::DriverGone => self.driver = None,
            Event::ChildrenChanged => return self.children_changed(),
            Event::Terminate => return self.terminated(),
            Event::Renew => return self.renewed(),
            Event::Client(event) => {
                if let Some(session) = &mut self.session {
                    session.client_said(event);
                    self.say_status();
                }
            }
            Event::Time => return self.time_is_up(),
        }
        None
    }

    fn connected(&mut self, stream: UnixStream) {
        match peer_uid(&stream) {
            Ok(uid) if is_trusted(uid) => self.driver = Some(Connection::new(stream)),
            Ok(uid) => tracing::warn!("user {uid} may not connect"),
            Err(error) => tracing::warn!("can't tell who connects: {error}"),
        }
    }

    fn asked(&mut self, request: Request) -> Option<End> {
        match (request, &mut self.session) {
            (Request::Offer(offer, fds), None) => {
                let credentials: Secrets = offer.credentials.into_iter().collect();
                let serving = Serving {
                    session: offer.session,
                    client: offer.client,
                    negotiated: offer.negotiated,
                    fds: fds.session,
                    tree: fds.tree,
                    credentials,
                };
                self.begin(Session::new(serving, &self.places));
            }
            (Request::Offer(offer, _), Some(session)) if offer.session != session.id => {
                let why = format!("this mount pod holds session {} already", session.id);
                self.say(FromAgent::Refused { why });
            }
            (Request::Offer(..) | Request::Status, Some(_)) => self.say_status(),
            (Request::Adopt, Some(session)) => {
                let answer = session.holding();
                self.say_with_fds(answer);
            }
            (Request::Adopt | Request::Status, None) => self.say(FromAgent::Idle),
            (Request::Release, None) => {
                self.say(FromAgent::Idle);
                return Some(End::Stopped);
            }
            (Request::Stop, None) => return Some(End::Stopped),
            (Request::Release, Some(session)) => {
                session.part_with_client(Then::End(End::Released));
                self.say_status();
                return self.children_changed();
            }
            (Request::Stop, Some(session)) => {
                session.end_client(Then::End(End::Stopped));
                return self.children_changed();
            }
        }
        None
    }

    fn begin(&mut self, session: Result<Session, LaunchError>) {
        match session {
            Ok(mut session) => {
                tracing::info!("session {} was offered", session.id);
                session.start_client();
                self.session = Some(session);
                self.say_status();
            }
            Err(error) => self.say(FromAgent::Refused { why: error.to_string() }),
        }
    }

    fn children_changed(&mut self) -> Option<End> {
        let reaped = reap();
        let session = self.session.as_mut()?;
        let before = session.state().clone();
        let end = session.reaped(reaped);
        if end == Some(End::Released) {
            let answer = session.released();
            self.say_with_fds(answer);
        } else if before != *session.state() {
            self.say_status();
        }
        end
    }

    fn renewed(&mut self) -> Option<End> {
        let session = self.session.as_mut()?;
        tracing::info!("told to start the client anew");
        session.renew_client();
        self.say_status();
        self.children_changed()
    }

    fn terminated(&mut self) -> Option<End> {
        match &self.session {
            None => return Some(End::Terminated),
            Some(session) if session.is_over() => return Some(End::SessionEnded),
            Some(_) => {}
        }
        if self.grace_until.is_none() {
            tracing::info!("told to end; the session is served on for at most {:?}", self.options.grace);
            self.grace_until = Instant::now().checked_add(self.options.grace);
        }
        None
    }

    fn time_is_up(&mut self) -> Option<End> {
        let now = Instant::now();
        let Some(session) = &mut self.session else {
            return (now >= self.idle_until).then_some(End::NoOffer);
        };
        if self.grace_until.is_some_and(|until| now >= until) {
            self.grace_until = None;
            session.end_client(Then::End(End::GraceOver));
            return self.children_changed();
        }
        let before = session.state().clone();
        let outcome = session.time_is_up(now);
        if before != *session.state() {
            self.say_status();
        }
        match outcome {
            Ok(end) => end,
            Err(why) => {
                self.say(FromAgent::Refused { why });
                None
            }
        }
    }

    fn say(&self, word: FromAgent) {
        self.say_with_fds(Ok((word, Vec::new())));
    }

    fn say_status(&self) {
        if let Some(session) = &self.session {
            self.say_with_fds(session.status());
        }
    }

    fn say_with_fds(&self, answer: io::Result<super::session::Answer>) {
        let Some(driver) = &self.driver else { return };
        match answer {
            Ok((word, fds)) => driver.say(word, fds),
            Err(error) => {
                let why = format!("the agent can't duplicate its descriptors: {error}");
                driver.say(FromAgent::Refused { why }, Vec::new());
            }
        }
    }
}

async fn client_event(session: Option<&mut Session>) -> ClientEvent {
    match session {
        Some(session) => session.next_client_event().await,
        None => std::future::pending().await,
    }
}

async fn driver_request(driver: Option<&mut Connection>) -> Option<Request> {
    match driver {
        Some(driver) => driver.next().await,
        None => std::future::pending().await,
    }
}

async fn time(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
