//! How much may a mount pod use, and what is it given beside its client?

use std::collections::BTreeSet;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HostDirectory;
use super::files::SecretFiles;

/// Thousandths of a processor, as in the Kubernetes quantity `500m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CpuMillis(pub u64);

/// Bytes of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct MemoryBytes(pub u64);

/// Limits of a mount pod; `None` leaves that resource unlimited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Resources {
    /// Processor time.
    pub cpu_limit: Option<CpuMillis>,
    /// Memory, page cache of the client's own files included.
    pub memory_limit: Option<MemoryBytes>,
}

/// What a mount pod asks the scheduler for; `None` leaves it to the driver.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Requests {
    /// Processor time.
    pub cpu: Option<CpuMillis>,
    /// Memory.
    pub memory: Option<MemoryBytes>,
}

/// The volume of a mount pod for its client's cache, which ends with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CacheVolume {
    /// There is none: the cache is in the client's memory, or in a directory of the node.
    #[default]
    None,
    /// In a directory of the pod on the node's disk.
    Disk {
        /// At most these bytes; without it only the client knows a limit.
        bytes: Option<u64>,
    },
    /// In a volume that is made for the pod.
    Claim {
        /// Bytes.
        bytes: u64,
        /// Its StorageClass; `None` is the cluster's default.
        storage_class: Option<String>,
    },
}

/// How a mount pod is made and kept, apart from its limits. Nothing of it changes how its client is run, so it is no part of
/// a mount spec.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct PodShape {
    /// What it asks the scheduler for.
    pub requests: Requests,
    /// The volume of its client's cache.
    pub cache: CacheVolume,
    /// Directories of the node that it sees, at the same paths.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub host_directories: BTreeSet<HostDirectory>,
    /// How long it is kept when nobody uses it; `None` leaves it to the driver.
    pub delete_delay: Option<Duration>,
    /// Secrets of the cluster that its client finds as files.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files: Vec<SecretFiles>,
}
