//! How does a container orchestrator call the driver? The demo, the tests and the benchmarks do it as one does.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use tokio::time::Instant;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use crate::csi::api::v1::controller_client::ControllerClient;
use crate::csi::api::v1::identity_client::IdentityClient;
use crate::csi::api::v1::node_client::NodeClient;
use crate::csi::api::v1::volume_capability::access_mode::Mode;
use crate::csi::api::v1::volume_capability::{AccessMode, AccessType, MountVolume};
use crate::csi::api::v1::{
    CapacityRange, ControllerExpandVolumeRequest, CreateVolumeRequest, DeleteVolumeRequest,
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, NodePublishVolumeRequest,
    NodeUnpublishVolumeRequest, Volume, VolumeCapability,
};

/// Longest wait for one call: that of the kubelet for a mount.
const CALL_TIMEOUT: Duration = Duration::from_mins(2);
/// Between two looks whether a starting driver listens already.
const CONNECT_PAUSE: Duration = Duration::from_millis(10);

/// A caller of all three services over one connection.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Identity service.
    pub identity: IdentityClient<Channel>,
    /// Controller service.
    pub controller: ControllerClient<Channel>,
    /// Node service.
    pub node: NodeClient<Channel>,
}

impl Caller {
    /// Connects to the driver's socket, waiting up to `limit` for a driver that is just starting.
    ///
    /// # Errors
    /// The last error of connecting when the limit is over.
    pub async fn connect(socket: &Path, limit: Duration) -> Result<Self, tonic::transport::Error> {
        let endpoint = Endpoint::from_shared(format!("unix://{}", socket.display()))?.timeout(CALL_TIMEOUT);
        let deadline = Instant::now() + limit;
        let channel = loop {
            match endpoint.connect().await {
                Ok(channel) => break channel,
                Err(error) if Instant::now() >= deadline => return Err(error),
                Err(_) => tokio::time::sleep(CONNECT_PAUSE).await,
            }
        };
        Ok(Self {
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
        })
    }

    /// Creates a volume of at least `bytes`, with these StorageClass parameters.
    ///
    /// # Errors
    /// The driver's status.
    pub async fn create_volume(
        &mut self,
        name: &str,
        bytes: i64,
        parameters: &[(&str, &str)],
    ) -> Result<Volume, Status> {
        let request = CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            volume_capabilities: vec![capability(Mode::MultiNodeMultiWriter)],
            parameters: parameters
                .iter()
                .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                .collect(),
            ..CreateVolumeRequest::default()
        };
        Ok(self.controller.create_volume(request).await?.into_inner().volume.unwrap_or_default())
    }

    /// Deletes a volume.
    ///
    /// # Errors
    /// The driver's status.
    pub async fn delete_volume(&mut self, volume_id: &str) -> Result<(), Status> {
        let request = DeleteVolumeRequest { volume_id: volume_id.to_owned(), secrets: HashMap::new() };
        self.controller.delete_volume(request).await.map(drop)
    }

    /// Grows a volume to at least `bytes`; answers its capacity.
    ///
    /// # Errors
    /// The driver's status.
    pub async fn expand_volume(&mut self, volume_id: &str, bytes: i64) -> Result<i64, Status> {
        let request = ControllerExpandVolumeRequest {
            volume_id: volume_id.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..ControllerExpandVolumeRequest::default()
        };
        Ok(self.controller.controller_expand_volume(request).await?.into_inner().capacity_bytes)
    }

    /// Publishes a volume at a target.
    ///
    /// # Errors
    /// The driver's status.
    pub async fn publish(&mut self, volume: &Volume, target: &Path, mode: Mode) -> Result<(), Status> {
        let request = NodePublishVolumeRequest {
            volume_id: volume.volume_id.clone(),
            target_path: target.display().to_string(),
            volume_capability: Some(capability(mode)),
            volume_context: volume.volume_context.clone(),
            ..NodePublishVolumeRequest::default()
        };
        self.node.node_publish_volume(request).await.map(drop)
    }

    /// Unpublishes a volume from a target.
    ///
    /// # Errors
    /// The driver's status.
    pub async fn unpublish(&mut self, volume_id: &str, target: &Path) -> Result<(), Status> {
        let request = NodeUnpublishVolumeRequest {
            volume_id: volume_id.to_owned(),
            target_path: target.display().to_string(),
        };
        self.node.node_unpublish_volume(request).await.map(drop)
    }

    /// Usage of a published volume.
    ///
    /// # Errors
    /// The driver's status.
    pub async fn stats(
        &mut self,
        volume_id: &str,
        target: &Path,
    ) -> Result<NodeGetVolumeStatsResponse, Status> {
        let request = NodeGetVolumeStatsRequest {
            volume_id: volume_id.to_owned(),
            volume_path: target.display().to_string(),
            ..NodeGetVolumeStatsRequest::default()
        };
        Ok(self.node.node_get_volume_stats(request).await?.into_inner())
    }
}

/// The capability of a mounted volume with this access mode.
#[must_use]
pub fn capability(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode.into() }),
        access_type: Some(AccessType::Mount(MountVolume::default())),
    }
}
