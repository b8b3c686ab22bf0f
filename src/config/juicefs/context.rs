//! What does the context of a volume that this driver made say?

use std::collections::{BTreeMap, HashMap};

use super::CLIENT_NAME;
use super::keys::Place;
use super::options::{CACHE_SEPARATOR, MountOptions};
use super::path::VolumePath;
use super::reading::Draft;
use super::settings::{ClientSettings, PodSettings};
use super::share::Share;
use super::values::{LIST_SEPARATOR, Sharing, delay_text, host_directories_text};
use crate::config::field::{InvalidField, entry, plain_map};
use crate::config::parameters::persistent_context;
use crate::volume::{CpuMillis, FilesystemName, HostDirectory, MemoryBytes};

/// The `volume_context` of a volume that this driver made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeContext {
    /// The filesystem, as in the volume's id.
    pub filesystem: FilesystemName,
    /// Its directory.
    pub path: VolumePath,
    /// Which volumes share its mount pod.
    pub share: Share,
    /// Options of the parameter `mountOptions`.
    pub(super) options: MountOptions,
    pub(super) pod: PodSettings,
}

impl VolumeContext {
    /// The context as CSI carries it. It holds neutral names only, and no secret.
    #[must_use]
    pub fn to_map(&self) -> BTreeMap<String, String> {
        let mut map = BTreeMap::new();
        let mut say = |key: &str, value: Option<String>| {
            map.extend(value.map(|value| (key.to_owned(), value)));
        };
        let (sharing, group) = match &self.share {
            Share::Volume => (Sharing::Volume, None),
            Share::Group(group) => (Sharing::StorageClass, Some(group.as_str().to_owned())),
            Share::Filesystem => (Sharing::Filesystem, None),
        };
        let cpu = |cpu: CpuMillis| format!("{}m", cpu.0);
        let memory = |memory: MemoryBytes| memory.0.to_string();
        let (resources, cache) = (&self.pod.resources, &self.pod.cache);
        say("client", Some(CLIENT_NAME.to_owned()));
        say("filesystem", Some(self.filesystem.to_string()));
        say("path", Some(self.path.to_string()));
        say("sharing", Some(sharing.as_str().to_owned()));
        say("shareGroup", group);
        say("mountOptions", (!self.options.is_empty()).then(|| self.options.to_text()));
        say("cpuLimit", resources.limits.cpu_limit.map(cpu));
        say("memoryLimit", resources.limits.memory_limit.map(memory));
        say("cpuRequest", resources.requests.cpu.map(cpu));
        say("memoryRequest", resources.requests.memory.map(memory));
        say("cacheMedium", cache.medium.as_ref().map(|medium| medium.as_str().to_owned()));
        say("cacheSize", cache.size.map(|size| size.0.to_string()));
        say("cacheStorageClass", cache.storage_class.clone());
        let directories = |directories: &Vec<HostDirectory>, separator| {
            (!directories.is_empty()).then(|| host_directories_text(directories, separator))
        };
        let of_cache = cache.directories.as_ref();
        say("cacheDirectory", of_cache.and_then(|paths| directories(paths, CACHE_SEPARATOR)));
        say("hostDirectories", directories(&self.pod.host_directories, LIST_SEPARATOR));
        say("deleteDelay", self.pod.delete_delay.map(delay_text));
        map
    }

    /// Reads `NodePublishVolumeRequest.volume_context`; `field` is its name in errors.
    ///
    /// # Errors
    /// [`InvalidField`] with the first key that is unknown, refused, has a bad value or is missing.
    pub fn of_map(field: &str, map: &HashMap<String, String>) -> Result<Self, InvalidField> {
        let plain = persistent_context(field, map)?;
        let mut draft = Draft::read(Place::Volume, field, &plain_map(field, &plain)?)?;
        draft.client.needed(field, "client")?;
        let path = draft.path.needed(field, "path")?;
        let path = path.ok_or_else(|| {
            InvalidField::new(
                entry(field, "path"),
                "is the root of the filesystem, which is no volume of this driver",
            )
        })?;
        let share = match draft.sharing.needed(field, "sharing")? {
            Sharing::Volume => Share::Volume,
            Sharing::StorageClass => Share::Group(draft.share_group.needed(field, "shareGroup")?),
            Sharing::Filesystem => Share::Filesystem,
        };
        if draft.share_group.take().is_some() {
            return Err(InvalidField::new(
                entry(field, "shareGroup"),
                "is only for sharing \"storageclass\"",
            ));
        }
        Ok(Self {
            filesystem: draft.filesystem.needed(field, "filesystem")?,
            path,
            share,
            options: draft.options.take().unwrap_or_default(),
            pod: draft.pod(field)?,
        })
    }

    /// How the volume is served with the `mount_flags` of a publish; `field` is the context's name in errors.
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
}

#[cfg(test)]
mod tests;
