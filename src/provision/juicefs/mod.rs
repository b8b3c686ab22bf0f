//! How are volumes provided that are directories of a JuiceFS filesystem?
//!
//! A filesystem is known by the Secret of each call alone. It is mounted as a whole while the driver works in it
//! (`filesystems`); what is done with its files is done by processes of their own (`files`), quotas, clones and removals by
//! the client's own commands (`commands`), and whatever may wait for the filesystem has a limit (`process`). In which order,
//! so that each call may be repeated after a crash at any point, is told by `volumes` and `snapshots`.

mod commands;
pub mod files;
mod filesystems;
mod path;
mod process;
mod snapshots;
mod turns;
mod volumes;
mod workplace;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use self::filesystems::Filesystems;
use self::process::Processes;
use self::workplace::Workplace;
use super::cluster::{Cluster, NoCluster};
use super::{FilesystemError, SecretsOf, StoreError, Volume};
use crate::config::field::{InvalidField, entry};
use crate::config::host_directories::HostDirectories;
use crate::juicefs::secret::JuicefsSecret;
use crate::mountpod::service::MountService;
use crate::volume::{FilesystemName, NodeKey, PodShape, Secrets};

/// What a provisioner of JuiceFS volumes is told.
#[derive(Debug, Clone)]
pub struct JuicefsConfig {
    /// The client's program, for its commands.
    pub program: PathBuf,
    /// Where whole filesystems are mounted for it: a directory of its own, outside of the engine's.
    pub directory: PathBuf,
    /// A program that understands `volume-files`: the driver's own.
    pub helper_program: PathBuf,
    /// Tells credentials apart.
    pub key: NodeKey,
    /// What its mount pods may use of the node.
    pub directories: HostDirectories,
}

/// Volumes in JuiceFS filesystems.
pub struct JuicefsVolumes<M: MountService> {
    config: JuicefsConfig,
    filesystems: Arc<Filesystems<M>>,
    processes: Processes,
    cluster: Arc<dyn Cluster>,
}

impl<M: MountService> JuicefsVolumes<M> {
    /// Takes its directory; filesystems that an earlier driver left mounted there are unmounted. No cluster is asked.
    ///
    /// # Errors
    /// When the directory can't be used.
    pub fn start(mounts: Arc<M>, config: JuicefsConfig) -> io::Result<Self> {
        let filesystems = Filesystems::start(mounts, config.directory.clone(), config.key.clone())?;
        let (tasks, stop) = filesystems.tasks();
        Ok(Self { config, filesystems, processes: Processes::new(tasks, stop), cluster: Arc::new(NoCluster) })
    }

    /// The same, in a cluster that can be asked.
    #[must_use]
    pub fn in_cluster(self, cluster: Arc<dyn Cluster>) -> Self {
        Self { cluster, ..self }
    }

    /// The volumes that the cluster knows, in no order; `None` without a cluster.
    pub(super) async fn known(&self) -> Result<Option<Vec<Volume>>, StoreError> {
        self.cluster.volumes().await
    }

    /// Unmounts the filesystems in which nobody works. To be called when no call is in flight.
    pub async fn shut_down(&self) {
        self.filesystems.shut_down().await;
    }

    /// A filesystem to work in: mounted.
    async fn workplace(
        &self,
        filesystem: &FilesystemName,
        secrets: &Secrets,
        wanted: SecretsOf,
    ) -> Result<Workplace<'_, M>, FilesystemError> {
        if secrets.is_empty() {
            return Err(FilesystemError::NoSecrets { wanted });
        }
        let secret = JuicefsSecret::read(secrets)
            .map_err(|invalid| InvalidField::new(entry("secrets", &invalid.key), invalid.why))?;
        let pod = self.config.directories.pod_of(&secret, PodShape::default())?;
        let mounted = self.filesystems.open(filesystem, secrets, pod).await?;
        Ok(Workplace { config: &self.config, processes: &self.processes, secret, mounted })
    }
}
