//! How does the controller get an engine of its own, over mount pods on the node that it runs on?
//!
//! Its mounts are in its container's mount namespace and end with it, however it ends. So each controller begins with
//! nothing: what an earlier one left, here or on another node, is removed.

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::THIS_PROGRAM;
use super::mount_pods::{self, of_the_cluster, watched};
use super::serving::{raise_descriptor_limit, require_root};
use super::state::State;
use crate::config::flags::{DriverName, NodeId};
use crate::config::host_directories::HostDirectories;
use crate::config::kubernetes::{CONTROLLER_OWNER, JuicefsOptions};
use crate::mounts::table::{MountEntry, MountTable};
use crate::node::{NodeConfig, NodeService};
use crate::provision::juicefs::{JuicefsConfig, JuicefsVolumes};
use crate::runtime::kubernetes::{KubernetesCluster, KubernetesRuntime, remove_predecessor};

/// What mounts the controller's filesystems.
pub(super) type Mounts = NodeService<KubernetesRuntime>;

/// The controller's engine, and the JuiceFS volumes that are made with it.
pub(super) struct ControllerEngine {
    volumes: Arc<JuicefsVolumes<Mounts>>,
    mounts: Arc<Mounts>,
    runtime: Arc<KubernetesRuntime>,
}

impl ControllerEngine {
    /// Removes what an earlier controller left, and starts anew.
    ///
    /// # Errors
    /// When the state directory or the API server can't be used.
    pub(super) async fn start(
        options: &JuicefsOptions,
        directories: HostDirectories,
        node: &NodeId,
        driver: &DriverName,
    ) -> Result<Self, Box<dyn Error>> {
        require_root()?;
        raise_descriptor_limit();
        State::open(&options.state_dir)?;
        // As the mount table names it.
        let directory = options.state_dir.canonicalize()?;
        refuse_mounts_below(&directory)?;
        let state = State::open(&directory)?;
        remove_all(&state.engine())?;
        remove_all(&state.filesystems())?;
        let engine = mount_pods::Engine { owner: CONTROLLER_OWNER, node, driver, state: &state };
        let cluster = of_the_cluster(&options.mount_pods, &engine).await?;
        let removed = remove_predecessor(&cluster).await?;
        if removed > 0 {
            tracing::info!(removed, "mount pods of an earlier controller are deleted");
        }
        let asked = Arc::new(KubernetesCluster::new(cluster.client.clone(), driver.to_string()));
        let runtime = watched(cluster).await?;
        let config = NodeConfig::new(state.engine(), CONTROLLER_OWNER, BTreeMap::new());
        let mounts = Arc::new(NodeService::start(Arc::clone(&runtime), config)?);
        let volumes = JuicefsVolumes::start(
            Arc::clone(&mounts),
            JuicefsConfig {
                program: options.juicefs_program.clone(),
                directory: state.filesystems(),
                helper_program: PathBuf::from(THIS_PROGRAM),
                key: state.key(),
                directories,
            },
        )?;
        Ok(Self { volumes: Arc::new(volumes.in_cluster(asked)), mounts, runtime })
    }

    /// The volumes that are made with it.
    pub(super) fn volumes(&self) -> Arc<JuicefsVolumes<Mounts>> {
        Arc::clone(&self.volumes)
    }

    /// Unmounts what nobody works in, and ends the engine; what is still mounted ends with the container.
    pub(super) async fn shut_down(&self) {
        self.volumes.shut_down().await;
        self.mounts.shut_down().await;
        self.runtime.shutdown().await;
    }
}

/// What is mounted in there belongs to a controller that still runs, and removing it would remove files of volumes.
fn refuse_mounts_below(directory: &Path) -> Result<(), Box<dyn Error>> {
    let table = MountTable::read()?;
    let below =
        |mount: &&MountEntry| mount.mount_point != directory && mount.mount_point.starts_with(directory);
    match table.iter().find(below) {
        None => Ok(()),
        Some(mount) => Err(format!(
            "{} is mounted at {}: does another controller use this --state-dir? Give each its own",
            mount.source,
            mount.mount_point.display()
        )
        .into()),
    }
}

/// An earlier container of the same pod leaves its records and directories, but no mount: its mounts ended with it.
fn remove_all(directory: &Path) -> io::Result<()> {
    match std::fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_directory_with_a_mount_in_it_is_refused() {
        let empty = tempfile::tempdir().unwrap();
        assert!(refuse_mounts_below(&empty.path().canonicalize().unwrap()).is_ok());
        let refused = refuse_mounts_below(Path::new("/")).unwrap_err().to_string();
        assert!(refused.contains("--state-dir"), "{refused}");
    }

    #[test]
    fn what_is_not_there_needs_no_removal() {
        let directory = tempfile::tempdir().unwrap();
        let left = directory.path().join("engine/sessions/a");
        std::fs::create_dir_all(&left).unwrap();
        for _ in 0..2 {
            remove_all(&directory.path().join("engine")).unwrap();
        }
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0);
    }
}
