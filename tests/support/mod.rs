//! A real driver for tests: started as a process, called over its socket, and gone without a trace at the end.
#![allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::let_underscore_must_use,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::too_many_lines,
    clippy::unwrap_used,
    reason = "a test may panic, print figures and start processes"
)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use mountpod::csi::api::v1::Volume;
use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::mounts::syscalls::{Unmount, unmount};
use mountpod::programs::caller::Caller;
use mountpod::programs::leftovers::Leftovers;
use mountpod::programs::processes::{PodProcesses, pods_under};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A driver that starts listens within this.
const START_MAX: Duration = Duration::from_secs(20);
/// A driver that was asked to end has ended within this.
const STOP_MAX: Duration = Duration::from_secs(60);
/// Processes and control groups vanish a moment after the call that ended them.
const NOTHING_LEFT_MAX: Duration = Duration::from_secs(15);

/// Between two looks.
const PAUSE: Duration = Duration::from_millis(10);

/// A driver and its directory.
pub struct Driver {
    directory: tempfile::TempDir,
    child: Option<Child>,
    log_level: &'static str,
    small_disk: Option<PathBuf>,
    more_arguments: Vec<OsString>,
}

impl Driver {
    /// Starts a driver with the root `main` in a fresh directory.
    pub fn start() -> Self {
        Self::start_with_log_level("debug")
    }

    /// The same, with another log level.
    pub fn start_with_log_level(log_level: &'static str) -> Self {
        let mut driver = Self::prepare(log_level);
        driver.start_again();
        driver
    }

    /// The same with a JuiceFS client of this machine.
    pub fn start_with_juicefs(program: &Path) -> Self {
        let mut driver = Self::prepare("debug");
        driver.more_arguments = vec!["--juicefs-program".into(), program.into()];
        driver.start_again();
        driver
    }

    /// Starts a driver whose state directory is a file system of 2 MiB.
    pub fn start_on_small_disk() -> Self {
        let mut driver = Self::prepare("debug");
        let state = driver.path().join("state");
        fs::create_dir(&state).unwrap();
        mount_tmpfs(&state, "2m");
        driver.small_disk = Some(state);
        driver.start_again();
        driver
    }

    fn prepare(log_level: &'static str) -> Self {
        let directory = tempfile::Builder::new().prefix("mountpod-test-").tempdir().unwrap();
        fs::create_dir(directory.path().join("main")).unwrap();
        fs::create_dir(directory.path().join("targets")).unwrap();
        Self { directory, child: None, log_level, small_disk: None, more_arguments: Vec::new() }
    }

    /// Starts the driver on the directory of one that was killed or stopped.
    pub fn start_again(&mut self) {
        let path = self.path();
        let log = fs::OpenOptions::new().create(true).append(true).open(path.join("driver.log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_mountpod"))
            .arg("standalone")
            .arg("--endpoint")
            .arg(format!("unix://{}", self.socket().display()))
            .arg("--state-dir")
            .arg(path.join("state"))
            .arg("--hostdir-root")
            .arg(format!("main={}", path.join("main").display()))
            .args(["--log-level", self.log_level])
            .args(&self.more_arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .process_group(0)
            .spawn();
        self.child = Some(child.unwrap());
    }

    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    pub fn socket(&self) -> PathBuf {
        self.path().join("csi.sock")
    }

    /// Where the volumes of root `main` lie.
    pub fn root(&self) -> PathBuf {
        self.path().join("main")
    }

    pub fn state(&self) -> PathBuf {
        self.path().join("state")
    }

    pub fn target(&self, name: &str) -> PathBuf {
        self.path().join("targets").join(name)
    }

    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.as_ref().unwrap().id()).unwrap()
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.path().join("driver.log")).unwrap_or_default()
    }

    pub async fn caller(&self) -> Caller {
        match Caller::connect(&self.socket(), START_MAX).await {
            Ok(caller) => caller,
            Err(error) => panic!("can't reach the driver: {error}\n{}", self.log()),
        }
    }

    pub fn pods(&self) -> Vec<PodProcesses> {
        pods_under(self.path())
    }

    /// SIGKILL for the driver alone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM; asserts that the driver ends well and in time.
    pub async fn stop(&mut self) {
        kill(Pid::from_raw(self.pid()), Signal::SIGTERM).unwrap();
        let mut child = self.child.take().unwrap();
        let status = wait(&mut child)
            .await
            .unwrap_or_else(|| panic!("the driver did not end within {STOP_MAX:?}\n{}", self.log()));
        assert!(status.success(), "the driver ended with {status}\n{}", self.log());
    }

    /// Stops the driver and asserts that nothing is left of it.
    pub async fn stop_and_leave_nothing(mut self) {
        self.assert_nothing_published_is_left().await;
        self.stop().await;
        assert!(!self.socket().exists(), "the socket is left");
    }

    /// Asserts that no process, mount, control group, session or mount pod is left.
    pub async fn assert_nothing_published_is_left(&self) {
        let deadline = Instant::now() + NOTHING_LEFT_MAX;
        loop {
            let mut left = Leftovers::of(self.path(), &self.state()).unwrap();
            left.files.extend(
                fs::read_dir(self.path().join("targets")).unwrap().map(|entry| entry.unwrap().path()),
            );
            left.mounts.retain(|mount| Some(mount) != self.small_disk.as_ref());
            left.processes.retain(|process| !process.contains(" standalone "));
            if left.is_none() {
                return;
            }
            assert!(Instant::now() < deadline, "left: {left}\n{}", self.log());
            tokio::time::sleep(PAUSE).await;
        }
    }
}

async fn wait(child: &mut Child) -> Option<ExitStatus> {
    let deadline = Instant::now() + STOP_MAX;
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait().unwrap() {
            return Some(status);
        }
        tokio::time::sleep(PAUSE).await;
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

impl Drop for Driver {
    /// A test that failed leaves nothing either: what it started is ended by id.
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
        for pod in self.pods() {
            let _ = kill(Pid::from_raw(pod.agent.pid), Signal::SIGKILL);
        }
        let left = Leftovers::of(self.path(), &self.state()).unwrap_or_default();
        for point in left.mounts.iter().rev() {
            let _ = unmount(point, Unmount::Detach);
        }
        let deadline = Instant::now() + NOTHING_LEFT_MAX;
        for group in &left.cgroups {
            // A killed process leaves its control group a moment later.
            while fs::remove_dir(group).is_err() && group.exists() && Instant::now() < deadline {}
        }
    }
}

fn mount_tmpfs(at: &Path, size: &str) {
    let options = format!("size={size}");
    let mounted =
        Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).status().unwrap();
    assert!(mounted.success());
}

/// Sends SIGKILL to a process; one that is gone already is no error.
pub fn kill_process(pid: i32) {
    let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
}

/// Creates a volume of 1 GiB in root `main`.
pub async fn volume(caller: &mut Caller, name: &str) -> Volume {
    caller.create_volume(name, 1 << 30, &[("client", "hostdir"), ("root", "main")]).await.unwrap()
}

/// Publishes for many writers.
pub async fn publish(caller: &mut Caller, volume: &Volume, target: &Path) {
    caller.publish(volume, target, Mode::MultiNodeMultiWriter).await.unwrap();
}
