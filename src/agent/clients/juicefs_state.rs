//! How do the open handles of a JuiceFS client pass to its successor?
//!
//! On SIGHUP the client writes them to `/tmp/state<its parent's pid>.json`, which can't be chosen, and exits. In a
//! container `/tmp` is the mount pod's own. Where mount pods are local processes they share `/tmp`, and every agent is
//! process 1 of its own namespace, so that all their clients write the same file: one at a time, under a lock.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::{Flock, FlockArg};
use nix::libc::O_NOFOLLOW;
use nix::unistd::geteuid;

use crate::juicefs::saved::{HEAD_BYTES, Head, STATE_BYTES};

/// Where the client writes, and where its lock is.
const CLIENT_DIRECTORY: &str = "/tmp";
const LOCK_FILE: &str = "mountpod-juicefs.lock";
/// Where a client finds what its predecessor left, below the agent's own directory.
const HANDLES_FILE: &str = "handles.json";
/// Only this user.
const PRIVATE: u32 = 0o600;

/// The places of a client's state.
#[derive(Debug)]
pub(super) struct StateFiles {
    /// Written by the client that ends.
    written: PathBuf,
    /// Read by the client that begins.
    handles: PathBuf,
    lock_file: PathBuf,
    lock: Option<Flock<File>>,
}

impl StateFiles {
    pub(super) fn new(directory: &Path) -> Self {
        Self::with_client_in(Path::new(CLIENT_DIRECTORY), directory)
    }

    /// With a client that writes into another directory.
    pub(super) fn with_client_in(writes: &Path, directory: &Path) -> Self {
        Self {
            written: writes.join(format!("state{}.json", std::process::id())),
            handles: directory.join(HANDLES_FILE),
            lock_file: writes.join(LOCK_FILE),
            lock: None,
        }
    }

    /// Where the next client is to look for handles; without it, it would take those of any other mount pod.
    pub(super) fn handles(&self) -> &Path {
        &self.handles
    }

    /// Makes the place free for a client that is about to end; false when another mount pod's is just doing so.
    pub(super) fn reserve(&mut self) -> io::Result<bool> {
        if self.lock.is_none() {
            let mut options = OpenOptions::new();
            options.write(true).create(true).truncate(false).mode(PRIVATE).custom_flags(O_NOFOLLOW);
            match Flock::lock(options.open(&self.lock_file)?, FlockArg::LockExclusiveNonblock) {
                Ok(lock) => self.lock = Some(lock),
                Err((_, nix::Error::EWOULDBLOCK)) => return Ok(false),
                Err((_, errno)) => return Err(errno.into()),
            }
        }
        remove(&self.written)?;
        Ok(true)
    }

    /// Gives the place up.
    pub(super) fn leave(&mut self) {
        self.lock = None;
    }

    /// Takes what the client left into the session's state. False when it left nothing.
    pub(super) fn save(&mut self, state: &OwnedFd, session: u64) -> io::Result<bool> {
        let saved = self.save_locked(state, session);
        self.leave();
        saved
    }

    fn save_locked(&self, state: &OwnedFd, session: u64) -> io::Result<bool> {
        let mut file = match OpenOptions::new().read(true).custom_flags(O_NOFOLLOW).open(&self.written) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
            opened => opened?,
        };
        let facts = file.metadata()?;
        if !facts.is_file() || facts.uid() != geteuid().as_raw() {
            return Err(io::Error::other(format!(
                "{} was not written by the client",
                self.written.display()
            )));
        }
        let head = Head { session, handles: facts.len() };
        if !head.fits() {
            return Err(io::Error::other(format!("{} bytes of open handles are too many", facts.len())));
        }
        let mut handles = Vec::new();
        Read::by_ref(&mut file).take(STATE_BYTES).read_to_end(&mut handles)?;
        serde_json::from_slice::<serde::de::IgnoredAny>(&handles)?;
        let state = File::from(state.try_clone()?);
        state.write_all_at(&handles, HEAD_BYTES as u64)?;
        // Last: a half-written state is none.
        state.write_all_at(&Head { session, handles: handles.len() as u64 }.bytes(), 0)?;
        remove(&self.written)?;
        Ok(true)
    }

    /// Lays ready what the session's state holds; the metadata session of the client that left it.
    pub(super) fn lay_ready(&self, state: &OwnedFd) -> io::Result<Option<u64>> {
        remove(&self.handles)?;
        let state = File::from(state.try_clone()?);
        let mut head = [0; HEAD_BYTES];
        match state.read_exact_at(&mut head, 0) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            read => read?,
        }
        let Some(head) = Head::read(&head) else { return Ok(None) };
        let mut handles = vec![0; usize::try_from(head.handles).map_err(io::Error::other)?];
        state.read_exact_at(&mut handles, HEAD_BYTES as u64)?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(PRIVATE).open(&self.handles)?;
        file.write_all(&handles)?;
        Ok(Some(head.session))
    }

    /// A client serves with it: a successor must not take it again.
    pub(super) fn forget(&self, state: &OwnedFd) -> io::Result<()> {
        File::from(state.try_clone()?).write_all_at(&[0; HEAD_BYTES], 0)?;
        remove(&self.handles)?;
        // The client renames what it has read.
        remove(&self.handles.with_extension("json.bak"))
    }
}

fn remove(path: &Path) -> io::Result<()> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::session::state::create_state;

    fn files(directory: &Path) -> StateFiles {
        StateFiles::with_client_in(directory, directory)
    }

    #[test]
    fn handles_reach_the_successor_once() {
        let directory = tempfile::tempdir().unwrap();
        let (state, mut files) = (create_state(STATE_BYTES).unwrap(), files(directory.path()));
        assert_eq!(files.lay_ready(&state).unwrap(), None);
        assert!(files.reserve().unwrap());
        std::fs::write(&files.written, r#"{"Handler":{},"NextFh":3}"#).unwrap();
        assert!(files.save(&state, 9).unwrap());
        assert!(!files.written.exists());
        for _ in 0..2 {
            assert_eq!(files.lay_ready(&state).unwrap(), Some(9), "until somebody serves with it");
            assert_eq!(std::fs::read_to_string(files.handles()).unwrap(), r#"{"Handler":{},"NextFh":3}"#);
        }
        files.forget(&state).unwrap();
        assert_eq!(files.lay_ready(&state).unwrap(), None);
        assert!(!files.handles().exists());
    }

    #[test]
    fn one_at_a_time_and_nothing_stale_or_foreign() {
        let directory = tempfile::tempdir().unwrap();
        let state = create_state(STATE_BYTES).unwrap();
        let (mut one, mut other) = (files(directory.path()), files(directory.path()));
        std::fs::write(&one.written, "stale").unwrap();
        assert!(one.reserve().unwrap() && !other.reserve().unwrap());
        assert!(!one.save(&state, 1).unwrap(), "the stale file is gone");
        assert!(other.reserve().unwrap());
        std::fs::write(&other.written, "no JSON").unwrap();
        assert!(other.save(&state, 1).is_err());
        assert!(one.reserve().unwrap());
        std::os::unix::fs::symlink("/etc/passwd", &one.written).unwrap();
        assert!(one.save(&state, 1).is_err());
        assert_eq!(one.lay_ready(&state).unwrap(), None);
    }
}
