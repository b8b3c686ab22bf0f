//! Which volume does a CreateVolume request want, and can it be used as the request's capabilities ask?

use super::super::api::v1;
use super::super::capability::{self, CapabilityError};
use super::super::request as check;
use super::super::status::RpcError;
use crate::config::capacity::CapacityRange;
use crate::config::client::client_of;
use crate::config::field::{InvalidField, entry};
use crate::config::host_directories::HostDirectories;
use crate::config::juicefs::ClassParameters;
use crate::config::parameters::{VolumeParameters, overlaid};
use crate::juicefs::options::from_pairs;
use crate::juicefs::secret::filesystem_name;
use crate::provision::{
    Catalog, CreateVolumeError, Filesystem, FilesystemError, Lifetime, NewDirectory, NewJuicefsVolume,
    NewVolume, SecretsOf, Source,
};
use crate::volume::{ClientKind, Resources, Secrets};

const PARAMETERS: &str = "parameters";

/// What the parameters say, by the client that they mean.
pub(super) enum Said {
    Hostdir(VolumeParameters),
    Juicefs(Box<ClassParameters>),
}

/// The rest of what is wanted.
pub(super) struct Rest {
    pub(super) csi_name: String,
    pub(super) capacity: CapacityRange,
    pub(super) source: Option<Source>,
    /// CSI spec, `CreateVolumeRequest.mutable_parameters`: they take precedence.
    pub(super) limits: Resources,
    pub(super) secrets: Secrets,
}

impl Said {
    /// Reads parameters and capabilities; the latter must not be missing.
    pub(super) fn read(
        request: &v1::CreateVolumeRequest,
        secrets: &Secrets,
        directories: &HostDirectories,
    ) -> Result<Self, InvalidField> {
        let capabilities = &request.volume_capabilities;
        match client_of(PARAMETERS, &request.parameters, secrets)? {
            ClientKind::Hostdir => {
                capability::all(capabilities)?;
                Ok(Self::Hostdir(VolumeParameters::of_volume(PARAMETERS, &request.parameters)?))
            }
            ClientKind::Juicefs => {
                let class = ClassParameters::of_map(PARAMETERS, &request.parameters)?;
                juicefs_capabilities(&class, capabilities, directories)?;
                Ok(Self::Juicefs(Box::new(class)))
            }
        }
    }

    /// Where the volume is to be made.
    pub(super) fn filesystem(
        &self,
        catalog: &impl Catalog,
        secrets: &Secrets,
    ) -> Result<Filesystem, RpcError> {
        let class = match self {
            Self::Hostdir(said) => return Ok(check::filesystem(catalog, PARAMETERS, said.root.as_ref())?),
            Self::Juicefs(class) => class,
        };
        if secrets.is_empty() {
            let error = FilesystemError::NoSecrets { wanted: SecretsOf::Provisioner };
            return Err(CreateVolumeError::from(error).into());
        }
        let name = class.filesystem.clone().or_else(|| filesystem_name(secrets));
        let name = name.ok_or_else(|| {
            let why = "is missing, and so is the key name of the Secret: one must name the filesystem";
            InvalidField::new(entry(PARAMETERS, "filesystem"), why)
        })?;
        Ok(Filesystem::of_juicefs(name))
    }

    /// The volume to be made in that filesystem.
    pub(super) fn volume(self, filesystem: Filesystem, rest: Rest) -> NewVolume {
        let Rest { csi_name, capacity, source, limits, secrets } = rest;
        let filesystem = filesystem.name;
        match self {
            Self::Hostdir(said) => {
                let resources = overlaid(said.resources, limits);
                let lifetime = Lifetime::Persistent;
                NewVolume::Hostdir(NewDirectory {
                    csi_name,
                    filesystem,
                    capacity,
                    source,
                    resources,
                    lifetime,
                })
            }
            Self::Juicefs(class) => {
                check::warn_of_ignored(&csi_name, &class.ignored);
                let class = class.with_limits(limits);
                let new = NewJuicefsVolume { csi_name, filesystem, capacity, source, class, secrets };
                NewVolume::Juicefs(Box::new(new))
            }
        }
    }
}

/// Can a volume of this class be used so? Its mount flags are the client's options.
pub(super) fn juicefs_capabilities(
    class: &ClassParameters,
    capabilities: &[v1::VolumeCapability],
    directories: &HostDirectories,
) -> Result<(), CapabilityError> {
    if capabilities.is_empty() {
        let missing = InvalidField::new("volume_capabilities", "is missing");
        return Err(CapabilityError::Malformed(missing));
    }
    for (index, capability) in capabilities.iter().enumerate() {
        let field = format!("volume_capabilities[{index}]");
        let (_, flags) = capability::access_and_flags(&field, capability, capability::JUICEFS_TYPES)?;
        let flags_field = format!("{field}.mount.mount_flags");
        let settings = class.settings(PARAMETERS, &flags_field, flags);
        let settings = settings.map_err(CapabilityError::Unsupported)?;
        directories.check(&settings.host_directories).map_err(CapabilityError::Unsupported)?;
        from_pairs(&settings.options).map_err(|error| {
            let options_field = entry(PARAMETERS, "mountOptions");
            CapabilityError::Unsupported(capability::invalid_option(
                &error,
                (&flags_field, flags),
                options_field,
            ))
        })?;
    }
    Ok(())
}
