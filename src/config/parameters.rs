//! What do a StorageClass's parameters, a volume's context and its mutable parameters say of a volume in a root?
//!
//! `client` tells whether it is in one; `juicefs` reads those of the others.

use std::collections::{BTreeMap, HashMap};

use super::capacity::ABSURD_BYTES;
use super::field::{InvalidField, entry, plain_map, quoted};
use super::quantity::{thousandths, whole};
use crate::volume::{ClientKind, CpuMillis, FilesystemName, MemoryBytes, Resources};

/// The FUSE program that serves the volume.
pub const CLIENT: &str = "client";
/// The name of a `--hostdir-root`.
pub const ROOT: &str = "root";
/// Processor time of the mount pod.
pub const CPU_LIMIT: &str = "cpuLimit";
/// Memory of the mount pod.
pub const MEMORY_LIMIT: &str = "memoryLimit";

/// Less than 10 ms of each second: the client would not answer in time.
const CPU_MILLIS_MIN: u128 = 10;
/// More processors than a node has.
const CPU_MILLIS_MAX: u128 = 1_024_000;
/// The built-in client and its agent need about 12 MiB, and about 1 KiB more for each file that is known at a time: with
/// 16 MiB a volume of some thousand files was killed again and again.
const MEMORY_BYTES_MIN: u128 = 64 << 20;
/// More memory than a node has.
const MEMORY_BYTES_MAX: u128 = 64 << 40;

/// Keys that external-provisioner adds to the parameters with `--extra-create-metadata` (its `pkg/controller`), and
/// external-snapshotter to a snapshot's (its `pkg/utils`). They say who asked; nothing depends on them.
const SIDECAR_KEYS: &[&str] = &[
    "csi.storage.k8s.io/pvc/name",
    "csi.storage.k8s.io/pvc/namespace",
    "csi.storage.k8s.io/pv/name",
    "csi.storage.k8s.io/volumesnapshot/name",
    "csi.storage.k8s.io/volumesnapshot/namespace",
    "csi.storage.k8s.io/volumesnapshotcontent/name",
];

/// Keys that kubelet adds to the volume context with `podInfoOnMount` and `tokenRequests` (pkg/volume/csi), and that
/// external-provisioner writes into the PersistentVolume.
const KUBELET_KEYS: &[&str] = &[
    "csi.storage.k8s.io/pod.name",
    "csi.storage.k8s.io/pod.namespace",
    "csi.storage.k8s.io/pod.uid",
    "csi.storage.k8s.io/serviceAccount.name",
    "csi.storage.k8s.io/serviceAccount.tokens",
    "storage.kubernetes.io/csiProvisionerIdentity",
];

/// Size of an inline volume; other volumes have it from their claim.
pub const SIZE: &str = "size";

/// kubelet's mark of an inline volume.
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// What was said about a volume, typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VolumeParameters {
    /// The client, when it was named.
    pub client: Option<ClientKind>,
    /// The filesystem, when it was named; whether there is such a one is not known here.
    pub root: Option<FilesystemName>,
    /// Limits, where they were named.
    pub resources: Resources,
}

impl VolumeParameters {
    /// Reads `CreateVolumeRequest.parameters`; `field` is its name in errors.
    ///
    /// # Errors
    /// [`InvalidField`] with the first key, in alphabetical order, that is unknown or has a bad value.
    pub fn of_volume(field: &str, map: &HashMap<String, String>) -> Result<Self, InvalidField> {
        Self::read(field, &plain_map(field, map)?, SIDECAR_KEYS)
    }

    /// Reads `NodePublishVolumeRequest.volume_context`; `field` is its name in errors.
    ///
    /// # Errors
    /// As [`VolumeParameters::of_volume`], and for an inline volume.
    pub fn of_context(field: &str, map: &HashMap<String, String>) -> Result<Self, InvalidField> {
        let plain = persistent_context(field, map)?;
        Self::read(field, &plain_map(field, &plain)?, &[])
    }

    fn read(field: &str, map: &BTreeMap<&str, &str>, ignored_keys: &[&str]) -> Result<Self, InvalidField> {
        let mut parameters = Self::default();
        for (&key, &value) in map {
            let invalid = |why: &dyn ToString| InvalidField::new(entry(field, key), why.to_string());
            match key {
                CLIENT => parameters.client = Some(client(value).map_err(|why| invalid(&why))?),
                ROOT => parameters.root = Some(root(value).map_err(|why| invalid(&why))?),
                CPU_LIMIT => parameters.resources.cpu_limit = Some(cpu(value).map_err(|why| invalid(&why))?),
                MEMORY_LIMIT => {
                    parameters.resources.memory_limit = Some(memory(value).map_err(|why| invalid(&why))?);
                }
                _ if ignored_keys.contains(&key) => {}
                _ => return Err(invalid(&unknown_key(&[CLIENT, CPU_LIMIT, MEMORY_LIMIT, ROOT]))),
            }
        }
        Ok(parameters)
    }
}

/// What an inline volume's pod says of it, typed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct InlineParameters {
    /// What any volume has.
    pub volume: VolumeParameters,
    /// Bytes, when they were named.
    pub size_bytes: Option<u64>,
}

impl InlineParameters {
    /// Reads the `volume_context` of an inline volume; `field` is its name in errors.
    ///
    /// # Errors
    /// As [`VolumeParameters::of_volume`].
    pub fn of_context(field: &str, map: &HashMap<String, String>) -> Result<Self, InvalidField> {
        let mut plain = without_kubelet_keys(map);
        plain.remove(EPHEMERAL);
        let mut plain = plain_map(field, &plain)?;
        let size = plain.remove(SIZE).map(size).transpose();
        let size_bytes = size.map_err(|why| InvalidField::new(entry(field, SIZE), why))?;
        Ok(Self { volume: VolumeParameters::read(field, &plain, &[])?, size_bytes })
    }
}

/// Does a `volume_context` say that the volume is an inline one?
#[must_use]
pub fn is_inline(map: &HashMap<String, String>) -> bool {
    map.get(EPHEMERAL).is_some_and(|value| value == "true")
}

/// A `volume_context` without what kubelet adds to it; `field` is its name in errors.
///
/// # Errors
/// For an inline volume.
pub(super) fn persistent_context(
    field: &str,
    map: &HashMap<String, String>,
) -> Result<HashMap<String, String>, InvalidField> {
    let mut plain = without_kubelet_keys(map);
    match plain.remove(EPHEMERAL).as_deref() {
        None | Some("false") => Ok(plain),
        Some(_) => {
            let why = "must be absent or \"false\"; \"true\" marks an inline volume when it is published";
            Err(InvalidField::new(entry(field, EPHEMERAL), why))
        }
    }
}

/// Service account tokens make the map larger than the general limit, so only its known part is bounded.
fn without_kubelet_keys(map: &HashMap<String, String>) -> HashMap<String, String> {
    let mut plain = map.clone();
    plain.retain(|key, _| !KUBELET_KEYS.contains(&key.as_str()));
    plain
}

/// Reads mutable parameters: `cpuLimit` and `memoryLimit`; `field` is their name in errors.
///
/// # Errors
/// [`InvalidField`] with the first key that is unknown, can't be changed, or has a bad value.
pub fn mutable_parameters(field: &str, map: &HashMap<String, String>) -> Result<Resources, InvalidField> {
    let mut resources = Resources::default();
    for (key, value) in plain_map(field, map)? {
        let invalid = |why: String| InvalidField::new(entry(field, key), why);
        match key {
            CPU_LIMIT => resources.cpu_limit = Some(cpu(value).map_err(invalid)?),
            MEMORY_LIMIT => resources.memory_limit = Some(memory(value).map_err(invalid)?),
            CLIENT | ROOT => return Err(invalid("can't be changed after the volume was created".to_owned())),
            _ => return Err(invalid(unknown_key(&[CPU_LIMIT, MEMORY_LIMIT]))),
        }
    }
    Ok(resources)
}

/// Reads `CreateSnapshotRequest.parameters`: none are known but those that external-snapshotter adds.
///
/// # Errors
/// [`InvalidField`] with the first key that is unknown.
pub fn snapshot_parameters(field: &str, map: &HashMap<String, String>) -> Result<(), InvalidField> {
    for (key, _) in plain_map(field, map)? {
        if !SIDECAR_KEYS.contains(&key) {
            return Err(InvalidField::new(entry(field, key), "is unknown; a snapshot has no parameters"));
        }
    }
    Ok(())
}

/// The context of a volume in this root.
#[must_use]
pub fn root_context(root: &FilesystemName) -> BTreeMap<String, String> {
    let entries = [(CLIENT, ClientKind::Hostdir.as_str().to_owned()), (ROOT, root.to_string())];
    BTreeMap::from(entries.map(|(key, value)| (key.to_owned(), value)))
}

/// Limits of which `newer` says some anew.
#[must_use]
pub fn overlaid(older: Resources, newer: Resources) -> Resources {
    Resources {
        cpu_limit: newer.cpu_limit.or(older.cpu_limit),
        memory_limit: newer.memory_limit.or(older.memory_limit),
    }
}

/// Volumes of other clients have parameters of their own (`client::client_of` tells them apart).
fn client(value: &str) -> Result<ClientKind, String> {
    let hostdir = ClientKind::Hostdir;
    if value == hostdir.as_str() {
        return Ok(hostdir);
    }
    Err(format!(
        "is {}, but these are the parameters of the client {}, which alone has inline volumes; for another one use \
         ephemeral.volumeClaimTemplate",
        quoted(value),
        hostdir.as_str()
    ))
}

fn root(value: &str) -> Result<FilesystemName, String> {
    value.parse().map_err(|why| format!("is {}, but the name of a --hostdir-root {why}", quoted(value)))
}

pub(super) fn cpu(value: &str) -> Result<CpuMillis, String> {
    let millis = thousandths(value).map_err(|why| format!("is {}, {why}", quoted(value)))?;
    within(value, millis, CPU_MILLIS_MIN..=CPU_MILLIS_MAX, "10m", "1024").map(CpuMillis)
}

pub(super) fn memory(value: &str) -> Result<MemoryBytes, String> {
    let bytes = whole(value).map_err(|why| format!("is {}, {why}", quoted(value)))?;
    within(value, bytes, MEMORY_BYTES_MIN..=MEMORY_BYTES_MAX, "64Mi", "64Ti").map(MemoryBytes)
}

fn size(value: &str) -> Result<u64, String> {
    let bytes = whole(value).map_err(|why| format!("is {}, {why}", quoted(value)))?;
    within(value, bytes, 1..=u128::from(ABSURD_BYTES), "1", "1Ei")
}

pub(super) fn within(
    value: &str,
    amount: u128,
    range: std::ops::RangeInclusive<u128>,
    least: &str,
    most: &str,
) -> Result<u64, String> {
    let refused = || format!("is {}, must be between {least} and {most}", quoted(value));
    if !range.contains(&amount) {
        return Err(refused());
    }
    u64::try_from(amount).map_err(|_| refused())
}

fn unknown_key(known: &[&str]) -> String {
    format!("is unknown; known keys are: {}", known.join(", "))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn every_known_key_becomes_its_type() {
        let said = map(&[
            ("client", "hostdir"),
            ("root", "main"),
            ("cpuLimit", "500m"),
            ("memoryLimit", "256Mi"),
            ("csi.storage.k8s.io/pvc/name", "data"),
        ]);
        let parameters = VolumeParameters::of_volume("parameters", &said).unwrap();
        assert_eq!(parameters.client, Some(ClientKind::Hostdir));
        assert_eq!(parameters.root.unwrap().as_str(), "main");
        assert_eq!(parameters.resources.cpu_limit, Some(CpuMillis(500)));
        assert_eq!(parameters.resources.memory_limit, Some(MemoryBytes(256 << 20)));
        assert_eq!(
            VolumeParameters::of_volume("parameters", &map(&[])).unwrap(),
            VolumeParameters::default()
        );
    }

    #[test]
    fn a_bad_entry_is_named() {
        let cases = [
            ("Root", "main"),
            ("root", "../etc"),
            ("root", ""),
            ("root", "/srv"),
            ("client", "juicefs2"),
            ("cpuLimit", "-1"),
            ("cpuLimit", "1m"),
            ("cpuLimit", "9999999"),
            ("memoryLimit", "1"),
            ("memoryLimit", "1Ei"),
            ("memoryLimit", "much"),
            ("hostPath", "/"),
            ("csi.storage.k8s.io/ephemeral", "true"),
        ];
        for (key, value) in cases {
            let want = format!("parameters[{key:?}]");
            let error = VolumeParameters::of_volume("parameters", &map(&[(key, value)])).unwrap_err();
            assert_eq!(error.field, want, "{value}");
        }
    }

    #[test]
    fn a_context_may_hold_what_kubelet_adds_but_no_inline_volume() {
        let token = "x".repeat(8000);
        let said = map(&[
            ("csi.storage.k8s.io/pod.name", "p"),
            ("csi.storage.k8s.io/serviceAccount.tokens", &token),
            ("csi.storage.k8s.io/ephemeral", "false"),
            ("root", "main"),
        ]);
        assert!(VolumeParameters::of_context("volume_context", &said).is_ok());
        let inline = map(&[("csi.storage.k8s.io/ephemeral", "true")]);
        let error = VolumeParameters::of_context("volume_context", &inline).unwrap_err();
        assert_eq!(error.field, "volume_context[\"csi.storage.k8s.io/ephemeral\"]");
    }

    #[test]
    fn an_inline_volume_has_a_size_and_what_any_volume_has() {
        let inline = ("csi.storage.k8s.io/ephemeral", "true");
        let said =
            map(&[inline, ("csi.storage.k8s.io/pod.uid", "u"), ("size", "2Gi"), ("memoryLimit", "1Gi")]);
        assert!(is_inline(&said));
        let parameters = InlineParameters::of_context("volume_context", &said).unwrap();
        assert_eq!(parameters.size_bytes, Some(2 << 30));
        assert_eq!(parameters.volume.resources.memory_limit, Some(MemoryBytes(1 << 30)));
        assert_eq!(InlineParameters::of_context("c", &map(&[inline])).unwrap(), InlineParameters::default());
        for (key, value) in
            [("size", "0"), ("size", "much"), ("size", "2Ei"), ("root", "/srv"), ("path", "/")]
        {
            let error = InlineParameters::of_context("volume_context", &map(&[inline, (key, value)]));
            assert_eq!(error.unwrap_err().field, format!("volume_context[{key:?}]"), "{value}");
        }
        let sized = VolumeParameters::of_context("volume_context", &map(&[("size", "1Gi")])).unwrap_err();
        assert_eq!(sized.field, "volume_context[\"size\"]");
    }

    #[test]
    fn only_limits_are_mutable() {
        let limits = mutable_parameters("mutable_parameters", &map(&[("memoryLimit", "1Gi")])).unwrap();
        assert_eq!(limits.memory_limit, Some(MemoryBytes(1 << 30)));
        for key in ["root", "client", "XXX_FakeKey"] {
            let error = mutable_parameters("mutable_parameters", &map(&[(key, "main")])).unwrap_err();
            assert_eq!(error.field, format!("mutable_parameters[{key:?}]"));
        }
    }

    #[test]
    fn newer_limits_win_where_they_are_named() {
        let older = Resources { cpu_limit: Some(CpuMillis(1)), memory_limit: Some(MemoryBytes(1)) };
        let newer = Resources { cpu_limit: None, memory_limit: Some(MemoryBytes(2)) };
        let both = Resources { cpu_limit: Some(CpuMillis(1)), memory_limit: Some(MemoryBytes(2)) };
        assert_eq!(overlaid(older, newer), both);
    }
}
