//! With which options, resources and cache is the client of a volume run?

use std::collections::BTreeMap;
use std::time::Duration;

use super::options::{CACHE_IN_MEMORY, CACHE_SEPARATOR, CachePlace, MountOptions};
use super::special_options::{CACHE_DIRECTORY, MountAttributes};
use super::values::{CacheMedium, CacheSize, host_directories_text};
use crate::config::field::{InvalidField, entry};
use crate::config::host_directories::AskedDirectory;
use crate::volume::{CacheVolume, HostDirectory, MemoryBytes, PodShape, Requests, Resources};

/// The client's own option for the size of its cache, MiB or with a unit.
const CACHE_SIZE_OPTION: &str = "cache-size";
const CACHE_DIRECTORY_KEY: &str = "cacheDirectory";
const HOST_DIRECTORIES_KEY: &str = "hostDirectories";
/// Why a volume that this driver makes can't have `subdir`.
pub(super) const SUBDIRECTORY_OF_NEW: &str =
    "has the option \"subdir\", but pathPattern says the directory of a new volume; put it there";
/// The client may use this part of a cache's volume: a pod that fills its emptyDir is evicted, and the client looks at its
/// limit only now and then.
const CACHE_PERCENT: u64 = 80;
/// Of a cache on disk that nobody gave a size. The client's own figure, 100 GiB for each volume, is that of a machine which
/// it has to itself; on a node it would take the disk from all pods there.
const DISK_CACHE_DEFAULT: CacheSize = CacheSize(10 << 30);
/// Beside a cache in memory, a client that is at work has about as much again for its buffers and its index of files.
const CLIENT_MEMORY: u64 = 64 << 20;

/// Limits and requests of a mount pod; no request is above its limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct PodResources {
    /// At most.
    pub limits: Resources,
    /// At least.
    pub requests: Requests,
}

/// What was said of a cache, before the mount options are known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CacheWish {
    pub(super) medium: Option<CacheMedium>,
    pub(super) size: Option<CacheSize>,
    pub(super) storage_class: Option<String>,
    pub(super) directories: Option<Vec<HostDirectory>>,
}

/// What was said of the mount pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSettings {
    /// Limits and requests.
    pub resources: PodResources,
    /// How long the pod is kept when nobody uses it; `None` leaves it to the driver.
    pub delete_delay: Option<Duration>,
    pub(super) cache: CacheWish,
    pub(super) host_directories: Vec<HostDirectory>,
}

/// Where the client caches, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// In a directory of the pod on the node's disk. Without a size the client's option `cache-size` is given, and is the
    /// only limit.
    Disk {
        /// Limit of the pod's volume.
        size: Option<CacheSize>,
    },
    /// In memory. Without a size the client's option `cache-size` is given and says it.
    Memory {
        /// At most this.
        size: Option<CacheSize>,
    },
    /// In a volume that is made for the pod.
    Claim {
        /// Its size.
        size: CacheSize,
        /// Its StorageClass; `None` is the cluster's default.
        storage_class: Option<String>,
    },
    /// In directories of the node, which keep it. Size as with `Disk`, but nobody evicts a pod for it.
    Node {
        /// Where; the client puts each block into one of them.
        directories: Vec<HostDirectory>,
        /// At most this, in all of them together.
        size: Option<CacheSize>,
    },
}

/// Everything that was said of how to serve the volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Of the mount itself.
    pub attributes: MountAttributes,
    /// The client's own options by name; the value of one without `=` is empty.
    pub options: BTreeMap<String, String>,
    /// Limits and requests of the mount pod.
    pub resources: PodResources,
    /// The cache.
    pub cache: Cache,
    /// Directories of the node for the mount pod, that of the cache among them: they are to be checked.
    pub host_directories: Vec<AskedDirectory>,
    /// How long the pod is kept when nobody uses it; `None` leaves it to the driver.
    pub delete_delay: Option<Duration>,
}

impl ClientSettings {
    /// The client's options, those of its cache among them: `directory` is where the cache's volume is mounted in the pod.
    /// A `cache-size` that was said is kept.
    #[must_use]
    pub fn client_options(&self, directory: &str) -> BTreeMap<String, String> {
        let mut options = self.options.clone();
        let mebibytes = |size: &CacheSize| size.0 >> 20;
        let share = |size: &CacheSize| mebibytes(size) * CACHE_PERCENT / 100;
        let (place, mebibytes) = match &self.cache {
            Cache::Memory { size } => (CACHE_IN_MEMORY.to_owned(), size.as_ref().map(mebibytes)),
            Cache::Disk { size } => (directory.to_owned(), size.as_ref().map(share)),
            Cache::Claim { size, .. } => (directory.to_owned(), Some(share(size))),
            Cache::Node { directories, size } => {
                (host_directories_text(directories, CACHE_SEPARATOR), size.as_ref().map(mebibytes))
            }
        };
        options.insert(CACHE_DIRECTORY.to_owned(), place);
        if let Some(mebibytes) = mebibytes {
            options.entry(CACHE_SIZE_OPTION.to_owned()).or_insert_with(|| mebibytes.to_string());
        }
        options
    }

    /// How the mount pod is made and kept. Of files only the filesystem's Secret tells.
    #[must_use]
    pub fn pod_shape(&self) -> PodShape {
        let PodResources { limits, mut requests } = self.resources;
        let cache = match &self.cache {
            Cache::Memory { size } => {
                // What fills its cache will use it; a limit says more, and becomes the request.
                let with_cache = size.map(|size| MemoryBytes(size.0.saturating_add(CLIENT_MEMORY)));
                requests.memory = requests.memory.or(with_cache.filter(|_| limits.memory_limit.is_none()));
                CacheVolume::None
            }
            Cache::Disk { size } => CacheVolume::Disk { bytes: size.map(|size| size.0) },
            Cache::Node { .. } => CacheVolume::None,
            Cache::Claim { size, storage_class } => {
                CacheVolume::Claim { bytes: size.0, storage_class: storage_class.clone() }
            }
        };
        let host_directories = self.host_directories.iter().map(|asked| asked.directory.clone()).collect();
        PodShape { requests, cache, host_directories, delete_delay: self.delete_delay, ..PodShape::default() }
    }
}

/// The field whose mount options say where the cache is, when any do: `options` of the map called `field`, or flags.
pub(super) fn cache_field(field: &str, options: &MountOptions, flags_field: &str) -> String {
    if options.cache.is_some() { entry(field, "mountOptions") } else { flags_field.to_owned() }
}

impl PodSettings {
    /// The settings of a volume that this driver made, whose directory is not for mount options to say: `options` and
    /// those of `mount_flags`.
    pub(super) fn of_new_volume(
        &self,
        field: &str,
        options: &MountOptions,
        flags_field: &str,
        flags: &[String],
    ) -> Result<ClientSettings, InvalidField> {
        let cache_field = cache_field(field, options, flags_field);
        let options = options.clone().with_flags(flags_field, flags)?;
        if options.subdirectory.is_some() {
            return Err(InvalidField::new(flags_field, SUBDIRECTORY_OF_NEW));
        }
        self.with_options(field, &cache_field, options)
    }

    /// The settings with these options; `field` is the name of the map in errors, `cache_field` as [`cache_field`] tells.
    pub(super) fn with_options(
        &self,
        field: &str,
        cache_field: &str,
        options: MountOptions,
    ) -> Result<ClientSettings, InvalidField> {
        let cache = self.cache(field, &options)?;
        let MountOptions { attributes, client, subdirectory: _, cache: _ } = options;
        let Self { resources, delete_delay, .. } = *self;
        let host_directories = self.asked(field, cache_field, &cache);
        Ok(ClientSettings { attributes, options: client, resources, cache, host_directories, delete_delay })
    }

    fn cache(&self, field: &str, options: &MountOptions) -> Result<Cache, InvalidField> {
        let CacheWish { medium, size, storage_class, .. } = &self.cache;
        let invalid = |key: &str, why: &str| InvalidField::new(entry(field, key), why);
        let said = options.cache.as_ref().map(CachePlace::medium);
        if let (Some(medium), Some(other)) = (medium, &said)
            && medium != other
        {
            return Err(invalid(
                "cacheMedium",
                "(or its other spelling) contradicts the mount option \"cache-dir\"",
            ));
        }
        let medium = medium.clone().or(said).unwrap_or_default();
        let directories = self.cache_directories(field, options)?;
        if directories.is_some() && medium != CacheMedium::Node {
            return Err(invalid(CACHE_DIRECTORY_KEY, "is only for cacheMedium \"node\""));
        }
        if storage_class.is_some() && medium != CacheMedium::Claim {
            return Err(invalid("cacheStorageClass", "is only for cacheMedium \"claim\""));
        }
        match (medium, *size) {
            (CacheMedium::Disk, None) if !options.client.contains_key(CACHE_SIZE_OPTION) => {
                Ok(Cache::Disk { size: Some(DISK_CACHE_DEFAULT) })
            }
            (CacheMedium::Disk, size) => Ok(Cache::Disk { size }),
            (CacheMedium::Node, size) => {
                let directories = directories.ok_or_else(|| {
                    invalid(CACHE_DIRECTORY_KEY, "is missing: it is the node's directory for the cache")
                })?;
                let limited = options.client.contains_key(CACHE_SIZE_OPTION);
                let size = size.or(Some(DISK_CACHE_DEFAULT).filter(|_| !limited));
                Ok(Cache::Node { directories, size })
            }
            (CacheMedium::Claim, Some(size)) => {
                Ok(Cache::Claim { size, storage_class: storage_class.clone() })
            }
            (CacheMedium::Claim, None) => Err(invalid(
                "cacheSize",
                "is missing: it is the size of the volume that is made for the cache",
            )),
            (CacheMedium::Memory, None) if !options.client.contains_key(CACHE_SIZE_OPTION) => {
                let why = "is missing: a cache in memory needs it, or the mount option \"cache-size\"";
                Err(invalid("cacheSize", why))
            }
            (CacheMedium::Memory, Some(size)) if self.fills_memory(size) => Err(invalid(
                "cacheSize",
                "leaves nothing of memoryLimit to the client: the cache is in its memory",
            )),
            (CacheMedium::Memory, size) => Ok(Cache::Memory { size }),
        }
    }

    fn cache_directories(
        &self,
        field: &str,
        options: &MountOptions,
    ) -> Result<Option<Vec<HostDirectory>>, InvalidField> {
        match (&self.cache.directories, &options.cache) {
            (Some(said), Some(CachePlace::Node(other))) if said != other => {
                let why = "contradicts the mount option \"cache-dir\"";
                Err(InvalidField::new(entry(field, CACHE_DIRECTORY_KEY), why))
            }
            (Some(said), _) | (None, Some(CachePlace::Node(said))) => Ok(Some(said.clone())),
            (None, _) => Ok(None),
        }
    }

    fn asked(&self, field: &str, cache_field: &str, cache: &Cache) -> Vec<AskedDirectory> {
        let of_cache = if self.cache.directories.is_some() {
            entry(field, CACHE_DIRECTORY_KEY)
        } else {
            cache_field.to_owned()
        };
        let directories: &[_] = if let Cache::Node { directories, .. } = cache { directories } else { &[] };
        let asked = |field: &str, directory: &HostDirectory| AskedDirectory {
            field: field.to_owned(),
            directory: directory.clone(),
        };
        let of_cache = directories.iter().map(|directory| asked(&of_cache, directory));
        let key = entry(field, HOST_DIRECTORIES_KEY);
        of_cache.chain(self.host_directories.iter().map(|directory| asked(&key, directory))).collect()
    }

    fn fills_memory(&self, size: CacheSize) -> bool {
        self.resources.limits.memory_limit.is_some_and(|limit| size.0 >= limit.0)
    }
}

#[cfg(test)]
mod tests;
