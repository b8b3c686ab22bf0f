//! Which processes below the agent are left, and how are they ended and reaped?

use std::io;

use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
use nix::unistd::{Pid, getpid};

/// The first process of a PID namespace: orphans become its children, and its death ends all.
const INIT: i32 = 1;

/// What `reap` found.
#[derive(Debug, Default)]
pub(super) struct Reaped {
    /// Who ended, and how.
    pub(super) ended: Vec<(Pid, String, ExitKind)>,
    /// Nobody is left below this process.
    pub(super) alone: bool,
}

/// Did a process end by its own will, and well?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ExitKind {
    Success,
    Other,
}

/// Makes orphans below this process its children, where it isn't PID 1 anyway.
///
/// # Errors
/// As `prctl(2)`.
pub(super) fn adopt_orphans() -> io::Result<()> {
    prctl::set_child_subreaper(true).map_err(io::Error::from)
}

/// Takes note of every child that has ended. Never waits.
pub(super) fn reap() -> Reaped {
    let mut reaped = Reaped::default();
    loop {
        match waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG) {
            Ok(WaitStatus::Exited(pid, 0)) => {
                reaped.ended.push((pid, "exited".to_owned(), ExitKind::Success));
            }
            Ok(WaitStatus::Exited(pid, code)) => {
                reaped.ended.push((pid, format!("exited with code {code}"), ExitKind::Other));
            }
            Ok(WaitStatus::Signaled(pid, signal, _)) => {
                reaped.ended.push((pid, format!("was killed by {signal}"), ExitKind::Other));
            }
            Err(Errno::EINTR) => (),
            Err(_) => {
                reaped.alone = true;
                return reaped;
            }
            Ok(_) => return reaped,
        }
    }
}

/// Kills everything below this process.
///
/// The children of a killed process become this one's: whoever reaps calls this again until nobody is left.
pub(super) fn kill_all() {
    if getpid().as_raw() == INIT {
        // -1 is everybody in this PID namespace but PID 1.
        kill_one(Pid::from_raw(-1));
        return;
    }
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    for pid in children.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()) {
        kill_one(Pid::from_raw(pid));
    }
}

fn kill_one(pid: Pid) {
    match kill(pid, Signal::SIGKILL) {
        Ok(()) | Err(Errno::ESRCH) => (),
        Err(errno) => tracing::warn!("can't kill process {pid}: {errno}"),
    }
}
