//! When does an agent's socket appear?
//!
//! inotify tells of files; it says nothing of a file system that is mounted over the watched directory (as the kubelet
//! does with a pod's volumes), so the mount table is watched as well.

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;

use crate::mounts::syscalls::watched;

/// Returns when something is at `path`. `mounts` changes with the mount table.
///
/// # Errors
/// When inotify can't be used: the user's limit of instances (fs.inotify.max_user_instances) may be reached.
pub async fn until_present(path: &Path, mounts: &mut watch::Receiver<u64>) -> io::Result<()> {
    loop {
        mounts.mark_unchanged();
        let seen = watch_nearest(path)?;
        // Looked for after the watch was set: what appears from now on wakes us.
        if path.symlink_metadata().is_ok() {
            return Ok(());
        }
        tokio::select! {
            ready = seen.ready(Interest::READABLE) => drop(ready?),
            changed = mounts.changed() => changed.map_err(|_| io::Error::other("the mount table is watched no more"))?,
        }
    }
}

/// Watches the nearest directory on the way that exists.
fn watch_nearest(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
    let events = AddWatchFlags::IN_CREATE
        | AddWatchFlags::IN_MOVED_TO
        | AddWatchFlags::IN_DELETE_SELF
        | AddWatchFlags::IN_MOVE_SELF;
    let found = path.ancestors().skip(1).any(|directory| inotify.add_watch(directory, events).is_ok());
    if found {
        watched(inotify.into(), Interest::READABLE)
    } else {
        Err(io::Error::other(format!("no directory on the way to {} can be watched", path.display())))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

    use std::time::Duration;

    use super::*;

    /// Far more than inotify needs on a busy machine.
    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_file_in_a_directory_that_comes_later_is_seen() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("pod/run/agent.sock");
        let (_sender, mut mounts) = watch::channel(0);
        let waiting = tokio::spawn({
            let path = path.clone();
            async move { until_present(&path, &mut mounts).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, "").unwrap();
        tokio::time::timeout(LIMIT, waiting).await.unwrap().unwrap().unwrap();
    }
}
