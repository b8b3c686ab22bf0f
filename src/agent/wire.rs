//! How does a frame, with its descriptors, cross a Unix socket?
//!
//! [`FrameReader`] and [`FrameWriter`] are the two halves of one connection. What is received is typed: a [`Request`]
//! or a [`Word`] owns exactly the descriptors that its message must have, or the frame is an error. Every descriptor
//! is an `OwnedFd` from its first instant, so no error leaks one.

use std::io::{self, IoSlice};
use std::marker::PhantomData;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, getsockopt, sendmsg, sockopt::PeerPidfd};
use secrecy::zeroize::Zeroizing;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::{Instant, timeout, timeout_at};

use super::frames::{FRAME_BYTES_MAX, FRAME_FDS_MAX};
use super::sys;

/// From its first byte to its last, a frame takes no longer: both peers are on one machine.
pub const FRAME_READ_LIMIT: Duration = Duration::from_secs(5);
/// A peer that takes nothing for this long is as good as gone.
pub const FRAME_WRITE_LIMIT: Duration = Duration::from_secs(5);
/// The length before the JSON.
const HEADER_BYTES: usize = size_of::<u32>();

/// Why a frame could not be received or sent. The connection is of no use afterwards.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// The socket failed.
    #[error("the socket failed")]
    Io(#[source] io::Error),
    /// The peer went away in the middle of a frame.
    #[error("the connection was closed in the middle of a frame")]
    CutOff,
    /// The frame is too long, or empty.
    #[error("a frame of {bytes} bytes is refused: it must have 1 to {FRAME_BYTES_MAX}")]
    Length {
        /// What its header says, or what was to be sent.
        bytes: usize,
    },
    /// The frame has more descriptors than any message may have.
    #[error("a frame with {got} descriptors is refused: at most {FRAME_FDS_MAX} are allowed")]
    TooManyFds {
        /// How many came, or were to be sent.
        got: usize,
    },
    /// The kernel could not give us all descriptors.
    #[error(
        "descriptors of a frame were lost: this process has too many open files, raise its limit (RLIMIT_NOFILE)"
    )]
    FdsLost,
    /// Descriptors came after the first byte of a frame.
    #[error("descriptors came in the middle of a frame")]
    StrayFds,
    /// The message has too few or too many descriptors for its type.
    #[error("a message {message:?} came with {got} descriptors, it must have {wanted:?}")]
    WrongFds {
        /// The type of the message.
        message: &'static str,
        /// How many it must have.
        wanted: RangeInclusive<usize>,
        /// How many it has.
        got: usize,
    },
    /// The JSON is none of a message.
    #[error("a frame is no message of this version")]
    Message(#[source] serde_json::Error),
    /// The peer is too slow.
    #[error("a frame did not get through within {0:?}")]
    TooSlow(Duration),
    /// An earlier frame failed or was given up half-way.
    #[error("the connection is broken by an earlier frame")]
    Broken,
}

/// A message that is sent as a frame.
pub trait Message: Serialize + DeserializeOwned {
    /// Its type, for people.
    fn name(&self) -> &'static str;
    /// How many descriptors it must have.
    fn fds_wanted(&self) -> RangeInclusive<usize>;
}

/// A message joined with its descriptors.
pub trait Joined: Sized {
    /// The message.
    type Message: Message;
    /// Joins a message with the descriptors that came with it.
    ///
    /// # Errors
    /// [`WireError::WrongFds`] when they are too few or too many; they are closed.
    fn join(message: Self::Message, fds: Vec<OwnedFd>) -> Result<Self, WireError>;
}

/// The two halves of a connection: what is read is `R`, what is written is a `W`.
#[must_use]
pub fn halves<R: Joined, W: Message>(stream: UnixStream) -> (FrameReader<R>, FrameWriter<W>) {
    let stream = Arc::new(stream);
    let reader = FrameReader {
        stream: Arc::clone(&stream),
        partial: Partial::default(),
        broken: false,
        of: PhantomData,
    };
    (reader, FrameWriter { stream, broken: false, of: PhantomData })
}

/// The reading half.
#[derive(Debug)]
pub struct FrameReader<R> {
    stream: Arc<UnixStream>,
    partial: Partial,
    broken: bool,
    of: PhantomData<fn() -> R>,
}

/// A frame that has not come in whole. The bytes are wiped: they may hold credentials.
#[derive(Debug, Default)]
struct Partial {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    body: Zeroizing<Vec<u8>>,
    body_bytes: usize,
    fds: Vec<OwnedFd>,
    deadline: Option<Instant>,
}

impl<R: Joined> FrameReader<R> {
    /// A descriptor of the process that listens at the other end: readable when it is dead.
    ///
    /// # Errors
    /// On a kernel before 6.5, which has no `SO_PEERPIDFD`.
    pub fn peer_process(&self) -> io::Result<OwnedFd> {
        Ok(getsockopt(&self.stream, PeerPidfd)?)
    }

    /// The next frame; `None` when the peer has closed the connection between two frames.
    ///
    /// A frame that has begun must be whole within [`FRAME_READ_LIMIT`]; the wait for its beginning has no limit.
    /// Cancellation safe: what has come in so far stays in the reader, descriptors included, and the next call goes
    /// on with it.
    ///
    /// # Errors
    /// See [`WireError`]; the descriptors of the refused frame are closed.
    pub async fn next(&mut self) -> Result<Option<R>, WireError> {
        if self.broken {
            return Err(WireError::Broken);
        }
        let outcome = self.read_frame().await;
        if outcome.is_err() {
            self.broken = true;
            self.partial = Partial::default();
        }
        outcome
    }

    async fn read_frame(&mut self) -> Result<Option<R>, WireError> {
        loop {
            let received = match self.partial.deadline {
                None => self.receive().await,
                Some(deadline) => timeout_at(deadline, self.receive())
                    .await
                    .map_err(|_| WireError::TooSlow(FRAME_READ_LIMIT))?,
            };
            let received = received.map_err(WireError::Io)?;
            if received.bytes == 0 {
                return if self.partial.header_bytes == 0 { Ok(None) } else { Err(WireError::CutOff) };
            }
            // No await between the receipt and here: what was received can't be lost by a cancellation.
            self.partial.take_in(received)?;
            if self.partial.is_whole() {
                let Partial { body, fds, .. } = std::mem::take(&mut self.partial);
                let message = serde_json::from_slice(&body).map_err(WireError::Message)?;
                return R::join(message, fds).map(Some);
            }
        }
    }

    async fn receive(&mut self) -> io::Result<sys::Received> {
        let (stream, partial) = (&self.stream, &mut self.partial);
        stream.async_io(Interest::READABLE, || sys::receive(stream.as_fd(), partial.missing())).await
    }
}

impl Partial {
    /// The place of the bytes that have not come yet. It never reaches into the next frame.
    fn missing(&mut self) -> &mut [u8] {
        if self.header_bytes < HEADER_BYTES {
            &mut self.header[self.header_bytes..]
        } else {
            &mut self.body[self.body_bytes..]
        }
    }

    fn take_in(&mut self, received: sys::Received) -> Result<(), WireError> {
        let begins = self.header_bytes == 0;
        self.deadline.get_or_insert_with(|| Instant::now() + FRAME_READ_LIMIT);
        if received.fds_lost {
            return Err(WireError::FdsLost);
        }
        if !begins && !received.fds.is_empty() {
            return Err(WireError::StrayFds);
        }
        if received.fds.len() > FRAME_FDS_MAX {
            return Err(WireError::TooManyFds { got: received.fds.len() });
        }
        self.fds.extend(received.fds);
        if self.header_bytes == HEADER_BYTES {
            self.body_bytes += received.bytes;
            return Ok(());
        }
        self.header_bytes += received.bytes;
        if self.header_bytes == HEADER_BYTES {
            let bytes = usize::try_from(u32::from_le_bytes(self.header)).unwrap_or(usize::MAX);
            check_length(bytes)?;
            self.body = Zeroizing::new(vec![0; bytes]);
        }
        Ok(())
    }

    fn is_whole(&self) -> bool {
        self.header_bytes == HEADER_BYTES && self.body_bytes == self.body.len()
    }
}

fn check_length(bytes: usize) -> Result<(), WireError> {
    if (1..=FRAME_BYTES_MAX).contains(&bytes) { Ok(()) } else { Err(WireError::Length { bytes }) }
}

/// The writing half.
#[derive(Debug)]
pub struct FrameWriter<W> {
    stream: Arc<UnixStream>,
    broken: bool,
    of: PhantomData<fn(W)>,
}

impl<W: Message> FrameWriter<W> {
    /// Sends a message with its descriptors, which the peer gets duplicates of.
    ///
    /// Not cancellation safe: a call that is dropped half-way breaks the connection, and the next call says so.
    ///
    /// # Errors
    /// See [`WireError`]. A message that is refused because of its size or descriptors leaves the connection good.
    pub async fn send(&mut self, message: &W, fds: &[BorrowedFd<'_>]) -> Result<(), WireError> {
        if self.broken {
            return Err(WireError::Broken);
        }
        let wanted = message.fds_wanted();
        if !wanted.contains(&fds.len()) {
            return Err(WireError::WrongFds { message: message.name(), wanted, got: fds.len() });
        }
        let frame = encode(message)?;
        self.broken = true;
        timeout(FRAME_WRITE_LIMIT, write_all(&self.stream, &frame, fds))
            .await
            .map_err(|_| WireError::TooSlow(FRAME_WRITE_LIMIT))?
            .map_err(WireError::Io)?;
        self.broken = false;
        Ok(())
    }
}

fn encode<M: Message>(message: &M) -> Result<Zeroizing<Vec<u8>>, WireError> {
    let mut frame = Zeroizing::new(vec![0; HEADER_BYTES]);
    serde_json::to_writer(&mut *frame, message).map_err(WireError::Message)?;
    let bytes = frame.len() - HEADER_BYTES;
    check_length(bytes)?;
    let header = u32::try_from(bytes).map_err(|_| WireError::Length { bytes })?;
    frame[..HEADER_BYTES].copy_from_slice(&header.to_le_bytes());
    Ok(frame)
}

async fn write_all(stream: &UnixStream, frame: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let numbers: Vec<_> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let mut sent = 0;
    while sent < frame.len() {
        // The descriptors go with the first byte, once.
        let with = if sent == 0 { numbers.as_slice() } else { &[] };
        let rest = &frame[sent..];
        sent += stream.async_io(Interest::WRITABLE, || send_some(stream.as_fd(), rest, with)).await?;
    }
    Ok(())
}

fn send_some(socket: BorrowedFd<'_>, bytes: &[u8], fds: &[i32]) -> io::Result<usize> {
    let rights = [ControlMessage::ScmRights(fds)];
    let control = if fds.is_empty() { &[] } else { rights.as_slice() };
    let sent = sendmsg::<UnixAddr>(
        socket.as_raw_fd(),
        &[IoSlice::new(bytes)],
        control,
        MsgFlags::MSG_NOSIGNAL,
        None,
    )?;
    Ok(sent)
}
