//! How does a JuiceFS client fetch its session? From this desk: a socket at which the other side speaks first.
//!
//! The form of the messages is in `juicefs::passing`. Only the client's own process is given the session.

use std::io::{self, IoSlice};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, getsockopt, sendmsg, sockopt::PeerCredentials};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

use crate::agent::keeper::ClientEvent;
use crate::agent::supervisor::ACCEPT_PAUSE;
use crate::agent::sys;
use crate::juicefs::passing::{ANSWER_BYTES_MAX, Answer, SETTING_BYTES, answer};

/// The client answers at once, or closes.
const ANSWER_LIMIT: Duration = Duration::from_secs(5);
/// A client tells once that it serves.
const EVENTS_WAITING: usize = 4;
/// Only this user's processes may connect.
const SOCKET_MODE: u32 = 0o600;

/// What is handed out, and where.
#[derive(Debug)]
pub(in crate::agent) struct Desk {
    listener: UnixListener,
    path: PathBuf,
    setting: [u8; SETTING_BYTES],
    device: OwnedFd,
    /// The client closes the first descriptor that it gets.
    nothing: OwnedFd,
}

/// A desk at which somebody sits; dropped, it is closed.
#[derive(Debug)]
pub(in crate::agent) struct Attended {
    pub(in crate::agent) events: mpsc::Receiver<ClientEvent>,
    _task: AbortOnDropHandle<()>,
}

impl Desk {
    /// Opens the desk at this path, in place of an earlier one.
    pub(super) fn open(path: &Path, setting: [u8; SETTING_BYTES], device: OwnedFd) -> io::Result<Self> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE))?;
        let nothing = OwnedFd::from(std::fs::File::open("/dev/null")?);
        Ok(Self { listener, path: path.to_owned(), setting, device, nothing })
    }

    /// Attends to the client with this process id.
    pub(in crate::agent) fn attend(self, client: Pid) -> Attended {
        let (said, events) = mpsc::channel(EVENTS_WAITING);
        let task = tokio::spawn(async move {
            loop {
                let visited = match self.listener.accept().await {
                    Ok((stream, _)) => self.hand_over(&stream, client).await,
                    Err(error) => {
                        sleep(ACCEPT_PAUSE).await;
                        Err(error)
                    }
                };
                match visited {
                    Ok(Answer::Nothing) => {}
                    Ok(Answer::Serves) => {
                        let pid = u32::try_from(client.as_raw()).unwrap_or(0);
                        if said.send(ClientEvent::Serving { pid }).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => tracing::warn!("the client can't be handed its session: {error}"),
                }
            }
        });
        Attended { events, _task: AbortOnDropHandle::new(task) }
    }

    async fn hand_over(&self, stream: &UnixStream, client: Pid) -> io::Result<Answer> {
        let peer = getsockopt(stream, PeerCredentials)?.pid();
        if peer != client.as_raw() {
            return Err(io::Error::other(format!(
                "process {peer} asks for it, which is not the client {client}"
            )));
        }
        let fds = [self.nothing.as_raw_fd(), self.device.as_raw_fd()];
        let rights = [ControlMessage::ScmRights(&fds)];
        // The socket is new and empty: it takes this message whole.
        let flags = MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_NOSIGNAL;
        sendmsg::<UnixAddr>(stream.as_raw_fd(), &[IoSlice::new(&self.setting)], &rights, flags, None)?;
        let mut bytes = [0; ANSWER_BYTES_MAX];
        let receive = stream.async_io(Interest::READABLE, || sys::receive(stream.as_fd(), &mut bytes));
        // Descriptors that come along are the client's copies of ours: they are closed here.
        match timeout(ANSWER_LIMIT, receive).await {
            Ok(Ok(received)) => Ok(answer(&bytes[..received.bytes])),
            // It closed with our message half read, or has died.
            Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Answer::Nothing),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(io::Error::other(format!("it did not answer within {ANSWER_LIMIT:?}"))),
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::debug!("the client's socket is gone already: {error}");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream as StdStream;

    use super::*;

    fn open(directory: &Path) -> (Desk, PathBuf) {
        let path = directory.join("fuse.sock");
        let device = OwnedFd::from(std::fs::File::open("/dev/zero").unwrap());
        (Desk::open(&path, [7; SETTING_BYTES], device).unwrap(), path)
    }

    /// Takes what the desk gives, and answers.
    fn visit(path: &Path, answer: &[u8]) -> (Vec<u8>, usize) {
        let mut stream = StdStream::connect(path).unwrap();
        let mut bytes = [0; 200];
        let received = sys::receive(stream.as_fd(), &mut bytes).unwrap();
        stream.write_all(answer).unwrap();
        (bytes[..received.bytes].to_vec(), received.fds.len())
    }

    #[tokio::test]
    async fn the_client_takes_the_session_and_tells_that_it_serves() {
        let directory = tempfile::tempdir().unwrap();
        let (desk, path) = open(directory.path());
        let mut attended = desk.attend(Pid::this());
        for answer in [vec![], b"CLOSE".to_vec(), vec![7; SETTING_BYTES]] {
            let path = path.clone();
            let visited = tokio::task::spawn_blocking(move || visit(&path, &answer)).await.unwrap();
            assert_eq!(visited, (vec![7; SETTING_BYTES], 2));
        }
        let pid = std::process::id();
        assert_eq!(attended.events.recv().await, Some(ClientEvent::Serving { pid }));
        assert!(attended.events.try_recv().is_err(), "it tells once");
        drop(attended);
        tokio::task::yield_now().await;
    }

    #[tokio::test]
    async fn another_process_gets_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let (desk, path) = open(directory.path());
        let _attended = desk.attend(Pid::from_raw(1));
        let got = tokio::task::spawn_blocking(move || {
            let mut bytes = Vec::new();
            StdStream::connect(&path).unwrap().read_to_end(&mut bytes).map(|_| bytes)
        });
        assert_eq!(got.await.unwrap().unwrap(), b"");
    }
}
