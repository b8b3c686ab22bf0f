//! How does the driver keep in touch with the agent of one mount pod?
//!
//! One task per agent waits for its socket, connects, asks for its status, and follows what it says until the pod is
//! gone. Requests go through the task, one at a time, because an agent's answer carries no number.

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::socket_watch::until_present;
use crate::agent::connect::{AgentConnection, ConnectError, connect};
use crate::agent::frames::{ClientState, ToAgent};
use crate::agent::messages::Word;
use crate::agent::wire::WireError;
use crate::mounts::syscalls::watched;
use crate::retry::Waits;
use crate::volume::SessionId;

/// An agent that is up greets at once; one that is starved of processor time may need a while.
const HELLO_LIMIT: Duration = Duration::from_secs(5);
/// The first wait before connecting again to a socket that nobody answers at.
const RECONNECT_FIRST: Duration = Duration::from_millis(5);
/// The longest such wait.
const RECONNECT_LONGEST: Duration = Duration::from_secs(1);
/// Requests waiting for their turn; a session has one mover, so there are hardly ever two.
const REQUESTS_WAITING: usize = 4;

/// What is known of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AgentView {
    /// It can't be reached (yet).
    Silent,
    /// Its process is dead, and with it all that it has started: it is the first process of its PID namespace.
    Dead,
    /// It waits for a session.
    Idle,
    /// It holds a session.
    Holding {
        /// Which.
        session: SessionId,
        /// How its client is.
        client: ClientState,
    },
}

/// Why an agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// There is no connection.
    #[error("the agent can't be reached")]
    Silent,
    /// The connection broke before the answer came: the request may have been carried out.
    #[error("the connection to the agent broke before it answered")]
    Broken(#[source] Option<WireError>),
    /// The agent refused.
    #[error("the agent refused: {0}")]
    Refused(String),
}

/// What is asked of an agent, and where the answer goes.
#[derive(Debug)]
struct Ask {
    message: ToAgent,
    fds: Vec<OwnedFd>,
    answer: oneshot::Sender<Result<Word, LinkError>>,
}

/// The connection to one agent. Dropping it ends its task.
#[derive(Debug)]
pub struct Link {
    requests: mpsc::Sender<Ask>,
    view: watch::Receiver<AgentView>,
    _task: DropGuard,
}

/// What a link needs of its surroundings.
#[derive(Debug, Clone)]
pub struct Surroundings {
    /// Changes with the mount table.
    pub mounts: watch::Receiver<u64>,
    /// Is counted up at every change of a link.
    pub changes: watch::Sender<u64>,
    /// Ends every link.
    pub shutdown: CancellationToken,
}

impl Link {
    /// Begins to keep in touch with the agent that listens at `socket`, or will.
    #[must_use]
    pub fn start(socket: PathBuf, surroundings: &Surroundings) -> Self {
        let (requests, inbox) = mpsc::channel(REQUESTS_WAITING);
        let (view, watched) = watch::channel(AgentView::Silent);
        let stop = surroundings.shutdown.child_token();
        let line = Line { socket, inbox, view, changes: surroundings.changes.clone() };
        let (mounts, stopped) = (surroundings.mounts.clone(), stop.clone());
        tokio::spawn(async move { stopped.run_until_cancelled(line.keep(mounts)).await });
        Self { requests, view: watched, _task: stop.drop_guard() }
    }

    /// What is known of the agent now, and when that changes.
    #[must_use]
    pub fn view(&self) -> watch::Receiver<AgentView> {
        self.view.clone()
    }

    /// Something that asks the agent, apart from this link's life.
    #[must_use]
    pub fn speaker(&self) -> Speaker {
        Speaker(self.requests.clone())
    }
}

/// Asks an agent.
#[derive(Debug, Clone)]
pub struct Speaker(mpsc::Sender<Ask>);

impl Speaker {
    /// Sends a request and waits for its answer. The caller limits the wait; dropped, the answer is dropped.
    ///
    /// # Errors
    /// See [`LinkError`].
    pub async fn ask(&self, message: ToAgent, fds: Vec<OwnedFd>) -> Result<Word, LinkError> {
        let (answer, answered) = oneshot::channel();
        self.0.send(Ask { message, fds, answer }).await.map_err(|_| LinkError::Silent)?;
        answered.await.map_err(|_| LinkError::Broken(None))?
    }
}

/// The task of a link.
struct Line {
    socket: PathBuf,
    inbox: mpsc::Receiver<Ask>,
    view: watch::Sender<AgentView>,
    changes: watch::Sender<u64>,
}

/// A request that was sent.
struct Pending {
    fits: fn(&Word) -> bool,
    answer: oneshot::Sender<Result<Word, LinkError>>,
}

impl Line {
    /// Connects again and again, until the link is dropped.
    async fn keep(mut self, mut mounts: watch::Receiver<u64>) {
        let mut waits = Waits::new(RECONNECT_FIRST, RECONNECT_LONGEST);
        let mut process = None;
        loop {
            if let Err(error) = until_present(&self.socket, &mut mounts).await {
                tracing::warn!(%error, socket = %self.socket.display(), "can't wait for the agent's socket; trying it now and then");
            }
            match connect(&self.socket, HELLO_LIMIT).await {
                Ok(connection) => {
                    waits.start_over();
                    process = process_of(&connection);
                    let broken = self.talk(connection).await;
                    tracing::debug!(?broken, socket = %self.socket.display(), "the connection to the agent ended");
                    self.show(AgentView::Silent);
                }
                Err(error) => self.tell(&error),
            }
            let wait = waits.next_wait();
            tokio::select! {
                () = death(process.as_ref()) => {
                    process = None;
                    self.show(AgentView::Dead);
                }
                () = self.refuse_for(wait) => {}
            }
        }
    }

    fn tell(&self, error: &ConnectError) {
        match error {
            // Between bind(2) and listen(2), and after the agent's end, the file is there and nobody listens.
            ConnectError::Open { .. } | ConnectError::Connect { .. } => {
                tracing::debug!(error = error as &dyn std::error::Error, "the agent can't be reached yet");
            }
            _ => tracing::warn!(error = error as &dyn std::error::Error, "the agent can't be used"),
        }
    }

    /// Waits; requests that come meanwhile can't be sent.
    async fn refuse_for(&mut self, wait: Duration) {
        let refuse = async {
            while let Some(ask) = self.inbox.recv().await {
                drop(ask.answer.send(Err(LinkError::Silent)));
            }
            std::future::pending::<()>().await;
        };
        // The end of the wait is the aim, not an error.
        drop(tokio::time::timeout(wait, refuse).await);
    }

    /// Follows a connection to its end.
    async fn talk(&mut self, (mut words, mut requests): AgentConnection) -> Option<WireError> {
        if let Err(error) = requests.send(&ToAgent::Status, &[]).await {
            return Some(error);
        }
        let mut pending: Option<Pending> = None;
        loop {
            tokio::select! {
                word = words.next() => match word {
                    Ok(Some(word)) => {
                        self.show_what_it_says(&word);
                        pending = settle(pending, word);
                    }
                    Ok(None) => return end(pending, None),
                    Err(error) => return end(pending, Some(error)),
                },
                ask = self.inbox.recv(), if pending.is_none() => {
                    let ask = ask?;
                    let fds: Vec<_> = ask.fds.iter().map(AsFd::as_fd).collect();
                    pending = Some(Pending { fits: answer_to(&ask.message), answer: ask.answer });
                    if let Err(error) = requests.send(&ask.message, &fds).await {
                        return end(pending, Some(error));
                    }
                }
            }
        }
    }

    fn show_what_it_says(&self, word: &Word) {
        match word {
            Word::Holding { session, client, .. } | Word::Status { session, client, .. } => {
                self.show(AgentView::Holding { session: session.clone(), client: client.clone() });
            }
            Word::Idle | Word::Released { .. } => self.show(AgentView::Idle),
            Word::Hello { .. } | Word::Refused { .. } => {}
        }
    }

    fn show(&self, view: AgentView) {
        let changed = self.view.send_if_modified(|shown| {
            let differs = *shown != view;
            *shown = view;
            differs
        });
        if changed {
            self.changes.send_modify(|count| *count += 1);
        }
    }
}

/// The agent's process, where the kernel can name it.
fn process_of((words, _): &AgentConnection) -> Option<AsyncFd<OwnedFd>> {
    let process = words.peer_process().and_then(|process| watched(process, Interest::READABLE));
    // Without it the agent's death is known when its pod's is.
    process.inspect_err(|error| tracing::debug!(%error, "the agent's process can't be watched")).ok()
}

/// Waits for the end of a process. A connection ends some milliseconds before it.
async fn death(process: Option<&AsyncFd<OwnedFd>>) {
    if let Some(process) = process
        && process.readable().await.is_ok()
    {
        return;
    }
    std::future::pending::<()>().await;
}

/// Which words answer a request?
fn answer_to(request: &ToAgent) -> fn(&Word) -> bool {
    match request {
        ToAgent::Offer(_) => |word| matches!(word, Word::Status { .. } | Word::Refused { .. }),
        ToAgent::Adopt => |word| matches!(word, Word::Holding { .. } | Word::Idle | Word::Refused { .. }),
        ToAgent::Status => |word| matches!(word, Word::Status { .. } | Word::Idle | Word::Refused { .. }),
        ToAgent::Release => |word| matches!(word, Word::Released { .. } | Word::Idle | Word::Refused { .. }),
        // It exits: the end of the connection is the answer.
        ToAgent::Stop => |_| false,
    }
}

fn settle(pending: Option<Pending>, word: Word) -> Option<Pending> {
    let pending = pending?;
    if !(pending.fits)(&word) {
        // Who asked has gone: its request must not block the next one for ever.
        return Some(pending).filter(|pending| !pending.answer.is_closed());
    }
    let answer = match word {
        Word::Refused { why } => Err(LinkError::Refused(why)),
        word => Ok(word),
    };
    // Nobody may be waiting any more; what the word carried is closed then.
    drop(pending.answer.send(answer));
    None
}

fn end(pending: Option<Pending>, error: Option<WireError>) -> Option<WireError> {
    match pending {
        None => error,
        Some(pending) => {
            drop(pending.answer.send(Err(LinkError::Broken(error))));
            None
        }
    }
}
