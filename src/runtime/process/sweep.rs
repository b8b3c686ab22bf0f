//! What is left of pods that have no record any more? It is ended and removed when the runtime begins.

use std::collections::BTreeSet;
use std::path::PathBuf;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::launch::launched;
use super::pod::remove_dir;
use super::sys::signal_process;
use super::{Shared, locked};
use std::os::fd::AsFd;

/// Ends and removes processes, cgroups and directories without a record. What can't be removed is told, and stays.
pub(super) async fn sweep(shared: &Shared) {
    let known: BTreeSet<String> =
        locked(&shared.shown).iter().filter_map(|pod| pod.record.metadata.name.clone()).collect();
    for (name, dir) in directories(shared).into_iter().filter(|(name, _)| !known.contains(name)) {
        tracing::warn!("mount pod {name} has no record: it is removed");
        end_processes(dir.clone()).await;
        if let Err(error) = remove_dir(&dir).await {
            tracing::error!("can't remove {}: {error}", dir.display());
        }
    }
    for (name, processes) in shared.hierarchies.pods(&shared.group) {
        if known.contains(&name) {
            continue;
        }
        for pid in processes {
            // Nobody else puts processes into a group of this name.
            if let Err(errno) = kill(Pid::from_raw(pid), Signal::SIGKILL) {
                tracing::debug!("process {pid} of mount pod {name}: {errno}");
            }
        }
        if let Err(error) = shared.hierarchies.remove(&shared.group.pod(&name)).await {
            tracing::error!("can't remove the cgroup of mount pod {name}: {error}");
        }
    }
    shared.hierarchies.remove_if_unused(&shared.group);
}

fn directories(shared: &Shared) -> Vec<(String, PathBuf)> {
    let Ok(entries) = std::fs::read_dir(&shared.pods_dir) else { return Vec::new() };
    let directories = entries.flatten().filter(|entry| entry.path().is_dir());
    directories.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path())).collect()
}

async fn end_processes(dir: PathBuf) {
    let ended = tokio::task::spawn_blocking(move || {
        let Some(launched) = launched(&dir)? else { return Ok(()) };
        let Some(process) = launched.leader.open()? else { return Ok(()) };
        signal_process(process.as_fd(), Signal::SIGKILL)
    });
    match ended.await {
        Ok(Ok(())) => (),
        Ok(Err(error)) => tracing::error!("can't end the processes of a pod without a record: {error}"),
        Err(error) => tracing::error!("can't end the processes of a pod without a record: {error}"),
    }
}
