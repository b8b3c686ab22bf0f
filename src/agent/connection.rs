//! How does the supervisor talk to the one driver that is connected, without ever waiting for it?

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::frames::{FRAME_VERSION, FromAgent};
use super::messages::Request;
use super::wire::{FrameReader, FrameWriter, halves};

/// Words that wait for a driver; one that is so far behind has stopped to listen.
const WORDS_WAITING_MAX: usize = 32;
/// Requests that wait for the supervisor, which takes them at once.
const REQUESTS_WAITING_MAX: usize = 4;
/// At its end the agent waits so long for its last words to leave.
const FAREWELL_LIMIT: Duration = Duration::from_secs(2);

/// A message with its descriptors.
type Outgoing = (FromAgent, Vec<OwnedFd>);

/// The connection of a driver. Dropping it closes it.
#[derive(Debug)]
pub(super) struct Connection {
    requests: mpsc::Receiver<Request>,
    words: mpsc::Sender<Outgoing>,
    task: JoinHandle<()>,
}

impl Connection {
    /// Takes a driver in, and says hello to it.
    pub(super) fn new(stream: UnixStream) -> Self {
        let (words, outgoing) = mpsc::channel(WORDS_WAITING_MAX);
        let (incoming, requests) = mpsc::channel(REQUESTS_WAITING_MAX);
        let (reader, writer) = halves(stream);
        Self { requests, words, task: tokio::spawn(carry(reader, writer, incoming, outgoing)) }
    }

    /// The driver's next request; `None` when it is gone.
    pub(super) async fn next(&mut self) -> Option<Request> {
        self.requests.recv().await
    }

    /// Says something, later. A driver that does not listen misses it, and asks when it is back.
    pub(super) fn say(&self, word: FromAgent, fds: Vec<OwnedFd>) {
        if self.words.try_send((word, fds)).is_err() {
            tracing::warn!("the driver does not listen");
            self.task.abort();
        }
    }

    /// Ends the connection when everything was said.
    pub(super) async fn farewell(mut self) {
        let (closed, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut self.words, closed));
        if timeout(FAREWELL_LIMIT, &mut self.task).await.is_err() {
            tracing::warn!("the driver did not take the last words within {FAREWELL_LIMIT:?}");
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(
    mut reader: FrameReader<Request>,
    mut writer: FrameWriter<FromAgent>,
    incoming: mpsc::Sender<Request>,
    mut outgoing: mpsc::Receiver<Outgoing>,
) {
    let hello = FromAgent::Hello { version: FRAME_VERSION, program: env!("CARGO_PKG_VERSION").to_owned() };
    let mut next = Some((hello, Vec::new()));
    while let Some((word, fds)) = next {
        let borrowed: Vec<_> = fds.iter().map(AsFd::as_fd).collect();
        if let Err(error) = writer.send(&word, &borrowed).await {
            tracing::warn!("can't answer the driver: {error}");
            return;
        }
        next = loop {
            tokio::select! {
                biased;
                word = outgoing.recv() => break word,
                request = reader.next() => match request {
                    Ok(Some(request)) => if incoming.send(request).await.is_err() { return },
                    Ok(None) => return,
                    Err(error) => {
                        tracing::warn!("the driver is cut off: {error}");
                        return;
                    }
                },
            }
        };
    }
}
