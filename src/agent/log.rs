//! How does a client that talks without end not fill the node's disk?

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicUsize, Ordering};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::stat::{SFlag, fstat};
use nix::unistd::ftruncate;

/// A longer log begins anew: enough for people to see what happened, little beside a thousand volumes.
const LOG_BYTES_MAX: i64 = 4 * 1024 * 1024;
/// Looked at after so many bytes of output, not at each line.
const LOOK_AFTER_BYTES: usize = 64 * 1024;

/// Shown since the log was looked at last.
static SHOWN: AtomicUsize = AtomicUsize::new(0);

/// A client's words go on in the pod's own log.
pub(super) fn show(line: &str) {
    tracing::info!("client: {line}");
    if SHOWN.fetch_add(line.len() + 1, Ordering::Relaxed) >= LOOK_AFTER_BYTES {
        SHOWN.store(0, Ordering::Relaxed);
        if let Err(error) = keep_short(io::stderr().as_fd()) {
            tracing::warn!("the log can't be kept short: {error}");
        }
    }
}

/// Empties a log file that has grown too long. What is no file (a container runtime's pipe) is somebody else's care.
fn keep_short(log: impl AsFd) -> io::Result<()> {
    let facts = fstat(&log)?;
    let is_file = SFlag::from_bits_truncate(facts.st_mode) & SFlag::S_IFMT == SFlag::S_IFREG;
    // Without O_APPEND the next line would be written where the file ended before.
    let appends = OFlag::from_bits_truncate(fcntl(&log, FcntlArg::F_GETFL)?).contains(OFlag::O_APPEND);
    if is_file && appends && facts.st_size > LOG_BYTES_MAX {
        ftruncate(&log, 0)?;
        nix::unistd::write(&log, b"(the log was emptied here: it had become too long)\n")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the failure of the test")]

    use std::fs::OpenOptions;
    use std::io::Write;

    use super::*;

    #[test]
    fn only_a_long_log_is_emptied() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("log");
        let mut log = OpenOptions::new().append(true).create(true).open(&path).unwrap();
        let most = usize::try_from(LOG_BYTES_MAX).unwrap();
        log.write_all(&vec![b'x'; most]).unwrap();
        keep_short(&log).unwrap();
        assert_eq!(log.metadata().unwrap().len(), most as u64);
        log.write_all(b"x").unwrap();
        keep_short(&log).unwrap();
        log.write_all(b"next\n").unwrap();
        let kept = std::fs::read_to_string(&path).unwrap();
        assert!(kept.starts_with("(the log was emptied") && kept.ends_with("long)\nnext\n"), "{kept}");
    }
}
