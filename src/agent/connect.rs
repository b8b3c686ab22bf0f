//! How does the driver reach an agent's socket that lies in a directory which the pod can write to?

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::fcntl::{OFlag, open};
use nix::sys::socket::{getsockopt, sockopt::PeerCredentials};
use nix::sys::stat::{Mode, SFlag, fstat};
use nix::unistd::geteuid;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::frames::{FRAME_VERSION, ToAgent};
use super::messages::Word;
use super::wire::{FrameReader, FrameWriter, WireError, halves};

/// The driver's two halves of a connection to an agent.
pub type AgentConnection = (FrameReader<Word>, FrameWriter<ToAgent>);

/// Why an agent could not be connected to.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// There is no socket (yet), or it can't be opened.
    #[error("can't open the agent's socket {path}")]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A symlink, a fifo or something else stands in its place.
    #[error("{0} is no socket: something in the mount pod replaced it")]
    NotASocket(PathBuf),
    /// Nobody listens, or the connection failed.
    #[error("can't connect to the agent at {path}")]
    Connect {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Somebody else listens there.
    #[error("user {uid} listens at {path}, who is neither root, nor this user, nor the owner of the socket")]
    Stranger {
        /// Where.
        path: PathBuf,
        /// Who.
        uid: u32,
    },
    /// The agent's first frame was no good.
    #[error("the agent at {path} gave no proper first word")]
    Hello {
        /// Where.
        path: PathBuf,
        /// Why.
        #[source]
        source: WireError,
    },
    /// The agent closed the connection or began with another message.
    #[error("the agent at {0} did not say hello")]
    NoHello(PathBuf),
    /// The agent speaks another version of the frames.
    #[error(
        "the agent at {path} ({program}) speaks version {theirs} of the frames, this driver {FRAME_VERSION}"
    )]
    Version {
        /// Where.
        path: PathBuf,
        /// Its program version.
        program: String,
        /// Its version of the frames.
        theirs: u32,
    },
    /// It took too long.
    #[error("the agent at {path} did not answer within {limit:?}")]
    TooSlow {
        /// Where.
        path: PathBuf,
        /// The limit that was given.
        limit: Duration,
    },
}

/// Connects to an agent and takes its `Hello`, all within `limit`.
///
/// The path may be of any length, and a symlink in its last component is refused: a hostile pod could point it at
/// another socket of the node, and catch the secrets of an offer.
///
/// # Errors
/// See [`ConnectError`].
pub async fn connect(path: &Path, limit: Duration) -> Result<AgentConnection, ConnectError> {
    timeout(limit, connect_and_greet(path))
        .await
        .map_err(|_| ConnectError::TooSlow { path: path.to_owned(), limit })?
}

async fn connect_and_greet(path: &Path) -> Result<AgentConnection, ConnectError> {
    let owned = path.to_owned();
    let (socket, owner) = open_socket(path)?;
    // Through /proc the address is short, and it is the very socket that was looked at.
    let through = format!("/proc/self/fd/{}", socket.as_raw_fd());
    let stream = UnixStream::connect(through)
        .await
        .map_err(|source| ConnectError::Connect { path: path.to_owned(), source })?;
    let uid = peer_uid(&stream).map_err(|source| ConnectError::Connect { path: path.to_owned(), source })?;
    if !is_trusted(uid) && uid != owner {
        return Err(ConnectError::Stranger { path: owned, uid });
    }
    let (mut reader, writer) = halves::<Word, ToAgent>(stream);
    match reader.next().await {
        Ok(Some(Word::Hello { version: FRAME_VERSION, .. })) => Ok((reader, writer)),
        Ok(Some(Word::Hello { version, program })) => {
            Err(ConnectError::Version { path: owned, program, theirs: version })
        }
        Ok(_) => Err(ConnectError::NoHello(owned)),
        Err(source) => Err(ConnectError::Hello { path: owned, source }),
    }
}

/// The socket as a path descriptor, and its owner's uid.
fn open_socket(path: &Path) -> Result<(OwnedFd, u32), ConnectError> {
    let open_error =
        |errno: nix::Error| ConnectError::Open { path: path.to_owned(), source: io::Error::from(errno) };
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let socket = open(path, flags, Mode::empty()).map_err(open_error)?;
    let facts = fstat(socket.as_fd()).map_err(open_error)?;
    if SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(ConnectError::NotASocket(path.to_owned()));
    }
    Ok((socket, facts.st_uid))
}

/// The uid of the process at the other end (`SO_PEERCRED`: as it was when it connected or listened).
pub(super) fn peer_uid(stream: &UnixStream) -> io::Result<u32> {
    Ok(getsockopt(stream, PeerCredentials)?.uid())
}

/// Root and this process's own user may take part in the protocol.
pub(super) fn is_trusted(uid: u32) -> bool {
    uid == 0 || uid == geteuid().as_raw()
}
