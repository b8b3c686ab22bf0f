//! How does the driver answer for mounts on this node?

mod inline;
mod juicefs;
mod publish;
mod stats;

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::api::v1;
use super::api::v1::node_service_capability::{Rpc, Type, rpc};
use super::edge::{Call, Edge};
use super::status::RpcError;
use super::topology;
use crate::config::flags::NodeId;
use crate::config::host_directories::HostDirectories;
use crate::mountpod::service::MountService;
use crate::provision::InlineVolumes;
use crate::volume::NodeKey;

/// Answers the Node service.
pub struct NodeDesk<C, M>(Arc<Desk<C, M>>);

/// What is known of this node.
#[derive(Debug, Clone)]
pub struct NodeFacts {
    /// Its name.
    pub id: NodeId,
    /// Volumes that may be used here at once; 0 sets no limit.
    pub volumes_max: u32,
    /// Tells credentials apart.
    pub key: NodeKey,
    /// Can JuiceFS be served?
    pub juicefs: JuicefsClient,
    /// What mount pods may use of this node.
    pub directories: HostDirectories,
}

/// Do mount pods have the JuiceFS client?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum JuicefsClient {
    /// Yes.
    Present,
    /// No: JuiceFS volumes are refused.
    Missing,
}

/// What the answers are made from.
struct Desk<C, M> {
    catalog: C,
    mounts: Arc<M>,
    node: NodeFacts,
    edge: Edge,
}

impl<C: InlineVolumes, M: MountService> NodeDesk<C, M> {
    /// A desk before the engine of this node.
    pub fn new(catalog: C, mounts: Arc<M>, node: NodeFacts, edge: Edge) -> Self {
        Self(Arc::new(Desk { catalog, mounts, node, edge }))
    }

    async fn answer<T: Send + 'static>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, RpcError>> + Send + 'static,
    ) -> Result<Response<T>, Status> {
        self.0.edge.answer(call, work).await
    }
}

/// Exactly what is implemented below.
const CAPABILITIES: &[rpc::Type] = &[
    rpc::Type::GetVolumeStats,
    rpc::Type::ExpandVolume,
    rpc::Type::VolumeCondition,
    rpc::Type::SingleNodeMultiWriter,
    rpc::Type::GetVolumeHealth,
    rpc::Type::GetStorageHealth,
];

#[tonic::async_trait]
impl<C: InlineVolumes, M: MountService> v1::node_server::Node for NodeDesk<C, M> {
    async fn node_stage_volume(
        &self,
        _request: Request<v1::NodeStageVolumeRequest>,
    ) -> Result<Response<v1::NodeStageVolumeResponse>, Status> {
        self.0.edge.refuse("NodeStageVolume").await
    }

    async fn node_unstage_volume(
        &self,
        _request: Request<v1::NodeUnstageVolumeRequest>,
    ) -> Result<Response<v1::NodeUnstageVolumeResponse>, Status> {
        self.0.edge.refuse("NodeUnstageVolume").await
    }

    async fn node_publish_volume(
        &self,
        request: Request<v1::NodePublishVolumeRequest>,
    ) -> Result<Response<v1::NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.answer(Call::change("NodePublishVolume", &request.volume_id), self.0.clone().publish(request))
            .await
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<v1::NodeUnpublishVolumeRequest>,
    ) -> Result<Response<v1::NodeUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = Call::change("NodeUnpublishVolume", &request.volume_id);
        self.answer(call, self.0.clone().unpublish(request)).await
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<v1::NodeGetVolumeStatsRequest>,
    ) -> Result<Response<v1::NodeGetVolumeStatsResponse>, Status> {
        let request = request.into_inner();
        let call = Call::question("NodeGetVolumeStats", &request.volume_id);
        self.answer(call, self.0.clone().volume_stats(request)).await
    }

    async fn node_get_volume_health(
        &self,
        request: Request<v1::NodeGetVolumeHealthRequest>,
    ) -> Result<Response<v1::NodeGetVolumeHealthResponse>, Status> {
        let request = request.into_inner();
        let call = Call::question("NodeGetVolumeHealth", &request.volume_id);
        self.answer(call, self.0.clone().volume_health(request)).await
    }

    async fn node_get_storage_health(
        &self,
        request: Request<v1::NodeGetStorageHealthRequest>,
    ) -> Result<Response<v1::NodeGetStorageHealthResponse>, Status> {
        let call = Call::question("NodeGetStorageHealth", "");
        self.answer(call, self.0.clone().storage_health(request.into_inner())).await
    }

    async fn node_expand_volume(
        &self,
        request: Request<v1::NodeExpandVolumeRequest>,
    ) -> Result<Response<v1::NodeExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        let call = Call::change("NodeExpandVolume", &request.volume_id);
        self.answer(call, self.0.clone().expand(request)).await
    }

    async fn node_get_capabilities(
        &self,
        _request: Request<v1::NodeGetCapabilitiesRequest>,
    ) -> Result<Response<v1::NodeGetCapabilitiesResponse>, Status> {
        let capability = |kind: &rpc::Type| v1::NodeServiceCapability {
            r#type: Some(Type::Rpc(Rpc { r#type: (*kind).into() })),
        };
        let answer =
            v1::NodeGetCapabilitiesResponse { capabilities: CAPABILITIES.iter().map(capability).collect() };
        self.answer(Call::question("NodeGetCapabilities", ""), async { Ok(answer) }).await
    }

    async fn node_get_info(
        &self,
        _request: Request<v1::NodeGetInfoRequest>,
    ) -> Result<Response<v1::NodeGetInfoResponse>, Status> {
        let answer = v1::NodeGetInfoResponse {
            node_id: self.0.node.id.to_string(),
            max_volumes_per_node: i64::from(self.0.node.volumes_max),
            accessible_topology: Some(topology::of_node(&self.0.node.id)),
        };
        self.answer(Call::question("NodeGetInfo", ""), async { Ok(answer) }).await
    }
}
