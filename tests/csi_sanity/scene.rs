//! Where does the driver under test live, and what does it leave behind?

use std::fs;
use std::path::{Path, PathBuf};

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
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").expect("mountinfo is readable");
        // The fifth field is the mount point (proc_pid_mountinfo(5)); our names need no unescaping.
        let points = mountinfo.lines().filter_map(|line| line.split(' ').nth(4)).map(PathBuf::from);
        let mut ours: Vec<_> = points.filter(|point| point.starts_with(self.path())).collect();
        ours.sort();
        ours
    }

    /// Other processes that name the directory in their arguments or environment, or have files in it open.
    pub(crate) fn processes(&self) -> Vec<(Pid, String)> {
        let own = Pid::this();
        let entries = fs::read_dir("/proc").expect("/proc is readable").flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).map(Pid::from_raw);
        pids.filter(|&pid| pid != own).filter_map(|pid| Some((pid, self.tie_of(pid)?))).collect()
    }

    /// How a process is tied to the directory; a process that ends meanwhile is not.
    fn tie_of(&self, pid: Pid) -> Option<String> {
        let process = PathBuf::from(format!("/proc/{pid}"));
        let read = |name: &str| fs::read(process.join(name)).unwrap_or_default();
        let arguments = read("cmdline");
        let said = String::from_utf8_lossy(&arguments).replace('\0', " ");
        if self.is_named_in(&arguments) || self.is_named_in(&read("environ")) {
            return Some(said);
        }
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|entry| entry.path());
        let links = open.chain([process.join("cwd"), process.join("root")]);
        let link =
            links.filter_map(|link| fs::read_link(link).ok()).find(|at| at.starts_with(self.path()))?;
        Some(format!("{said} (holds {})", link.display()))
    }

    fn is_named_in(&self, bytes: &[u8]) -> bool {
        let name = self.path().as_os_str().as_encoded_bytes();
        bytes.windows(name.len()).any(|window| window == name)
    }
}

impl Drop for Scene {
    /// Ends and unmounts what a failed run left, so that the directory can go; a good run left nothing.
    fn drop(&mut self) {
        for (pid, _) in self.processes() {
            kill(pid, Signal::SIGKILL).ok();
        }
        for point in self.mounts().iter().rev() {
            umount2(point, MntFlags::MNT_DETACH).ok();
        }
    }
}
