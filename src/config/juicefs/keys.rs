//! Which keys are known, and what becomes of each?

use super::near::nearest;
use crate::config::field::quoted;

/// Who gave the key its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// This driver: a name that says nothing of a client.
    Ours,
    /// The JuiceFS CSI driver (its `pkg/common`, `pkg/driver`).
    JuicefsCsi,
    /// Both give it the same name and meaning.
    Both,
    /// Kubernetes and its sidecars.
    Kubernetes,
}

/// Where a key was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// `StorageClass.parameters`.
    Class,
    /// `volumeAttributes` of a PersistentVolume: the volume context.
    Volume,
}

/// What becomes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// It says this.
    Taken(Setting),
    /// It does nothing; the reason is the rest of a sentence that begins with the key.
    Ignored(&'static str),
    /// It can't be honoured; the reason likewise.
    Refused(&'static str),
}

/// What a key can say. Keys with the same setting are spellings of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Setting {
    Client,
    Filesystem,
    Path,
    PathPattern,
    Sharing,
    ShareGroup,
    Options,
    CpuLimit,
    MemoryLimit,
    CpuRequest,
    MemoryRequest,
    CacheMedium,
    CacheSize,
    CacheStorageClass,
    CacheEmptyDir,
    CacheDirectory,
    HostDirectories,
    DeleteDelay,
    Inodes,
    ClaimName,
    ClaimNamespace,
    VolumeName,
}

/// One known key.
pub(super) struct Key {
    pub(super) name: &'static str,
    pub(super) origin: Origin,
    class: Fate,
    volume: Fate,
}

impl Key {
    pub(super) fn fate(&self, place: Place) -> Fate {
        match place {
            Place::Class => self.class,
            Place::Volume => self.volume,
        }
    }
}

use Fate::{Ignored, Refused, Taken};
use Origin::{Both, JuicefsCsi, Kubernetes, Ours};

const ADMINISTRATOR: &str = "would change the mount pod itself, of which the administrator decides";
const OF_NEW_VOLUMES: &str = "is for new volumes and stands in a StorageClass";
const PATTERN_DECIDES: &str = "is for volumes that exist already; a StorageClass has pathPattern";
const PATTERN_DONE: &str = "was used when the volume was made; its result is the volume's path";
const GROUP_COMPUTED: &str = "is computed from the parameters, not given";
const CACHE_OF_OTHERS: &str = "is not offered; say cacheMedium \"claim\", cacheSize and cacheStorageClass";
const CACHE_ENDS: &str =
    "changes nothing: a cache ends with its mount pod; one in a directory of the node stays";
const SECRET_KEPT: &str = "changes nothing: a Secret that is in use is not marked";
const SIZE_OF_PV: &str = "changes nothing: the size is that of the PersistentVolume";
const QUOTA_SET: &str = "changes nothing: the quota is set before a volume is there";
const SECRET_REFERENCE: &str =
    "changes nothing: the sidecars and the PersistentVolume's references name the Secret";
const FS_TYPE: &str = "changes nothing: the client decides the type";
const OF_NO_CLASS: &str = "stands in PersistentVolumes of the JuiceFS CSI driver only";
const OF_HOSTDIR: &str = "names a root of the client hostdir; a JuiceFS filesystem is named by its Secret";

const fn same(name: &'static str, origin: Origin, fate: Fate) -> Key {
    Key { name, origin, class: fate, volume: fate }
}

const fn apart(name: &'static str, origin: Origin, class: Fate, volume: Fate) -> Key {
    Key { name, origin, class, volume }
}

/// Every known key. The tables of docs/migrate-from-juicefs-csi.md say the same; a test compares them.
pub(super) const KEYS: &[Key] = &[
    same("client", Ours, Taken(Setting::Client)),
    same("filesystem", Ours, Taken(Setting::Filesystem)),
    apart("path", Ours, Refused(PATTERN_DECIDES), Taken(Setting::Path)),
    apart("subPath", JuicefsCsi, Refused(PATTERN_DECIDES), Taken(Setting::Path)),
    apart("pathPattern", Both, Taken(Setting::PathPattern), Ignored(PATTERN_DONE)),
    same("sharing", Ours, Taken(Setting::Sharing)),
    apart("shareGroup", Ours, Refused(GROUP_COMPUTED), Taken(Setting::ShareGroup)),
    same("mountOptions", Both, Taken(Setting::Options)),
    same("cpuLimit", Ours, Taken(Setting::CpuLimit)),
    same("juicefs/mount-cpu-limit", JuicefsCsi, Taken(Setting::CpuLimit)),
    same("memoryLimit", Ours, Taken(Setting::MemoryLimit)),
    same("juicefs/mount-memory-limit", JuicefsCsi, Taken(Setting::MemoryLimit)),
    same("cpuRequest", Ours, Taken(Setting::CpuRequest)),
    same("juicefs/mount-cpu-request", JuicefsCsi, Taken(Setting::CpuRequest)),
    same("memoryRequest", Ours, Taken(Setting::MemoryRequest)),
    same("juicefs/mount-memory-request", JuicefsCsi, Taken(Setting::MemoryRequest)),
    same("cacheMedium", Ours, Taken(Setting::CacheMedium)),
    same("cacheSize", Ours, Taken(Setting::CacheSize)),
    same("cacheStorageClass", Ours, Taken(Setting::CacheStorageClass)),
    same("cacheDirectory", Ours, Taken(Setting::CacheDirectory)),
    same("juicefs/mount-cache-emptydir", JuicefsCsi, Taken(Setting::CacheEmptyDir)),
    same("juicefs/mount-cache-pvc", JuicefsCsi, Refused(CACHE_OF_OTHERS)),
    same("juicefs/mount-cache-inline-volume", JuicefsCsi, Refused(CACHE_OF_OTHERS)),
    same("juicefs/clean-cache", JuicefsCsi, Ignored(CACHE_ENDS)),
    same("deleteDelay", Ours, Taken(Setting::DeleteDelay)),
    same("juicefs/mount-delete-delay", JuicefsCsi, Taken(Setting::DeleteDelay)),
    apart("inodes", Ours, Taken(Setting::Inodes), Refused(OF_NEW_VOLUMES)),
    same("juicefs/mount-image", JuicefsCsi, Refused(ADMINISTRATOR)),
    same("juicefs/mount-service-account", JuicefsCsi, Refused(ADMINISTRATOR)),
    same("juicefs/mount-labels", JuicefsCsi, Refused(ADMINISTRATOR)),
    same("juicefs/mount-annotations", JuicefsCsi, Refused(ADMINISTRATOR)),
    same("hostDirectories", Ours, Taken(Setting::HostDirectories)),
    same("juicefs/host-path", JuicefsCsi, Taken(Setting::HostDirectories)),
    same("secretFinalizer", JuicefsCsi, Ignored(SECRET_KEPT)),
    apart("capacity", JuicefsCsi, Refused(OF_NO_CLASS), Ignored(SIZE_OF_PV)),
    apart("juicefs/controller-quota-set", JuicefsCsi, Refused(OF_NO_CLASS), Ignored(QUOTA_SET)),
    same("root", Ours, Refused(OF_HOSTDIR)),
    apart("csi.storage.k8s.io/pvc/name", Kubernetes, Taken(Setting::ClaimName), Ignored(PATTERN_DONE)),
    apart(
        "csi.storage.k8s.io/pvc/namespace",
        Kubernetes,
        Taken(Setting::ClaimNamespace),
        Ignored(PATTERN_DONE),
    ),
    apart("csi.storage.k8s.io/pv/name", Kubernetes, Taken(Setting::VolumeName), Ignored(PATTERN_DONE)),
    same("csi.storage.k8s.io/provisioner-secret-name", Kubernetes, Ignored(SECRET_REFERENCE)),
    same("csi.storage.k8s.io/provisioner-secret-namespace", Kubernetes, Ignored(SECRET_REFERENCE)),
    same("csi.storage.k8s.io/node-publish-secret-name", Kubernetes, Ignored(SECRET_REFERENCE)),
    same("csi.storage.k8s.io/node-publish-secret-namespace", Kubernetes, Ignored(SECRET_REFERENCE)),
    same("csi.storage.k8s.io/controller-expand-secret-name", Kubernetes, Ignored(SECRET_REFERENCE)),
    same("csi.storage.k8s.io/controller-expand-secret-namespace", Kubernetes, Ignored(SECRET_REFERENCE)),
    same("csi.storage.k8s.io/fstype", Kubernetes, Ignored(FS_TYPE)),
];

/// The key of this name.
pub(super) fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What to say of an unknown key in this place, as the rest of a sentence that begins with it.
pub(super) fn unknown(name: &str, place: Place) -> String {
    let taken = |key: &&Key| matches!(key.fate(place), Taken(_)) && key.origin != Kubernetes;
    let taken = || KEYS.iter().filter(taken);
    if let Some(meant) = nearest(name, taken().map(|key| key.name)) {
        return format!("is unknown; did you mean {}?", quoted(meant));
    }
    let mut ours: Vec<_> = taken().filter(|key| key.origin != JuicefsCsi).map(|key| key.name).collect();
    ours.sort_unstable();
    format!("is unknown; known keys are: {}, and those of the JuiceFS CSI driver", ours.join(", "))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn each_key_stands_in_the_table_once() {
        let names: BTreeSet<_> = KEYS.iter().map(|key| key.name).collect();
        assert_eq!(names.len(), KEYS.len());
    }

    #[test]
    fn every_taken_key_of_juicefs_has_a_neutral_one_beside_it() {
        for place in [Place::Class, Place::Volume] {
            let neutral = |setting| {
                KEYS.iter().any(|key| matches!(key.origin, Ours | Both) && key.fate(place) == Taken(setting))
            };
            for key in KEYS.iter().filter(|key| key.origin == JuicefsCsi) {
                match key.fate(place) {
                    // Two neutral keys say what this one says.
                    Taken(Setting::CacheEmptyDir) => {
                        assert!(neutral(Setting::CacheMedium) && neutral(Setting::CacheSize));
                    }
                    Taken(setting) => assert!(neutral(setting), "{} has no neutral name", key.name),
                    Ignored(why) | Refused(why) => assert!(!why.is_empty()),
                }
            }
        }
    }

    #[test]
    fn an_unknown_key_is_answered_with_the_one_that_was_meant_or_all() {
        assert!(unknown("cpulimit", Place::Class).contains("\"cpuLimit\""));
        assert!(unknown("juicefs/mount-cpu-limits", Place::Volume).contains("\"juicefs/mount-cpu-limit\""));
        let all = unknown("zzz", Place::Class);
        assert!(all.contains("cacheMedium, cacheSize") && !all.contains("juicefs/"), "{all}");
        assert!(!all.contains("path,") && unknown("zzz", Place::Volume).contains(" path,"), "{all}");
    }
}
