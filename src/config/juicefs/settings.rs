//! With which options, resources and cache is the client of a volume run?

use std::collections::BTreeMap;
use std::time::Duration;

use super::options::{CACHE_IN_MEMORY, MountOptions};
use super::special_options::{CACHE_DIRECTORY, MountAttributes};
use super::values::{CacheMedium, CacheSize};
use crate::config::field::{InvalidField, entry};
use crate::volume::{CpuMillis, MemoryBytes, Resources};

/// The client's own option for the size of its cache, MiB or with a unit.
const CACHE_SIZE_OPTION: &str = "cache-size";
/// Why a volume that this driver makes can't have `subdir`.
pub(super) const SUBDIRECTORY_OF_NEW: &str =
    "has the option \"subdir\", but pathPattern says the directory of a new volume; put it there";
/// The client may use this part of a cache's volume: a pod that fills its emptyDir is evicted, and the client looks at its
/// limit only now and then.
const CACHE_PERCENT: u64 = 80;

/// What a mount pod asks the scheduler for; `None` leaves it out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Requests {
    /// Processor time.
    pub cpu: Option<CpuMillis>,
    /// Memory.
    pub memory: Option<MemoryBytes>,
}

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
}

/// What was said of the mount pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PodSettings {
    /// Limits and requests.
    pub resources: PodResources,
    /// How long the pod is kept when nobody uses it; `None` leaves it to the driver.
    pub delete_delay: Option<Duration>,
    pub(super) cache: CacheWish,
}

/// Where the client caches, and how much.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// In a directory of the pod on the node's disk. Without a size the client's option `cache-size` is the only limit.
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
    /// How long the pod is kept when nobody uses it; `None` leaves it to the driver.
    pub delete_delay: Option<Duration>,
}

impl ClientSettings {
    /// The client's options, those of its cache among them: `directory` is where the cache's volume is mounted in the pod.
    /// A `cache-size` that was said is kept.
    #[must_use]
    pub fn client_options(&self, directory: &str) -> BTreeMap<String, String> {
        let mut options = self.options.clone();
        let (place, bytes) = match &self.cache {
            Cache::Memory { size } => (CACHE_IN_MEMORY, size.map(|size| size.0)),
            Cache::Disk { size } => (directory, size.map(|size| size.0 / 100 * CACHE_PERCENT)),
            Cache::Claim { size, .. } => (directory, Some(size.0 / 100 * CACHE_PERCENT)),
        };
        options.insert(CACHE_DIRECTORY.to_owned(), place.to_owned());
        if let Some(bytes) = bytes {
            options.entry(CACHE_SIZE_OPTION.to_owned()).or_insert_with(|| (bytes >> 20).to_string());
        }
        options
    }
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
        let options = options.clone().with_flags(flags_field, flags)?;
        if options.subdirectory.is_some() {
            return Err(InvalidField::new(flags_field, SUBDIRECTORY_OF_NEW));
        }
        self.with_options(field, options)
    }

    /// The settings with these options; `field` is the name of the map in errors.
    pub(super) fn with_options(
        &self,
        field: &str,
        options: MountOptions,
    ) -> Result<ClientSettings, InvalidField> {
        let cache = self.cache(field, &options)?;
        let MountOptions { attributes, client, subdirectory: _, cache: _ } = options;
        let Self { resources, delete_delay, cache: _ } = *self;
        Ok(ClientSettings { attributes, options: client, resources, cache, delete_delay })
    }

    fn cache(&self, field: &str, options: &MountOptions) -> Result<Cache, InvalidField> {
        let CacheWish { medium, size, storage_class } = &self.cache;
        let invalid = |key: &str, why: &str| InvalidField::new(entry(field, key), why);
        if let (Some(medium), Some(other)) = (medium, &options.cache)
            && medium != other
        {
            return Err(invalid(
                "cacheMedium",
                "(or its other spelling) contradicts the mount option \"cache-dir\"",
            ));
        }
        let medium = medium.clone().or(options.cache.clone()).unwrap_or_default();
        if storage_class.is_some() && medium != CacheMedium::Claim {
            return Err(invalid("cacheStorageClass", "is only for cacheMedium \"claim\""));
        }
        match (medium, *size) {
            (CacheMedium::Disk, size) => Ok(Cache::Disk { size }),
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

    fn fills_memory(&self, size: CacheSize) -> bool {
        self.resources.limits.memory_limit.is_some_and(|limit| size.0 >= limit.0)
    }
}
