//! When does an agent's socket appear?
//!
//! inotify tells of files; it says nothing of a file system that is mounted over the watched directory (as the kubelet
//! does with a pod's volumes), so the mount table is watched as well.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::runtime::Handle;
use tokio::sync::watch;

use crate::mounts::syscalls::watched;

/// Returns when something is at `path`. `mounts` changes with the mount table.
///
/// # Errors
/// When inotify can't be used: the user's limit of instances (fs.inotify.max_user_instances) may be reached.
pub async fn until_present(path: &Path, mounts: &mut watch::Receiver<u64>) -> io::Result<()> {
    let is_there = || path.symlink_metadata().is_ok();
    if is_there() {
        return Ok(());
    }
    let directories = Directories::new()?;
    loop {
        mounts.mark_unchanged();
        directories.watch_nearest(path)?;
        // Looked for after the watch was set: what appears from now on wakes us.
        if is_there() {
            return Ok(());
        }
        tokio::select! {
            changed = directories.changed() => changed?,
            changed = mounts.changed() => changed.map_err(|_| io::Error::other("the mount table is watched no more"))?,
        }
    }
}

/// What tells of changes in directories.
struct Directories {
    inotify: Inotify,
    readable: AsyncFd<OwnedFd>,
    /// Declared last, and so dropped after the others.
    _last: ClosedAside,
}

impl Directories {
    fn new() -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK)?;
        let another = || inotify.as_fd().try_clone_to_owned();
        let (readable, last) = (watched(another()?, Interest::READABLE)?, ClosedAside(Some(another()?)));
        Ok(Self { inotify, readable, _last: last })
    }

    /// Watches the nearest directory on the way that exists.
    fn watch_nearest(&self, path: &Path) -> io::Result<()> {
        let events = AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF;
        let watch = |directory| self.inotify.add_watch(directory, events).is_ok();
        if path.ancestors().skip(1).any(watch) {
            return Ok(());
        }
        Err(io::Error::other(format!("no directory on the way to {} can be watched", path.display())))
    }

    /// Returns after a change. All that is known of it is taken: an event that is like the last one in the row would be
    /// merged with it, and wake nobody.
    async fn changed(&self) -> io::Result<()> {
        self.readable.ready(Interest::READABLE).await?.clear_ready();
        loop {
            match self.inotify.read_events() {
                Ok(_) => {}
                Err(Errno::EAGAIN) => return Ok(()),
                Err(errno) => return Err(errno.into()),
            }
        }
    }
}

/// The last descriptor of an inotify instance. The kernel closes it only when no processor looks at its watches any more
/// (an SRCU grace period, `fsnotify_wait_marks_destroyed`): 5 to 20 ms, which a thread of the runtime does not have.
struct ClosedAside(Option<OwnedFd>);

impl Drop for ClosedAside {
    fn drop(&mut self) {
        if let (Some(last), Ok(runtime)) = (self.0.take(), Handle::try_current()) {
            drop(runtime.spawn_blocking(move || drop(last)));
        }
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
