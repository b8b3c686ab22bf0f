//! Is this still the process that was started for a pod?
//!
//! A PID comes back, and after a reboot all of them do: so a process is known by its PID, the time it was started, and
//! the boot that it was started in.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::agent::sys::pidfd_open;

/// Field 22 of `/proc/PID/stat` is the start time; the fields after the program's name begin with the third.
const START_TIME_AFTER_NAME: usize = 22 - 3;
/// The kernel makes a new one at every boot.
const BOOT_ID_FILE: &str = "/proc/sys/kernel/random/boot_id";

/// The process at the top of a pod: PID 1 of its PID namespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Leader {
    /// In the driver's PID namespace.
    pub(super) pid: i32,
    /// In clock ticks since the boot.
    pub(super) start_time: u64,
    pub(super) boot_id: String,
}

impl Leader {
    /// The identity of a process that is known to live, or to be an unreaped child.
    ///
    /// # Errors
    /// When /proc does not show it.
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        let boot_id = fs::read_to_string(BOOT_ID_FILE)?.trim().to_owned();
        Ok(Self { pid: pid.as_raw(), start_time: start_time(pid.as_raw())?, boot_id })
    }

    /// A descriptor of the process; `None` when it is gone, even if its PID is not.
    ///
    /// # Errors
    /// When there is no room for a descriptor: nothing is known of the process then.
    pub(super) fn open(&self) -> io::Result<Option<OwnedFd>> {
        let pidfd = match pidfd_open(Pid::from_raw(self.pid)) {
            Ok(pidfd) => pidfd,
            Err(error) if error.raw_os_error() == Some(nix::libc::ESRCH) => return Ok(None),
            Err(error) => return Err(error),
        };
        // Looked at after it was opened: were it another process, its start time would differ.
        match Self::of(Pid::from_raw(self.pid)) {
            Ok(found) => Ok((found == *self).then_some(pidfd)),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Reaped between two looks: its files in /proc are gone, or say so.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(nix::libc::ESRCH)
}

fn start_time(pid: i32) -> io::Result<u64> {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
    // The name is in parentheses and may have any character.
    let after_name = stat.rsplit_once(") ").map(|(_, fields)| fields);
    let field = after_name.and_then(|fields| fields.split(' ').nth(START_TIME_AFTER_NAME));
    field.and_then(|time| time.parse().ok()).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the failure of the test")]

    use nix::unistd::getpid;

    use super::*;

    #[test]
    fn a_process_is_known_by_pid_start_time_and_boot() {
        let me = Leader::of(getpid()).unwrap();
        assert!(me.open().unwrap().is_some());
        assert!(Leader { start_time: me.start_time + 1, ..me.clone() }.open().unwrap().is_none());
        assert!(Leader { boot_id: "another".to_owned(), ..me.clone() }.open().unwrap().is_none());
        assert!(Leader { pid: i32::MAX, ..me }.open().unwrap().is_none());
    }
}
