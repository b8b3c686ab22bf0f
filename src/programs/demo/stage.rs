//! What does the demo put up, and how does all of it come down again?

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};
use tokio::time::{Instant, timeout};

use super::narrator::Narrator;
use super::{DemoError, writer};
use crate::csi::api::v1::Volume;
use crate::csi::status::tells_of_another_call;
use crate::mounts::syscalls::{Unmount, unmount};
use crate::programs::THIS_PROGRAM;
use crate::programs::caller::Caller;
use crate::programs::leftovers::{Leftovers, mounts_under};
use crate::programs::processes::{PodProcesses, pods_under};

/// A driver on this machine listens within milliseconds; a slow disk may take longer.
const DRIVER_START_MAX: Duration = Duration::from_secs(20);
/// The driver finishes its calls in flight within its own limit before it ends.
const DRIVER_STOP_MAX: Duration = Duration::from_secs(40);
/// The writer reads 16 MiB back at its end.
const WRITER_END_MAX: Duration = Duration::from_secs(60);
/// A publish that was interrupted goes on in the driver; its target can be given back after it.
const UNPUBLISH_MAX: Duration = Duration::from_secs(20);
/// Processes and control groups vanish a moment after the call that ended them.
const NOTHING_LEFT_MAX: Duration = Duration::from_secs(10);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(20);

/// The demo's directory and the processes in it.
pub(super) struct Stage {
    directory: PathBuf,
    driver: Option<Child>,
    writer: Option<Child>,
    published: Vec<(Volume, PathBuf)>,
    pub(super) caller: Caller,
}

impl Stage {
    /// Makes a directory and starts the driver in it.
    pub(super) async fn build(parent: &Path) -> Result<Self, DemoError> {
        if !nix::unistd::geteuid().is_root() {
            let why = "the demo mounts real file systems and needs root: sudo cargo run --release -- demo";
            return Err(DemoError::NotSo(why.to_owned()));
        }
        let directory = parent.join(format!("mountpod-demo-{}", std::process::id()));
        let made = tokio::fs::create_dir(&directory).await;
        made.map_err(DemoError::machine(format!("create {}", directory.display())))?;
        match start_driver(&directory).await {
            Ok((driver, caller)) => {
                Ok(Self { directory, driver: Some(driver), writer: None, published: Vec::new(), caller })
            }
            Err(error) => {
                let removed = tokio::fs::remove_dir_all(&directory).await;
                removed.map_err(DemoError::machine(format!("remove {}", directory.display())))?;
                Err(error)
            }
        }
    }

    /// Where workload `name` has its volume.
    pub(super) fn target(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Publishes and remembers it, so that [`Stage::clear`] can take it down.
    pub(super) async fn publish(&mut self, volume: &Volume, target: &Path) -> Result<(), DemoError> {
        use crate::csi::api::v1::volume_capability::access_mode::Mode;
        self.published.push((volume.clone(), target.to_owned()));
        Ok(self.caller.publish(volume, target, Mode::MultiNodeMultiWriter).await?)
    }

    /// Unpublishes.
    pub(super) async fn unpublish(&mut self, volume: &Volume, target: &Path) -> Result<(), DemoError> {
        self.caller.unpublish(&volume.volume_id, target).await?;
        self.published.retain(|(_, published)| published != target);
        Ok(())
    }

    /// The mount pods that run now.
    pub(super) fn pods(&self) -> Vec<PodProcesses> {
        pods_under(&self.directory)
    }

    /// The records of the mount pods, as text.
    pub(super) async fn pod_records(&self) -> Result<Vec<String>, DemoError> {
        let pods = self.directory.join("state").join("engine").join("pods");
        let read = |what: &'static str| move |error: std::io::Error| DemoError::machine(what)(error);
        let mut entries =
            tokio::fs::read_dir(pods).await.map_err(read("read the records of the mount pods"))?;
        let mut records = Vec::new();
        while let Some(entry) =
            entries.next_entry().await.map_err(read("read the records of the mount pods"))?
        {
            if entry.path().extension().is_some_and(|extension| extension == "json") {
                records.push(tokio::fs::read_to_string(entry.path()).await.map_err(read("read a record"))?);
            }
        }
        Ok(records)
    }

    /// Sends SIGKILL, as the kernel does when memory is short.
    pub(super) fn kill(&self, pid: i32) -> Result<(), DemoError> {
        kill(Pid::from_raw(pid), Signal::SIGKILL).map_err(DemoError::machine(format!("kill process {pid}")))
    }

    /// Kills the driver with SIGKILL and starts it again.
    pub(super) async fn crash_and_restart_driver(&mut self) -> Result<(), DemoError> {
        if let Some(mut driver) = self.driver.take() {
            driver.kill().await.map_err(DemoError::machine("kill the driver"))?;
        }
        let (driver, caller) = start_driver(&self.directory).await?;
        (self.driver, self.caller) = (Some(driver), caller);
        Ok(())
    }

    /// Has the driver a copy of a session's connection? Until then its mount pod alone keeps it.
    pub(super) fn driver_holds_a_session(&self) -> bool {
        let Some(pid) = self.driver.as_ref().and_then(Child::id) else { return false };
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        let mut files = descriptors.flatten().flat_map(|one| std::fs::read_link(one.path()));
        files.any(|file| file == Path::new("/dev/fuse"))
    }

    /// Starts a writer on this file.
    pub(super) fn start_writer(&mut self, file: &Path) -> Result<(), DemoError> {
        let mut command = own_program(&["demo-writer".as_ref(), file.as_os_str()]);
        let started = command.stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true).spawn();
        self.writer = Some(started.map_err(DemoError::machine("start the writer"))?);
        Ok(())
    }

    /// Ends the writer and asks what it saw.
    pub(super) async fn end_writer(&mut self) -> Result<writer::Seen, DemoError> {
        let mut child = self.writer.take().ok_or_else(|| DemoError::NotSo("a writer runs".to_owned()))?;
        drop(child.stdin.take());
        let output = timeout(WRITER_END_MAX, child.wait_with_output()).await;
        let output = output.map_err(DemoError::machine("wait for the writer"))?;
        let output = output.map_err(DemoError::machine("read what the writer says"))?;
        serde_json::from_slice(&output.stdout).map_err(DemoError::machine("understand what the writer says"))
    }

    /// What is left now of volumes that are published no more.
    pub(super) async fn leftovers(&self) -> Result<Leftovers, DemoError> {
        let state = self.directory.join("state");
        let deadline = Instant::now() + NOTHING_LEFT_MAX;
        loop {
            let mut left =
                Leftovers::of(&self.directory, &state).map_err(DemoError::machine("look for leftovers"))?;
            left.processes.retain(|process| !process.contains("standalone"));
            if left.is_none() || Instant::now() > deadline {
                return Ok(left);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Takes everything down: by the driver's own calls where they work, by force where they don't.
    pub(super) async fn clear(mut self, narrator: &Narrator) -> Result<(), DemoError> {
        self.writer = None;
        for (volume, target) in std::mem::take(&mut self.published) {
            if let Err(status) = self.give_back(&volume, &target).await {
                narrator.says(&format!("could not unpublish {}: {}", target.display(), status.message()));
            }
        }
        // The driver tidies up after its last call. What it left is looked at when it has ended.
        let waited = self.leftovers().await;
        let ended = self.stop_driver().await;
        for pod in self.pods() {
            self.kill(pod.agent.pid)?;
        }
        let mounts = mounts_under(&self.directory).map_err(DemoError::machine("look for mounts"))?;
        for point in mounts.into_iter().rev() {
            narrator.says(&format!("detaching {}", point.display()));
            unmount(&point, Unmount::Detach)
                .map_err(DemoError::machine(format!("detach {}", point.display())))?;
        }
        let removed = tokio::fs::remove_dir_all(&self.directory).await;
        removed.map_err(DemoError::machine(format!("remove {}", self.directory.display())))?;
        waited.and(ended)
    }

    /// Unpublishes, after a publish of the target that may still go on.
    async fn give_back(&mut self, volume: &Volume, target: &Path) -> Result<(), tonic::Status> {
        let deadline = Instant::now() + UNPUBLISH_MAX;
        loop {
            match self.caller.unpublish(&volume.volume_id, target).await {
                Err(status) if tells_of_another_call(&status) && Instant::now() < deadline => {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return answer,
            }
        }
    }

    async fn stop_driver(&mut self) -> Result<(), DemoError> {
        let Some(mut driver) = self.driver.take() else { return Ok(()) };
        let pid = driver.id().and_then(|pid| i32::try_from(pid).ok());
        let asked = pid.map_or(Ok(()), |pid| kill(Pid::from_raw(pid), Signal::SIGTERM));
        asked.map_err(DemoError::machine("ask the driver to end"))?;
        let status = timeout(DRIVER_STOP_MAX, driver.wait()).await;
        let status = status.map_err(DemoError::machine("wait for the driver's end"))?;
        let status = status.map_err(DemoError::machine("wait for the driver's end"))?;
        if status.success() {
            Ok(())
        } else {
            Err(DemoError::NotSo(format!("the driver ends well (it ended with {status})")))
        }
    }
}

async fn start_driver(directory: &Path) -> Result<(Child, Caller), DemoError> {
    let socket = directory.join("csi.sock");
    let endpoint = format!("unix://{}", socket.display());
    let log = directory.join("driver.log");
    let log = std::fs::OpenOptions::new().create(true).append(true).open(&log);
    let log = log.map_err(DemoError::machine("open the driver's log"))?;
    let mut command = own_program(&["standalone".as_ref(), "--endpoint".as_ref(), endpoint.as_ref()]);
    command
        .arg("--state-dir")
        .arg(directory.join("state"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    // Ctrl-C reaches the whole process group of a terminal: the driver must outlive it until the demo has cleared up.
    let driver = command.process_group(0).kill_on_drop(true).spawn();
    let driver = driver.map_err(DemoError::machine("start the driver"))?;
    let caller = Caller::connect(&socket, DRIVER_START_MAX).await;
    match caller {
        Ok(caller) => Ok((driver, caller)),
        Err(error) => {
            Err(DemoError::machine(format!("reach the driver; {}", last_words(directory).await))(error))
        }
    }
}

async fn last_words(directory: &Path) -> String {
    let log = tokio::fs::read_to_string(directory.join("driver.log")).await.unwrap_or_default();
    format!("it said: {}", log.lines().last().unwrap_or("nothing"))
}

fn own_program(words: &[&std::ffi::OsStr]) -> Command {
    let mut command = Command::new(THIS_PROGRAM);
    command.args(words);
    command
}
