//! How is each kind of client run? One file per client, behind one trait.
//!
//! A client is brought to serve by a row of programs: those that prepare it, one after the other, and the one that
//! serves. The agent starts them, watches them and keeps what they say; a client's file says which they are, what their
//! ends mean, and how its state passes to a successor.

use std::ffi::{CString, NulError};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::frames::{ClientLaunch, Negotiated};
use super::messages::SessionFds;
use super::processes::ExitKind;
use super::tail::{Ear, Meaning, Tail};
use crate::juicefs::options::InvalidOption;
use crate::juicefs::secret::InvalidSecret;
use crate::volume::{ClientFault, ClientKind, Secrets, SessionId};

pub(super) mod desk;
mod hostdir;
mod juicefs;
mod juicefs_places;
mod juicefs_state;

use desk::Desk;

/// This process's own program, whatever happened to its file.
const THIS_PROGRAM: &str = "/proc/self/exe";

/// Where the clients' programs are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientPrograms {
    /// In the directory of this process's program, as in the mount image.
    BesideThis,
    /// In this process's program: its first argument names the client.
    WithinThis,
}

/// Where a client that has metrics tells them.
#[derive(Debug, Clone, Default)]
pub(super) struct Metrics {
    /// On all addresses of the pod; `None`: nowhere that others know.
    pub(super) port: Option<u16>,
    /// Their label `volume`.
    pub(super) volume: Option<String>,
}

/// What an agent knows of its surroundings.
#[derive(Debug, Clone)]
pub(super) struct Places {
    pub(super) programs: ClientPrograms,
    /// Instead of the installed hostdir client.
    pub(super) hostdir_program: Option<PathBuf>,
    /// Instead of the installed JuiceFS client.
    pub(super) juicefs_program: Option<PathBuf>,
    /// The mount pod's own directory for a client's cache.
    pub(super) cache: PathBuf,
    /// Where the client's metrics are told.
    pub(super) metrics: Metrics,
    /// The directory of the agent's socket, which the client may write to as well.
    pub(super) directory: PathBuf,
}

/// Why a client could not be run.
#[derive(Debug, thiserror::Error)]
pub(super) enum LaunchError {
    /// The client has no such option.
    #[error("the client {client} has no option {option:?} with the value {value:?}")]
    Option {
        /// Which client.
        client: &'static str,
        /// The option's name.
        option: String,
        /// Its value.
        value: String,
    },
    /// An option that JuiceFS does not have, or may not have here.
    #[error(transparent)]
    JuicefsOption(#[from] InvalidOption),
    /// A Secret that does not describe a JuiceFS filesystem.
    #[error(transparent)]
    JuicefsSecret(#[from] InvalidSecret),
    /// An argument can't be passed to a program.
    #[error("an argument of the client has a NUL byte")]
    Nul(#[from] NulError),
    /// The offer lacks what this client needs.
    #[error("the offer for the client {0} has no directory tree")]
    NoTree(&'static str),
    /// Where this program lies is unknown.
    #[error("can't find the directory of this program")]
    Unplaced(#[source] io::Error),
    /// What the client needs of the system can't be had.
    #[error("can't {what}")]
    System {
        /// What was tried.
        what: &'static str,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// The system did not let us.
    #[error("can't start the client {program:?}")]
    Start {
        /// Which program.
        program: CString,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl LaunchError {
    /// What the error is called for any client.
    pub(super) fn fault(&self) -> ClientFault {
        match self {
            Self::Option { .. } | Self::JuicefsOption(_) => ClientFault::Option,
            Self::JuicefsSecret(_) => ClientFault::Filesystem,
            Self::Nul(_) | Self::NoTree(_) | Self::Unplaced(_) | Self::System { .. } | Self::Start { .. } => {
                ClientFault::Unknown
            }
        }
    }
}

fn cant<E: Into<io::Error>>(what: &'static str) -> impl FnOnce(E) -> LaunchError {
    move |source| LaunchError::System { what, source: source.into() }
}

/// A program to be run.
#[derive(Debug)]
pub(super) struct Program {
    /// Its file.
    pub(super) path: CString,
    /// Its arguments; the first is its name.
    pub(super) arguments: Vec<CString>,
    /// Its whole environment: `NAME=value`, credentials in it.
    pub(super) environment: Environment,
}

impl Program {
    fn new(
        path: PathBuf,
        arguments: impl IntoIterator<Item = String>,
        environment: Environment,
    ) -> Result<Self, LaunchError> {
        use std::os::unix::ffi::OsStringExt;
        let arguments = arguments.into_iter().map(CString::new).collect::<Result<_, _>>()?;
        Ok(Self { path: CString::new(path.into_os_string().into_vec())?, arguments, environment })
    }
}

/// An environment, which may hold credentials and is therefore never shown.
#[derive(Default)]
pub(super) struct Environment(pub(super) Vec<CString>);

impl Environment {
    fn of<'a>(variables: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Self, LaunchError> {
        let variables = variables.into_iter().map(|(name, value)| CString::new(format!("{name}={value}")));
        Ok(Self(variables.collect::<Result<_, _>>()?))
    }
}

impl std::fmt::Debug for Environment {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Environment({} variables, <redacted>)", self.0.len())
    }
}

/// A program with what it is given, and how it is heard.
#[derive(Debug)]
pub(super) struct Launch {
    pub(super) program: Program,
    /// What it finds at 3, 4 and so on.
    pub(super) fds: Vec<OwnedFd>,
    pub(super) voice: Voice,
}

/// How a program tells what it does.
#[derive(Debug)]
pub(super) enum Voice {
    /// It sends events on a socket that it finds after its other descriptors.
    Events,
    /// It fetches the session from this desk.
    Desk(Desk),
    /// It prepares; what it prints goes into this file instead of the log, if there is one.
    Prepares { output: Option<OwnedFd> },
}

/// What a client of a session is started from, the first time and every other time.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) session: SessionId,
    pub(super) client: ClientLaunch,
    pub(super) negotiated: Negotiated,
    pub(super) fds: SessionFds,
    pub(super) tree: Option<OwnedFd>,
    pub(super) credentials: Secrets,
}

/// What the end of a serving client means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum EndMeans {
    /// It saw the end of its session.
    SessionEnded,
    /// It died.
    Died,
}

/// How far a client is with leaving its state to a successor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Parting {
    /// It was told, and will end by itself.
    Told,
    /// Not yet: somebody else is at it.
    Later,
    /// It can't: it is to be killed.
    Impossible,
}

/// What the last words of a client that does not serve mean.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Complaint {
    /// What is wrong, and what to do, before the client's own words; empty when nothing is known.
    pub(super) explanation: String,
    /// Will trying again be of use?
    pub(super) hope: Hope,
    /// What it is called for any client.
    pub(super) fault: ClientFault,
}

/// Will trying again be of use?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hope {
    /// Somebody must change something first.
    None,
    /// As far as is known.
    Some,
}

/// What the agent must know of a kind of client.
pub(super) trait Client: std::fmt::Debug {
    /// What no log and no error may show.
    fn hidden(&self, serving: &Serving) -> Secrets {
        serving.credentials.clone()
    }

    /// What lines of its output mean.
    fn ear(&self) -> Ear {
        |_| Meaning::Nothing
    }

    /// The next program to be run before the client can serve.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn preparation(&mut self, _serving: &Serving) -> Result<Option<Launch>, LaunchError> {
        Ok(None)
    }

    /// That program ended well.
    ///
    /// # Errors
    /// When what it said forbids to go on; trying again is of no use then.
    fn prepared(&mut self, _serving: &Serving) -> Result<(), LaunchError> {
        Ok(())
    }

    /// The program that serves. The last one is dead.
    ///
    /// # Errors
    /// See [`LaunchError`].
    fn serve(&mut self, serving: &Serving) -> Result<Launch, LaunchError>;

    /// How long it may take from its start until it serves; `None` when it tells of every failure itself.
    fn start_limit(&self) -> Option<Duration> {
        None
    }

    /// It serves now: what its predecessor left was taken.
    fn serves(&mut self, _serving: &Serving) {}

    /// What its end means.
    fn end_means(&self, kind: ExitKind, _fuse: BorrowedFd<'_>) -> EndMeans {
        if kind == ExitKind::Success { EndMeans::SessionEnded } else { EndMeans::Died }
    }

    /// Tells the serving client to leave its state to a successor and to end.
    fn part(&mut self, _pid: nix::unistd::Pid, _tail: &Tail) -> Parting {
        Parting::Impossible
    }

    /// The client that was told so is dead: its state goes into the session's.
    fn parted(&mut self, _serving: &Serving, _tail: &Tail) {}

    /// It died with these last words without having served: can that be put right by preparing it once more?
    fn remedy(&mut self, _words: &str) -> bool {
        false
    }

    /// What its last words mean.
    fn complaint(&self, _words: &str) -> Complaint {
        Complaint { explanation: String::new(), hope: Hope::Some, fault: ClientFault::Unknown }
    }
}

/// How a session's client is run.
///
/// # Errors
/// When the offer is none that it can be run by.
pub(super) fn client_for(serving: &Serving, places: &Places) -> Result<Box<dyn Client>, LaunchError> {
    Ok(match serving.client.kind {
        ClientKind::Hostdir => Box::new(hostdir::Hostdir::new(serving, places)?),
        ClientKind::Juicefs => Box::new(juicefs::Juicefs::new(serving, places)?),
    })
}

fn beside_this(name: &str) -> Result<PathBuf, LaunchError> {
    let this = std::fs::read_link(THIS_PROGRAM).map_err(LaunchError::Unplaced)?;
    Ok(this.with_file_name(name))
}

fn duplicate(fd: &OwnedFd) -> Result<OwnedFd, LaunchError> {
    fd.try_clone().map_err(cant("duplicate a descriptor of the session"))
}

/// A place below the agent's own directory.
fn place_in(directory: &Path, name: &str) -> PathBuf {
    directory.join(name)
}
