//! What does the context of a volume that this driver made say?

use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use super::CLIENT_NAME;
use super::class::settings_of_new;
use super::keys::Place;
use super::options::MountOptions;
use super::path::VolumePath;
use super::reading::Draft;
use super::settings::{ClientSettings, PodSettings};
use super::values::{Sharing, delay_text};
use crate::config::field::{InvalidField, entry, plain_map, quoted};
use crate::config::parameters::without_kubelet_keys;
use crate::volume::{CpuMillis, FilesystemName, MemoryBytes};

/// Hex digits of a group: 128 bits of a SHA-256, which two StorageClasses will not share by chance.
const GROUP_DIGITS: usize = 32;
/// Parameters that say who asked differ from volume to volume.
const SIDECAR_PREFIX: &str = "csi.storage.k8s.io/";

/// Which volumes share a mount pod with this one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// None.
    Volume,
    /// Those of the same group.
    Group(ShareGroup),
    /// All of the filesystem.
    Filesystem,
}

/// The volumes of one StorageClass.
///
/// CSI tells a driver no StorageClass, only its parameters; those make the group. Two classes with the same parameters
/// share their mount pods too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareGroup(String);

impl ShareGroup {
    pub(super) fn of_parameters(parameters: &BTreeMap<&str, &str>) -> Self {
        let mut hash = Sha256::new();
        for (key, value) in parameters.iter().filter(|(key, _)| !key.starts_with(SIDECAR_PREFIX)) {
            // Lengths make the encoding unambiguous: ("ab","c") and ("a","bc") differ.
            for part in [key, value] {
                hash.update(part.len().to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        let mut digits = HEXLOWER.encode(&hash.finalize());
        digits.truncate(GROUP_DIGITS);
        Self(digits)
    }

    /// The group as text: hex digits, safe as a label value and a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShareGroup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == GROUP_DIGITS && text.bytes().all(hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("is {}, must be {GROUP_DIGITS} hex digits that this driver computed", quoted(text)))
    }
}

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
            Share::Group(group) => (Sharing::StorageClass, Some(group.0.clone())),
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
        say("deleteDelay", self.pod.delete_delay.map(delay_text));
        map
    }

    /// Reads `NodePublishVolumeRequest.volume_context`; `field` is its name in errors.
    ///
    /// # Errors
    /// [`InvalidField`] with the first key that is unknown, refused, has a bad value or is missing.
    pub fn of_map(field: &str, map: &HashMap<String, String>) -> Result<Self, InvalidField> {
        let plain = without_kubelet_keys(map);
        let mut draft = Draft::read(Place::Volume, field, &plain_map(field, &plain)?)?;
        draft.client.needed(field, "client")?;
        let path = draft.path.needed(field, "path")?;
        let path = path.ok_or_else(|| {
            InvalidField::new(entry(field, "path"), "is the root of the filesystem, which is no volume of this driver")
        })?;
        let share = match draft.sharing.needed(field, "sharing")? {
            Sharing::Volume => Share::Volume,
            Sharing::StorageClass => Share::Group(draft.share_group.needed(field, "shareGroup")?),
            Sharing::Filesystem => Share::Filesystem,
        };
        if draft.share_group.take().is_some() {
            return Err(InvalidField::new(entry(field, "shareGroup"), "is only for sharing \"storageclass\""));
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
        settings_of_new(field, &self.pod, &self.options, flags_field, flags)
    }
}

#[cfg(test)]
mod tests;
