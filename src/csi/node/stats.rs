//! How full is a published volume, how is it, and how large may it be?

use std::sync::Arc;

use super::super::api::v1;
use super::super::api::v1::node_get_storage_health_response::StorageBackendHealth;
use super::super::api::v1::volume_usage::Unit;
use super::super::health::{Trouble, volume_condition, volume_health};
use super::super::status::RpcError;
use super::super::{capability, request as check};
use super::Desk;
use crate::config::capacity::UnsupportedRange;
use crate::config::field::InvalidField;
use crate::mountpod::service::{MountError, MountService, VolumeStats};
use crate::provision::InlineVolumes;
use crate::volume::{ClientKind, TargetPath, VolumeId};

impl<C: InlineVolumes, M: MountService> Desk<C, M> {
    pub(super) async fn volume_stats(
        self: Arc<Self>,
        request: v1::NodeGetVolumeStatsRequest,
    ) -> Result<v1::NodeGetVolumeStatsResponse, RpcError> {
        let path = check::published_path("volume_path", &request.volume_path)?;
        let id = self.named("volume_id", &request.volume_id, path.as_ref())?;
        check::unused_path("staging_target_path", &request.staging_target_path)?;
        let (id, path) = self.published(id, &request.volume_id, path, &request.volume_path)?;
        let stats = self.mounts.stats(&id, &path).await?;
        Ok(v1::NodeGetVolumeStatsResponse {
            usage: usage(&stats),
            volume_condition: Some(volume_condition(Trouble::of_session(&stats.condition))),
        })
    }

    pub(super) async fn volume_health(
        self: Arc<Self>,
        request: v1::NodeGetVolumeHealthRequest,
    ) -> Result<v1::NodeGetVolumeHealthResponse, RpcError> {
        let path = match request.volume_publish_path.as_str() {
            "" => None,
            path => Some(check::published_path("volume_publish_path", path)?),
        };
        let id = self.named("volume_id", &request.volume_id, path.as_ref().and_then(Option::as_ref))?;
        check::unused_path("staging_target_path", &request.staging_target_path)?;
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", &request.volume_id))?;
        let targets = match path {
            None => self.mounts.targets(&id),
            Some(path) => {
                self.mounts.targets(&id).into_iter().filter(|target| Some(target) == path.as_ref()).collect()
            }
        };
        if targets.is_empty() {
            return Err(check::not_found("volume_id", "volume published on this node", &request.volume_id));
        }
        let mut troubles = Vec::new();
        for target in targets {
            match self.mounts.stats(&id, &target).await {
                Ok(stats) => troubles.extend(Trouble::of_session(&stats.condition)),
                // Unpublished meanwhile.
                Err(MountError::NotMounted { .. }) => {}
                Err(error) => troubles.push(Trouble::not_answering(RpcError::from(error).chain())),
            }
        }
        Ok(v1::NodeGetVolumeHealthResponse {
            volume_health: Some(volume_health(request.volume_id, troubles)),
        })
    }

    pub(super) async fn storage_health(
        self: Arc<Self>,
        request: v1::NodeGetStorageHealthRequest,
    ) -> Result<v1::NodeGetStorageHealthResponse, RpcError> {
        check::secrets(request.secrets)?;
        let lost = self.catalog.unreachable().await;
        if lost.is_empty() {
            return Ok(v1::NodeGetStorageHealthResponse::default());
        }
        // CSI spec, `StorageBackendHealth.reason`: one entry for each reason, so all roots stand in one.
        let message: Vec<String> = lost
            .into_iter()
            .map(|(name, error)| format!("{name}: {}", RpcError::from(error).chain()))
            .collect();
        let health = StorageBackendHealth {
            status: v1::StorageHealthErrorType::StorageUnreachable.into(),
            reason: "RootUnreachable".to_owned(),
            message: message.join("; "),
            volume_capability: None,
        };
        Ok(v1::NodeGetStorageHealthResponse { backend_health: vec![health] })
    }

    /// There is nothing to do on a node: a mounted volume is as large as its record says, and one of JuiceFS as its quota,
    /// which its client reads anew by itself. A caller that asks for more than the record says has not asked the controller
    /// before.
    pub(super) async fn expand(
        self: Arc<Self>,
        request: v1::NodeExpandVolumeRequest,
    ) -> Result<v1::NodeExpandVolumeResponse, RpcError> {
        let path = check::published_path("volume_path", &request.volume_path)?;
        let id = self.named("volume_id", &request.volume_id, path.as_ref())?;
        let range = check::capacity(request.capacity_range.as_ref())?;
        check::unused_path("staging_target_path", &request.staging_target_path)?;
        if let Some(capability) = &request.volume_capability {
            let client = id.as_ref().and_then(|id| self.mounts.client(id)).unwrap_or(ClientKind::Hostdir);
            capability::usable("volume_capability", capability, client).map_err(InvalidField::from)?;
        }
        check::secrets(request.secrets)?;
        let (id, _) = self.published(id, &request.volume_id, path, &request.volume_path)?;
        if self.mounts.client(&id) == Some(ClientKind::Juicefs) {
            let bytes = range.required.or(range.limit).unwrap_or_default();
            return Ok(v1::NodeExpandVolumeResponse { capacity_bytes: signed(bytes) });
        }
        let bytes = self.catalog.volume(&id).await?.capacity_bytes;
        if let Some(required) = range.required.filter(|required| *required > bytes) {
            let why =
                format!("is {required}, but the volume has {bytes} bytes; ask ControllerExpandVolume first");
            return Err(UnsupportedRange { bound: "required_bytes", why }.into());
        }
        Ok(v1::NodeExpandVolumeResponse { capacity_bytes: signed(bytes) })
    }

    /// A volume of ours at a path where it is published now.
    fn published(
        &self,
        id: Option<VolumeId>,
        said_id: &str,
        path: Option<TargetPath>,
        said_path: &str,
    ) -> Result<(VolumeId, TargetPath), RpcError> {
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", said_id))?;
        let path = path.filter(|path| self.mounts.targets(&id).contains(path));
        let path = path.ok_or_else(|| check::not_found("volume_path", "path of this volume", said_path))?;
        Ok((id, path))
    }
}

fn usage(stats: &VolumeStats) -> Vec<v1::VolumeUsage> {
    let usage = |unit: Unit, total, available, used| v1::VolumeUsage {
        available: signed(available),
        total: signed(total),
        used: signed(used),
        unit: unit.into(),
    };
    let inodes_used = stats.inodes_total.saturating_sub(stats.inodes_free);
    vec![
        usage(Unit::Bytes, stats.bytes_total, stats.bytes_available, stats.bytes_used),
        usage(Unit::Inodes, stats.inodes_total, stats.inodes_free, inodes_used),
    ]
}

/// CSI counts in signed numbers.
fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
