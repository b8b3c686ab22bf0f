//! How is a map read by the table of keys?

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::keys::{Fate, Place, Setting, find, unknown};
use super::options::{CACHE_SEPARATOR, MountOptions};
use super::path::VolumePath;
use super::pattern::PathPattern;
use super::settings::{CacheWish, PodResources, PodSettings};
use super::share::ShareGroup;
use super::values::{self, CacheMedium, CacheSize, LIST_SEPARATOR, Sharing};
use crate::config::field::{InvalidField, entry, quoted};
use crate::volume::{CpuMillis, FilesystemName, HostDirectory, MemoryBytes, Requests, Resources};

/// A key that was said and does nothing here. Its Display is a sentence for a warning.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoredKey {
    /// The entry, as errors name it.
    pub entry: String,
    /// Why, as the rest of a sentence that begins with the entry.
    pub why: &'static str,
}

impl fmt::Display for IgnoredKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entry, self.why)
    }
}

/// One thing that a map may say under several keys.
#[derive(Debug)]
pub(super) struct Slot<T> {
    said: Option<(String, T)>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { said: None }
    }
}

impl<T: PartialEq> Slot<T> {
    fn put(&mut self, at: &At<'_>, value: Result<T, String>) -> Result<(), InvalidField> {
        let value = value.map_err(|why| at.invalid(why))?;
        match &self.said {
            Some((other, before)) if *before != value => {
                let why =
                    format!("contradicts {}: both say the same thing; leave one out", entry(at.field, other));
                Err(at.invalid(why))
            }
            Some(_) => Ok(()),
            None => {
                self.said = Some((at.key.to_owned(), value));
                Ok(())
            }
        }
    }

    pub(super) fn take(&mut self) -> Option<T> {
        self.said.take().map(|(_, value)| value)
    }

    /// The value, or an error that names the first key for it.
    pub(super) fn needed(&mut self, field: &str, key: &str) -> Result<T, InvalidField> {
        self.take().ok_or_else(|| InvalidField::new(entry(field, key), "is missing"))
    }
}

struct At<'a> {
    field: &'a str,
    key: &'a str,
}

impl At<'_> {
    fn invalid(&self, why: impl ToString) -> InvalidField {
        InvalidField::new(entry(self.field, self.key), why)
    }
}

/// All that a map said.
#[derive(Debug, Default)]
pub(super) struct Draft {
    pub(super) client: Slot<()>,
    pub(super) filesystem: Slot<FilesystemName>,
    pub(super) path: Slot<Option<VolumePath>>,
    pub(super) pattern: Slot<PathPattern>,
    pub(super) sharing: Slot<Sharing>,
    pub(super) share_group: Slot<ShareGroup>,
    pub(super) options: Slot<MountOptions>,
    pub(super) inodes: Slot<u64>,
    pub(super) claim_name: Slot<String>,
    pub(super) claim_namespace: Slot<String>,
    pub(super) volume_name: Slot<String>,
    pub(super) ignored: Vec<IgnoredKey>,
    cpu_limit: Slot<Option<CpuMillis>>,
    memory_limit: Slot<Option<MemoryBytes>>,
    cpu_request: Slot<Option<CpuMillis>>,
    memory_request: Slot<Option<MemoryBytes>>,
    cache_medium: Slot<CacheMedium>,
    cache_size: Slot<CacheSize>,
    cache_storage_class: Slot<String>,
    cache_directories: Slot<Vec<HostDirectory>>,
    host_directories: Slot<Vec<HostDirectory>>,
    delete_delay: Slot<Duration>,
}

impl Draft {
    /// Reads the entries in the order of their keys.
    pub(super) fn read(place: Place, field: &str, map: &BTreeMap<&str, &str>) -> Result<Self, InvalidField> {
        let mut draft = Self::default();
        for (&key, &value) in map {
            let at = At { field, key };
            match find(key).map(|known| known.fate(place)) {
                Some(Fate::Taken(setting)) => draft.put(setting, &at, value)?,
                Some(Fate::Ignored(why)) => draft.ignored.push(IgnoredKey { entry: entry(field, key), why }),
                Some(Fate::Refused(why)) => return Err(at.invalid(why)),
                None => return Err(at.invalid(unknown(key, place))),
            }
        }
        Ok(draft)
    }

    fn put(&mut self, setting: Setting, at: &At<'_>, value: &str) -> Result<(), InvalidField> {
        match setting {
            Setting::Client => self.client.put(at, values::client(value)),
            Setting::Filesystem => self.filesystem.put(at, filesystem(value)),
            Setting::Path => self.path.put(at, path(value)),
            Setting::PathPattern => self.pattern.put(at, pattern(value)),
            Setting::Sharing => self.sharing.put(at, values::sharing(value)),
            Setting::ShareGroup => self.share_group.put(at, value.parse()),
            Setting::Options => {
                self.options.put(at, MountOptions::of_text("", value).map_err(|error| error.why))
            }
            Setting::CpuLimit => self.cpu_limit.put(at, values::cpu_limit(value)),
            Setting::MemoryLimit => self.memory_limit.put(at, values::memory_limit(value)),
            Setting::CpuRequest => self.cpu_request.put(at, values::cpu_request(value)),
            Setting::MemoryRequest => self.memory_request.put(at, values::memory_request(value)),
            Setting::CacheMedium => self.cache_medium.put(at, values::medium(value)),
            Setting::CacheSize => self.cache_size.put(at, values::cache_size(value)),
            Setting::CacheStorageClass => self.cache_storage_class.put(at, storage_class(value)),
            Setting::CacheEmptyDir => self.put_empty_dir(at, value),
            Setting::CacheDirectory => {
                self.cache_directories.put(at, values::host_directories(value, CACHE_SEPARATOR))
            }
            Setting::HostDirectories => {
                self.host_directories.put(at, values::host_directories(value, LIST_SEPARATOR))
            }
            Setting::DeleteDelay => self.delete_delay.put(at, values::delay(value)),
            Setting::Inodes => self.inodes.put(at, values::inodes(value)),
            Setting::ClaimName => self.claim_name.put(at, Ok(value.to_owned())),
            Setting::ClaimNamespace => self.claim_namespace.put(at, Ok(value.to_owned())),
            Setting::VolumeName => self.volume_name.put(at, Ok(value.to_owned())),
        }
    }

    fn put_empty_dir(&mut self, at: &At<'_>, value: &str) -> Result<(), InvalidField> {
        let (medium, size) = values::empty_dir(value).map_err(|why| at.invalid(why))?;
        self.cache_medium.put(at, Ok(medium))?;
        size.map_or(Ok(()), |size| self.cache_size.put(at, Ok(size)))
    }

    /// What was said of the mount pod.
    pub(super) fn pod(&mut self, field: &str) -> Result<PodSettings, InvalidField> {
        let cpu_limit = self.cpu_limit.take().flatten();
        let memory_limit = self.memory_limit.take().flatten();
        let requests =
            Requests { cpu: self.cpu_request.take().flatten(), memory: self.memory_request.take().flatten() };
        not_above(field, "cpuRequest", requests.cpu, "cpuLimit", cpu_limit)?;
        not_above(field, "memoryRequest", requests.memory, "memoryLimit", memory_limit)?;
        Ok(PodSettings {
            resources: PodResources { limits: Resources { cpu_limit, memory_limit }, requests },
            cache: CacheWish {
                medium: self.cache_medium.take(),
                size: self.cache_size.take(),
                storage_class: self.cache_storage_class.take(),
                directories: self.cache_directories.take(),
            },
            host_directories: self.host_directories.take().unwrap_or_default(),
            delete_delay: self.delete_delay.take(),
        })
    }
}

/// Kubernetes refuses a pod that requests more than its limit; the answer must come before there is a pod.
fn not_above<T: PartialOrd>(
    field: &str,
    request_key: &str,
    request: Option<T>,
    limit_key: &str,
    limit: Option<T>,
) -> Result<(), InvalidField> {
    match (request, limit) {
        (Some(request), Some(limit)) if request > limit => {
            let why = format!("(or its other spelling) is more than {}", entry(field, limit_key));
            Err(InvalidField::new(entry(field, request_key), why))
        }
        _ => Ok(()),
    }
}

fn filesystem(value: &str) -> Result<FilesystemName, String> {
    value.parse().map_err(|why| format!("is {}, but the name of a filesystem {why}", quoted(value)))
}

fn path(value: &str) -> Result<Option<VolumePath>, String> {
    VolumePath::below_root(value).map_err(|why| format!("is {}, which {why}", quoted(value)))
}

fn pattern(value: &str) -> Result<PathPattern, String> {
    value.parse().map_err(|why| format!("is {}, which {why}", quoted(value)))
}

/// A name of Kubernetes: the API server checks it further.
fn storage_class(value: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'.');
    if !value.is_empty() && value.len() <= 253 && value.bytes().all(plain) {
        return Ok(value.to_owned());
    }
    Err(format!("is {}, must be the name of a StorageClass", quoted(value)))
}
