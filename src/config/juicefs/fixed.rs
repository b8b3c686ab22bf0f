//! What does a PersistentVolume that a person wrote say of a JuiceFS volume?

use std::collections::HashMap;

use super::keys::Place;
use super::options::MountOptions;
use super::path::VolumePath;
use super::reading::{Draft, IgnoredKey};
use super::settings::ClientSettings;
use super::values::Sharing;
use crate::config::field::{InvalidField, entry, plain_map};
use crate::config::parameters::persistent_context;
use crate::volume::FilesystemName;

/// Which volumes share a mount pod with a static one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum StaticSharing {
    /// None.
    #[default]
    Volume,
    /// All of the filesystem.
    Filesystem,
}

/// A static volume: an existing directory of a filesystem, or all of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaticVolume {
    /// The filesystem's name, when it was said; else the Secret's.
    pub filesystem: Option<FilesystemName>,
    /// The directory; `None` is the whole filesystem.
    pub path: Option<VolumePath>,
    /// Which volumes share its mount pod.
    pub sharing: StaticSharing,
    /// How it is served.
    pub settings: ClientSettings,
    /// Keys that were said and do nothing, for a warning.
    pub ignored: Vec<IgnoredKey>,
}

impl StaticVolume {
    /// Reads `volumeAttributes` and the `mount_flags` that kubelet makes of the PersistentVolume's `mountOptions`. A
    /// volume that the JuiceFS CSI driver made reads the same: its directory is `subPath`, below `subdir` if there is one.
    ///
    /// # Errors
    /// [`InvalidField`] with the first key or option that is unknown, refused, contradicted or has a bad value.
    pub fn of_attributes(
        field: &str,
        attributes: &HashMap<String, String>,
        flags_field: &str,
        flags: &[String],
    ) -> Result<Self, InvalidField> {
        let plain = persistent_context(field, attributes)?;
        let mut draft = Draft::read(Place::Volume, field, &plain_map(field, &plain)?)?;
        let sharing = match draft.sharing.take().unwrap_or_default() {
            Sharing::Volume => StaticSharing::Volume,
            Sharing::Filesystem => StaticSharing::Filesystem,
            Sharing::StorageClass => {
                let why =
                    "is \"storageclass\", but no StorageClass made this volume; say volume or filesystem";
                return Err(InvalidField::new(entry(field, "sharing"), why));
            }
        };
        if draft.share_group.take().is_some() {
            return Err(InvalidField::new(
                entry(field, "shareGroup"),
                "is only for volumes that this driver made",
            ));
        }
        let options = draft.options.take().unwrap_or_default().with_flags(flags_field, flags)?;
        let inner = draft.path.take().flatten();
        Ok(Self {
            filesystem: draft.filesystem.take(),
            path: below(field, &options, inner)?,
            sharing,
            settings: draft.pod(field)?.with_options(field, options)?,
            ignored: draft.ignored,
        })
    }
}

fn below(
    field: &str,
    options: &MountOptions,
    inner: Option<VolumePath>,
) -> Result<Option<VolumePath>, InvalidField> {
    match (&options.subdirectory, inner) {
        (Some(outer), Some(inner)) => {
            let both = outer.join(&inner);
            both.map(Some)
                .map_err(|why| InvalidField::new(entry(field, "path"), format!("below \"subdir\" {why}")))
        }
        (outer, inner) => Ok(inner.or_else(|| outer.clone())),
    }
}

#[cfg(test)]
mod tests;
