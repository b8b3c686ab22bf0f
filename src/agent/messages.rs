//! Which descriptors belong to which message?

use std::ops::RangeInclusive;
use std::os::fd::OwnedFd;

use super::frames::{ClientState, FromAgent, Negotiated, Offer, ToAgent};
use super::wire::{Joined, Message, WireError};
use crate::volume::{ClientKind, SessionId};

/// What keeps a session alive: whoever holds it can give it to a new peer.
#[derive(Debug)]
pub struct SessionFds {
    /// The FUSE device of the session's connection.
    pub fuse: OwnedFd,
    /// The client's state.
    pub state: OwnedFd,
}

/// The descriptors of an offer.
#[derive(Debug)]
pub struct OfferFds {
    /// The session.
    pub session: SessionFds,
    /// For hostdir: the directory tree that it serves.
    pub tree: Option<OwnedFd>,
}

/// What the driver wants of the agent: a [`ToAgent`] with its descriptors.
#[derive(Debug)]
pub enum Request {
    /// See [`ToAgent::Offer`].
    Offer(Box<Offer>, OfferFds),
    /// See [`ToAgent::Adopt`].
    Adopt,
    /// See [`ToAgent::Status`].
    Status,
    /// See [`ToAgent::Release`].
    Release,
    /// See [`ToAgent::Stop`].
    Stop,
}

/// What the agent says to the driver: a [`FromAgent`] with its descriptors.
#[derive(Debug)]
pub enum Word {
    /// See [`FromAgent::Hello`].
    Hello {
        /// [`super::frames::FRAME_VERSION`] of the agent.
        version: u32,
        /// The agent's program version.
        program: String,
    },
    /// See [`FromAgent::Holding`].
    Holding {
        /// Which session.
        session: SessionId,
        /// How its client is.
        client: ClientState,
        /// What FUSE_INIT negotiated.
        negotiated: Negotiated,
        /// Duplicates of the agent's own.
        fds: SessionFds,
        /// The running client's.
        pidfd: Option<OwnedFd>,
    },
    /// See [`FromAgent::Idle`].
    Idle,
    /// See [`FromAgent::Status`].
    Status {
        /// Which session.
        session: SessionId,
        /// How its client is.
        client: ClientState,
        /// What the client has complained of lately.
        complaint: Option<String>,
        /// The client's, when it is serving.
        pidfd: Option<OwnedFd>,
    },
    /// See [`FromAgent::Released`].
    Released {
        /// Which session.
        session: SessionId,
        /// Duplicates of the agent's own.
        fds: SessionFds,
    },
    /// See [`FromAgent::Refused`].
    Refused {
        /// Why, for people.
        why: String,
    },
}

impl Message for ToAgent {
    fn name(&self) -> &'static str {
        match self {
            Self::Offer(_) => "offer",
            Self::Adopt => "adopt",
            Self::Status => "status",
            Self::Release => "release",
            Self::Stop => "stop",
        }
    }

    fn fds_wanted(&self) -> RangeInclusive<usize> {
        match self {
            Self::Offer(offer) => match offer.client.kind {
                ClientKind::Hostdir => 3..=3,
                ClientKind::Juicefs => 2..=2,
            },
            Self::Adopt | Self::Status | Self::Release | Self::Stop => 0..=0,
        }
    }
}

impl Message for FromAgent {
    fn name(&self) -> &'static str {
        match self {
            Self::Hello { .. } => "hello",
            Self::Holding { .. } => "holding",
            Self::Idle => "idle",
            Self::Status { .. } => "status",
            Self::Released { .. } => "released",
            Self::Refused { .. } => "refused",
        }
    }

    fn fds_wanted(&self) -> RangeInclusive<usize> {
        match self {
            Self::Holding { client: ClientState::Serving { .. }, .. } => 3..=3,
            // A client that is being started, or wound up, may run.
            Self::Holding { .. } => 2..=3,
            Self::Status { client: ClientState::Serving { .. }, .. } => 1..=1,
            Self::Released { .. } => 2..=2,
            Self::Hello { .. } | Self::Idle | Self::Status { .. } | Self::Refused { .. } => 0..=0,
        }
    }
}

/// Descriptors are handed out one by one; a call too many is the error of a message that has too few.
struct Queue {
    fds: std::vec::IntoIter<OwnedFd>,
    message: &'static str,
    wanted: RangeInclusive<usize>,
    got: usize,
}

impl Queue {
    fn of(message: &impl Message, fds: Vec<OwnedFd>) -> Result<Self, WireError> {
        let (name, wanted, got) = (message.name(), message.fds_wanted(), fds.len());
        if !wanted.contains(&got) {
            return Err(WireError::WrongFds { message: name, wanted, got });
        }
        Ok(Self { fds: fds.into_iter(), message: name, wanted, got })
    }

    fn one(&mut self) -> Result<OwnedFd, WireError> {
        let (message, wanted, got) = (self.message, self.wanted.clone(), self.got);
        self.fds.next().ok_or(WireError::WrongFds { message, wanted, got })
    }

    fn session(&mut self) -> Result<SessionFds, WireError> {
        Ok(SessionFds { fuse: self.one()?, state: self.one()? })
    }
}

impl Joined for Request {
    type Message = ToAgent;

    fn join(message: ToAgent, fds: Vec<OwnedFd>) -> Result<Self, WireError> {
        let mut fds = Queue::of(&message, fds)?;
        Ok(match message {
            ToAgent::Offer(offer) => {
                let session = fds.session()?;
                Self::Offer(offer, OfferFds { session, tree: fds.fds.next() })
            }
            ToAgent::Adopt => Self::Adopt,
            ToAgent::Status => Self::Status,
            ToAgent::Release => Self::Release,
            ToAgent::Stop => Self::Stop,
        })
    }
}

impl Joined for Word {
    type Message = FromAgent;

    fn join(message: FromAgent, fds: Vec<OwnedFd>) -> Result<Self, WireError> {
        let mut fds = Queue::of(&message, fds)?;
        Ok(match message {
            FromAgent::Hello { version, program } => Self::Hello { version, program },
            FromAgent::Holding { session, client, negotiated } => {
                let held = fds.session()?;
                Self::Holding { session, client, negotiated, fds: held, pidfd: fds.fds.next() }
            }
            FromAgent::Idle => Self::Idle,
            FromAgent::Status { session, client, complaint } => {
                Self::Status { session, client, complaint, pidfd: fds.fds.next() }
            }
            FromAgent::Released { session } => Self::Released { session, fds: fds.session()? },
            FromAgent::Refused { why } => Self::Refused { why },
        })
    }
}
