//! Where does an engine keep its sessions, and which mounts are its own?

use std::ffi::OsStr;
use std::fs::{DirBuilder, Permissions};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::mounts::table::MountEntry;
use crate::volume::SessionId;

/// Only root may look into the directory: a session's mount point admits to every volume.
const PRIVATE_MODE: u32 = 0o700;
/// Mount types of ours begin with this.
const FS_TYPE_PREFIX: &str = "fuse.";
/// Sources of our mounts begin with this.
const SOURCE_PREFIX: &str = "mountpod";
/// Hex digits that tell the engines of a node apart.
const TAG_DIGITS: usize = 8;

/// The directory of one engine: `sessions/<id>/{mnt,record.json}`, beside what its runtime keeps.
///
/// Two engines can serve the same volume in the same way, and so have sessions of the same name; the source of every
/// mount therefore names the engine's directory, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    path: PathBuf,
    tag: String,
}

impl StateDir {
    /// The state of the engine in that directory, which is created.
    ///
    /// # Errors
    /// When the directories can't be created, or made private.
    pub fn create(path: &Path) -> io::Result<Self> {
        private_directory(path)?;
        let path = path.canonicalize()?;
        let mut tag = HEXLOWER.encode(&Sha256::digest(path.as_os_str().as_bytes()));
        tag.truncate(TAG_DIGITS);
        let state_dir = Self { path, tag };
        private_directory(&state_dir.sessions())?;
        Ok(state_dir)
    }

    /// Where the sessions are.
    #[must_use]
    pub fn sessions(&self) -> PathBuf {
        self.path.join("sessions")
    }

    /// The directory of one session.
    #[must_use]
    pub fn session(&self, session: &SessionId) -> PathBuf {
        self.sessions().join(session.as_str())
    }

    /// Where a session is mounted.
    #[must_use]
    pub fn mount_point(&self, session: &SessionId) -> PathBuf {
        self.session(session).join("mnt")
    }

    /// Where a session's record is.
    #[must_use]
    pub fn record(&self, session: &SessionId) -> PathBuf {
        self.session(session).join("record.json")
    }

    /// Where a session's record is written, before it is moved into its place.
    #[must_use]
    pub fn record_draft(&self, session: &SessionId) -> PathBuf {
        self.record(session).with_extension("new")
    }

    /// Creates the directories of a session that is not mounted: if it is, this asks its client.
    ///
    /// # Errors
    /// When that can't be done.
    pub fn create_session(&self, session: &SessionId) -> io::Result<()> {
        private_directory(&self.session(session))?;
        private_directory(&self.mount_point(session))
    }

    /// Removes the directories and the record of a session that is not mounted; gone already is no error.
    ///
    /// # Errors
    /// When something else is there, or the session is still mounted.
    pub fn remove_session(&self, session: &SessionId) -> io::Result<()> {
        // Not remove_dir_all: if the mount still stood there, that would delete the volume.
        missing_is_fine(std::fs::remove_dir(self.mount_point(session)))?;
        missing_is_fine(std::fs::remove_file(self.record(session)))?;
        // Left by a driver that was killed before it moved the record into its place.
        missing_is_fine(std::fs::remove_file(self.record_draft(session)))?;
        missing_is_fine(std::fs::remove_dir(self.session(session)))
    }

    /// The sessions that have a directory.
    ///
    /// # Errors
    /// When the directory can't be read.
    pub fn recorded(&self) -> io::Result<Vec<SessionId>> {
        let mut recorded = Vec::new();
        for entry in std::fs::read_dir(self.sessions())? {
            recorded.extend(entry?.file_name().to_str().and_then(|name| name.parse().ok()));
        }
        Ok(recorded)
    }

    /// The source that all mounts of a session have.
    #[must_use]
    pub fn mount_source(&self, session: &SessionId) -> String {
        format!("{SOURCE_PREFIX}:{}:{session}", self.tag)
    }

    /// The session that a mount is of; `None` when it is none of this engine's.
    #[must_use]
    pub fn session_of(&self, mount: &MountEntry) -> Option<SessionId> {
        let mut parts = mount.source.split(':');
        let ours = mount.fs_type.starts_with(FS_TYPE_PREFIX)
            && parts.next() == Some(SOURCE_PREFIX)
            && parts.next() == Some(self.tag.as_str());
        let session = parts.next().filter(|_| ours)?.parse().ok()?;
        parts.next().is_none().then_some(session)
    }

    /// Is that the mount at a session's own mount point, rather than a bind mount of it at a target?
    #[must_use]
    pub fn is_own_mount(&self, mount: &MountEntry) -> bool {
        mount.mount_point.starts_with(self.sessions())
            && mount.mount_point.file_name() == Some(OsStr::new("mnt"))
    }
}

fn private_directory(path: &Path) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(PRIVATE_MODE).create(path)?;
    std::fs::set_permissions(path, Permissions::from_mode(PRIVATE_MODE))
}

fn missing_is_fine(result: io::Result<()>) -> io::Result<()> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        done => done,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

    use super::*;
    use crate::mounts::table::MountTable;

    const SESSION: &str = "0123456789abcdef0123456789abcdef";

    fn entry(fs_type: &str, source: &str) -> MountEntry {
        let line = format!("1 2 0:3 / /t rw - {fs_type} {source} rw");
        MountTable::parse(line.as_bytes()).iter().next().unwrap().clone()
    }

    #[test]
    fn two_engines_do_not_take_each_others_mounts() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (a, b) = (StateDir::create(a.path()).unwrap(), StateDir::create(b.path()).unwrap());
        let session: SessionId = SESSION.parse().unwrap();
        let mount = entry("fuse.hostdir", &a.mount_source(&session));
        assert_eq!(a.session_of(&mount), Some(session));
        assert_eq!(b.session_of(&mount), None);
    }

    #[test]
    fn look_alikes_are_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let dir = StateDir::create(dir.path()).unwrap();
        let source = dir.mount_source(&SESSION.parse().unwrap());
        for (fs_type, source) in [
            ("ext4", source.clone()),
            ("fuse.x", format!("{source}:more")),
            ("fuse.x", source.replace(SESSION, "short")),
            ("fuse.x", format!("x{source}")),
            ("fuse.x", format!("mountpod:{SESSION}")),
        ] {
            assert_eq!(dir.session_of(&entry(fs_type, &source)), None, "{fs_type} {source}");
        }
    }

    #[test]
    fn a_record_that_was_only_begun_goes_with_its_session() {
        let dir = tempfile::tempdir().unwrap();
        let dir = StateDir::create(dir.path()).unwrap();
        let session: SessionId = SESSION.parse().unwrap();
        dir.create_session(&session).unwrap();
        std::fs::write(dir.record_draft(&session), "{\"vers").unwrap();
        dir.remove_session(&session).unwrap();
        assert!(dir.recorded().unwrap().is_empty());
    }

    #[test]
    fn a_session_that_still_has_files_is_not_removed() {
        let dir = tempfile::tempdir().unwrap();
        let dir = StateDir::create(dir.path()).unwrap();
        let session: SessionId = SESSION.parse().unwrap();
        dir.create_session(&session).unwrap();
        let file = dir.mount_point(&session).join("precious");
        std::fs::write(&file, "x").unwrap();
        assert!(dir.remove_session(&session).is_err());
        assert!(file.exists());
        assert_eq!(dir.recorded().unwrap(), [session]);
    }
}
