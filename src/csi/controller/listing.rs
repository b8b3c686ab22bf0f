//! Which volumes are there, how are they, and how much room is left?

use std::sync::Arc;

use super::super::api::v1;
use super::super::api::v1::{controller_get_volume_response, list_volumes_response};
use super::super::capability::{self, CapabilityError};
use super::super::health::{Trouble, volume_condition, volume_health};
use super::super::status::RpcError;
use super::super::{request as check, topology};
use super::Desk;
use super::volumes::told_bytes;
use super::wanted::juicefs_capabilities;
use crate::config::capacity::ABSURD_BYTES;
use crate::config::client::client_of;
use crate::config::host_directories::HostDirectories;
use crate::config::juicefs::ClassParameters;
use crate::config::parameters::VolumeParameters;
use crate::mountpod::service::PublishedTargets;
use crate::provision::{FilesystemError, FindError, Provisioner, Window};
use crate::volume::{ClientKind, Secrets, VolumeId};

impl<P: Provisioner, W: PublishedTargets> Desk<P, W> {
    pub(super) async fn list_volumes(
        self: Arc<Self>,
        request: v1::ListVolumesRequest,
    ) -> Result<v1::ListVolumesResponse, RpcError> {
        let entries_max = check::entries_max(request.max_entries)?;
        let after = check::after(&request.starting_token)?;
        let page = self.provisioner.volumes(Window { after, entries_max }).await?;
        let mut entries = Vec::with_capacity(page.items.len());
        for volume in &page.items {
            let Some(trouble) = self.data_trouble(&volume.id).await? else { continue };
            entries.push(list_volumes_response::Entry {
                volume: Some(self.told(volume)?),
                status: Some(list_volumes_response::VolumeStatus {
                    published_node_ids: self.published_nodes(&volume.id),
                    volume_condition: Some(volume_condition(trouble)),
                }),
            });
        }
        Ok(v1::ListVolumesResponse { entries, next_token: token(page.next_after) })
    }

    pub(super) async fn get_volume(
        self: Arc<Self>,
        request: v1::ControllerGetVolumeRequest,
    ) -> Result<v1::ControllerGetVolumeResponse, RpcError> {
        let id = check::volume_id("volume_id", &request.volume_id)?;
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", &request.volume_id))?;
        let volume = self.provisioner.volume(&id).await?;
        let trouble = self.data_trouble(&id).await?;
        let trouble = trouble.ok_or_else(|| FindError::NoSuchVolume(id.clone()))?;
        let status = controller_get_volume_response::VolumeStatus {
            published_node_ids: self.published_nodes(&id),
            volume_condition: Some(volume_condition(trouble)),
        };
        Ok(v1::ControllerGetVolumeResponse { volume: Some(self.told(&volume)?), status: Some(status) })
    }

    pub(super) async fn get_volume_health(
        self: Arc<Self>,
        request: v1::ControllerGetVolumeHealthRequest,
    ) -> Result<v1::ControllerGetVolumeHealthResponse, RpcError> {
        let id = check::volume_id("volume_id", &request.volume_id)?;
        let secrets = check::secrets(request.secrets)?;
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", &request.volume_id))?;
        let condition = self.provisioner.condition(&id, &secrets).await?;
        let troubles = Trouble::of_data(&condition).into_iter().collect();
        let volume_health = Some(volume_health(id.to_string(), troubles));
        Ok(v1::ControllerGetVolumeHealthResponse { volume_health })
    }

    /// Only volumes with something wrong are told (CSI spec, "ControllerListVolumeHealth"), so a page may be short.
    pub(super) async fn list_volume_health(
        self: Arc<Self>,
        request: v1::ControllerListVolumeHealthRequest,
    ) -> Result<v1::ControllerListVolumeHealthResponse, RpcError> {
        let entries_max = check::entries_max(request.max_entries)?;
        let after = check::after(&request.starting_token)?;
        check::secrets(request.secrets)?;
        let page = self.provisioner.volumes(Window { after, entries_max }).await?;
        let mut entries = Vec::new();
        for volume in &page.items {
            if let Some(Some(trouble)) = self.data_trouble(&volume.id).await? {
                entries.push(volume_health(volume.id.to_string(), vec![trouble]));
            }
        }
        Ok(v1::ControllerListVolumeHealthResponse { entries, next_token: token(page.next_after) })
    }

    pub(super) async fn get_capacity(
        self: Arc<Self>,
        request: v1::GetCapacityRequest,
    ) -> Result<v1::GetCapacityResponse, RpcError> {
        if client_of("parameters", &request.parameters, &Secrets::default())? == ClientKind::Juicefs {
            return juicefs_capacity(&request, &self.directories);
        }
        let capable = match capability::each(&request.volume_capabilities) {
            Ok(()) => true,
            Err(CapabilityError::Unsupported(_)) => false,
            Err(CapabilityError::Malformed(why)) => return Err(why.into()),
        };
        let said = VolumeParameters::of_volume("parameters", &request.parameters)?;
        let node = request.accessible_topology.as_ref();
        let node = node.map(|topology| topology::node("accessible_topology", topology)).transpose()?;
        let filesystem = check::filesystem(&self.provisioner, "parameters", said.root.as_ref())?;
        let wanted = node.map(|node| vec![node]);
        let reachable = topology::satisfied(wanted.as_deref(), filesystem.reach, &self.node).is_ok();
        if !capable || !reachable {
            return Ok(v1::GetCapacityResponse::default());
        }
        let room = self.provisioner.room(&filesystem.name).await?;
        Ok(v1::GetCapacityResponse {
            available_capacity: told_bytes(room.available_bytes),
            maximum_volume_size: room.total_bytes.map(told_bytes),
            minimum_volume_size: None,
        })
    }

    /// What is wrong with a listed volume's data; the outer `None` when it was deleted since it was listed. Data that only a
    /// Secret leads to is not looked at: the call has none.
    async fn data_trouble(&self, id: &VolumeId) -> Result<Option<Option<Trouble>>, RpcError> {
        match self.provisioner.condition(id, &Secrets::default()).await {
            Ok(condition) => Ok(Some(Trouble::of_data(&condition))),
            Err(FindError::NoSuchVolume(_) | FindError::NoSuchSnapshot(_)) => Ok(None),
            Err(FindError::Filesystem(FilesystemError::NoSecrets { .. })) => Ok(Some(None)),
            Err(error) => Err(error.into()),
        }
    }
}

/// What a JuiceFS filesystem has room for is known to its metadata engine, and this call carries no secrets: no limit is
/// told here. A volume's own is set when it is made.
fn juicefs_capacity(
    request: &v1::GetCapacityRequest,
    directories: &HostDirectories,
) -> Result<v1::GetCapacityResponse, RpcError> {
    let class = ClassParameters::of_map("parameters", &request.parameters)?;
    let capabilities = &request.volume_capabilities;
    let fits = || juicefs_capabilities(&class, capabilities, directories);
    match if capabilities.is_empty() { Ok(()) } else { fits() } {
        Err(CapabilityError::Malformed(why)) => Err(why.into()),
        Err(CapabilityError::Unsupported(_)) => Ok(v1::GetCapacityResponse::default()),
        Ok(()) => Ok(v1::GetCapacityResponse {
            available_capacity: told_bytes(ABSURD_BYTES),
            ..v1::GetCapacityResponse::default()
        }),
    }
}

/// The token of the next page: the last id of this one, so it stays good when volumes are deleted.
pub(super) fn token<I: ToString>(next_after: Option<I>) -> String {
    next_after.map(|id| id.to_string()).unwrap_or_default()
}
