//! What do a StorageClass, a volume's context, a static PersistentVolume and mount options say of a JuiceFS volume?
//!
//! Our neutral names and those of the JuiceFS CSI driver stand in one table, `keys`. Nothing here does I/O: labels and
//! annotations of a claim are given by the caller, and whether the client knows an option is asked of the client.

mod class;
mod context;
mod fixed;
mod keys;
mod near;
mod options;
mod path;
mod pattern;
mod published;
mod reading;
mod settings;
mod share;
mod special_options;
mod text;
mod values;

#[cfg(test)]
mod document_tests;

pub use class::{ClaimFacts, ClassParameters};
pub use context::VolumeContext;
pub use options::{CachePlace, MountOptions};
pub use path::{InvalidPath, VolumePath};
pub use pattern::{InvalidPattern, PathFacts, PathPattern, Unrenderable, Variable};
pub use published::{Published, PublishedVolume};
pub use reading::IgnoredKey;
pub use settings::{Cache, ClientSettings, PodResources, PodSettings};
pub use share::{Share, ShareGroup};
pub use special_options::MountAttributes;
pub use values::{CacheMedium, CacheSize, Sharing};

/// What the parameter `client` says for these volumes.
pub const CLIENT_NAME: &str = "juicefs";
