//! What are the nouns of a volume, apart from any I/O?
//!
//! Architecture invariant: nothing here imports tokio, a Kubernetes client, `std::fs` or a clock.

mod access;
mod fault;
mod files;
mod host_directory;
mod ids;
mod mount_spec;
mod names;
mod plain_path;
mod resources;
mod secrets;
mod target;
mod text;

pub use access::{Access, Exclusivity, Execution, Writability};
pub use fault::ClientFault;
pub use files::{InvalidFiles, OF_THE_DRIVER, PathInPod, SecretFiles, SecretName};
pub use host_directory::{HostDirectory, InvalidHostDirectory, UNPRIVILEGED_USER};
pub use ids::{FilesystemName, InvalidId, SnapshotId, VolumeId};
pub use mount_spec::{ClientKind, CredentialsDigest, MountSpec, NodeKey, SessionId, ShareKey, SpecHash};
pub(crate) use plain_path::meet;
pub use resources::{CacheVolume, CpuMillis, MemoryBytes, PodShape, Requests, Resources};
pub use secrets::Secrets;
pub use target::{InvalidTarget, TargetPath};
pub(crate) use text::kept_as_text;
