//! How is a FUSE server asked something without ever waiting for it for ever?
//!
//! A process whose request was read by a client sleeps uninterruptibly until it is answered; not even SIGKILL ends it.
//! So whatever can reach a FUSE server runs in a helper process with a deadline. At the deadline it is killed and
//! abandoned: a task waits for its end, nobody else does. While it has not ended, no second one is started for its
//! session.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clap::Subcommand;
use nix::errno::Errno;
use nix::poll::{PollTimeout, poll};
use nix::sys::statfs::statfs;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::bind::{BindError, bind};
use super::cache::MountCache;
use super::syscalls::{Unmount, unmount};
use crate::volume::{SessionId, TargetPath, Writability};

/// The hidden subcommand of the driver's program that does the helper's work.
pub const HELPER_COMMAND: &str = "mount-helper";
/// The name of a job that is soon over, unless nobody serves.
pub const WAKE: &str = "wake";
/// An answer is one short line of JSON; nothing longer is read.
const ANSWER_BYTES_MAX: u64 = 4096;
/// Between two of them: together they last for a fifth of a second.
const WAKE_PAUSE: Duration = Duration::from_millis(2);
/// Enough for a client to see many more new requests than old ones that are given out again (`wake` of the node).
const WAKE_REQUESTS: u32 = 100;

/// What a helper process does.
#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
pub enum HelperJob {
    /// Print what statfs(2) tells of a path.
    Statfs {
        /// A path within a mounted volume.
        path: PathBuf,
    },
    /// Send requests to the client of a path, for clients that need some to go on.
    Wake {
        /// A path within a mounted volume.
        path: PathBuf,
    },
    /// Bind a directory of a session at a target.
    Bind {
        /// The session's own mount.
        path: PathBuf,
        /// Its source.
        #[arg(long)]
        source: String,
        /// The directory below its root.
        #[arg(long)]
        directory: String,
        /// Where.
        #[arg(long)]
        target: PathBuf,
        /// Let nobody write there.
        #[arg(long)]
        read_only: bool,
    },
    /// Unmount the mount of a session; the last unmount of a session waits until its client has flushed.
    Unmount {
        /// The mount point.
        path: PathBuf,
    },
}

/// What a helper process prints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum HelperAnswer {
    /// To `statfs`.
    Usage(Usage),
    /// To `bind`.
    Bound,
    /// To `unmount`.
    Unmounted,
    /// To `wake`.
    Woken,
    /// The system call failed.
    Failed {
        /// Its errno.
        errno: i32,
    },
}

/// Usage of a file system.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Bytes in all.
    pub bytes_total: u64,
    /// Bytes free, those kept for root included.
    pub bytes_free: u64,
    /// Bytes that an ordinary user can still write.
    pub bytes_available: u64,
    /// Inodes in all.
    pub inodes_total: u64,
    /// Inodes free.
    pub inodes_free: u64,
}

impl HelperJob {
    fn name(&self) -> &'static str {
        match self {
            Self::Statfs { .. } => "statfs",
            Self::Wake { .. } => WAKE,
            Self::Bind { .. } => "bind",
            Self::Unmount { .. } => "unmount",
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Statfs { path }
            | Self::Wake { path }
            | Self::Bind { path, .. }
            | Self::Unmount { path } => path,
        }
    }

    /// What its process is told beside name and path.
    fn more_arguments(&self) -> Vec<OsString> {
        match self {
            Self::Statfs { .. } | Self::Wake { .. } | Self::Unmount { .. } => Vec::new(),
            Self::Bind { source, directory, target, read_only, .. } => {
                let valued = |name: &str, value: &OsStr| {
                    let mut argument = OsString::from(name);
                    argument.push(value);
                    argument
                };
                let mut arguments = vec![
                    valued("--source=", source.as_ref()),
                    valued("--directory=", directory.as_ref()),
                    valued("--target=", target.as_ref()),
                ];
                arguments.extend(read_only.then(|| "--read-only".into()));
                arguments
            }
        }
    }
}

/// The helper process: does the job, prints the answer.
#[must_use]
pub fn run_helper(job: &HelperJob) -> ExitCode {
    let answer = match job {
        HelperJob::Statfs { path } => usage(path).map(HelperAnswer::Usage),
        HelperJob::Wake { path } => wake(path).map(|()| HelperAnswer::Woken),
        HelperJob::Bind { path, source, directory, target, read_only } => {
            bind_part(path, source, directory, target, *read_only).map(|()| HelperAnswer::Bound)
        }
        HelperJob::Unmount { path } => unmount(path, Unmount::IfUnused).map(|()| HelperAnswer::Unmounted),
    };
    let answer = answer.unwrap_or_else(|error| HelperAnswer::Failed {
        errno: error.raw_os_error().unwrap_or(Errno::EIO as i32),
    });
    let printed =
        serde_json::to_vec(&answer).map_err(io::Error::other).and_then(|line| io::stdout().write_all(&line));
    if printed.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn bind_part(path: &Path, source: &str, directory: &str, target: &Path, read_only: bool) -> io::Result<()> {
    let target: Option<TargetPath> = target.to_str().and_then(|target| target.parse().ok());
    let target = target.ok_or(io::ErrorKind::InvalidInput)?;
    let writability = if read_only { Writability::ReadOnly } else { Writability::ReadWrite };
    bind(&MountCache::new()?, path, source, directory, &target, writability).map_err(|error| match error {
        BindError::Kernel { source, .. } => source,
        BindError::Target(_) | BindError::NoSession { .. } => io::Error::from(Errno::ESTALE),
    })
}

/// statfs is never answered from a cache of the kernel.
fn wake(path: &Path) -> io::Result<()> {
    let pause = PollTimeout::try_from(WAKE_PAUSE).map_err(io::Error::other)?;
    for _ in 0..WAKE_REQUESTS {
        statfs(path)?;
        poll(&mut [], pause)?;
    }
    Ok(())
}

fn usage(path: &Path) -> io::Result<Usage> {
    let seen = statfs(path)?;
    // Block counts are in units of the fragment size, which FUSE servers may leave at 0 (then it is the block size).
    let block = u64::try_from(seen.block_size()).unwrap_or(0);
    Ok(Usage {
        bytes_total: seen.blocks().saturating_mul(block),
        bytes_free: seen.blocks_free().saturating_mul(block),
        bytes_available: seen.blocks_available().saturating_mul(block),
        inodes_total: seen.files(),
        inodes_free: seen.files_free(),
    })
}

/// Why a helper gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum HelperError {
    /// An earlier helper of the session has not come back.
    #[error(
        "the last {job} of session {session} still waits for its client; nothing more is asked of it meanwhile"
    )]
    StillWaiting {
        /// The session.
        session: SessionId,
        /// What the earlier one does.
        job: &'static str,
    },
    /// It had no answer in time, and was abandoned.
    #[error("the client of session {session} did not answer {job} within {limit:?}")]
    TimedOut {
        /// The session.
        session: SessionId,
        /// What was asked.
        job: &'static str,
        /// The limit.
        limit: Duration,
    },
    /// The system call failed.
    #[error("{job} of {path} failed")]
    Refused {
        /// What was asked.
        job: &'static str,
        /// Of what.
        path: PathBuf,
        /// Why.
        #[source]
        errno: Errno,
    },
    /// The process could not be started, or gave no answer.
    #[error("the helper process for {job} failed")]
    Broken {
        /// What was asked.
        job: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// Starts helper processes, and keeps count of those that do not come back.
#[derive(Debug, Clone)]
pub struct Helpers {
    program: PathBuf,
    busy: Arc<Mutex<BTreeMap<SessionId, &'static str>>>,
    shutdown: CancellationToken,
}

/// The right to run a helper for a session; given back when the process has ended.
#[derive(Debug)]
struct Slot {
    busy: Arc<Mutex<BTreeMap<SessionId, &'static str>>>,
    session: SessionId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        lock(&self.busy).remove(&self.session);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Helpers {
    /// Helpers that run `program mount-helper ...`; tasks that wait for abandoned ones end with `shutdown`.
    #[must_use]
    pub fn new(program: PathBuf, shutdown: CancellationToken) -> Self {
        Self { program, busy: Arc::default(), shutdown }
    }

    /// Runs a job for a session, which must be served: against one that nobody serves a helper can only hang.
    ///
    /// # Errors
    /// See [`HelperError`].
    pub async fn run(
        &self,
        session: &SessionId,
        job: &HelperJob,
        limit: Duration,
    ) -> Result<HelperAnswer, HelperError> {
        let slot = self.take_slot(session, job)?;
        let broken = |source| HelperError::Broken { job: job.name(), source };
        let mut child = self.start(job).map_err(broken)?;
        match tokio::time::timeout(limit, answer_of(&mut child)).await {
            Ok(Ok(HelperAnswer::Failed { errno })) => Err(HelperError::Refused {
                job: job.name(),
                path: job.path().to_owned(),
                errno: Errno::from_raw(errno),
            }),
            Ok(answer) => answer.map_err(broken),
            Err(_) => {
                self.abandon(child, slot);
                Err(HelperError::TimedOut { session: session.clone(), job: job.name(), limit })
            }
        }
    }

    fn take_slot(&self, session: &SessionId, job: &HelperJob) -> Result<Slot, HelperError> {
        let mut busy = lock(&self.busy);
        if let Some(job) = busy.get(session) {
            return Err(HelperError::StillWaiting { session: session.clone(), job });
        }
        busy.insert(session.clone(), job.name());
        Ok(Slot { busy: Arc::clone(&self.busy), session: session.clone() })
    }

    fn start(&self, job: &HelperJob) -> io::Result<Child> {
        Command::new(&self.program)
            .args([HELPER_COMMAND, job.name()])
            .arg(job.path())
            .args(job.more_arguments())
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal is meant for the driver, which must see the helper's end.
            .process_group(0)
            .spawn()
    }

    /// Kills a helper and leaves it to a task: while it sleeps in the kernel it can't die.
    fn abandon(&self, mut child: Child, slot: Slot) {
        let shutdown = self.shutdown.clone();
        tokio::spawn(async move {
            if let Err(error) = child.start_kill() {
                tracing::debug!(%error, "an abandoned helper had ended");
            }
            tokio::select! {
                ended = child.wait() => tracing::debug!(?ended, session = %slot.session, "an abandoned helper ended"),
                () = shutdown.cancelled() => {}
            }
        });
    }
}

async fn answer_of(child: &mut Child) -> io::Result<HelperAnswer> {
    let mut line = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(ANSWER_BYTES_MAX).read_to_end(&mut line).await?;
    }
    let status = child.wait().await?;
    serde_json::from_slice(&line)
        .map_err(|error| io::Error::other(format!("it ended with {status}: {error}")))
}
