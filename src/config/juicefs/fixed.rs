//! What does a PersistentVolume that a person wrote say of a JuiceFS volume?

use std::collections::HashMap;

use super::keys::Place;
use super::options::MountOptions;
use super::path::VolumePath;
use super::published::PublishedVolume;
use super::reading::Draft;
use super::settings::cache_field;
use super::share::Share;
use super::values::Sharing;
use crate::config::field::{InvalidField, entry, plain_map};
use crate::config::parameters::persistent_context;

impl PublishedVolume {
    /// Reads `volumeAttributes` and the `mount_flags` that kubelet makes of the PersistentVolume's `mountOptions`. A
    /// volume that the JuiceFS CSI driver made reads the same: its directory is `subPath`, below `subdir` if there is one.
    ///
    /// # Errors
    /// [`InvalidField`] with the first key or option that is unknown, refused, contradicted or has a bad value.
    pub(super) fn of_attributes(
        field: &str,
        attributes: &HashMap<String, String>,
        flags_field: &str,
        flags: &[String],
    ) -> Result<Self, InvalidField> {
        let plain = persistent_context(field, attributes)?;
        let mut draft = Draft::read(Place::Volume, field, &plain_map(field, &plain)?)?;
        let share = match draft.sharing.take().unwrap_or_default() {
            Sharing::Volume => Share::Volume,
            Sharing::Filesystem => Share::Filesystem,
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
        let options = draft.options.take().unwrap_or_default();
        let cache_field = cache_field(field, &options, flags_field);
        let options = options.with_flags(flags_field, flags)?;
        let inner = draft.path.take().flatten();
        Ok(Self {
            filesystem: draft.filesystem.take(),
            path: below(field, &options, inner)?,
            share,
            settings: draft.pod(field)?.with_options(field, &cache_field, options)?,
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
