//! How is the driver's socket made so that nobody else gets in, nobody is pushed out, and nothing else is lost?

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::errno::Errno;
use nix::fcntl::AT_FDCWD;
use nix::fcntl::AtFlags;
use nix::sys::socket::{AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket};
use nix::sys::stat::{FileStat, Mode, SFlag, fchmod, fstatat};
use nix::unistd::{UnlinkatFlags, unlinkat};
use tokio::net::{UnixListener, UnixStream};

/// Connections that may wait to be accepted.
const BACKLOG: i32 = 64;
/// Longest wait for a living driver to accept a connection on a socket that is there already; it does so at once.
const LIVING_LIMIT: Duration = Duration::from_secs(2);

/// Why the driver's socket can't be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// Another driver serves on it.
    #[error("a driver is serving on {} already; stop it first, or choose another --endpoint", .0.display())]
    Living(PathBuf),
    /// Something that is no socket has the path.
    #[error("{} is there and is no socket; remove it, or choose another --endpoint", .0.display())]
    NotASocket(PathBuf),
    /// The machine refused something.
    #[error("{what} {} failed", path.display())]
    Failed {
        /// What was asked.
        what: &'static str,
        /// The socket.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// The driver's socket; removed when it is dropped, if it still is the same.
#[derive(Debug)]
pub(super) struct Socket {
    path: PathBuf,
    /// Device and inode of the file that was bound.
    identity: (u64, u64),
}

impl Socket {
    /// Binds the path and listens. Only the user of this process can connect, from the first moment on.
    pub(super) async fn bind(path: &Path) -> Result<(Self, UnixListener), SocketError> {
        let failed =
            |what| move |source: io::Error| SocketError::Failed { what, path: path.to_owned(), source };
        remove_stale(path).await?;
        let listener = listen_privately(path).map_err(|errno| failed("listening on")(errno.into()))?;
        let stat = look(path).map_err(|errno| failed("looking at")(errno.into()))?;
        let listener = std::os::unix::net::UnixListener::from(listener);
        listener.set_nonblocking(true).map_err(failed("setting up"))?;
        let listener = UnixListener::from_std(listener).map_err(failed("setting up"))?;
        Ok((Self { path: path.to_owned(), identity: (stat.st_dev, stat.st_ino) }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        let ours = look(&self.path).is_ok_and(|stat| (stat.st_dev, stat.st_ino) == self.identity);
        if ours && let Err(error) = unlinkat(AT_FDCWD, &self.path, UnlinkatFlags::NoRemoveDir) {
            tracing::warn!(path = %self.path.display(), %error, "the socket could not be removed");
        }
    }
}

/// Removes a socket that nobody answers on. Anything else at the path stays and is an error.
async fn remove_stale(path: &Path) -> Result<(), SocketError> {
    let failed = |what, source: io::Error| SocketError::Failed { what, path: path.to_owned(), source };
    let stat = match look(path) {
        Err(Errno::ENOENT) => return Ok(()),
        Err(errno) => return Err(failed("looking at", errno.into())),
        Ok(stat) => stat,
    };
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFSOCK {
        return Err(SocketError::NotASocket(path.to_owned()));
    }
    match tokio::time::timeout(LIVING_LIMIT, UnixStream::connect(path)).await {
        // A socket that takes no connection in time has a listener all the same: its backlog is full.
        Ok(Ok(_)) | Err(_) => return Err(SocketError::Living(path.to_owned())),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {}
        Ok(Err(error)) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Ok(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
            return Err(SocketError::Living(path.to_owned()));
        }
        Ok(Err(error)) => return Err(failed("connecting to", error)),
    }
    match unlinkat(AT_FDCWD, path, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => Ok(()),
        Err(errno) => Err(failed("removing the stale socket", errno.into())),
    }
}

/// The mode of an unbound socket's inode becomes that of its file (unix(7)), so there is no moment with another one.
fn listen_privately(path: &Path) -> Result<OwnedFd, Errno> {
    let listener = socket(AddressFamily::Unix, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
    fchmod(&listener, Mode::S_IRUSR | Mode::S_IWUSR)?;
    bind(listener.as_raw_fd(), &UnixAddr::new(path)?)?;
    listen(&listener, Backlog::new(BACKLOG)?)?;
    Ok(listener)
}

fn look(path: &Path) -> Result<FileStat, Errno> {
    fstatat(AT_FDCWD, path, AtFlags::AT_SYMLINK_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};

    use super::*;

    fn place() -> (tempfile::TempDir, PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("csi.sock");
        (dir, path)
    }

    #[tokio::test]
    async fn only_its_owner_may_connect_and_it_goes_with_its_driver() {
        let (_dir, path) = place();
        let (socket, _listener) = Socket::bind(&path).await.unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced() {
        let (_dir, path) = place();
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        let before = path.metadata().unwrap().ino();
        let (_socket, _listener) = Socket::bind(&path).await.unwrap();
        assert!(UnixStream::connect(&path).await.is_ok());
        assert!(path.metadata().unwrap().permissions().mode() & 0o777 == 0o600, "inode before: {before}");
    }

    #[tokio::test]
    async fn a_living_driver_is_not_pushed_out() {
        let (_dir, path) = place();
        let _living = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert!(matches!(Socket::bind(&path).await, Err(SocketError::Living(_))));
        assert!(UnixStream::connect(&path).await.is_ok());
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let (dir, path) = place();
        std::fs::write(&path, "precious").unwrap();
        assert!(matches!(Socket::bind(&path).await, Err(SocketError::NotASocket(_))));
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "precious");
        assert!(matches!(Socket::bind(dir.path()).await, Err(SocketError::NotASocket(_))));
        let link = dir.path().join("link");
        symlink(&path, &link).unwrap();
        assert!(matches!(Socket::bind(&link).await, Err(SocketError::NotASocket(_))));
    }

    #[tokio::test]
    async fn a_socket_of_another_is_not_removed() {
        let (_dir, path) = place();
        let (socket, _listener) = Socket::bind(&path).await.unwrap();
        let aside = path.with_extension("aside");
        std::fs::rename(&path, &aside).unwrap();
        let _other = std::os::unix::net::UnixListener::bind(&path).unwrap();
        drop(socket);
        assert!(path.exists());
    }
}
