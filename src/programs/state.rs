//! What does a driver find in its state directory before anything is published? A place for the engine, and its key.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use crate::volume::NodeKey;

/// Bytes of the node's key: as many as the SHA-256 that it keys.
const KEY_BYTES: usize = 32;
/// Records and sockets of mount pods are for the driver's user alone.
const PRIVATE_DIRECTORY: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;

/// A state directory.
#[derive(Debug)]
pub(super) struct State {
    directory: PathBuf,
    key: NodeKey,
}

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum StateError {
    /// A directory or file could not be made or read.
    #[error("can't {what} {}", path.display())]
    Unusable {
        /// `create`, `open`, `read` ...
        what: &'static str,
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key was cut short: a disk was full, or somebody edited it.
    #[error(
        "{} is not a key of {KEY_BYTES} bytes; if no volume with credentials is published, remove it and start again",
        .0.display()
    )]
    BadKey(PathBuf),
}

fn unusable(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> StateError {
    let path = path.to_owned();
    move |source| StateError::Unusable { what, path, source }
}

impl State {
    /// Makes what is missing, and reads what is there.
    ///
    /// # Errors
    /// See [`StateError`].
    pub(super) fn open(directory: &Path) -> Result<Self, StateError> {
        let made = DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(directory);
        made.map_err(unusable("create", directory))?;
        let narrowed = std::fs::set_permissions(directory, Permissions::from_mode(PRIVATE_DIRECTORY));
        narrowed.map_err(unusable("set the mode of", directory))?;
        let key = read_or_make_key(&directory.join("node.key"))?;
        Ok(Self { directory: directory.to_owned(), key })
    }

    /// Where the engine keeps mount pods and sessions.
    #[must_use]
    pub(super) fn engine(&self) -> PathBuf {
        self.directory.join("engine")
    }

    /// Where whole filesystems are mounted while volumes in them are made.
    #[must_use]
    pub(super) fn filesystems(&self) -> PathBuf {
        self.directory.join("filesystems")
    }

    /// The node's key.
    #[must_use]
    pub(super) fn key(&self) -> NodeKey {
        self.key.clone()
    }
}

fn read_or_make_key(path: &Path) -> Result<NodeKey, StateError> {
    match File::open(path) {
        Ok(mut file) => {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).map_err(unusable("read", path))?;
            if bytes.len() == KEY_BYTES {
                Ok(NodeKey::new(bytes))
            } else {
                Err(StateError::BadKey(path.to_owned()))
            }
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => make_key(path),
        Err(error) => Err(unusable("open", path)(error)),
    }
}

/// A key is whole or not there: it is written beside its place and moved there.
fn make_key(path: &Path) -> Result<NodeKey, StateError> {
    let mut bytes = vec![0; KEY_BYTES];
    getrandom::fill(&mut bytes)
        .map_err(|error| unusable("make random bytes for", path)(io::Error::other(error)))?;
    let beside = path.with_extension("new");
    let file = OpenOptions::new().create(true).truncate(true).write(true).mode(PRIVATE_FILE).open(&beside);
    let mut file = file.map_err(unusable("create", &beside))?;
    file.write_all(&bytes).and_then(|()| file.sync_all()).map_err(unusable("write", &beside))?;
    std::fs::rename(&beside, path).map_err(unusable("create", path))?;
    Ok(NodeKey::new(bytes))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]
    use super::*;
    use crate::volume::{CredentialsDigest, Secrets};

    fn digest(state: &State) -> Option<CredentialsDigest> {
        CredentialsDigest::of(&Secrets::from_iter([("a".to_owned(), "b".to_owned())]), &state.key())
    }

    #[test]
    fn a_key_is_made_once_and_differs_between_nodes() {
        let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let first = digest(&State::open(&one.path().join("state")).unwrap());
        assert_eq!(digest(&State::open(&one.path().join("state")).unwrap()), first);
        assert_ne!(digest(&State::open(other.path()).unwrap()), first);
        let mode = std::fs::metadata(one.path().join("state/node.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, PRIVATE_FILE);
    }

    #[test]
    fn a_key_that_was_cut_short_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("node.key"), "short").unwrap();
        assert!(matches!(State::open(directory.path()), Err(StateError::BadKey(_))));
    }
}
