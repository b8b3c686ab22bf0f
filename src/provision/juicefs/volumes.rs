//! In which order is a JuiceFS volume made, grown and removed?
//!
//! Record, directory or clone, quota, and then the record says that it is ready: what is not ready nobody finds. The other
//! way round for a removal. Every step may be repeated.

use std::io;
use std::path::PathBuf;

use super::super::files::record::{FORM, VolumeState};
use super::super::{
    ChangeError, CreateVolumeError, DataCondition, DeleteError, FilesystemError, FindError, NewJuicefsVolume,
    SecretsOf, Source, StoreError, Volume,
};
use super::JuicefsVolumes;
use super::commands::Quota;
use super::files::record::VolumeRecord;
use super::files::{Found, Job, Progress, ToDelete, Trash, snapshot_data, volume_in_the_making};
use super::path::path_of;
use super::turns::Work;
use super::workplace::Workplace;
use crate::config::capacity::CapacityRange;
use crate::config::field::InvalidField;
use crate::mountpod::service::MountService;
use crate::volume::{Resources, Secrets, VolumeId};

impl<M: MountService> JuicefsVolumes<M> {
    /// As [`Provisioner::create_volume`](super::super::Provisioner::create_volume), like all that follow.
    pub(in super::super) async fn create_volume(
        &self,
        new: NewJuicefsVolume,
    ) -> Result<Volume, CreateVolumeError> {
        let id = VolumeId::for_csi_name(new.filesystem.clone(), &new.csi_name);
        refuse_other_filesystem(&id, new.source.as_ref())?;
        let place = self.workplace(&new.filesystem, &new.secrets, SecretsOf::Provisioner).await?;
        let mut found = place.recorded(id.name()).await?;
        if let Some(Found { record: VolumeRecord { state: VolumeState::Deleting { .. }, .. }, .. }) = &found {
            place.remove_volume(id.name()).await?;
            found = None;
        }
        let (record, first_step) = match found {
            Some(Found { record, .. }) => {
                compare(&record, &id, &new)?;
                if record.state == VolumeState::Ready {
                    return Ok(told(record));
                }
                (record, Job::AdvanceVolume { name: id.name().to_owned() })
            }
            None => {
                let record = self.first_record(&place, &id, &new).await?;
                (record.clone(), Job::BeginVolume { record: Box::new(record) })
            }
        };
        match place.complete(&record, first_step).await {
            Ok(()) => Ok(told(record)),
            Err(error) if allows_taking_back(&error) => match place.remove_volume(id.name()).await {
                Ok(()) => Err(error),
                Err(left) => Err(FilesystemError::left_behind(&error, left).into()),
            },
            Err(error) => Err(error),
        }
    }

    async fn first_record(
        &self,
        place: &Workplace<'_, M>,
        id: &VolumeId,
        new: &NewJuicefsVolume,
    ) -> Result<VolumeRecord, CreateVolumeError> {
        let least = place.source_bytes(new.source.as_ref()).await?;
        let capacity_bytes = new.capacity.choose(least)?;
        let path = path_of(id, &new.class, &*self.cluster).await?;
        Ok(VolumeRecord {
            form: FORM,
            id: id.clone(),
            csi_name: new.csi_name.clone(),
            capacity_bytes,
            inodes: new.class.inodes,
            source: new.source.clone(),
            context: new.class.context(new.filesystem.clone(), path.clone()).to_map(),
            path,
            state: VolumeState::Creating,
        })
    }

    pub(in super::super) async fn delete_volume(
        &self,
        id: &VolumeId,
        secrets: &Secrets,
    ) -> Result<(), DeleteError> {
        let place = self.workplace(id.filesystem(), secrets, SecretsOf::Provisioner).await?;
        // Without a record there is nothing of ours.
        match place.volume(id).await? {
            Some(_) => Ok(place.remove_volume(id.name()).await?),
            None => Ok(()),
        }
    }

    pub(in super::super) async fn find_volume(
        &self,
        id: &VolumeId,
        secrets: &Secrets,
    ) -> Result<Volume, FindError> {
        let place = self.workplace(id.filesystem(), secrets, SecretsOf::Provisioner).await?;
        Ok(told(place.ready(id).await?.record))
    }

    pub(in super::super) async fn condition(
        &self,
        id: &VolumeId,
        secrets: &Secrets,
    ) -> Result<DataCondition, FindError> {
        let place = self.workplace(id.filesystem(), secrets, SecretsOf::Provisioner).await?;
        let Found { record, present } = place.ready(id).await?;
        Ok(if present {
            DataCondition::Present
        } else {
            let message = format!("there is nothing at {:?} in filesystem {}", record.path, id.filesystem());
            DataCondition::Missing { message }
        })
    }

    pub(in super::super) async fn expand(
        &self,
        id: &VolumeId,
        range: CapacityRange,
        secrets: &Secrets,
    ) -> Result<u64, ChangeError> {
        let place = self.workplace(id.filesystem(), secrets, SecretsOf::Expansion).await?;
        let missing = || ChangeError::NoSuchVolume(id.clone());
        let found = place.ready(id).await.map_err(|error| error.or_missing(missing))?;
        let capacity_bytes = range.grown(found.record.capacity_bytes)?;
        if capacity_bytes > found.record.capacity_bytes {
            let quota = Quota { bytes: capacity_bytes, inodes: None };
            place.commands().set_quota(&found.record.path, quota, Work::Moments).await?;
            let name = id.name().to_owned();
            place.files::<()>(Job::PromiseVolume { name, capacity_bytes }).await?;
        }
        Ok(capacity_bytes)
    }
}

impl<M: MountService> Workplace<'_, M> {
    /// What is recorded under a name, in whatever state.
    async fn recorded(&self, name: &str) -> Result<Option<Found>, FilesystemError> {
        self.files(Job::FindVolume { name: name.to_owned() }).await
    }

    /// What is recorded of a volume, in whatever state.
    async fn volume(&self, id: &VolumeId) -> Result<Option<Found>, FilesystemError> {
        let found = self.recorded(id.name()).await?;
        Ok(found.filter(|found| found.record.id == *id))
    }

    /// A volume that is ready.
    pub(super) async fn ready(&self, id: &VolumeId) -> Result<Found, FindError> {
        let found = self.volume(id).await?.filter(|found| found.record.state == VolumeState::Ready);
        found.ok_or_else(|| FindError::NoSuchVolume(id.clone()))
    }

    /// Carries a volume from whatever state it is in to `ready`.
    async fn complete(&self, record: &VolumeRecord, first_step: Job) -> Result<(), CreateVolumeError> {
        let name = || record.id.name().to_owned();
        let work = if record.source.is_some() { Work::Tree } else { Work::Moments };
        let progress = match self.files(first_step).await? {
            Progress::ToClone => {
                self.fill(record).await?;
                self.files(Job::AdvanceVolume { name: name() }).await?
            }
            // An earlier call may have ended while the client counted. It counts anew when the quota is new.
            Progress::Placed if record.source.is_some() => {
                self.commands().delete_quota(&format!("/{}", record.path)).await?;
                Progress::Placed
            }
            progress => progress,
        };
        let filesystem = || record.id.filesystem().clone();
        match progress {
            Progress::Ready => Ok(()),
            Progress::Placed => {
                let quota = Quota { bytes: record.capacity_bytes, inodes: record.inodes };
                self.commands().set_quota(&record.path, quota, work).await?;
                Ok(self.files(Job::FinishVolume { name: name() }).await?)
            }
            Progress::Taken { path, owner } => {
                Err(CreateVolumeError::PathTaken { filesystem: filesystem(), path, owner })
            }
            Progress::Foreign => {
                Err(CreateVolumeError::Foreign { filesystem: filesystem(), name: record.path.to_string() })
            }
            Progress::ToClone => {
                let why = io::Error::other("the client says that it is done, but there is nothing");
                Err(StoreError::new("cloning the volume's source", why).into())
            }
        }
    }

    async fn fill(&self, record: &VolumeRecord) -> Result<(), CreateVolumeError> {
        let from = match &record.source {
            None => return Ok(()),
            Some(Source::Snapshot(id)) => snapshot_data(id.name()),
            Some(source @ Source::Volume(id)) => {
                let missing = || CreateVolumeError::NoSuchSource(source.clone());
                let found = self.ready(id).await.map_err(|error| error.or_missing(missing))?;
                PathBuf::from(found.record.path.as_str())
            }
        };
        let to = volume_in_the_making(record.id.name());
        let doing = "cloning the volume's source";
        Ok(self.commands().clone_tree(doing, &self.path(from), &self.path(to)).await?)
    }

    async fn source_bytes(&self, source: Option<&Source>) -> Result<u64, CreateVolumeError> {
        let Some(source) = source else { return Ok(0) };
        let bytes = match source {
            Source::Volume(id) => self.ready(id).await.map(|found| found.record.capacity_bytes),
            Source::Snapshot(id) => self.snapshot(id).await.map(|record| record.size_bytes),
        };
        bytes.map_err(|error| error.or_missing(|| CreateVolumeError::NoSuchSource(source.clone())))
    }

    /// Removes a volume in whatever state it is. Its quota is that of its directory, which must be found by its path.
    async fn remove_volume(&self, name: &str) -> Result<(), FilesystemError> {
        let deletion: Option<ToDelete> = self.files(Job::BeginDeletion { name: name.to_owned() }).await?;
        let Some(ToDelete { quota }) = deletion else { return Ok(()) };
        if let Some(path) = quota {
            self.commands().delete_quota(&path).await?;
        }
        if self.files::<bool>(Job::TrashVolume { name: name.to_owned() }).await? {
            self.commands().remove_tree(&self.path(Trash::Volume(name).path())).await?;
        }
        self.files(Job::EndDeletion { name: name.to_owned() }).await
    }
}

fn allows_taking_back(error: &CreateVolumeError) -> bool {
    !matches!(error, CreateVolumeError::Filesystem(error) if !error.allows_taking_back())
}

fn told(record: VolumeRecord) -> Volume {
    Volume {
        id: record.id,
        capacity_bytes: record.capacity_bytes,
        source: record.source,
        context: record.context,
        resources: Resources::default(),
    }
}

/// The client clones within a filesystem only.
fn refuse_other_filesystem(id: &VolumeId, source: Option<&Source>) -> Result<(), InvalidField> {
    let filesystem = match source {
        None => return Ok(()),
        Some(Source::Volume(id)) => id.filesystem(),
        Some(Source::Snapshot(id)) => id.filesystem(),
    };
    if filesystem == id.filesystem() {
        return Ok(());
    }
    let why = format!(
        "is in filesystem {filesystem}, the volume is to be in {}; JuiceFS clones within a filesystem only",
        id.filesystem()
    );
    Err(InvalidField::new("volume_content_source", why))
}

fn compare(record: &VolumeRecord, id: &VolumeId, new: &NewJuicefsVolume) -> Result<(), CreateVolumeError> {
    let asked = new.class.context(new.filesystem.clone(), record.path.clone()).to_map();
    let difference = if record.id != *id {
        format!("filesystem {} was called {} then", id.filesystem(), record.id.filesystem())
    } else if record.csi_name != new.csi_name {
        "it was made for another name".to_owned()
    } else if !new.capacity.contains(record.capacity_bytes) {
        format!("its size, {} bytes, is not in capacity_range", record.capacity_bytes)
    } else if record.source != new.source {
        "it was filled from another volume_content_source".to_owned()
    } else if record.context != asked || record.inodes != new.class.inodes {
        "it was made with other parameters".to_owned()
    } else {
        return Ok(());
    };
    Err(CreateVolumeError::Exists { id: record.id.clone(), difference })
}
