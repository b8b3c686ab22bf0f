//! How is the driver under test started and ended?

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

/// The driver listens before it does anything slow.
const START_LIMIT: Duration = Duration::from_secs(10);

/// No RPC is in flight at the end, so the driver has nothing to wait for.
const STOP_LIMIT: Duration = Duration::from_secs(20);

const POLL: Duration = Duration::from_millis(20);

/// `mountpod standalone`, running.
pub(crate) struct Driver {
    child: Child,
    /// Where it listens.
    pub(crate) socket: PathBuf,
    log: PathBuf,
}

impl Driver {
    /// Starts the driver with everything it owns below `dir` and waits until it listens.
    pub(crate) async fn start(dir: &Path) -> Self {
        Self::start_with(dir, &[]).await
    }

    /// The same, with more arguments.
    pub(crate) async fn start_with(dir: &Path, arguments: &[&OsStr]) -> Self {
        let (socket, state, main) = (dir.join("csi.sock"), dir.join("state"), dir.join("main"));
        fs::create_dir(&main).expect("the root directory can be made");
        let log = dir.join("driver.log");
        let output = File::create(&log).expect("the driver's log can be made");
        let errors = output.try_clone().expect("the log's descriptor can be copied");
        let child = Command::new(env!("CARGO_BIN_EXE_mountpod"))
            .arg("standalone")
            .arg("--endpoint")
            .arg(format!("unix://{}", socket.display()))
            .arg("--state-dir")
            .arg(&state)
            .arg("--hostdir-root")
            .arg(format!("main={}", main.display()))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .kill_on_drop(true)
            .spawn()
            .expect("mountpod starts");
        let mut driver = Self { child, socket, log };
        driver.wait_until_it_listens().await;
        driver
    }

    async fn wait_until_it_listens(&mut self) {
        let started = Instant::now();
        while UnixStream::connect(&self.socket).await.is_err() {
            if let Some(status) = self.child.try_wait().expect("the driver's state is known") {
                panic!("the driver ended ({status}) before it listened:\n{}", self.log());
            }
            assert!(
                started.elapsed() < START_LIMIT,
                "the driver does not listen on {} after {START_LIMIT:?}:\n{}",
                self.socket.display(),
                self.log()
            );
            sleep(POLL).await;
        }
    }

    /// What the driver has printed so far.
    pub(crate) fn log(&self) -> String {
        fs::read(&self.log).map(|log| String::from_utf8_lossy(&log).into_owned()).unwrap_or_default()
    }

    /// Asks the driver to end, and asserts that it does so with exit code 0.
    pub(crate) async fn stop(&mut self) {
        let id = self.child.id().and_then(|id| i32::try_from(id).ok());
        let pid = id.unwrap_or_else(|| panic!("the driver has ended by itself:\n{}", self.log()));
        kill(Pid::from_raw(pid), Signal::SIGTERM).expect("the driver can be signalled");
        let Ok(ended) = timeout(STOP_LIMIT, self.child.wait()).await else {
            panic!("the driver did not end within {STOP_LIMIT:?} of SIGTERM:\n{}", self.log());
        };
        let status = ended.expect("the driver's end is known");
        assert_eq!(status.code(), Some(0), "the driver ended with {status}:\n{}", self.log());
    }
}
