//! How are the desks served on a Unix socket, and how does serving end?

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_stream::Stream;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::{Connected, UdsConnectInfo};
use tracing::{info, warn};

use super::api::v1::controller_server::ControllerServer;
use super::api::v1::identity_server::IdentityServer;
use super::api::v1::node_server::NodeServer;
use super::controller::ControllerDesk;
use super::edge::Edge;
use super::identity::{Health, IdentityDesk};
use super::node::NodeDesk;
use super::socket::{Socket, SocketError};
use crate::config::flags::Endpoint;
use crate::mountpod::service::{MountService, PublishedTargets};
use crate::provision::{InlineVolumes, Provisioner};

/// Connections at a time. A node has one kubelet and some sidecars; more wait until one ends.
const CONNECTIONS_MAX: usize = 64;
/// Calls at a time on one connection; more wait.
const CALLS_PER_CONNECTION_MAX: usize = 64;
/// A request is a few KiB; secrets may add 1 MiB.
const REQUEST_BYTES_MAX: usize = 4 << 20;
/// A list of all volumes, when its caller sets no limit: about 300 bytes for each.
const RESPONSE_BYTES_MAX: usize = 64 << 20;
/// Longest wait for calls to end when the driver is to stop: far less than the 45 s and more that the chart and the systemd
/// unit give it, because the engine has its own wait after this one.
pub const DRAIN_LIMIT: Duration = Duration::from_secs(15);
/// Callers read their last answers and hang up at once when they are told to; one that does not can't delay the end.
const HANG_UP_LIMIT: Duration = Duration::from_millis(500);
/// Wait after an error of accept(2), such as too many open files, before the next try.
const ACCEPT_PAUSE: Duration = Duration::from_millis(200);

/// Why serving ended before it was told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The socket can't be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The server gave up.
    #[error("serving CSI failed")]
    Server(#[source] tonic::transport::Error),
}

/// What is served: the Identity service, and those that were added to it.
pub struct Desks {
    routes: Routes,
    edge: Edge,
}

impl Desks {
    /// The Identity service alone; `edge` is the one that all desks are made with.
    pub fn new<H: Health>(identity: IdentityDesk<H>, edge: Edge) -> Self {
        let identity = IdentityServer::new(identity).max_decoding_message_size(REQUEST_BYTES_MAX);
        Self { routes: Routes::new(identity), edge }
    }

    /// Also volumes and snapshots.
    #[must_use]
    pub fn and_controller<P: Provisioner, M: PublishedTargets>(self, desk: ControllerDesk<P, M>) -> Self {
        let controller = ControllerServer::new(desk)
            .max_decoding_message_size(REQUEST_BYTES_MAX)
            .max_encoding_message_size(RESPONSE_BYTES_MAX);
        Self { routes: self.routes.add_service(controller), ..self }
    }

    /// Also mounts on this node.
    #[must_use]
    pub fn and_node<C: InlineVolumes, M: MountService>(self, desk: NodeDesk<C, M>) -> Self {
        let node = NodeServer::new(desk).max_decoding_message_size(REQUEST_BYTES_MAX);
        Self { routes: self.routes.add_service(node), ..self }
    }
}

/// Serves until `stop` is cancelled: then accepts nothing new and finishes what is in flight, within
/// [`DRAIN_LIMIT`].
///
/// # Errors
/// See [`ServeError`].
pub async fn serve(endpoint: &Endpoint, desks: Desks, stop: CancellationToken) -> Result<(), ServeError> {
    let (socket, listener) = Socket::bind(endpoint.path()).await?;
    info!(%endpoint, "serving CSI");
    let mut server = Server::builder()
        .concurrency_limit_per_connection(CALLS_PER_CONNECTION_MAX)
        .max_concurrent_streams(u32::try_from(CALLS_PER_CONNECTION_MAX).unwrap_or(u32::MAX));
    let router = server.add_routes(desks.routes);
    let serving =
        router.serve_with_incoming_shutdown(Admission::new(listener), stop.clone().cancelled_owned());
    let drained = CancellationToken::new();
    let until_hung_up = async {
        let outcome = tokio::select! {
            outcome = serving => outcome.map_err(ServeError::Server),
            () = async { drained.cancelled().await; tokio::time::sleep(HANG_UP_LIMIT).await } => Ok(()),
        };
        // It ends by itself only when it has failed.
        stop.cancel();
        outcome
    };
    let until_drained = async {
        stop.cancelled().await;
        // Calls whose callers have hung up are in flight, too.
        if let Err(running) = desks.edge.drain(DRAIN_LIMIT).await {
            warn!(running, "calls are still running while the driver stops; they are to be asked again");
        }
        drained.cancel();
    };
    let (outcome, ()) = tokio::join!(until_hung_up, until_drained);
    // Last: while a call runs, no other driver is to find the path free.
    drop(socket);
    info!(%endpoint, "stopped serving CSI");
    outcome
}

/// Connections, a limited number at a time.
struct Admission {
    listener: UnixListener,
    seats: Arc<Semaphore>,
    seat: Option<OwnedSemaphorePermit>,
    waiting: Option<Pin<Box<dyn Future<Output = Option<OwnedSemaphorePermit>> + Send>>>,
    pause: Option<Pin<Box<tokio::time::Sleep>>>,
}

impl Admission {
    fn new(listener: UnixListener) -> Self {
        let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        Self { listener, seats, seat: None, waiting: None, pause: None }
    }

    fn poll_seat(&mut self, cx: &mut Context<'_>) -> Poll<Option<()>> {
        if self.seat.is_some() {
            return Poll::Ready(Some(()));
        }
        let seats = self.seats.clone();
        let waiting =
            self.waiting.get_or_insert_with(|| Box::pin(async move { seats.acquire_owned().await.ok() }));
        let seat = std::task::ready!(waiting.as_mut().poll(cx));
        self.waiting = None;
        self.seat = seat;
        Poll::Ready(self.seat.is_some().then_some(()))
    }
}

impl Stream for Admission {
    type Item = io::Result<Seated>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            if let Some(pause) = &mut self.pause {
                std::task::ready!(pause.as_mut().poll(cx));
                self.pause = None;
            }
            if std::task::ready!(self.poll_seat(cx)).is_none() {
                return Poll::Ready(None);
            }
            match std::task::ready!(self.listener.poll_accept(cx)) {
                Ok((stream, _)) => {
                    return Poll::Ready(self.seat.take().map(|seat| Ok(Seated { stream, _seat: seat })));
                }
                // An error in the stream would end serving; running out of descriptors passes.
                Err(error) => {
                    warn!(%error, "a connection could not be accepted");
                    self.pause = Some(Box::pin(tokio::time::sleep(ACCEPT_PAUSE)));
                }
            }
        }
    }
}

/// A connection that counts until it ends.
struct Seated {
    stream: UnixStream,
    _seat: OwnedSemaphorePermit,
}

impl Connected for Seated {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Seated {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Seated {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
