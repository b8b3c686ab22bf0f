//! How much may a mount pod use?

use serde::{Deserialize, Serialize};

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
