//! How does an inline volume come and go with its pod?
//!
//! The kubelet names it `csi-<sha256>` (pkg/volume/csi, `makeVolumeHandle`), not by an id that this driver gave out, and
//! calls only NodePublishVolume and NodeUnpublishVolume. Its id here is `<root>#csi-<sha256>`; which root that was, the
//! ref of its target tells, or else its record.

use std::sync::Arc;

use super::super::api::v1;
use super::super::inflight::{Claim, Thing};
use super::super::request::{self as check, InlineName};
use super::super::status::RpcError;
use super::Desk;
use super::publish::{Wanted, access};
use crate::config::capacity::CapacityRange;
use crate::config::field::InvalidField;
use crate::config::parameters::InlineParameters;
use crate::mountpod::service::MountService;
use crate::provision::{InlineVolumes, Lifetime, NewDirectory};
use crate::volume::{TargetPath, VolumeId};

impl<C: InlineVolumes, M: MountService> Desk<C, M> {
    pub(super) async fn publish_inline(
        self: Arc<Self>,
        request: v1::NodePublishVolumeRequest,
    ) -> Result<v1::NodePublishVolumeResponse, RpcError> {
        let name = check::inline_name("volume_id", &request.volume_id)?;
        let name = name.ok_or_else(|| {
            let why = "must be csi-<64 hexadecimal digits> for an inline volume, as the kubelet names it";
            InvalidField::new("volume_id", why)
        })?;
        let target = check::target("target_path", &request.target_path)?;
        let access = access(request.volume_capability.as_ref(), request.readonly)?;
        check::no_publish_context(&request.publish_context)?;
        check::unused_path("staging_target_path", &request.staging_target_path)?;
        let said = InlineParameters::of_context("volume_context", &request.volume_context)?;
        let secrets = check::secrets(request.secrets)?;
        let filesystem = check::filesystem(&self.catalog, "volume_context", said.volume.root.as_ref())?;
        let id = VolumeId::for_csi_name(filesystem.name.clone(), name.as_str());
        let _guard = self.edge.claim(vec![
            Claim::Alone(Thing::Target(target.clone())),
            Claim::Alone(Thing::VolumeName(name.as_str().to_owned())),
            Claim::Alone(Thing::Volume(id.clone())),
        ])?;
        let new = NewDirectory {
            csi_name: name.as_str().to_owned(),
            filesystem: filesystem.name,
            capacity: CapacityRange { required: said.size_bytes, limit: None },
            source: None,
            resources: said.volume.resources,
            lifetime: Lifetime::Pod,
        };
        let volume = self.catalog.create_inline(new).await?;
        let wanted = Wanted { target, access, client: said.volume.client, secrets };
        let published = self.mount(wanted, id.clone(), volume.resources).await;
        if let Err(error) = &published
            && error.is_final()
        {
            // After such an error the kubelet calls unpublish no more.
            self.take_back(&id).await;
        }
        Ok(published.map(|()| v1::NodePublishVolumeResponse {})?)
    }

    pub(super) async fn unpublish_inline(
        self: Arc<Self>,
        name: InlineName,
        target: TargetPath,
    ) -> Result<v1::NodeUnpublishVolumeResponse, RpcError> {
        let _guard = self.edge.claim(vec![
            Claim::Alone(Thing::Target(target.clone())),
            Claim::Alone(Thing::VolumeName(name.as_str().to_owned())),
        ])?;
        let candidates = self.candidates(&name);
        let served = candidates.iter().find(|id| self.mounts.targets(id).contains(&target)).cloned();
        let recorded = self.catalog.inline_volumes(name.as_str()).await?;
        // With neither, a mount may still be left at the target; the engine leaves alone what is another volume's.
        let known = served.or_else(|| recorded.first().cloned()).or_else(|| candidates.into_iter().next());
        if let Some(id) = known {
            self.mounts.unpublish(&id, &target).await?;
        }
        for id in recorded {
            let _guard = self.edge.claim(vec![Claim::Alone(Thing::Volume(id.clone()))])?;
            if self.mounts.targets(&id).is_empty() {
                self.catalog.delete_inline(&id).await?;
            }
        }
        Ok(v1::NodeUnpublishVolumeResponse {})
    }

    /// The volume that a request names: by its id, or an inline one by its name and, when it is given, its target.
    pub(super) fn named(
        &self,
        field: &'static str,
        said: &str,
        target: Option<&TargetPath>,
    ) -> Result<Option<VolumeId>, InvalidField> {
        let Some(name) = check::inline_name(field, said)? else {
            return check::handle(field, said).map(Some);
        };
        let is_published = |id: &VolumeId| {
            let targets = self.mounts.targets(id);
            target.map_or(!targets.is_empty(), |target| targets.contains(target))
        };
        Ok(self.candidates(&name).into_iter().find(is_published))
    }

    /// Every id that the inline volume can have: one in each root.
    fn candidates(&self, name: &InlineName) -> Vec<VolumeId> {
        let filesystems = self.catalog.filesystem_names().into_iter();
        filesystems.map(|root| VolumeId::for_csi_name(root, name.as_str())).collect()
    }

    async fn take_back(&self, id: &VolumeId) {
        if !self.mounts.targets(id).is_empty() {
            return;
        }
        if let Err(error) = self.catalog.delete_inline(id).await {
            tracing::warn!(
                error = &error as &dyn std::error::Error, volume = %id,
                "the directory of an inline volume that could not be published stays"
            );
        }
    }
}
