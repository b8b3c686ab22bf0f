//! How are volumes of a filesystem made, grown, copied, listed and removed?
//!
//! The controller desk knows only the traits here. `hostdir` provides volumes that are directories of the node, `juicefs`
//! those of JuiceFS filesystems; `dispatch` sends each call to one of them.

pub mod cluster;
pub mod dispatch;
mod errors;
mod files;
pub mod hostdir;
pub mod juicefs;

use std::collections::BTreeMap;
use std::future::Future;
use std::num::NonZeroUsize;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

pub use errors::{
    ChangeError, CopyError, CreateSnapshotError, CreateVolumeError, DeleteError, FilesystemError, FindError,
    Full, SecretsOf, StoreError,
};

use crate::config::capacity::CapacityRange;
pub use crate::config::flags::Reach;
use crate::config::juicefs::ClassParameters;
use crate::volume::{ClientKind, FilesystemName, Resources, Secrets, SnapshotId, VolumeId};

/// A filesystem in which volumes can be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Filesystem {
    /// Its name.
    pub name: FilesystemName,
    /// What serves its volumes.
    pub client: ClientKind,
    /// Where its files can be reached.
    pub reach: Reach,
}

impl Filesystem {
    /// A JuiceFS filesystem: every node reaches it.
    #[must_use]
    pub fn of_juicefs(name: FilesystemName) -> Self {
        Self { name, client: ClientKind::Juicefs, reach: Reach::Shared }
    }
}

/// A volume that is ready for use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Volume {
    /// Its id.
    pub id: VolumeId,
    /// Bytes promised.
    pub capacity_bytes: u64,
    /// What it was filled from.
    pub source: Option<Source>,
    /// What whoever publishes it must be told: CSI `volume_context`.
    pub context: BTreeMap<String, String>,
    /// Limits of its mount pod that its context does not say, from the next one on.
    pub resources: Resources,
}

/// What a new volume is filled from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// A snapshot.
    Snapshot(SnapshotId),
    /// Another volume.
    Volume(VolumeId),
}

/// How long does a volume live?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Lifetime {
    /// Until it is deleted.
    #[default]
    Persistent,
    /// As long as one pod: an inline volume, which no list shows and which goes when it is unpublished.
    Pod,
}

/// What is wanted of a new volume, which depends on the client that will serve it.
#[derive(Debug, Clone)]
pub enum NewVolume {
    /// A directory of a root.
    Hostdir(NewDirectory),
    /// A directory of a JuiceFS filesystem.
    Juicefs(Box<NewJuicefsVolume>),
}

/// What is wanted of a new volume in a root.
#[derive(Debug, Clone)]
pub struct NewDirectory {
    /// The name that its caller chose; the same name is the same volume.
    pub csi_name: String,
    /// Where to make it.
    pub filesystem: FilesystemName,
    /// How large.
    pub capacity: CapacityRange,
    /// Filled from what.
    pub source: Option<Source>,
    /// Limits of its mount pod.
    pub resources: Resources,
    /// How long it lives.
    pub lifetime: Lifetime,
}

/// What is wanted of a new volume in a JuiceFS filesystem.
#[derive(Debug, Clone)]
pub struct NewJuicefsVolume {
    /// The name that its caller chose; the same name is the same volume.
    pub csi_name: String,
    /// Where to make it.
    pub filesystem: FilesystemName,
    /// How large.
    pub capacity: CapacityRange,
    /// Filled from what.
    pub source: Option<Source>,
    /// What its StorageClass says, limits of `mutable_parameters` in it.
    pub class: ClassParameters,
    /// How the filesystem is reached.
    pub secrets: Secrets,
}

/// A snapshot that is complete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// Its id.
    pub id: SnapshotId,
    /// The volume that it was taken of; that volume may be gone.
    pub source: VolumeId,
    /// Bytes that a volume made from it must have at least: what was promised of its source.
    pub size_bytes: u64,
    /// When copying began.
    pub created: SystemTime,
}

/// What is wanted of a new snapshot.
#[derive(Debug, Clone)]
pub struct NewSnapshot {
    /// The name that its caller chose; the same name is the same snapshot.
    pub csi_name: String,
    /// Of which volume.
    pub source: VolumeId,
}

/// Which part of a list is wanted: ids are given out in their order, so a page's end survives deletions.
#[derive(Debug, Clone)]
pub struct Window<I> {
    /// Begin after this id, which may be gone.
    pub after: Option<I>,
    /// At most so many.
    pub entries_max: Option<NonZeroUsize>,
}

/// A part of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Page<T, I> {
    /// In the order of their ids.
    pub items: Vec<T>,
    /// Set when there is more: begin after this.
    pub next_after: Option<I>,
}

impl<T, I: Ord + Clone> Page<T, I> {
    /// What a window shows of all items.
    fn of(mut items: Vec<T>, window: &Window<I>, id: impl Fn(&T) -> &I) -> Self {
        items.retain(|item| window.after.as_ref().is_none_or(|after| id(item) > after));
        items.sort_by(|one, other| id(one).cmp(id(other)));
        let shown = window.entries_max.map_or(items.len(), |max| max.get().min(items.len()));
        let more = shown < items.len();
        items.truncate(shown);
        let next_after = items.last().filter(|_| more).map(|last| id(last).clone());
        Self { items, next_after }
    }
}

/// Room in a filesystem.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that can still be written.
    pub available_bytes: u64,
    /// Bytes in all, the largest volume that can be promised; `None` when the filesystem does not tell.
    pub total_bytes: Option<u64>,
}

/// What is known of a volume's data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DataCondition {
    /// It is where it should be.
    Present,
    /// It is not there.
    Missing {
        /// For people.
        message: String,
    },
}

/// Knows volumes by their ids alone.
pub trait Catalog: Send + Sync + 'static {
    /// The filesystem of this name; without a name, the default one.
    fn filesystem(&self, name: Option<&FilesystemName>) -> Option<Filesystem>;

    /// The volume with this id.
    ///
    /// # Errors
    /// [`FindError::NoSuchVolume`] when there is none, or none that is ready; [`FindError::Filesystem`] when it takes
    /// credentials to know.
    fn volume(&self, id: &VolumeId) -> impl Future<Output = Result<Volume, FindError>> + Send;

    /// The filesystems that can't be reached from this node, each with the reason.
    fn unreachable(&self) -> impl Future<Output = Vec<(FilesystemName, StoreError)>> + Send;
}

/// Makes and removes volumes that live as long as one pod. Every method may be called again for the same, and succeeds.
///
/// No two calls for the same name overlap: the desk sees to that.
pub trait InlineVolumes: Catalog {
    /// All filesystems, the default one first.
    fn filesystem_names(&self) -> Vec<FilesystemName>;

    /// Makes a volume whose lifetime is [`Lifetime::Pod`].
    ///
    /// # Errors
    /// See [`CreateVolumeError`]. Nothing of a new volume is left after any of them, but what could not be removed.
    fn create_inline(
        &self,
        new: NewDirectory,
    ) -> impl Future<Output = Result<Volume, CreateVolumeError>> + Send;

    /// The volumes that were made for this name, also those that are only half made or half removed.
    ///
    /// # Errors
    /// When a record can't be read.
    fn inline_volumes(&self, name: &str) -> impl Future<Output = Result<Vec<VolumeId>, StoreError>> + Send;

    /// Removes such a volume and its data; one that is not there, or lives longer than a pod, is left alone.
    ///
    /// # Errors
    /// See [`DeleteError`].
    fn delete_inline(&self, id: &VolumeId) -> impl Future<Output = Result<(), DeleteError>> + Send;
}

/// Makes, changes and removes volumes and snapshots. Every method may be called again for the same, and succeeds.
///
/// No two calls for the same volume or snapshot overlap: the desks see to that. `secrets` are those of the call: some
/// filesystems can't be reached without.
pub trait Provisioner: Catalog {
    /// Makes a volume and fills it.
    ///
    /// # Errors
    /// See [`CreateVolumeError`]. Nothing of a new volume is left after any of them, but what could not be removed.
    fn create_volume(&self, new: NewVolume)
    -> impl Future<Output = Result<Volume, CreateVolumeError>> + Send;

    /// Removes a volume and its data; one that is not there is no error.
    ///
    /// # Errors
    /// See [`DeleteError`].
    fn delete_volume(
        &self,
        id: &VolumeId,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<(), DeleteError>> + Send;

    /// The volume with this id.
    ///
    /// # Errors
    /// As [`Catalog::volume`].
    fn find_volume(
        &self,
        id: &VolumeId,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<Volume, FindError>> + Send;

    /// The volumes that are ready and can be known without credentials.
    ///
    /// # Errors
    /// When a record can't be read.
    fn volumes(
        &self,
        window: Window<VolumeId>,
    ) -> impl Future<Output = Result<Page<Volume, VolumeId>, StoreError>> + Send;

    /// Promises more bytes, never fewer; answers what is promised now.
    ///
    /// # Errors
    /// See [`ChangeError`].
    fn expand(
        &self,
        id: &VolumeId,
        range: CapacityRange,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<u64, ChangeError>> + Send;

    /// Changes the limits that are named in `limits`.
    ///
    /// # Errors
    /// See [`ChangeError`].
    fn modify(
        &self,
        id: &VolumeId,
        limits: Resources,
    ) -> impl Future<Output = Result<(), ChangeError>> + Send;

    /// Room for new volumes in a filesystem that [`Catalog::filesystem`] knows.
    ///
    /// # Errors
    /// When the filesystem can't be reached.
    fn room(&self, name: &FilesystemName) -> impl Future<Output = Result<Room, StoreError>> + Send;

    /// Is a volume's data there?
    ///
    /// # Errors
    /// [`FindError::NoSuchVolume`] when there is no such volume.
    fn condition(
        &self,
        id: &VolumeId,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<DataCondition, FindError>> + Send;

    /// Takes a snapshot; it is complete when this returns.
    ///
    /// # Errors
    /// See [`CreateSnapshotError`]. Nothing of a new snapshot is left after any of them, but what could not be removed.
    fn create_snapshot(
        &self,
        new: NewSnapshot,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<Snapshot, CreateSnapshotError>> + Send;

    /// Removes a snapshot; one that is not there is no error.
    ///
    /// # Errors
    /// See [`DeleteError`].
    fn delete_snapshot(
        &self,
        id: &SnapshotId,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<(), DeleteError>> + Send;

    /// The snapshot with this id.
    ///
    /// # Errors
    /// [`FindError::NoSuchSnapshot`] when there is none.
    fn snapshot(
        &self,
        id: &SnapshotId,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<Snapshot, FindError>> + Send;

    /// The snapshots that can be known with these credentials, those of one volume when it is named.
    ///
    /// # Errors
    /// When a record can't be read, or the filesystem of the named volume not be reached.
    fn snapshots(
        &self,
        source: Option<VolumeId>,
        window: Window<SnapshotId>,
        secrets: &Secrets,
    ) -> impl Future<Output = Result<Page<Snapshot, SnapshotId>, FindError>> + Send;
}
