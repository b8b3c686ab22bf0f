//! How is a volume published at a target, and taken away again?

use std::collections::BTreeMap;
use std::mem;
use std::sync::Arc;

use super::super::api::v1;
use super::super::inflight::{Claim, Thing};
use super::super::status::RpcError;
use super::super::{capability, request as check};
use super::Desk;
use crate::config::client::client_of;
use crate::config::field::InvalidField;
use crate::config::parameters::{VolumeParameters, is_inline, overlaid};
use crate::mountpod::service::{MountError, MountService, PublishRequest, SessionUse};
use crate::provision::InlineVolumes;
use crate::volume::{
    Access, ClientKind, CredentialsDigest, Exclusivity, MountSpec, PodShape, Resources, Secrets, TargetPath,
    VolumeId, Writability,
};

/// How a volume is to be mounted.
pub(super) struct Wanted {
    pub(super) target: TargetPath,
    pub(super) access: Access,
    pub(super) client: Option<ClientKind>,
    pub(super) secrets: Secrets,
}

impl<C: InlineVolumes, M: MountService> Desk<C, M> {
    pub(super) async fn publish(
        self: Arc<Self>,
        mut request: v1::NodePublishVolumeRequest,
    ) -> Result<v1::NodePublishVolumeResponse, RpcError> {
        if is_inline(&request.volume_context) {
            return self.publish_inline(request).await;
        }
        let secrets = check::secrets(mem::take(&mut request.secrets))?;
        match client_of("volume_context", &request.volume_context, &secrets)? {
            ClientKind::Hostdir => self.publish_hostdir(request, secrets).await,
            ClientKind::Juicefs => self.publish_juicefs(request, secrets).await,
        }
    }

    async fn publish_hostdir(
        self: Arc<Self>,
        request: v1::NodePublishVolumeRequest,
        secrets: Secrets,
    ) -> Result<v1::NodePublishVolumeResponse, RpcError> {
        let id = check::volume_id("volume_id", &request.volume_id)?;
        let target = check::target("target_path", &request.target_path)?;
        let access = access(request.volume_capability.as_ref(), request.readonly)?;
        check::no_publish_context(&request.publish_context)?;
        // kubelet sends it only to drivers with STAGE_UNSTAGE_VOLUME.
        check::unused_path("staging_target_path", &request.staging_target_path)?;
        let context = VolumeParameters::of_context("volume_context", &request.volume_context)?;
        let id = id.ok_or_else(|| check::not_found("volume_id", "volume", &request.volume_id))?;
        if context.root.as_ref().is_some_and(|root| root != id.filesystem()) {
            let why = format!("names another root than volume_id, {id}");
            return Err(InvalidField::new("volume_context[\"root\"]", why).into());
        }
        let _guard = self.edge.claim(Self::claims(&id, &target, access))?;
        let volume = self.catalog.volume(&id).await?;
        // The record is newer than the context, which was written once, when the volume was made.
        let resources = overlaid(context.resources, volume.resources);
        let wanted = Wanted { target, access, client: context.client, secrets };
        self.mount(wanted, id, resources).await?;
        Ok(v1::NodePublishVolumeResponse {})
    }

    /// What a publish must have to itself.
    pub(super) fn claims(id: &VolumeId, target: &TargetPath, access: Access) -> Vec<Claim> {
        let sharing = Thing::Sharing(id.clone());
        vec![
            Claim::Alone(Thing::Target(target.clone())),
            Claim::Shared(Thing::Volume(id.clone())),
            match access.exclusivity {
                Exclusivity::SingleTarget => Claim::Alone(sharing),
                Exclusivity::Shared => Claim::Shared(sharing),
            },
        ]
    }

    pub(super) async fn mount(
        &self,
        wanted: Wanted,
        volume: VolumeId,
        resources: Resources,
    ) -> Result<(), MountError> {
        let Wanted { target, access, client, secrets } = wanted;
        let spec = MountSpec {
            client: client.unwrap_or(ClientKind::Hostdir),
            filesystem: volume.filesystem().clone(),
            subdirectory: volume.name().to_owned(),
            options: BTreeMap::new(),
            credentials: CredentialsDigest::of(&secrets, &self.node.key),
        };
        let (session, pod) = (SessionUse::Own, PodShape::default());
        let request = PublishRequest { volume, target, spec, session, access, resources, pod, secrets };
        self.mounts.publish(request).await
    }

    pub(super) async fn unpublish(
        self: Arc<Self>,
        request: v1::NodeUnpublishVolumeRequest,
    ) -> Result<v1::NodeUnpublishVolumeResponse, RpcError> {
        let inline = check::inline_name("volume_id", &request.volume_id)?;
        let id = check::handle("volume_id", &request.volume_id)?;
        let target = check::target("target_path", &request.target_path)?;
        if let Some(name) = inline {
            return self.unpublish_inline(name, target).await;
        }
        // The volume itself may be gone, and its root may be served no more: the mount must go all the same.
        let _guard = self.edge.claim(vec![
            Claim::Alone(Thing::Target(target.clone())),
            Claim::Shared(Thing::Volume(id.clone())),
        ])?;
        self.mounts.unpublish(&id, &target).await?;
        Ok(v1::NodeUnpublishVolumeResponse {})
    }
}

pub(super) fn access(
    capability: Option<&v1::VolumeCapability>,
    readonly: bool,
) -> Result<Access, InvalidField> {
    let capability = capability.ok_or_else(|| InvalidField::new("volume_capability", "is missing"))?;
    let access = capability::access("volume_capability", capability)?;
    Ok(if readonly { Access { writability: Writability::ReadOnly, ..access } } else { access })
}
