//! What do the driver and the agent of a mount pod say to each other?
//!
//! The agent listens on a Unix stream socket. The driver connects, the agent answers with [`FromAgent::Hello`], and from
//! then on the driver sends [`ToAgent`] and the agent [`FromAgent`] at any time. A frame is a u32 length (little-endian),
//! that many bytes of JSON, and the descriptors named in the message, in that order, sent with its first byte.
//! A newer connection replaces an older one: a driver that was restarted takes over.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::volume::{ClientFault, ClientKind, SessionId};

/// The version of the messages; a peer with another one is refused by both sides.
pub const FRAME_VERSION: u32 = 1;
/// A longer frame is refused: offers carry options and credentials, nothing bulky.
pub const FRAME_BYTES_MAX: usize = 256 * 1024;
/// The most descriptors in one frame (the kernel's `SCM_MAX_FD` is 253).
pub const FRAME_FDS_MAX: usize = 4;

/// From the driver to the agent.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToAgent {
    /// Serve this session. Descriptors: FUSE device, state memfd, and for hostdir the directory tree.
    /// Offered again (same session), it is answered by the present state and the new descriptors are closed.
    Offer(Box<Offer>),
    /// Give me back what you hold. Answered by `Holding` or `Idle`.
    Adopt,
    /// How are you? Answered by `Status`.
    Status,
    /// Stop the client without ending the session, answer `Released` with the descriptors, and exit.
    Release,
    /// The session has ended or is not yours any more: end the client, and exit.
    Stop,
}

/// A session to be served.
#[derive(Serialize, Deserialize)]
pub struct Offer {
    /// Which.
    pub session: SessionId,
    /// Which client, and how.
    pub client: ClientLaunch,
    /// What FUSE_INIT negotiated; a client started later must keep to it.
    pub negotiated: Negotiated,
    /// Credentials for the client's environment; never logged, never written to a file.
    pub credentials: BTreeMap<String, String>,
}

/// How a client is run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientLaunch {
    /// The FUSE program.
    pub kind: ClientKind,
    /// The directory of its filesystem that becomes the root of the mount, for clients that open it themselves.
    #[serde(default)]
    pub subdirectory: String,
    /// Its options, checked before.
    pub options: BTreeMap<String, String>,
}

/// The reply to FUSE_INIT that the driver gave (`struct fuse_init_out`, include/uapi/linux/fuse.h).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Negotiated {
    /// Minor version of protocol 7.
    pub minor: u32,
    /// All 64 flag bits.
    pub flags: u64,
    /// Bytes.
    pub max_readahead: u32,
    /// Bytes; a later client's buffers must fit it.
    pub max_write: u32,
    /// Pages of 4 KiB.
    pub max_pages: u16,
}

/// From the agent to the driver.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromAgent {
    /// The first word on a connection.
    Hello {
        /// [`FRAME_VERSION`] of the agent.
        version: u32,
        /// The agent's program version, for people.
        program: String,
    },
    /// Answer to `Adopt`: the agent holds this session. Descriptors: FUSE device, state memfd, and the pidfd of the
    /// client when one runs.
    Holding {
        /// Which.
        session: SessionId,
        /// How its client is.
        client: ClientState,
        /// What FUSE_INIT negotiated.
        negotiated: Negotiated,
    },
    /// Answer to `Adopt` and `Status`: no session yet.
    Idle,
    /// Answer to `Offer` and `Status`, and sent by itself at every change. A pidfd comes along with `Serving`.
    Status {
        /// Which session.
        session: SessionId,
        /// How its client is.
        client: ClientState,
        /// What the client has complained of lately, without secrets.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        complaint: Option<String>,
    },
    /// Answer to `Release`: the client is dead. Descriptors: FUSE device, state memfd.
    Released {
        /// Which session.
        session: SessionId,
    },
    /// The request can't be taken.
    Refused {
        /// Why, for people.
        why: String,
    },
}

/// How the client is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum ClientState {
    /// Started or being restarted; requests wait.
    Starting {
        /// Starts so far, this one included.
        starts: u32,
    },
    /// Answers requests.
    Serving {
        /// Starts so far.
        starts: u32,
        /// In the agent's own PID namespace.
        pid: u32,
    },
    /// Leaves its open files to a successor, and ends. It must be sent requests meanwhile: its readers see only with the
    /// next one that they are to stop.
    Parting {
        /// Starts so far.
        starts: u32,
    },
    /// Can't be brought to serve.
    Failed {
        /// Last words of the client, without secrets.
        why: String,
        /// What they come to; an older agent does not say.
        #[serde(default)]
        fault: ClientFault,
    },
    /// It saw the end of the session, flushed, and exited.
    Ended,
}

impl std::fmt::Debug for Offer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Offer")
            .field("session", &self.session)
            .field("client", &self.client)
            .field("negotiated", &self.negotiated)
            .field("credentials", &self.credentials.keys().collect::<Vec<_>>())
            .finish()
    }
}
