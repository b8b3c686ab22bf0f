//! Who provides the volume that a call means? Each filesystem belongs to one provisioner, told by its name.

use std::sync::Arc;

use super::hostdir::Hostdir;
use super::juicefs::JuicefsVolumes;
use super::{
    Catalog, ChangeError, CreateSnapshotError, CreateVolumeError, DataCondition, DeleteError, Filesystem,
    FilesystemError, FindError, NewSnapshot, NewVolume, Page, Provisioner, Room, SecretsOf, Snapshot,
    StoreError, Volume, Window,
};
use crate::config::capacity::CapacityRange;
use crate::config::field::{InvalidField, entry};
use crate::juicefs::secret::filesystem_name;
use crate::mountpod::service::MountService;
use crate::volume::{FilesystemName, Resources, Secrets, SnapshotId, VolumeId};

/// The provisioners of a driver: a filesystem with the name of a root is hostdir's, any other one is JuiceFS's.
pub struct Provisioners<M: MountService> {
    hostdir: Hostdir,
    juicefs: Option<Arc<JuicefsVolumes<M>>>,
}

/// Who provides the volumes of a filesystem.
enum Provider<'a, M: MountService> {
    Hostdir(&'a Hostdir),
    Juicefs(&'a JuicefsVolumes<M>),
    /// No root has its name, and there is no client for another one.
    Nobody,
}

impl<M: MountService> Provisioners<M> {
    /// Both, or the first alone.
    pub fn new(hostdir: Hostdir, juicefs: Option<Arc<JuicefsVolumes<M>>>) -> Self {
        Self { hostdir, juicefs }
    }

    fn of(&self, filesystem: &FilesystemName) -> Provider<'_, M> {
        if self.hostdir.filesystem(Some(filesystem)).is_some() {
            return Provider::Hostdir(&self.hostdir);
        }
        self.juicefs.as_deref().map_or(Provider::Nobody, Provider::Juicefs)
    }
}

/// Without a client nothing is known of what has no root; with credentials it is somebody's, who must hear of it.
fn nobody(secrets: &Secrets) -> Result<(), FilesystemError> {
    if secrets.is_empty() { Ok(()) } else { Err(FilesystemError::NoClient) }
}

impl<M: MountService> Catalog for Provisioners<M> {
    fn filesystem(&self, name: Option<&FilesystemName>) -> Option<Filesystem> {
        let elsewhere = |name: &FilesystemName| Filesystem::of_juicefs(name.clone());
        let juicefs = || self.juicefs.as_ref().and(name).map(elsewhere);
        self.hostdir.filesystem(name).or_else(juicefs)
    }

    async fn volume(&self, id: &VolumeId) -> Result<Volume, FindError> {
        match self.of(id.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.volume(id).await,
            Provider::Nobody => Err(FindError::NoSuchVolume(id.clone())),
            Provider::Juicefs(juicefs) => match juicefs.known().await? {
                Some(known) => known.into_iter().find(|volume| volume.id == *id),
                None => return Err(FilesystemError::NoSecrets { wanted: SecretsOf::Nobody }.into()),
            }
            .ok_or_else(|| FindError::NoSuchVolume(id.clone())),
        }
    }

    async fn unreachable(&self) -> Vec<(FilesystemName, StoreError)> {
        self.hostdir.unreachable().await
    }
}

impl<M: MountService> Provisioner for Provisioners<M> {
    async fn create_volume(&self, new: NewVolume) -> Result<Volume, CreateVolumeError> {
        match (new, &self.juicefs) {
            (NewVolume::Hostdir(new), _) => self.hostdir.create_volume(new).await,
            (NewVolume::Juicefs(new), _) if self.hostdir.filesystem(Some(&new.filesystem)).is_some() => {
                let why = format!("is {}, the name of a --hostdir-root; choose another one", new.filesystem);
                Err(InvalidField::new(entry("parameters", "filesystem"), why).into())
            }
            (NewVolume::Juicefs(_), None) => Err(FilesystemError::NoClient.into()),
            (NewVolume::Juicefs(new), Some(juicefs)) => juicefs.create_volume(*new).await,
        }
    }

    async fn delete_volume(&self, id: &VolumeId, secrets: &Secrets) -> Result<(), DeleteError> {
        match self.of(id.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.delete_volume(id).await,
            Provider::Juicefs(juicefs) => juicefs.delete_volume(id, secrets).await,
            Provider::Nobody => Ok(nobody(secrets)?),
        }
    }

    async fn find_volume(&self, id: &VolumeId, secrets: &Secrets) -> Result<Volume, FindError> {
        match self.of(id.filesystem()) {
            Provider::Juicefs(juicefs) => juicefs.find_volume(id, secrets).await,
            Provider::Hostdir(_) | Provider::Nobody => self.volume(id).await,
        }
    }

    /// Volumes of JuiceFS are those that the cluster knows: CSI has no secrets for this call. Without a cluster there are
    /// none.
    async fn volumes(&self, window: Window<VolumeId>) -> Result<Page<Volume, VolumeId>, StoreError> {
        let in_roots = self.hostdir.volumes(window.clone()).await?;
        let known = match &self.juicefs {
            Some(juicefs) => juicefs.known().await?.unwrap_or_default(),
            None => Vec::new(),
        };
        let known = Page::of(known, &window, |volume| &volume.id);
        Ok(merged(in_roots, known, &window, |volume| &volume.id))
    }

    async fn expand(
        &self,
        id: &VolumeId,
        range: CapacityRange,
        secrets: &Secrets,
    ) -> Result<u64, ChangeError> {
        match self.of(id.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.expand(id, range).await,
            Provider::Juicefs(juicefs) => juicefs.expand(id, range, secrets).await,
            Provider::Nobody => {
                nobody(secrets)?;
                Err(ChangeError::NoSuchVolume(id.clone()))
            }
        }
    }

    async fn modify(&self, id: &VolumeId, limits: Resources) -> Result<(), ChangeError> {
        match self.of(id.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.modify(id, limits).await,
            Provider::Juicefs(_) => Err(ChangeError::Unchangeable(id.clone())),
            Provider::Nobody => Err(ChangeError::NoSuchVolume(id.clone())),
        }
    }

    async fn room(&self, name: &FilesystemName) -> Result<Room, StoreError> {
        self.hostdir.room(name).await
    }

    async fn condition(&self, id: &VolumeId, secrets: &Secrets) -> Result<DataCondition, FindError> {
        match self.of(id.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.condition(id).await,
            Provider::Juicefs(juicefs) => juicefs.condition(id, secrets).await,
            Provider::Nobody => {
                nobody(secrets)?;
                Err(FindError::NoSuchVolume(id.clone()))
            }
        }
    }

    async fn create_snapshot(
        &self,
        new: NewSnapshot,
        secrets: &Secrets,
    ) -> Result<Snapshot, CreateSnapshotError> {
        match self.of(new.source.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.create_snapshot(new).await,
            Provider::Juicefs(juicefs) => juicefs.create_snapshot(new, secrets).await,
            Provider::Nobody => {
                nobody(secrets)?;
                Err(CreateSnapshotError::NoSuchVolume(new.source))
            }
        }
    }

    async fn delete_snapshot(&self, id: &SnapshotId, secrets: &Secrets) -> Result<(), DeleteError> {
        match self.of(id.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.delete_snapshot(id).await,
            Provider::Juicefs(juicefs) => juicefs.delete_snapshot(id, secrets).await,
            Provider::Nobody => Ok(nobody(secrets)?),
        }
    }

    async fn snapshot(&self, id: &SnapshotId, secrets: &Secrets) -> Result<Snapshot, FindError> {
        match self.of(id.filesystem()) {
            Provider::Hostdir(hostdir) => hostdir.snapshot(id).await,
            Provider::Juicefs(juicefs) => juicefs.snapshot(id, secrets).await,
            Provider::Nobody => {
                nobody(secrets)?;
                Err(FindError::NoSuchSnapshot(id.clone()))
            }
        }
    }

    async fn snapshots(
        &self,
        source: Option<VolumeId>,
        window: Window<SnapshotId>,
        secrets: &Secrets,
    ) -> Result<Page<Snapshot, SnapshotId>, FindError> {
        let named = source.as_ref().map(|id| id.filesystem().clone());
        // A list of all takes in the filesystem that the Secret names.
        let filesystem = named.or_else(|| filesystem_name(secrets));
        let Some(filesystem) = filesystem else { return Ok(self.hostdir.snapshots(source, window).await?) };
        let Provider::Juicefs(juicefs) = self.of(&filesystem) else {
            return Ok(self.hostdir.snapshots(source, window).await?);
        };
        let found = juicefs.snapshots(&filesystem, source.as_ref(), &window, secrets).await?;
        if source.is_some() {
            return Ok(found);
        }
        let in_roots = self.hostdir.snapshots(None, window.clone()).await?;
        Ok(merged(in_roots, found, &window, |snapshot| &snapshot.id))
    }
}

/// One page of two that begin at the same place.
fn merged<T, I: Ord + Clone>(
    one: Page<T, I>,
    other: Page<T, I>,
    window: &Window<I>,
    id: impl Fn(&T) -> &I,
) -> Page<T, I> {
    let more = one.next_after.is_some() || other.next_after.is_some();
    let items = one.items.into_iter().chain(other.items).collect();
    let mut page = Page::of(items, window, &id);
    if more {
        page.next_after = page.items.last().map(|last| id(last).clone());
    }
    page
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use std::num::NonZeroUsize;
    use std::time::UNIX_EPOCH;

    use super::*;

    fn page(names: &[&str], next_after: Option<&str>) -> Page<Snapshot, SnapshotId> {
        let snapshot = |name: &&str| Snapshot {
            id: name.parse().unwrap(),
            source: "a#v".parse().unwrap(),
            size_bytes: 1,
            created: UNIX_EPOCH,
        };
        Page {
            items: names.iter().map(snapshot).collect(),
            next_after: next_after.map(|name| name.parse().unwrap()),
        }
    }

    #[test]
    fn two_lists_are_one_in_the_order_of_their_ids() {
        let window = |entries_max| Window { after: None, entries_max: NonZeroUsize::new(entries_max) };
        let both = |entries_max, one_next: Option<&str>| {
            let (one, other) = (page(&["a#1", "c#1"], one_next), page(&["b#1"], None));
            let page = merged(one, other, &window(entries_max), |snapshot| &snapshot.id);
            let names: Vec<_> = page.items.iter().map(|snapshot| snapshot.id.to_string()).collect();
            (names.join(" "), page.next_after.map(|id| id.to_string()))
        };
        assert_eq!(both(0, None), ("a#1 b#1 c#1".to_owned(), None));
        assert_eq!(both(2, None), ("a#1 b#1".to_owned(), Some("b#1".to_owned())));
        assert_eq!(both(3, Some("c#1")), ("a#1 b#1 c#1".to_owned(), Some("c#1".to_owned())));
    }
}
