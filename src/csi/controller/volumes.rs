//! How is a volume created, deleted, validated, expanded and modified?

use std::mem;
use std::sync::Arc;

use super::super::api::v1;
use super::super::api::v1::validate_volume_capabilities_response::Confirmed;
use super::super::api::v1::volume_content_source::{SnapshotSource, Type, VolumeSource};
use super::super::capability::{self, CapabilityError};
use super::super::inflight::{Claim, Thing};
use super::super::status::RpcError;
use super::super::{request as check, topology};
use super::Desk;
use super::wanted::{Rest, Said, juicefs_capabilities};
use crate::config::client::client_of;
use crate::config::field::InvalidField;
use crate::config::host_directories::HostDirectories;
use crate::config::juicefs::{ClassParameters, VolumeContext};
use crate::config::parameters::{self, VolumeParameters};
use crate::mountpod::service::PublishedTargets;
use crate::provision::{FindError, Provisioner, Source, Volume};
use crate::volume::{ClientKind, Secrets, VolumeId};

impl<P: Provisioner, W: PublishedTargets> Desk<P, W> {
    pub(super) async fn create_volume(
        self: Arc<Self>,
        mut request: v1::CreateVolumeRequest,
    ) -> Result<v1::CreateVolumeResponse, RpcError> {
        let csi_name = check::required_text("name", &request.name)?.to_owned();
        let capacity = check::capacity(request.capacity_range.as_ref())?;
        let secrets = check::secrets(mem::take(&mut request.secrets))?;
        let said = Said::read(&request, &secrets, &self.directories)?;
        let limits = parameters::mutable_parameters("mutable_parameters", &request.mutable_parameters)?;
        let source = content_source(request.volume_content_source.as_ref())?;
        let required_nodes = topology::required_nodes(request.accessibility_requirements.as_ref())?;

        let filesystem = said.filesystem(&self.provisioner, &secrets)?;
        topology::satisfied(required_nodes.as_deref(), filesystem.reach, &self.node)
            .map_err(|why| RpcError::Topology { why })?;
        let source = source.map(WantedSource::existing).transpose()?;
        let id = VolumeId::for_csi_name(filesystem.name.clone(), &csi_name);
        let mut claims =
            vec![Claim::Alone(Thing::VolumeName(csi_name.clone())), Claim::Alone(Thing::Volume(id))];
        claims.extend(source.as_ref().map(|source| match source {
            Source::Snapshot(id) => Claim::Shared(Thing::Snapshot(id.clone())),
            Source::Volume(id) => Claim::Shared(Thing::Volume(id.clone())),
        }));
        let _guard = self.edge.claim(claims)?;
        let new = said.volume(filesystem, Rest { csi_name, capacity, source, limits, secrets });
        let volume = self.provisioner.create_volume(new).await?;
        Ok(v1::CreateVolumeResponse { volume: Some(self.told(&volume)?) })
    }

    pub(super) async fn delete_volume(
        self: Arc<Self>,
        request: v1::DeleteVolumeRequest,
    ) -> Result<v1::DeleteVolumeResponse, RpcError> {
        let id = check::volume_id("volume_id", &request.volume_id)?;
        let secrets = check::secrets(request.secrets)?;
        // CSI spec, "DeleteVolume": what does not exist is deleted.
        let Some(id) = id else { return Ok(v1::DeleteVolumeResponse {}) };
        let _guard = self.edge.claim(vec![Claim::Alone(Thing::Volume(id.clone()))])?;
        if let Some(target) = self.published.targets(&id).into_iter().next() {
            return Err(RpcError::Published { id, target });
        }
        self.provisioner.delete_volume(&id, &secrets).await?;
        Ok(v1::DeleteVolumeResponse {})
    }

    pub(super) async fn validate_volume_capabilities(
        self: Arc<Self>,
        mut request: v1::ValidateVolumeCapabilitiesRequest,
    ) -> Result<v1::ValidateVolumeCapabilitiesResponse, RpcError> {
        let id = check::volume_id("volume_id", &request.volume_id)?;
        let secrets = check::secrets(mem::take(&mut request.secrets))?;
        let obstacle = obstacle(&request, id.as_ref(), &secrets, &self.directories)?;
        parameters::mutable_parameters("mutable_parameters", &request.mutable_parameters)?;
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", &request.volume_id))?;
        self.provisioner.find_volume(&id, &secrets).await?;
        Ok(match obstacle {
            Some(why) => v1::ValidateVolumeCapabilitiesResponse { confirmed: None, message: why.to_string() },
            None => v1::ValidateVolumeCapabilitiesResponse {
                confirmed: Some(Confirmed {
                    volume_context: request.volume_context,
                    volume_capabilities: request.volume_capabilities,
                    parameters: request.parameters,
                    mutable_parameters: request.mutable_parameters,
                }),
                message: String::new(),
            },
        })
    }

    pub(super) async fn expand_volume(
        self: Arc<Self>,
        request: v1::ControllerExpandVolumeRequest,
    ) -> Result<v1::ControllerExpandVolumeResponse, RpcError> {
        let id = check::volume_id("volume_id", &request.volume_id)?;
        let range = check::required_capacity(request.capacity_range.as_ref())?;
        let secrets = check::secrets(request.secrets)?;
        if let Some(capability) = &request.volume_capability {
            let filesystem = id.as_ref().and_then(|id| self.provisioner.filesystem(Some(id.filesystem())));
            let client = filesystem.map_or(ClientKind::Hostdir, |filesystem| filesystem.client);
            capability::usable("volume_capability", capability, client).map_err(InvalidField::from)?;
        }
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", &request.volume_id))?;
        let _guard = self.edge.claim(vec![
            Claim::Shared(Thing::Volume(id.clone())),
            Claim::Alone(Thing::VolumeRecord(id.clone())),
        ])?;
        let capacity_bytes = told_bytes(self.provisioner.expand(&id, range, &secrets).await?);
        Ok(v1::ControllerExpandVolumeResponse { capacity_bytes, node_expansion_required: false })
    }

    pub(super) async fn modify_volume(
        self: Arc<Self>,
        request: v1::ControllerModifyVolumeRequest,
    ) -> Result<v1::ControllerModifyVolumeResponse, RpcError> {
        let id = check::volume_id("volume_id", &request.volume_id)?;
        if request.mutable_parameters.is_empty() {
            return Err(InvalidField::new("mutable_parameters", "is missing").into());
        }
        let limits = parameters::mutable_parameters("mutable_parameters", &request.mutable_parameters)?;
        check::secrets(request.secrets)?;
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", &request.volume_id))?;
        let _guard = self.edge.claim(vec![
            Claim::Shared(Thing::Volume(id.clone())),
            Claim::Alone(Thing::VolumeRecord(id.clone())),
        ])?;
        self.provisioner.modify(&id, limits).await?;
        Ok(v1::ControllerModifyVolumeResponse {})
    }

    /// A volume as CSI tells it.
    pub(super) fn told(&self, volume: &Volume) -> Result<v1::Volume, RpcError> {
        let filesystem = self
            .provisioner
            .filesystem(Some(volume.id.filesystem()))
            .ok_or_else(|| FindError::NoSuchVolume(volume.id.clone()))?;
        Ok(v1::Volume {
            capacity_bytes: told_bytes(volume.capacity_bytes),
            volume_id: volume.id.to_string(),
            volume_context: volume.context.clone().into_iter().collect(),
            content_source: volume.source.as_ref().map(told_source),
            accessible_topology: topology::of_volume(filesystem.reach, &self.node),
        })
    }

    /// The nodes on which a volume is published, as far as this driver knows: its own.
    pub(super) fn published_nodes(&self, id: &VolumeId) -> Vec<String> {
        if self.published.targets(id).is_empty() { Vec::new() } else { vec![self.node.to_string()] }
    }
}

/// Why a volume can't be used as a ValidateVolumeCapabilities request asks; an error when the request is broken.
fn obstacle(
    request: &v1::ValidateVolumeCapabilitiesRequest,
    id: Option<&VolumeId>,
    secrets: &Secrets,
    directories: &HostDirectories,
) -> Result<Option<InvalidField>, InvalidField> {
    let (context, parameters) = (&request.volume_context, &request.parameters);
    let said = if context.is_empty() { parameters } else { context };
    match client_of("volume_context", said, secrets)? {
        ClientKind::Hostdir => {
            let unsupported = unsupported(capability::all(&request.volume_capabilities))?;
            let context = VolumeParameters::of_context("volume_context", context)?;
            let said = VolumeParameters::of_volume("parameters", parameters)?;
            let roots = [("volume_context", context.root), ("parameters", said.root)];
            let elsewhere = roots.into_iter().find(|(_, root)| {
                root.as_ref().is_some_and(|root| id.is_some_and(|id| root != id.filesystem()))
            });
            let elsewhere = elsewhere.map(|(field, _)| {
                InvalidField::new(format!("{field}[\"root\"]"), "names another root than the volume's")
            });
            Ok(unsupported.or(elsewhere))
        }
        ClientKind::Juicefs => {
            if !context.is_empty() {
                VolumeContext::of_map("volume_context", context)?;
            }
            let class = ClassParameters::of_map("parameters", parameters)?;
            unsupported(juicefs_capabilities(&class, &request.volume_capabilities, directories))
        }
    }
}

/// What is not offered; an error when it is malformed.
fn unsupported(checked: Result<(), CapabilityError>) -> Result<Option<InvalidField>, InvalidField> {
    match checked {
        Ok(()) => Ok(None),
        Err(CapabilityError::Unsupported(why)) => Ok(Some(why)),
        Err(CapabilityError::Malformed(why)) => Err(why),
    }
}

/// A source that is well-formed; its id may be none of ours.
enum WantedSource {
    Ours(Source),
    Unknown { field: &'static str, thing: &'static str, id: String },
}

impl WantedSource {
    fn existing(self) -> Result<Source, RpcError> {
        match self {
            Self::Ours(source) => Ok(source),
            Self::Unknown { field, thing, id } => Err(check::not_found(field, thing, &id)),
        }
    }
}

fn content_source(source: Option<&v1::VolumeContentSource>) -> Result<Option<WantedSource>, InvalidField> {
    const SNAPSHOT: &str = "volume_content_source.snapshot.snapshot_id";
    const VOLUME: &str = "volume_content_source.volume.volume_id";
    let Some(source) = source else { return Ok(None) };
    Ok(Some(match &source.r#type {
        None => {
            return Err(InvalidField::new(
                "volume_content_source.type",
                "is missing: snapshot or volume must be set",
            ));
        }
        Some(Type::Snapshot(SnapshotSource { snapshot_id })) => {
            match check::snapshot_id(SNAPSHOT, snapshot_id)? {
                Some(id) => WantedSource::Ours(Source::Snapshot(id)),
                None => WantedSource::Unknown { field: SNAPSHOT, thing: "snapshot", id: snapshot_id.clone() },
            }
        }
        Some(Type::Volume(VolumeSource { volume_id })) => match check::volume_id(VOLUME, volume_id)? {
            Some(id) => WantedSource::Ours(Source::Volume(id)),
            None => WantedSource::Unknown { field: VOLUME, thing: "volume", id: volume_id.clone() },
        },
    }))
}

fn told_source(source: &Source) -> v1::VolumeContentSource {
    let kind = match source {
        Source::Snapshot(id) => Type::Snapshot(SnapshotSource { snapshot_id: id.to_string() }),
        Source::Volume(id) => Type::Volume(VolumeSource { volume_id: id.to_string() }),
    };
    v1::VolumeContentSource { r#type: Some(kind) }
}

/// Bytes as CSI tells them.
pub(super) fn told_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
