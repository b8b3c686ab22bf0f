//! Which JuiceFS volume is a node to serve, and how?
//!
//! A volume that this driver made is told from one that a person wrote down by its context: the driver writes `client`,
//! `filesystem`, `path` and `sharing`, always, and the filesystem is that of the volume's id. Whatever lacks one of them is
//! read as a static volume, also under a handle that looks like an id of this driver.

use std::collections::HashMap;

use super::context::VolumeContext;
use super::path::VolumePath;
use super::reading::IgnoredKey;
use super::settings::ClientSettings;
use super::share::Share;
use crate::config::field::InvalidField;
use crate::volume::{FilesystemName, VolumeId};

/// What the context of a volume that this driver made always says, beside its filesystem.
const OF_MADE: &[&str] = &["client", "path", "sharing"];
const FILESYSTEM: &str = "filesystem";

/// The fields of a publish that say what is to be served.
#[derive(Debug, Clone, Copy)]
pub struct Published<'a> {
    /// The volume.
    pub id: &'a VolumeId,
    /// Its context, and the context's name in errors.
    pub context: (&'a str, &'a HashMap<String, String>),
    /// The mount flags, and their name in errors.
    pub flags: (&'a str, &'a [String]),
}

/// A volume as it is to be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublishedVolume {
    /// The filesystem's name, when it was said; else the Secret's.
    pub filesystem: Option<FilesystemName>,
    /// The directory; `None` is the whole filesystem.
    pub path: Option<VolumePath>,
    /// Which volumes share its mount pod.
    pub share: Share,
    /// How it is served.
    pub settings: ClientSettings,
    /// Keys that were said and do nothing, for a warning.
    pub ignored: Vec<IgnoredKey>,
}

impl PublishedVolume {
    /// Reads what a publish says.
    ///
    /// # Errors
    /// [`InvalidField`] with the first key or option that is unknown, refused, contradicted or has a bad value.
    pub fn read(said: Published<'_>) -> Result<Self, InvalidField> {
        let Published { context: (field, context), flags: (flags_field, flags), .. } = said;
        if said.is_of_made() {
            Self::of_context(field, context, flags_field, flags)
        } else {
            Self::of_attributes(field, context, flags_field, flags)
        }
    }

    fn of_context(
        field: &str,
        context: &HashMap<String, String>,
        flags_field: &str,
        flags: &[String],
    ) -> Result<Self, InvalidField> {
        let context = VolumeContext::of_map(field, context)?;
        let settings = context.settings(field, flags_field, flags)?;
        let VolumeContext { filesystem, path, share, .. } = context;
        Ok(Self { filesystem: Some(filesystem), path: Some(path), share, settings, ignored: Vec::new() })
    }
}

impl Published<'_> {
    fn is_of_made(&self) -> bool {
        let (_, context) = self.context;
        OF_MADE.iter().all(|key| context.contains_key(*key))
            && context.get(FILESYSTEM).is_some_and(|name| name == self.id.filesystem().as_str())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;
    use crate::config::juicefs::ClassParameters;

    fn read(
        handle: &str,
        context: &HashMap<String, String>,
        flags: &[&str],
    ) -> Result<PublishedVolume, InvalidField> {
        let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
        let id = VolumeId::of_handle(handle);
        let context = ("volume_context", context);
        PublishedVolume::read(Published { id: &id, context, flags: ("mount_flags", &flags) })
    }

    fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    fn made() -> HashMap<String, String> {
        let class = ClassParameters::of_map("parameters", &map(&[("cacheSize", "1Gi")])).unwrap();
        class.context("main".parse().unwrap(), "shop/data".parse().unwrap()).to_map().into_iter().collect()
    }

    #[test]
    fn a_volume_of_this_driver_has_its_directory_from_its_context_alone() {
        let volume = read("main#pvc-1", &made(), &["ro"]).unwrap();
        assert_eq!(volume.filesystem.unwrap().as_str(), "main");
        assert_eq!(volume.path.unwrap().as_str(), "shop/data");
        assert_eq!(read("main#pvc-1", &made(), &["subdir=x"]).unwrap_err().field, "mount_flags");
        let mut other = made();
        other.insert("path".to_owned(), "../x".to_owned());
        assert_eq!(read("main#pvc-1", &other, &[]).unwrap_err().field, "volume_context[\"path\"]");
    }

    #[test]
    fn whatever_a_person_wrote_is_a_static_volume_also_under_an_id_of_ours() {
        let attributes = map(&[("client", "juicefs"), ("subPath", "data"), ("juicefs/clean-cache", "true")]);
        for handle in ["media", "main#pvc-1"] {
            let volume = read(handle, &attributes, &["subdir=/top"]).unwrap();
            assert_eq!((volume.filesystem, volume.share), (None, Share::Volume), "{handle}");
            assert_eq!(volume.path.unwrap().as_str(), "top/data");
            assert_eq!(volume.ignored.len(), 1);
        }
        // All that the driver writes, but of another filesystem than the id's.
        for handle in ["media", "other#pvc-1"] {
            let volume = read(handle, &made(), &["subdir=/top"]).unwrap();
            assert_eq!(volume.path.unwrap().as_str(), "top/shop/data", "{handle}");
        }
        assert_eq!(read("media", &map(&[]), &[]).unwrap().path, None);
    }
}
