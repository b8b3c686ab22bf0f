//! How does the driver answer for volumes and snapshots, wherever they are used?

mod listing;
mod snapshots;
mod volumes;
mod wanted;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::api::v1;
use super::api::v1::controller_service_capability::{Rpc, Type, rpc};
use super::edge::{Call, Edge};
use super::status::RpcError;
use crate::config::flags::NodeId;
use crate::config::host_directories::HostDirectories;
use crate::mountpod::service::{Knowledge, PublishedTargets};
use crate::provision::Provisioner;

/// Answers the Controller service.
pub struct ControllerDesk<P, W>(Arc<Desk<P, W>>);

/// What the answers are made from.
struct Desk<P, W> {
    provisioner: P,
    published: Arc<W>,
    node: NodeId,
    directories: HostDirectories,
    edge: Edge,
}

impl<P: Provisioner, W: PublishedTargets> ControllerDesk<P, W> {
    /// A desk; a volume that is known to be published is not deleted. On a node of its own, and for the volumes that
    /// only its node can reach, `node` is that node; `directories` are what mount pods may use of any node.
    pub fn new(
        provisioner: P,
        published: Arc<W>,
        node: NodeId,
        directories: HostDirectories,
        edge: Edge,
    ) -> Self {
        Self(Arc::new(Desk { provisioner, published, node, directories, edge }))
    }

    async fn answer<T: Send + 'static>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, RpcError>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        self.0.edge.answer(call, work).await
    }
}

/// Exactly what is implemented below, and can be known.
fn capabilities(known: Knowledge) -> impl Iterator<Item = rpc::Type> {
    let needs_node = |kind: &rpc::Type| matches!(kind, rpc::Type::ListVolumesPublishedNodes);
    CAPABILITIES.iter().filter(move |kind| known == Knowledge::ThisNode || !needs_node(kind)).copied()
}

/// What is implemented.
const CAPABILITIES: &[rpc::Type] = &[
    rpc::Type::CreateDeleteVolume,
    rpc::Type::ListVolumes,
    rpc::Type::ListVolumesPublishedNodes,
    rpc::Type::GetVolume,
    rpc::Type::VolumeCondition,
    rpc::Type::GetVolumeHealth,
    rpc::Type::ListVolumeHealth,
    rpc::Type::GetCapacity,
    rpc::Type::ExpandVolume,
    rpc::Type::ModifyVolume,
    rpc::Type::CreateDeleteSnapshot,
    rpc::Type::ListSnapshots,
    rpc::Type::GetSnapshot,
    rpc::Type::CloneVolume,
    rpc::Type::SingleNodeMultiWriter,
];

#[tonic::async_trait]
impl<P: Provisioner, W: PublishedTargets> v1::controller_server::Controller for ControllerDesk<P, W> {
    async fn create_volume(
        &self,
        request: Request<v1::CreateVolumeRequest>,
    ) -> Result<Response<v1::CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        self.answer(Call::change("CreateVolume", &request.name), self.0.clone().create_volume(request)).await
    }

    async fn delete_volume(
        &self,
        request: Request<v1::DeleteVolumeRequest>,
    ) -> Result<Response<v1::DeleteVolumeResponse>, Status> {
        let request = request.into_inner();
        self.answer(Call::change("DeleteVolume", &request.volume_id), self.0.clone().delete_volume(request))
            .await
    }

    async fn controller_publish_volume(
        &self,
        _request: Request<v1::ControllerPublishVolumeRequest>,
    ) -> Result<Response<v1::ControllerPublishVolumeResponse>, Status> {
        self.0.edge.refuse("ControllerPublishVolume").await
    }

    async fn controller_unpublish_volume(
        &self,
        _request: Request<v1::ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<v1::ControllerUnpublishVolumeResponse>, Status> {
        self.0.edge.refuse("ControllerUnpublishVolume").await
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<v1::ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<v1::ValidateVolumeCapabilitiesResponse>, Status> {
        let request = request.into_inner();
        let call = Call::question("ValidateVolumeCapabilities", &request.volume_id);
        self.answer(call, self.0.clone().validate_volume_capabilities(request)).await
    }

    async fn list_volumes(
        &self,
        request: Request<v1::ListVolumesRequest>,
    ) -> Result<Response<v1::ListVolumesResponse>, Status> {
        self.answer(Call::question("ListVolumes", ""), self.0.clone().list_volumes(request.into_inner()))
            .await
    }

    async fn controller_list_volume_health(
        &self,
        request: Request<v1::ControllerListVolumeHealthRequest>,
    ) -> Result<Response<v1::ControllerListVolumeHealthResponse>, Status> {
        let call = Call::question("ControllerListVolumeHealth", "");
        self.answer(call, self.0.clone().list_volume_health(request.into_inner())).await
    }

    async fn controller_get_volume_health(
        &self,
        request: Request<v1::ControllerGetVolumeHealthRequest>,
    ) -> Result<Response<v1::ControllerGetVolumeHealthResponse>, Status> {
        let request = request.into_inner();
        let call = Call::question("ControllerGetVolumeHealth", &request.volume_id);
        self.answer(call, self.0.clone().get_volume_health(request)).await
    }

    async fn get_capacity(
        &self,
        request: Request<v1::GetCapacityRequest>,
    ) -> Result<Response<v1::GetCapacityResponse>, Status> {
        self.answer(Call::question("GetCapacity", ""), self.0.clone().get_capacity(request.into_inner()))
            .await
    }

    async fn controller_get_capabilities(
        &self,
        _request: Request<v1::ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<v1::ControllerGetCapabilitiesResponse>, Status> {
        let capability = |kind: rpc::Type| v1::ControllerServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: kind.into() })),
        };
        let capabilities = capabilities(W::KNOWLEDGE).map(capability).collect();
        let answer = v1::ControllerGetCapabilitiesResponse { capabilities };
        self.answer(Call::question("ControllerGetCapabilities", ""), async { Ok(answer) }).await
    }

    async fn create_snapshot(
        &self,
        request: Request<v1::CreateSnapshotRequest>,
    ) -> Result<Response<v1::CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.answer(Call::change("CreateSnapshot", &request.name), self.0.clone().create_snapshot(request))
            .await
    }

    async fn delete_snapshot(
        &self,
        request: Request<v1::DeleteSnapshotRequest>,
    ) -> Result<Response<v1::DeleteSnapshotResponse>, Status> {
        let request = request.into_inner();
        let call = Call::change("DeleteSnapshot", &request.snapshot_id);
        self.answer(call, self.0.clone().delete_snapshot(request)).await
    }

    async fn list_snapshots(
        &self,
        request: Request<v1::ListSnapshotsRequest>,
    ) -> Result<Response<v1::ListSnapshotsResponse>, Status> {
        self.answer(Call::question("ListSnapshots", ""), self.0.clone().list_snapshots(request.into_inner()))
            .await
    }

    async fn get_snapshot(
        &self,
        request: Request<v1::GetSnapshotRequest>,
    ) -> Result<Response<v1::GetSnapshotResponse>, Status> {
        let request = request.into_inner();
        let call = Call::question("GetSnapshot", &request.snapshot_id);
        self.answer(call, self.0.clone().get_snapshot(request)).await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<v1::ControllerExpandVolumeRequest>,
    ) -> Result<Response<v1::ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = Call::change("ControllerExpandVolume", &request.volume_id);
        self.answer(call, self.0.clone().expand_volume(request)).await
    }

    async fn controller_get_volume(
        &self,
        request: Request<v1::ControllerGetVolumeRequest>,
    ) -> Result<Response<v1::ControllerGetVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = Call::question("ControllerGetVolume", &request.volume_id);
        self.answer(call, self.0.clone().get_volume(request)).await
    }

    async fn controller_modify_volume(
        &self,
        request: Request<v1::ControllerModifyVolumeRequest>,
    ) -> Result<Response<v1::ControllerModifyVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = Call::change("ControllerModifyVolume", &request.volume_id);
        self.answer(call, self.0.clone().modify_volume(request)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mountpod::service::Elsewhere;

    #[test]
    fn a_driver_that_knows_no_node_does_not_claim_to() {
        let claimed: Vec<_> = capabilities(Elsewhere::KNOWLEDGE).collect();
        assert!(!claimed.contains(&rpc::Type::ListVolumesPublishedNodes));
        assert_eq!(claimed.len() + 1, CAPABILITIES.len(), "all else is claimed");
        assert!(capabilities(Knowledge::ThisNode).eq(CAPABILITIES.iter().copied()));
    }
}
