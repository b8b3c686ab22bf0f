//! How does the agent's socket come into being, whole and private, at a path of any length?

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener as StdListener;
use std::path::{Path, PathBuf};

use nix::fcntl::{OFlag, open, renameat};
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{Mode, fchmod};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tokio::net::UnixListener;

/// Only the agent's user and root may connect.
const SOCKET_MODE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// One driver connects; a second one only when it was restarted.
const BACKLOG: i32 = 8;
/// The socket's name until it is ready.
const NAME_UNTIL_READY: &str = ".agent-new.sock";

/// Why the socket could not be made.
#[derive(Debug, thiserror::Error)]
#[error("can't listen at {path}: does its directory exist, and may this user write to it?")]
pub(super) struct ListenError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

/// The agent's socket; its name goes when it does.
#[derive(Debug)]
pub(super) struct AgentSocket {
    pub(super) listener: UnixListener,
    directory: OwnedFd,
    name: std::ffi::OsString,
}

impl AgentSocket {
    /// Listens at `path`. Its appearance there means that a connection is taken: it is renamed into place, over a
    /// stale one.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub(super) fn bind(path: &Path) -> Result<Self, ListenError> {
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            let source = io::Error::from(io::ErrorKind::InvalidInput);
            return Err(ListenError { path: path.to_owned(), source });
        };
        bind_in(parent, name).map_err(|source| ListenError { path: path.to_owned(), source })
    }
}

fn bind_in(parent: &Path, name: &OsStr) -> io::Result<AgentSocket> {
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let directory = open(parent, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty())?;
    remove(&directory, OsStr::new(NAME_UNTIL_READY))?;
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    // The socket's file gets this mode from the first instant.
    fchmod(&socket, SOCKET_MODE)?;
    // Through /proc the address fits its 108 bytes, however long the path is.
    let through = format!("/proc/self/fd/{}/{NAME_UNTIL_READY}", directory.as_raw_fd());
    bind(socket.as_raw_fd(), &UnixAddr::new(through.as_str())?)?;
    listen(&socket, Backlog::new(BACKLOG)?)?;
    renameat(directory.as_fd(), NAME_UNTIL_READY, directory.as_fd(), name)?;
    let listener = UnixListener::from_std(StdListener::from(socket))?;
    Ok(AgentSocket { listener, directory, name: name.to_owned() })
}

fn remove(directory: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(directory.as_fd(), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(nix::Error::ENOENT) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}

impl Drop for AgentSocket {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.directory, &self.name) {
            tracing::warn!("can't remove the socket: {error}");
        }
    }
}
