//! Who is this driver, what can it do, and is it well?

use std::collections::HashMap;
use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::api::v1;
use super::api::v1::plugin_capability::{Service, Type, VolumeExpansion, service, volume_expansion};
use super::edge::{Call, Edge};
use super::status::RpcError;
use crate::config::flags::DriverName;

/// Is the driver well?
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Readiness {
    /// It can serve.
    Ready,
    /// It is about to: adopting what its predecessor left, for example.
    Starting,
    /// It can't, and waiting does not help: Kubernetes is to start it again.
    Broken {
        /// For people.
        why: String,
    },
}

/// Whom Probe asks.
pub trait Health: Send + Sync + 'static {
    /// The truth, found out now.
    fn readiness(&self) -> impl Future<Output = Readiness> + Send;
}

/// Answers the Identity service.
pub struct IdentityDesk<H> {
    name: DriverName,
    health: Arc<H>,
    edge: Edge,
}

impl<H: Health> IdentityDesk<H> {
    /// A desk for a driver of this name.
    pub fn new(name: DriverName, health: H, edge: Edge) -> Self {
        Self { name, health: Arc::new(health), edge }
    }
}

#[tonic::async_trait]
impl<H: Health> v1::identity_server::Identity for IdentityDesk<H> {
    async fn get_plugin_info(
        &self,
        _request: Request<v1::GetPluginInfoRequest>,
    ) -> Result<Response<v1::GetPluginInfoResponse>, Status> {
        let answer = v1::GetPluginInfoResponse {
            name: self.name.to_string(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: HashMap::new(),
        };
        self.edge.answer(Call::question("GetPluginInfo", ""), async { Ok(answer) }).await
    }

    async fn get_plugin_capabilities(
        &self,
        _request: Request<v1::GetPluginCapabilitiesRequest>,
    ) -> Result<Response<v1::GetPluginCapabilitiesResponse>, Status> {
        let answer = v1::GetPluginCapabilitiesResponse { capabilities: capabilities() };
        self.edge.answer(Call::question("GetPluginCapabilities", ""), async { Ok(answer) }).await
    }

    async fn probe(
        &self,
        _request: Request<v1::ProbeRequest>,
    ) -> Result<Response<v1::ProbeResponse>, Status> {
        let health = self.health.clone();
        let probed = async move {
            match health.readiness().await {
                Readiness::Ready => Ok(v1::ProbeResponse { ready: Some(true) }),
                Readiness::Starting => Ok(v1::ProbeResponse { ready: Some(false) }),
                Readiness::Broken { why } => Err(RpcError::NotHealthy { why }),
            }
        };
        self.edge.answer(Call::question("Probe", ""), probed).await
    }
}

fn capabilities() -> Vec<v1::PluginCapability> {
    let services = [
        service::Type::ControllerService,
        service::Type::VolumeAccessibilityConstraints,
        service::Type::SnapshotAccessibilityConstraints,
    ];
    let services = services.map(|kind| Type::Service(Service { r#type: kind.into() }));
    let expansion = Type::VolumeExpansion(VolumeExpansion { r#type: volume_expansion::Type::Online.into() });
    services.into_iter().chain([expansion]).map(|kind| v1::PluginCapability { r#type: Some(kind) }).collect()
}
