//! What is a running client, and what does it say?
//!
//! A client with a keeper of its own sends one JSON datagram per event on the socket that it finds after its other
//! descriptors; another fetches its session from a desk of the agent. What they print is kept.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{AddressFamily, MsgFlags, SockFlag, SockType, recv, socketpair};
use nix::unistd::{Pid, pipe2};
use serde::Deserialize;
use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::net::unix::pipe;

use super::clients::desk::Attended;
use super::clients::{Launch, LaunchError, Voice};
use super::log::show;
use super::sys::{self, ChildPlan};
use super::tail::Tail;

/// A longer event is none.
const EVENT_BYTES_MAX: usize = 1024;
/// Output is read in such pieces.
const OUTPUT_BYTES: usize = 4096;
/// At most so many pieces are read from a dead client: its pipe holds 64 KiB, unless somebody goes on writing.
const LAST_PIECES_MAX: usize = 32;

/// What a client says on its event socket.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum ClientEvent {
    /// It answers requests from now on.
    Serving {
        /// In the agent's PID namespace.
        pid: u32,
    },
    /// The process that answered requests died; the keeper starts another.
    ServerDied {
        /// The signal that killed it, if one did.
        #[serde(default)]
        signal: Option<i32>,
    },
    /// It prepares, and has failed for the last time; it does not say so itself.
    #[serde(skip)]
    PreparationFailed,
}

/// What a running program is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// It prepares: its good end is what is waited for.
    Prepares,
    /// It serves.
    Serves,
}

/// Where events come from.
#[derive(Debug)]
enum Ear {
    Socket(UnixDatagram),
    Desk(Attended),
    /// Nothing comes, or nothing any more: the client has closed its end.
    Closed,
}

/// A running program.
#[derive(Debug)]
pub(super) struct Keeper {
    /// In the agent's PID namespace.
    pub(super) pid: Pid,
    /// Readable when it is dead.
    pub(super) pidfd: OwnedFd,
    pub(super) role: Role,
    ear: Ear,
    output: pipe::Receiver,
    output_open: bool,
}

impl Keeper {
    /// Starts a program.
    ///
    /// # Errors
    /// See [`LaunchError`].
    pub(super) fn start(launch: Launch) -> Result<Self, LaunchError> {
        let Launch { program, fds, voice } = launch;
        let start_error = |source| LaunchError::Start { program: program.path.clone(), source };
        let ends = Ends::open().map_err(start_error)?;
        let mut fds: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if matches!(voice, Voice::Events) {
            fds.push(ends.events_theirs.as_fd());
        }
        let printed = match &voice {
            Voice::Prepares { output: Some(file) } => file.as_fd(),
            _ => ends.output_theirs.as_fd(),
        };
        let plan = ChildPlan {
            path: &program.path,
            arguments: &program.arguments,
            environment: &program.environment.0,
            stdin: ends.stdin.as_fd(),
            output: printed,
            fds: &fds,
        };
        let pid = sys::spawn(&plan).map_err(start_error)?;
        // Not reaped before the next turn of the loop: this is the child, dead or alive.
        let pidfd = sys::pidfd_open(pid).map_err(start_error)?;
        let output = pipe::Receiver::from_owned_fd(ends.output_ours).map_err(start_error)?;
        let (role, ear) = match voice {
            Voice::Prepares { .. } => (Role::Prepares, Ear::Closed),
            Voice::Desk(desk) => (Role::Serves, Ear::Desk(desk.attend(pid))),
            // Only `recv` is called, which is the same for datagrams and for SOCK_SEQPACKET.
            Voice::Events => {
                let events = UnixDatagram::from_std(ends.events_ours.into()).map_err(start_error)?;
                (Role::Serves, Ear::Socket(events))
            }
        };
        Ok(Self { pid, pidfd, role, ear, output, output_open: true })
    }

    /// The next event; output goes into the tail meanwhile. Waits for ever when the client has closed both.
    pub(super) async fn next(&mut self, tail: &mut Tail) -> ClientEvent {
        let mut piece = [0; OUTPUT_BYTES];
        loop {
            tokio::select! {
                event = self.ear.next() => return event,
                readable = self.output.readable(), if self.output_open => {
                    let read = readable.and_then(|()| self.output.try_read(&mut piece));
                    self.output_open = keep_output(read, &piece, tail);
                    if self.role == Role::Prepares && tail.is_last_try() {
                        return ClientEvent::PreparationFailed;
                    }
                },
            }
        }
    }

    /// What a client that is dead left in its sockets.
    pub(super) fn last_words(&mut self, tail: &mut Tail) -> Vec<ClientEvent> {
        let mut piece = [0; OUTPUT_BYTES];
        for _ in 0..LAST_PIECES_MAX {
            let mut output = OutputFd(&self.output);
            let read = output.read(&mut piece);
            if !matches!(read, Ok(1..)) || !keep_output(read, &piece, tail) {
                break;
            }
        }
        if let Some(line) = tail.end_line() {
            show(&line);
        }
        match &mut self.ear {
            Ear::Socket(events) => std::iter::from_fn(|| receive_event(events).ok().flatten()).collect(),
            Ear::Desk(desk) => std::iter::from_fn(|| desk.events.try_recv().ok()).collect(),
            Ear::Closed => Vec::new(),
        }
    }
}

impl Ear {
    /// The next event; waits for ever once it is closed.
    async fn next(&mut self) -> ClientEvent {
        loop {
            let heard = match self {
                Self::Socket(events) => events.async_io(Interest::READABLE, || receive_event(events)).await,
                Self::Desk(desk) => Ok(desk.events.recv().await),
                Self::Closed => std::future::pending().await,
            };
            match heard {
                Ok(Some(event)) => return event,
                Ok(None) => *self = Self::Closed,
                Err(error) => {
                    tracing::warn!("the client's event can't be read: {error}");
                    if error.kind() != io::ErrorKind::InvalidData {
                        *self = Self::Closed;
                    }
                }
            }
        }
    }
}

/// Reads the pipe without asking the runtime whether it is readable: it may not know yet.
struct OutputFd<'a>(&'a pipe::Receiver);

impl Read for OutputFd<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(nix::unistd::read(self.0, buffer)?)
    }
}

/// Both ends of everything that connects the agent and a client.
struct Ends {
    stdin: OwnedFd,
    events_ours: OwnedFd,
    events_theirs: OwnedFd,
    output_ours: OwnedFd,
    output_theirs: OwnedFd,
}

impl Ends {
    fn open() -> io::Result<Self> {
        let (events_ours, events_theirs) =
            socketpair(AddressFamily::Unix, SockType::SeqPacket, None, SockFlag::SOCK_CLOEXEC)?;
        fcntl(&events_ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let (output_ours, output_theirs) = pipe2(OFlag::O_CLOEXEC)?;
        fcntl(&output_ours, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        let stdin = OwnedFd::from(std::fs::File::open("/dev/null")?);
        Ok(Self { stdin, events_ours, events_theirs, output_ours, output_theirs })
    }
}

/// `None` at the end of the socket.
fn receive_event(socket: &UnixDatagram) -> io::Result<Option<ClientEvent>> {
    use std::os::fd::AsRawFd;
    let mut bytes = [0; EVENT_BYTES_MAX];
    let got = recv(socket.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT).map_err(|errno| match errno {
        Errno::EINTR => io::Error::from(Errno::EAGAIN),
        other => io::Error::from(other),
    })?;
    if got == 0 {
        return Ok(None);
    }
    let event = serde_json::from_slice(&bytes[..got]);
    event.map(Some).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// False at the end of the output.
fn keep_output(read: io::Result<usize>, piece: &[u8], tail: &mut Tail) -> bool {
    match read {
        Ok(0) => false,
        Ok(bytes) => {
            for line in tail.take(&piece[..bytes]) {
                show(&line);
            }
            true
        }
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
    }
}
