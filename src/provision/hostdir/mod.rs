//! How are volumes provided that are directories of the node?
//!
//! Everything here is done by system calls that may wait for a disk or an NFS server, so each operation runs on a
//! thread of its own, a limited number at a time. Nothing of it can be cut short from outside: whoever waits may leave,
//! the operation goes on, and its caller's guard with it.

mod content;
mod copy;
mod list;
mod record;
mod remove;
mod root;
mod snapshots;
mod sys;
mod volumes;

#[cfg(test)]
mod tests;

use std::fs::File;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::fcntl::Flock;
use nix::sys::statvfs::fstatvfs;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

pub use root::RootError;

use self::root::{OpenRoot, open_root};
use super::{
    Catalog, ChangeError, CreateSnapshotError, CreateVolumeError, DataCondition, DeleteError, Filesystem,
    FindError, InlineVolumes, NewDirectory, NewSnapshot, Page, Room, Snapshot, StoreError, Volume, Window,
};
use crate::config::capacity::CapacityRange;
use crate::config::flags::HostdirRoot;
use crate::volume::{ClientKind, FilesystemName, Resources, SnapshotId, VolumeId};

/// Short operations at a time: a hung disk takes so many threads and no more.
const SHORT_OPERATIONS_MAX: usize = 16;
/// Copies and removals of whole trees at a time: more would only make each slower, and every workload with it.
const LONG_OPERATIONS_MAX: usize = 4;

/// Longest wait for a short operation's turn. It takes milliseconds: when all are still at it, the disk hangs, and
/// whoever asks again and again must not pile up.
const SHORT_TURN_LIMIT: Duration = Duration::from_secs(20);
/// Longest wait for a copy's or a removal's turn: trees of terabytes may be before it. Its caller asks again.
const LONG_TURN_LIMIT: Duration = Duration::from_secs(3600);

/// Volumes in directories that an administrator named.
#[derive(Clone)]
pub struct Hostdir {
    roots: Arc<Roots>,
    stop: Stop,
    short: Lane,
    long: Lane,
    _locks: Arc<Vec<Flock<File>>>,
}

/// Operations of one kind, a limited number at a time.
#[derive(Clone)]
struct Lane {
    turns: Arc<Semaphore>,
    turn_limit: Duration,
}

impl Lane {
    fn new(operations_max: usize, turn_limit: Duration) -> Self {
        Self { turns: Arc::new(Semaphore::new(operations_max)), turn_limit }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, StoreError> {
        let failed = |why| StoreError::new("waiting for earlier file operations", std::io::Error::other(why));
        match timeout(self.turn_limit, self.turns.clone().acquire_owned()).await {
            Ok(turn) => turn.map_err(|_| failed("the driver is being stopped".to_owned())),
            Err(_) => Err(failed(format!("they have not ended within {:?}", self.turn_limit))),
        }
    }
}

/// Set once, when the driver is being stopped: copies and removals end at the next file.
#[derive(Debug, Clone, Default)]
struct Stop(Arc<AtomicBool>);

impl Stop {
    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The roots that are served, the default one first.
struct Roots(Vec<Root>);

/// A root that was made ready.
struct Root(HostdirRoot);

impl Root {
    fn name(&self) -> &FilesystemName {
        &self.0.name
    }

    fn open(&self) -> Result<OpenRoot, StoreError> {
        open_root(&self.0)
    }
}

impl Roots {
    fn get(&self, name: &FilesystemName) -> Option<&Root> {
        self.0.iter().find(|root| root.name() == name)
    }

    fn filesystem(&self, name: Option<&FilesystemName>) -> Option<Filesystem> {
        let Root(root) = match name {
            Some(name) => self.get(name),
            None => self.0.first(),
        }?;
        Some(Filesystem { name: root.name.clone(), client: ClientKind::Hostdir, reach: root.reach })
    }

    fn iter(&self) -> impl Iterator<Item = &Root> {
        self.0.iter()
    }
}

impl Hostdir {
    /// Makes the roots ready, and takes them: no other driver may provide volumes in them. The first is the default.
    ///
    /// Blocks on the disk: call it before serving.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn new(roots: Vec<HostdirRoot>) -> Result<Self, RootError> {
        root::prepare(&roots)?;
        let locks = root::take(&roots)?;
        Ok(Self::over(roots, locks))
    }

    /// Makes the roots ready for a node whose controller is another process, which takes them.
    ///
    /// Blocks on the disk: call it before serving.
    ///
    /// # Errors
    /// See [`RootError`].
    pub fn beside_controller(roots: Vec<HostdirRoot>) -> Result<Self, RootError> {
        root::prepare(&roots)?;
        Ok(Self::over(roots, Vec::new()))
    }

    fn over(roots: Vec<HostdirRoot>, locks: Vec<Flock<File>>) -> Self {
        Self {
            roots: Arc::new(Roots(roots.into_iter().map(Root).collect())),
            stop: Stop::default(),
            short: Lane::new(SHORT_OPERATIONS_MAX, SHORT_TURN_LIMIT),
            long: Lane::new(LONG_OPERATIONS_MAX, LONG_TURN_LIMIT),
            _locks: Arc::new(locks),
        }
    }

    /// Ends copies and removals that are going on, and all that begin later, at the next file.
    pub fn stop(&self) {
        self.stop.0.store(true, Ordering::Relaxed);
    }

    async fn run<T, E>(
        &self,
        lane: &Lane,
        operation: impl FnOnce(&Roots, &Stop) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: From<StoreError> + Send + 'static,
    {
        let turn = lane.turn().await?;
        let (roots, stop) = (self.roots.clone(), self.stop.clone());
        let thread = tokio::task::spawn_blocking(move || {
            let outcome = operation(&roots, &stop);
            // Held to the end, even when nobody waits any more.
            drop(turn);
            outcome
        });
        let panicked = || StoreError::new("running a file operation", std::io::Error::other("it panicked"));
        thread.await.map_err(|_| panicked())?
    }
}

impl Catalog for Hostdir {
    fn filesystem(&self, name: Option<&FilesystemName>) -> Option<Filesystem> {
        self.roots.filesystem(name)
    }

    async fn volume(&self, id: &VolumeId) -> Result<Volume, FindError> {
        let id = id.clone();
        self.run(&self.short, move |roots, _| volumes::find(roots, &id)).await
    }

    async fn unreachable(&self) -> Vec<(FilesystemName, StoreError)> {
        let mut lost = Vec::new();
        for name in self.roots.iter().map(Root::name) {
            let asked = name.clone();
            if let Err(error) = self.run(&self.short, move |roots, _| room(roots, &asked)).await {
                lost.push((name.clone(), error));
            }
        }
        lost
    }
}

impl InlineVolumes for Hostdir {
    fn filesystem_names(&self) -> Vec<FilesystemName> {
        self.roots.iter().map(|root| root.name().clone()).collect()
    }

    async fn create_inline(&self, new: NewDirectory) -> Result<Volume, CreateVolumeError> {
        self.run(&self.short, move |roots, stop| volumes::create(roots, &new, stop)).await
    }

    async fn inline_volumes(&self, name: &str) -> Result<Vec<VolumeId>, StoreError> {
        let name = name.to_owned();
        self.run(&self.short, move |roots, _| volumes::inline(roots, &name)).await
    }

    async fn delete_inline(&self, id: &VolumeId) -> Result<(), DeleteError> {
        let id = id.clone();
        self.run(&self.long, move |roots, stop| volumes::delete_inline(roots, &id, stop)).await
    }
}

impl Hostdir {
    /// Makes a volume in one of the roots, and fills it.
    ///
    /// # Errors
    /// See [`CreateVolumeError`].
    pub async fn create_volume(&self, new: NewDirectory) -> Result<Volume, CreateVolumeError> {
        let lane = if new.source.is_some() { &self.long } else { &self.short };
        self.run(lane, move |roots, stop| volumes::create(roots, &new, stop)).await
    }

    /// As [`Provisioner::delete_volume`](super::Provisioner::delete_volume), like all that follow; no root takes secrets.
    pub(super) async fn delete_volume(&self, id: &VolumeId) -> Result<(), DeleteError> {
        let id = id.clone();
        self.run(&self.long, move |roots, stop| volumes::delete(roots, &id, stop)).await
    }

    pub(super) async fn volumes(
        &self,
        window: Window<VolumeId>,
    ) -> Result<Page<Volume, VolumeId>, StoreError> {
        self.run(&self.short, move |roots, _| list::volumes(roots, &window)).await
    }

    pub(super) async fn expand(&self, id: &VolumeId, range: CapacityRange) -> Result<u64, ChangeError> {
        let id = id.clone();
        self.run(&self.short, move |roots, _| volumes::expand(roots, &id, range)).await
    }

    pub(super) async fn modify(&self, id: &VolumeId, limits: Resources) -> Result<(), ChangeError> {
        let id = id.clone();
        self.run(&self.short, move |roots, _| volumes::modify(roots, &id, limits)).await
    }

    pub(super) async fn room(&self, name: &FilesystemName) -> Result<Room, StoreError> {
        let name = name.clone();
        self.run(&self.short, move |roots, _| room(roots, &name)).await
    }

    pub(super) async fn condition(&self, id: &VolumeId) -> Result<DataCondition, FindError> {
        let id = id.clone();
        self.run(&self.short, move |roots, _| volumes::condition(roots, &id)).await
    }

    pub(super) async fn create_snapshot(&self, new: NewSnapshot) -> Result<Snapshot, CreateSnapshotError> {
        self.run(&self.long, move |roots, stop| snapshots::create(roots, &new, stop)).await
    }

    pub(super) async fn delete_snapshot(&self, id: &SnapshotId) -> Result<(), DeleteError> {
        let id = id.clone();
        self.run(&self.long, move |roots, stop| snapshots::delete(roots, &id, stop)).await
    }

    pub(super) async fn snapshot(&self, id: &SnapshotId) -> Result<Snapshot, FindError> {
        let id = id.clone();
        self.run(&self.short, move |roots, _| snapshots::find(roots, &id)).await
    }

    pub(super) async fn snapshots(
        &self,
        source: Option<VolumeId>,
        window: Window<SnapshotId>,
    ) -> Result<Page<Snapshot, SnapshotId>, StoreError> {
        self.run(&self.short, move |roots, _| list::snapshots(roots, source.as_ref(), &window)).await
    }
}

fn room(roots: &Roots, name: &FilesystemName) -> Result<Room, StoreError> {
    let failed = |error: std::io::Error| StoreError::new(format!("asking root {name} for its room"), error);
    let root = roots.get(name).ok_or_else(|| failed(std::io::ErrorKind::NotFound.into()))?.open()?;
    let stat = fstatvfs(&root.dir).map_err(|errno| failed(errno.into()))?;
    let total_bytes = volumes::total_bytes(&root).map_err(|errno| failed(errno.into()))?;
    Ok(Room { available_bytes: stat.blocks_available().saturating_mul(stat.fragment_size()), total_bytes })
}
