//! In which order is a snapshot of a JuiceFS volume taken and removed?
//!
//! The client clones the volume's metadata beside a record, and both are moved to their place together. What workloads have
//! written and not made durable is not in it.

use std::time::SystemTime;

use super::super::files::record::FORM;
use super::super::{
    CreateSnapshotError, DeleteError, FilesystemError, FindError, NewSnapshot, Page, SecretsOf, Snapshot,
    StoreError, Window,
};
use super::JuicefsVolumes;
use super::files::record::SnapshotRecord;
use super::files::{Job, Trash, new_snapshot_data};
use super::workplace::Workplace;
use crate::mountpod::service::MountService;
use crate::volume::{FilesystemName, Secrets, SnapshotId, VolumeId};

impl<M: MountService> JuicefsVolumes<M> {
    /// As [`Provisioner::create_snapshot`](super::super::Provisioner::create_snapshot), like all that follow.
    pub(in super::super) async fn create_snapshot(
        &self,
        new: NewSnapshot,
        secrets: &Secrets,
    ) -> Result<Snapshot, CreateSnapshotError> {
        let filesystem = new.source.filesystem();
        let id = SnapshotId::for_csi_name(filesystem.clone(), &new.csi_name);
        let place = self.workplace(filesystem, secrets, SecretsOf::Snapshotter).await?;
        let record = match place.recorded_snapshot(id.name()).await? {
            Some(record) => record,
            None => match place.take_snapshot(&id, &new).await {
                Ok(record) => record,
                Err(CreateSnapshotError::Filesystem(error)) if !error.allows_taking_back() => {
                    return Err(error.into());
                }
                Err(error) => {
                    return match place.remove_snapshot(id.name()).await {
                        Ok(()) => Err(error),
                        Err(left) => Err(FilesystemError::left_behind(&error, left).into()),
                    };
                }
            },
        };
        if record.source != new.source || record.id != id {
            return Err(CreateSnapshotError::Exists { id: record.id, source_volume: record.source });
        }
        Ok(told(record))
    }

    pub(in super::super) async fn delete_snapshot(
        &self,
        id: &SnapshotId,
        secrets: &Secrets,
    ) -> Result<(), DeleteError> {
        let place = self.workplace(id.filesystem(), secrets, SecretsOf::Snapshotter).await?;
        let recorded = place.recorded_snapshot(id.name()).await?;
        if recorded.is_some_and(|record| record.id != *id) {
            return Ok(());
        }
        Ok(place.remove_snapshot(id.name()).await?)
    }

    pub(in super::super) async fn snapshot(
        &self,
        id: &SnapshotId,
        secrets: &Secrets,
    ) -> Result<Snapshot, FindError> {
        let place = self.workplace(id.filesystem(), secrets, SecretsOf::SnapshotList).await?;
        place.snapshot(id).await.map(told)
    }

    /// The snapshots of a filesystem: that of the named volume, or the one that the Secret names.
    pub(in super::super) async fn snapshots(
        &self,
        filesystem: &FilesystemName,
        source: Option<&VolumeId>,
        window: &Window<SnapshotId>,
        secrets: &Secrets,
    ) -> Result<Page<Snapshot, SnapshotId>, FindError> {
        let place = self.workplace(filesystem, secrets, SecretsOf::SnapshotList).await?;
        let mut records: Vec<SnapshotRecord> = place.files(Job::ListSnapshots).await?;
        records.retain(|record| source.is_none_or(|source| *source == record.source));
        let snapshots = records.into_iter().map(told).collect();
        Ok(Page::of(snapshots, window, |snapshot| &snapshot.id))
    }
}

impl<M: MountService> Workplace<'_, M> {
    async fn recorded_snapshot(&self, name: &str) -> Result<Option<SnapshotRecord>, FilesystemError> {
        self.files(Job::FindSnapshot { name: name.to_owned() }).await
    }

    /// A snapshot that is complete.
    pub(super) async fn snapshot(&self, id: &SnapshotId) -> Result<SnapshotRecord, FindError> {
        let found = self.recorded_snapshot(id.name()).await?.filter(|record| record.id == *id);
        found.ok_or_else(|| FindError::NoSuchSnapshot(id.clone()))
    }

    async fn take_snapshot(
        &self,
        id: &SnapshotId,
        new: &NewSnapshot,
    ) -> Result<SnapshotRecord, CreateSnapshotError> {
        let missing = || CreateSnapshotError::NoSuchVolume(new.source.clone());
        let source = self.ready(&new.source).await.map_err(|error| error.or_missing(missing))?;
        let record = SnapshotRecord {
            form: FORM,
            id: id.clone(),
            csi_name: new.csi_name.clone(),
            source: new.source.clone(),
            size_bytes: source.record.capacity_bytes,
            created: SystemTime::now(),
        };
        let name = id.name().to_owned();
        if !self.files::<bool>(Job::BeginSnapshot { record: Box::new(record) }).await? {
            let (from, to) = (self.path(source.record.path.as_str()), self.path(new_snapshot_data(&name)));
            self.commands().clone_tree("cloning the volume", &from, &to).await?;
        }
        self.files::<()>(Job::PlaceSnapshot { name: name.clone() }).await?;
        // An earlier try may have got so far as to write a record of its own.
        self.recorded_snapshot(&name).await?.ok_or_else(|| {
            StoreError::new("looking at the new snapshot", std::io::ErrorKind::NotFound).into()
        })
    }

    async fn remove_snapshot(&self, name: &str) -> Result<(), FilesystemError> {
        if self.files::<bool>(Job::TrashSnapshot { name: name.to_owned() }).await? {
            self.commands().remove_tree(&self.path(Trash::Snapshot(name).path())).await?;
            self.files::<()>(Job::EndTrash { name: name.to_owned() }).await?;
        }
        Ok(())
    }
}

fn told(record: SnapshotRecord) -> Snapshot {
    Snapshot { id: record.id, source: record.source, size_bytes: record.size_bytes, created: record.created }
}
