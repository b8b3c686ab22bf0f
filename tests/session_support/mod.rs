//! What do the tests of sessions and mounts share?
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod node;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use std::time::Duration;

use mountpod::mountpod::pod::ServedVolume;
use mountpod::mounts::syscalls::{Unmount, unmount};
use mountpod::mounts::table::MountTable;
use mountpod::session::open::{OpenedSession, open_session};
use mountpod::session::state_dir::StateDir;
use mountpod::volume::{ClientKind, MountSpec, Resources, SessionId, ShareKey, TargetPath, VolumeId};

/// What must not wait for a FUSE server takes milliseconds; this is for a machine under load.
pub const NO_WAIT: Duration = Duration::from_secs(10);

/// The driver's program, which is its own helper.
pub const PROGRAM: &str = env!("CARGO_BIN_EXE_mountpod");

pub fn volume(name: &str) -> VolumeId {
    VolumeId::new("test".parse().unwrap(), name).unwrap()
}

pub fn spec(subdirectory: &str) -> MountSpec {
    MountSpec {
        client: ClientKind::Hostdir,
        filesystem: "test".parse().unwrap(),
        subdirectory: subdirectory.to_owned(),
        options: BTreeMap::new(),
        credentials: None,
    }
}

pub fn target(path: &Path) -> TargetPath {
    path.to_str().unwrap().parse().unwrap()
}

/// Runs something that must not wait for a FUSE server.
pub fn without_waiting<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (done, result) = mpsc::channel();
    std::thread::spawn(move || drop(done.send(work())));
    result.recv_timeout(NO_WAIT).unwrap_or_else(|_| panic!("{what} waits for the FUSE server"))
}

/// A session that was opened and that nobody serves. Dropped, it is aborted, and nothing of it is left.
pub struct Unserved {
    pub directory: tempfile::TempDir,
    pub state_dir: StateDir,
    pub session: SessionId,
    pub opened: OpenedSession,
}

impl Unserved {
    pub fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let state_dir = StateDir::create(&directory.path().join("engine")).unwrap();
        let (volume, spec) = (volume("v"), spec(""));
        let session = SessionId::new(&ShareKey::Volume(volume.clone()), &spec.hash().unwrap());
        let served = ServedVolume::new(volume, spec, Resources::default());
        let opened = open_session(&state_dir, &session, &served).unwrap();
        Self { directory, state_dir, session, opened }
    }

    pub fn mount_point(&self) -> PathBuf {
        self.state_dir.mount_point(&self.session)
    }

    pub fn source(&self) -> String {
        self.state_dir.mount_source(&self.session)
    }

    /// A path for a target, whose parent exists.
    pub fn target(&self, name: &str) -> TargetPath {
        target(&self.directory.path().canonicalize().unwrap().join(name))
    }
}

impl Drop for Unserved {
    fn drop(&mut self) {
        // It fails when the test has unmounted the session; closing the device aborts it then.
        drop(unmount(&self.mount_point(), Unmount::Abort));
        unmount_below(self.directory.path());
    }
}

/// Unmounts everything at and below a directory of a test; nothing there is served any more.
pub fn unmount_below(directory: &Path) {
    let directory = directory.canonicalize().unwrap();
    let table = MountTable::read().unwrap();
    let mounts: Vec<_> = table.iter().filter(|mount| mount.mount_point.starts_with(&directory)).collect();
    for mount in mounts.iter().rev() {
        drop(unmount(&mount.mount_point, Unmount::Detach));
    }
}

/// The mounts at and below a directory.
pub fn mounts_below(directory: &Path) -> Vec<String> {
    let directory = directory.canonicalize().unwrap();
    let table = MountTable::read().unwrap();
    let below = table.iter().filter(|mount| mount.mount_point.starts_with(&directory));
    below.map(|mount| format!("{} at {}", mount.source, mount.mount_point.display())).collect()
}
