//! What are the nouns of a volume, apart from any I/O?
//!
//! Architecture invariant: nothing here imports tokio, a Kubernetes client, `std::fs` or a clock.

mod access;
mod ids;
mod mount_spec;
mod names;
mod resources;
mod secrets;
mod target;

pub use access::{Access, Exclusivity, Writability};
pub use ids::{FilesystemName, InvalidId, SnapshotId, VolumeId};
pub use mount_spec::{ClientKind, CredentialsDigest, MountSpec, NodeKey, SessionId, ShareKey, SpecHash};
pub use resources::{CpuMillis, MemoryBytes, Resources};
pub use secrets::Secrets;
pub use target::{InvalidTarget, TargetPath};
