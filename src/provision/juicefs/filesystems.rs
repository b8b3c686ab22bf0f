//! Where is a whole filesystem mounted while the driver works in it, and for how long?
//!
//! The engine mounts it as it mounts volumes: by the first operation, once for each pair of filesystem and credentials. It
//! stays while operations go on, and for a short while after, because they come in groups. What an earlier driver left is
//! unmounted at the start.

use std::collections::BTreeMap;
use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::super::{FilesystemError, StoreError};
use super::turns::Turns;
use crate::mountpod::service::{MountError, MountService, PublishRequest, SessionUse};
use crate::volume::{
    Access, ClientKind, CredentialsDigest, Exclusivity, FilesystemName, MountSpec, NodeKey, PodShape,
    Resources, Secrets, TargetPath, VolumeId, Writability,
};

/// A filesystem that nobody works in stays mounted for so long: claims and snapshots come in groups, and a mount pod
/// costs a second or more on Kubernetes.
const KEPT: Duration = Duration::from_secs(60);
/// At the end of the driver: an unmount takes milliseconds, unless the metadata engine is away.
const SHUTDOWN_LIMIT: Duration = Duration::from_secs(20);
/// No caller can give a volume such a name: CSI names have at most 128 bytes.
const LONGER_THAN_A_CSI_NAME: usize = 129;
/// Hex digits that tell the mounts of several credentials apart: 64 bits.
const DIGITS: usize = 16;
/// Separates them from the filesystem's name in the name of a directory; they hold none.
const SEPARATOR: char = '.';
const PRIVATE_DIRECTORY: u32 = 0o700;

/// Mounts whole filesystems.
pub(super) struct Filesystems<M> {
    mounts: Arc<M>,
    directory: PathBuf,
    key: NodeKey,
    slots: Mutex<BTreeMap<String, Slot>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// A mounted filesystem, or one that is being mounted or unmounted.
struct Slot {
    users: usize,
    /// How often the last user has left.
    left: u64,
    place: Arc<Place>,
}

struct Place {
    volume: VolumeId,
    target: TargetPath,
    turns: Turns,
    /// How often mounting it has failed.
    failures: AtomicU64,
    /// Held while it is mounted or unmounted. What the last attempt to mount came to, if it failed.
    attempt: tokio::sync::Mutex<Option<Arc<MountError>>>,
}

/// A filesystem that stays mounted until this is dropped.
pub(super) struct Mounted<M: MountService> {
    filesystems: Arc<Filesystems<M>>,
    name: String,
    place: Arc<Place>,
}

impl<M: MountService> Filesystems<M> {
    /// Begins with unmounting what is left of an earlier driver.
    pub(super) fn start(mounts: Arc<M>, directory: PathBuf, key: NodeKey) -> io::Result<Arc<Self>> {
        DirBuilder::new().recursive(true).mode(PRIVATE_DIRECTORY).create(&directory)?;
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let filesystems = Arc::new(Self { mounts, directory, key, slots: Mutex::default(), tasks, stop });
        for entry in std::fs::read_dir(&filesystems.directory)? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let filesystem = name.split_once(SEPARATOR).and_then(|(_, name)| name.parse().ok());
            if let Some(filesystem) = filesystem {
                filesystems.take(&name, &filesystem).map_err(io::Error::other)?;
                filesystems.leave(&name, Duration::ZERO);
            }
        }
        Ok(filesystems)
    }

    /// Where tasks belong that end with the driver.
    pub(super) fn tasks(&self) -> (TaskTracker, CancellationToken) {
        (self.tasks.clone(), self.stop.clone())
    }

    /// Unmounts what nobody works in any more.
    pub(super) async fn shut_down(&self) {
        self.stop.cancel();
        self.tasks.close();
        if timeout(SHUTDOWN_LIMIT, self.tasks.wait()).await.is_err() {
            tracing::warn!("filesystems are left mounted; the next driver unmounts them");
        }
    }

    /// Mounts a filesystem, unless it is mounted; `pod` is what its client needs of a mount pod.
    pub(super) async fn open(
        self: &Arc<Self>,
        filesystem: &FilesystemName,
        secrets: &Secrets,
        pod: PodShape,
    ) -> Result<Mounted<M>, FilesystemError> {
        if self.stop.is_cancelled() {
            return Err(FilesystemError::Stopping);
        }
        let spec = MountSpec {
            client: ClientKind::Juicefs,
            filesystem: filesystem.clone(),
            subdirectory: String::new(),
            options: BTreeMap::new(),
            credentials: CredentialsDigest::of(secrets, &self.key),
        };
        let name = name_of(&spec)?;
        let place = self.take(&name, filesystem)?;
        let mounted = Mounted { filesystems: Arc::clone(self), name, place };
        mounted.turns().refuse_beside_abandoned()?;
        mounted.mount(spec, pod, secrets.clone()).await?;
        Ok(mounted)
    }

    fn slots(&self) -> MutexGuard<'_, BTreeMap<String, Slot>> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, name: &str, filesystem: &FilesystemName) -> Result<Arc<Place>, StoreError> {
        let mut slots = self.slots();
        if let Some(slot) = slots.get_mut(name) {
            slot.users += 1;
            return Ok(Arc::clone(&slot.place));
        }
        let target = self.directory.join(name).display().to_string();
        let target = target.parse().map_err(|why| {
            StoreError::new(format!("naming the mount point {target:?}"), io::Error::other(why))
        })?;
        let place = Arc::new(Place {
            volume: VolumeId::for_csi_name(filesystem.clone(), &"-".repeat(LONGER_THAN_A_CSI_NAME)),
            target,
            turns: Turns::new(filesystem.clone()),
            failures: AtomicU64::new(0),
            attempt: tokio::sync::Mutex::default(),
        });
        slots.insert(name.to_owned(), Slot { users: 1, left: 0, place: Arc::clone(&place) });
        Ok(place)
    }

    /// One user less. If it was the last one, the filesystem stays mounted for so long.
    fn leave(self: &Arc<Self>, name: &str, kept: Duration) {
        let mut slots = self.slots();
        let Some(slot) = slots.get_mut(name) else { return };
        slot.users = slot.users.saturating_sub(1);
        if slot.users > 0 {
            return;
        }
        slot.left += 1;
        let (filesystems, name, left) = (Arc::clone(self), name.to_owned(), slot.left);
        self.tasks.spawn(async move { filesystems.unmount_later(&name, left, kept).await });
    }

    /// Tries until it is unmounted, or somebody has worked in it since.
    async fn unmount_later(&self, name: &str, left: u64, kept: Duration) {
        let mut wait = kept;
        loop {
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.stop.cancelled() => {}
            }
            let idle = |slots: &BTreeMap<String, Slot>| {
                let slot = slots.get(name).filter(|slot| slot.users == 0 && slot.left == left);
                slot.map(|slot| Arc::clone(&slot.place))
            };
            let Some(place) = idle(&self.slots()) else { return };
            let _attempt = place.attempt.lock().await;
            if idle(&self.slots()).is_none() {
                return;
            }
            match self.mounts.unpublish(&place.volume, &place.target).await {
                Ok(()) => {
                    let mut slots = self.slots();
                    // Who came meanwhile waits for the attempt, and mounts it anew.
                    if idle(&slots).is_some() {
                        slots.remove(name);
                    }
                    return;
                }
                Err(error) => {
                    let error: &dyn std::error::Error = &error;
                    tracing::warn!(error, target = %place.target, "a filesystem can't be unmounted yet");
                }
            }
            if self.stop.is_cancelled() {
                return;
            }
            wait = KEPT;
        }
    }
}

impl<M: MountService> Drop for Mounted<M> {
    fn drop(&mut self) {
        self.filesystems.leave(&self.name, KEPT);
    }
}

/// Filesystem and credentials, as the name of a directory.
fn name_of(spec: &MountSpec) -> Result<String, FilesystemError> {
    let text = serde_json::to_vec(spec);
    let text = text.map_err(|error| StoreError::new("naming the mount point", io::Error::other(error)))?;
    let digits = HEXLOWER.encode(&Sha256::digest(text));
    Ok(format!("{}{SEPARATOR}{}", &digits[..DIGITS], spec.filesystem))
}

impl<M: MountService> Mounted<M> {
    /// Where it is mounted.
    pub(super) fn target(&self) -> &TargetPath {
        &self.place.target
    }

    /// Its name.
    pub(super) fn filesystem(&self) -> &FilesystemName {
        self.place.volume.filesystem()
    }

    /// Who may work in it.
    pub(super) fn turns(&self) -> &Turns {
        &self.place.turns
    }

    /// The engine succeeds at once when it is mounted. Those who waited while an attempt failed have failed with it.
    async fn mount(&self, spec: MountSpec, pod: PodShape, secrets: Secrets) -> Result<(), FilesystemError> {
        let failures_before = self.place.failures.load(Ordering::Relaxed);
        let filesystem = spec.filesystem.clone();
        let failed =
            |source: Arc<MountError>| FilesystemError::Mount { filesystem: filesystem.clone(), source };
        let mut attempt = self.place.attempt.lock().await;
        let failed_meanwhile = self.place.failures.load(Ordering::Relaxed) > failures_before;
        if let Some(error) = attempt.as_ref().filter(|_| failed_meanwhile) {
            return Err(failed(Arc::clone(error)));
        }
        let request = PublishRequest {
            volume: self.place.volume.clone(),
            target: self.place.target.clone(),
            spec,
            session: SessionUse::Own,
            access: Access { writability: Writability::ReadWrite, exclusivity: Exclusivity::Shared },
            resources: Resources::default(),
            pod,
            secrets,
        };
        match self.filesystems.mounts.publish(request).await {
            Ok(()) => {
                *attempt = None;
                Ok(())
            }
            Err(error) => {
                let error = Arc::new(error);
                *attempt = Some(Arc::clone(&error));
                self.place.failures.fetch_add(1, Ordering::Relaxed);
                Err(failed(error))
            }
        }
    }
}

#[cfg(test)]
mod tests;
