//! How is a JuiceFS volume published, whether this driver made it or a person wrote it down?
//!
//! All that is known of it comes with the call: its context says what is served and how, the Secret by what. There is no
//! record to be read, and two volumes may be one directory.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::api::v1;
use super::super::status::RpcError;
use super::super::{capability, request as check};
use super::{Desk, JuicefsClient};
use crate::config::field::{InvalidField, entry};
use crate::config::juicefs::{Published, PublishedVolume, Share};
use crate::juicefs::options::{CACHE_IN_POD, NO_EXECUTION, READ_ONLY, from_pairs};
use crate::juicefs::secret::{JuicefsSecret, filesystem_name};
use crate::mountpod::service::{MountService, PublishRequest, SessionUse};
use crate::provision::InlineVolumes;
use crate::volume::{
    Access, ClientKind, CredentialsDigest, Execution, FilesystemName, MountSpec, Secrets, Writability,
};

const CONTEXT: &str = "volume_context";
const CAPABILITY: &str = "volume_capability";
const FLAGS: &str = "volume_capability.mount.mount_flags";

impl<C: InlineVolumes, M: MountService> Desk<C, M> {
    pub(super) async fn publish_juicefs(
        self: Arc<Self>,
        request: v1::NodePublishVolumeRequest,
        secrets: Secrets,
    ) -> Result<v1::NodePublishVolumeResponse, RpcError> {
        let wanted = self.juicefs_request(&request, secrets)?;
        let _guard = self.edge.claim(Self::claims(&wanted.volume, &wanted.target, wanted.access))?;
        self.mounts.publish(wanted).await?;
        Ok(v1::NodePublishVolumeResponse {})
    }

    fn juicefs_request(
        &self,
        request: &v1::NodePublishVolumeRequest,
        secrets: Secrets,
    ) -> Result<PublishRequest, RpcError> {
        let id = check::handle("volume_id", &request.volume_id)?;
        if check::inline_name("volume_id", &request.volume_id)?.is_some() {
            let why = "looks like the kubelet's name of an inline volume; choose another volumeHandle";
            return Err(InvalidField::new("volume_id", why).into());
        }
        let target = check::target("target_path", &request.target_path)?;
        let (access, flags) = access_and_flags(request)?;
        check::no_publish_context(&request.publish_context)?;
        check::unused_path("staging_target_path", &request.staging_target_path)?;
        let said = Published { id: &id, context: (CONTEXT, &request.volume_context), flags: (FLAGS, flags) };
        let volume = PublishedVolume::read(said)?;
        let options = client_options(&volume, flags)?;
        self.node.directories.check(&volume.settings.host_directories)?;
        let secret = self.check_prerequisites(&secrets)?;
        let pod = self.node.directories.pod_of(&secret, volume.settings.pod_shape())?;
        check::warn_of_ignored(&id, &volume.ignored);
        let (session, subdirectory) = session_of(&volume);
        let spec = MountSpec {
            client: ClientKind::Juicefs,
            filesystem: volume
                .filesystem
                .clone()
                .or_else(|| filesystem_name(&secrets))
                .unwrap_or_else(FilesystemName::unnamed),
            subdirectory,
            options,
            credentials: CredentialsDigest::of(&secrets, &self.node.key),
        };
        Ok(PublishRequest {
            volume: id,
            target,
            spec,
            session,
            access: narrowed(access, &volume),
            resources: volume.settings.resources.limits,
            pod,
            secrets,
        })
    }

    /// A client, and a Secret that describes a filesystem.
    fn check_prerequisites(&self, secrets: &Secrets) -> Result<JuicefsSecret, RpcError> {
        match self.node.juicefs {
            JuicefsClient::Present => {}
            JuicefsClient::Missing => {
                return Err(RpcError::Prerequisite {
                    what: "this driver has no JuiceFS client",
                    remedy: "start it with --juicefs-program PATH",
                });
            }
        }
        if secrets.is_empty() {
            return Err(RpcError::Prerequisite {
                what: "the call brought no Secret, which says where the JuiceFS filesystem is",
                remedy: "name one: in a StorageClass by csi.storage.k8s.io/node-publish-secret-name and \
                         csi.storage.k8s.io/node-publish-secret-namespace, in a PersistentVolume by \
                         csi.nodePublishSecretRef",
            });
        }
        let read = JuicefsSecret::read(secrets);
        read.map_err(|error| InvalidField::new(entry("secrets", &error.key), error.why).into())
    }
}

fn access_and_flags(request: &v1::NodePublishVolumeRequest) -> Result<(Access, &[String]), InvalidField> {
    let said = request.volume_capability.as_ref();
    let said = said.ok_or_else(|| InvalidField::new(CAPABILITY, "is missing"))?;
    let (access, flags) = capability::access_and_flags(CAPABILITY, said, capability::JUICEFS_TYPES)?;
    Ok(if request.readonly {
        (Access { writability: Writability::ReadOnly, ..access }, flags)
    } else {
        (access, flags)
    })
}

/// A volume whose options say `ro` is read-only whatever the claim says.
fn narrowed(access: Access, volume: &PublishedVolume) -> Access {
    match volume.settings.attributes.writability {
        Some(Writability::ReadOnly) => Access { writability: Writability::ReadOnly, ..access },
        Some(Writability::ReadWrite) | None => access,
    }
}

/// A volume's own session is of its directory alone; a shared one is of the whole filesystem, of which each target shows the
/// volume's directory.
fn session_of(volume: &PublishedVolume) -> (SessionUse, String) {
    let directory = volume.path.as_ref().map(ToString::to_string).unwrap_or_default();
    let shared = |group, directory| (SessionUse::Shared { group, directory }, String::new());
    match &volume.share {
        Share::Volume => (SessionUse::Own, directory),
        Share::Group(group) => shared(Some(group.as_str().to_owned()), directory),
        Share::Filesystem => shared(None, directory),
    }
}

/// What decides how the client is run: its own options, and those of its session.
fn client_options(
    volume: &PublishedVolume,
    flags: &[String],
) -> Result<BTreeMap<String, String>, InvalidField> {
    let checked = from_pairs(&volume.settings.client_options(CACHE_IN_POD));
    let mut options = checked.map_err(|error| {
        capability::invalid_option(&error, (FLAGS, flags), entry(CONTEXT, "mountOptions"))
    })?;
    let attributes = volume.settings.attributes;
    if attributes.writability == Some(Writability::ReadOnly) {
        options.insert(READ_ONLY.to_owned(), String::new());
    }
    if attributes.execution == Some(Execution::Refused) {
        options.insert(NO_EXECUTION.to_owned(), String::new());
    }
    Ok(options)
}
