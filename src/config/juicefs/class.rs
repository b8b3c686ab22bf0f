//! What does a StorageClass say of a new JuiceFS volume?

use std::collections::{BTreeMap, HashMap};

use super::context::VolumeContext;
use super::keys::Place;
use super::options::MountOptions;
use super::path::VolumePath;
use super::pattern::{PathFacts, PathPattern};
use super::reading::{Draft, IgnoredKey};
use super::settings::{ClientSettings, PodSettings, SUBDIRECTORY_OF_NEW};
use super::share::{Share, ShareGroup};
use super::values::Sharing;
use crate::config::field::{InvalidField, entry, plain_map};
use crate::config::parameters::overlaid;
use crate::volume::{FilesystemName, Resources};

/// What external-provisioner told of the claim (`--extra-create-metadata`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClaimFacts {
    /// `csi.storage.k8s.io/pvc/name`
    pub claim_name: Option<String>,
    /// `csi.storage.k8s.io/pvc/namespace`
    pub claim_namespace: Option<String>,
    /// `csi.storage.k8s.io/pv/name`
    pub volume_name: Option<String>,
}

impl ClaimFacts {
    /// These facts with the claim's labels and annotations, for a [`PathPattern`].
    #[must_use]
    pub fn with_metadata<'a>(
        &'a self,
        labels: &'a BTreeMap<String, String>,
        annotations: &'a BTreeMap<String, String>,
    ) -> PathFacts<'a> {
        PathFacts {
            claim_name: self.claim_name.as_deref(),
            claim_namespace: self.claim_namespace.as_deref(),
            volume_name: self.volume_name.as_deref(),
            labels,
            annotations,
        }
    }
}

/// `CreateVolumeRequest.parameters` for the client `juicefs`, typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassParameters {
    /// The filesystem's name in volume ids, when it was said; else the Secret's.
    pub filesystem: Option<FilesystemName>,
    /// Where the volume's directory is; `None` is a directory of the volume's own name.
    pub path_pattern: Option<PathPattern>,
    /// Which volumes share a mount pod.
    pub share: Share,
    /// Most files and directories of the volume.
    pub inodes: Option<u64>,
    /// Who asked.
    pub claim: ClaimFacts,
    /// Keys that were said and do nothing, for a warning.
    pub ignored: Vec<IgnoredKey>,
    /// Options of the parameter `mountOptions`; those of the StorageClass itself come with each capability.
    options: MountOptions,
    pod: PodSettings,
}

impl ClassParameters {
    /// Reads the parameters; `field` is their name in errors.
    ///
    /// # Errors
    /// [`InvalidField`] with the first key, in alphabetical order, that is unknown, refused or has a bad value, and for
    /// two spellings with different values.
    pub fn of_map(field: &str, map: &HashMap<String, String>) -> Result<Self, InvalidField> {
        let plain = plain_map(field, map)?;
        let mut draft = Draft::read(Place::Class, field, &plain)?;
        let share = match draft.sharing.take().unwrap_or_default() {
            Sharing::Volume => Share::Volume,
            Sharing::StorageClass => Share::Group(ShareGroup::of_parameters(&plain)),
            Sharing::Filesystem => Share::Filesystem,
        };
        let options = draft.options.take().unwrap_or_default();
        if options.subdirectory.is_some() {
            return Err(InvalidField::new(entry(field, "mountOptions"), SUBDIRECTORY_OF_NEW));
        }
        Ok(Self {
            filesystem: draft.filesystem.take(),
            path_pattern: draft.pattern.take(),
            share,
            inodes: draft.inodes.take(),
            claim: ClaimFacts {
                claim_name: draft.claim_name.take(),
                claim_namespace: draft.claim_namespace.take(),
                volume_name: draft.volume_name.take(),
            },
            options,
            pod: draft.pod(field)?,
            ignored: draft.ignored,
        })
    }

    /// How the volume will be served with these `mount_flags`: each capability of the request is checked so, because its
    /// flags come back only when the volume is published.
    ///
    /// # Errors
    /// [`InvalidField`] naming the option that can't be taken, or what it contradicts.
    pub fn settings(
        &self,
        field: &str,
        flags_field: &str,
        flags: &[String],
    ) -> Result<ClientSettings, InvalidField> {
        self.pod.of_new_volume(field, &self.options, flags_field, flags)
    }

    /// These parameters with what CSI's `mutable_parameters` say of limits: they take precedence.
    #[must_use]
    pub fn with_limits(mut self, limits: Resources) -> Self {
        self.pod.resources.limits = overlaid(self.pod.resources.limits, limits);
        self
    }

    /// The context of a volume that these parameters made.
    #[must_use]
    pub fn context(&self, filesystem: FilesystemName, path: VolumePath) -> VolumeContext {
        VolumeContext {
            filesystem,
            path,
            share: self.share.clone(),
            options: self.options.clone(),
            pod: self.pod.clone(),
        }
    }
}

#[cfg(test)]
mod tests;
