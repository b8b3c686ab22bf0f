//! Where does the driver under test live, and what does it leave behind?

use std::path::{Path, PathBuf};

use mountpod::programs::leftovers::mounts_under;
use mountpod::programs::processes::{Process, tied_to};
use nix::mount::{MntFlags, umount2};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tempfile::TempDir;

/// A directory of one run. Its name is like no other: whatever mentions it belongs to the run.
pub(crate) struct Scene {
    dir: TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let dir =
            tempfile::Builder::new().prefix("mountpod-sanity-").tempdir().expect("a temporary directory");
        Self { dir }
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Mount points at or below the directory, the deepest last.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        mounts_under(self.path()).expect("the mount table is readable")
    }

    /// Other processes that are tied to the directory, with their command lines.
    pub(crate) fn processes(&self) -> Vec<(Process, String)> {
        tied_to(self.path())
    }
}

impl Drop for Scene {
    /// Ends and unmounts what a failed run left, so that the directory can go; a good run left nothing.
    fn drop(&mut self) {
        for (process, _) in self.processes() {
            kill(Pid::from_raw(process.pid), Signal::SIGKILL).ok();
        }
        for point in self.mounts().iter().rev() {
            umount2(point, MntFlags::MNT_DETACH).ok();
        }
    }
}
