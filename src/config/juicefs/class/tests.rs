//! Does a StorageClass of either spelling become the same values, or an error that names its key?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::time::Duration;

use super::*;
use crate::config::juicefs::{Cache, CacheSize};
use crate::volume::{CpuMillis, MemoryBytes};

type Entries = &'static [(&'static str, &'static str)];
type Flags = &'static [&'static str];

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn read(entries: &[(&str, &str)]) -> Result<ClassParameters, InvalidField> {
    ClassParameters::of_map("parameters", &map(entries))
}

fn settings(entries: &[(&str, &str)], flags: &[&str]) -> Result<ClientSettings, InvalidField> {
    let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    read(entries).unwrap().settings("parameters", "mount_flags", &flags)
}

#[test]
fn a_class_of_the_juicefs_csi_driver_says_what_a_neutral_one_says() {
    let theirs = settings(
        &[
            ("juicefs/mount-cpu-limit", "5000m"),
            ("juicefs/mount-memory-limit", "5Gi"),
            ("juicefs/mount-cpu-request", "100m"),
            ("juicefs/mount-memory-request", "500Mi"),
            ("juicefs/mount-cache-emptydir", "Memory:1Gi"),
            ("juicefs/mount-delete-delay", "1m"),
            ("mountOptions", "writeback"),
        ],
        &["cache-size=1024"],
    )
    .unwrap();
    let ours = settings(
        &[
            ("client", "juicefs"),
            ("cpuLimit", "5"),
            ("memoryLimit", "5Gi"),
            ("cpuRequest", "0.1"),
            ("memoryRequest", "500Mi"),
            ("cacheMedium", "memory"),
            ("cacheSize", "1Gi"),
            ("deleteDelay", "60s"),
        ],
        &["writeback", "cache-size=1024"],
    )
    .unwrap();
    assert_eq!(theirs, ours);
    assert_eq!(ours.resources.limits.cpu_limit, Some(CpuMillis(5000)));
    assert_eq!(ours.resources.requests.memory, Some(MemoryBytes(500 << 20)));
    assert_eq!(ours.cache, Cache::Memory { size: Some(CacheSize(1 << 30)) });
    assert_eq!(ours.delete_delay, Some(Duration::from_secs(60)));
    assert_eq!(ours.options.get("cache-size").map(String::as_str), Some("1024"));
}

#[test]
fn the_rest_of_a_class_becomes_typed() {
    let class = read(&[
        ("pathPattern", "${.pvc.namespace}/${.pvc.name}"),
        ("sharing", "filesystem"),
        ("inodes", "1000000"),
        ("filesystem", "main"),
        ("csi.storage.k8s.io/pvc/name", "data"),
        ("csi.storage.k8s.io/pvc/namespace", "shop"),
        ("csi.storage.k8s.io/pv/name", "pvc-1"),
        ("juicefs/clean-cache", "true"),
    ])
    .unwrap();
    let none = BTreeMap::new();
    let path = class.path_pattern.as_ref().unwrap().render(&class.claim.with_metadata(&none, &none)).unwrap();
    assert_eq!(path.as_str(), "shop/data");
    assert_eq!(class.share, Share::Filesystem);
    assert_eq!(class.inodes, Some(1_000_000));
    assert_eq!(class.filesystem.as_ref().unwrap().as_str(), "main");
    let warnings: Vec<_> = class.ignored.iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), 1);
    assert!(warnings[0].starts_with("parameters[\"juicefs/clean-cache\"] changes nothing"), "{warnings:?}");
}

#[test]
fn nothing_said_is_a_volume_of_its_own_with_the_drivers_defaults() {
    let class = read(&[]).unwrap();
    assert_eq!((class.share.clone(), class.path_pattern.clone()), (Share::Volume, None));
    let settings = class.settings("parameters", "mount_flags", &[]).unwrap();
    assert_eq!(settings.cache, Cache::Disk { size: Some(CacheSize(10 << 30)) });
    assert_eq!(settings.delete_delay, None);
}

#[test]
fn a_bad_entry_is_named() {
    let cases = [
        ("cpulimit", "1"),
        ("client", "hostdir"),
        ("root", "main"),
        ("path", "a"),
        ("subPath", "a"),
        ("shareGroup", "00000000000000000000000000000000"),
        ("pathPattern", "../${.pvc.name}"),
        ("pathPattern", "${.node.name}"),
        ("sharing", "everything"),
        ("inodes", "0"),
        ("cpuLimit", "-1"),
        ("memoryLimit", "1Mi"),
        ("cacheMedium", "Memory"),
        ("cacheSize", "1"),
        ("cacheStorageClass", "Fast Disks"),
        ("juicefs/mount-cache-emptydir", "HugePages:1Gi"),
        ("juicefs/mount-cache-pvc", "cache"),
        ("juicefs/mount-cache-inline-volume", "[]"),
        ("juicefs/mount-image", "juicedata/mount:ce-v1.2.0"),
        ("juicefs/mount-service-account", "admin"),
        ("juicefs/mount-labels", "{}"),
        ("juicefs/mount-annotations", "{}"),
        ("juicefs/host-path", "etc/shadow"),
        ("hostDirectories", "/srv/a,"),
        ("cacheDirectory", "/srv/../a"),
        ("juicefs/mount-cpu-limits", "1"),
        ("mountOptions", "suid"),
        ("mountOptions", "subdir=a"),
        ("filesystem", "../etc"),
        ("deleteDelay", "soon"),
        ("capacity", "1"),
    ];
    for (key, value) in cases {
        let error = read(&[(key, value)]).unwrap_err();
        assert_eq!(error.field, format!("parameters[{key:?}]"), "{value}");
    }
}

#[test]
fn two_spellings_may_agree_but_not_contradict_each_other() {
    assert!(read(&[("cpuLimit", "1"), ("juicefs/mount-cpu-limit", "1000m")]).is_ok());
    let cases = [
        [("cpuLimit", "1"), ("juicefs/mount-cpu-limit", "2")],
        [("memoryRequest", "1Gi"), ("juicefs/mount-memory-request", "0")],
        [("deleteDelay", "1m"), ("juicefs/mount-delete-delay", "61s")],
        [("cacheMedium", "disk"), ("juicefs/mount-cache-emptydir", "Memory:1Gi")],
        [("cacheSize", "2Gi"), ("juicefs/mount-cache-emptydir", ":1Gi")],
    ];
    for case in cases {
        let error = read(&case).unwrap_err().to_string();
        for (key, _) in case {
            assert!(error.contains(&format!("parameters[{key:?}]")), "{error}");
        }
    }
}

#[test]
fn settings_that_can_not_work_together_are_refused() {
    let cases: &[(Entries, Flags, &str)] = &[
        (&[("cacheMedium", "claim")], &[], "cacheSize"),
        (&[("cacheMedium", "memory")], &[], "cacheSize"),
        (&[], &["cache-dir=memory"], "cacheSize"),
        (&[("cacheStorageClass", "fast"), ("cacheSize", "1Gi")], &[], "cacheStorageClass"),
        (&[("cacheMedium", "memory"), ("cacheSize", "1Gi"), ("memoryLimit", "1Gi")], &[], "cacheSize"),
        (&[("cacheMedium", "disk")], &["cache-dir=memory", "cache-size=100"], "cacheMedium"),
    ];
    for (entries, flags, key) in cases {
        let error = settings(entries, flags).unwrap_err();
        assert_eq!(error.field, format!("parameters[{key:?}]"), "{error}");
    }
    for request in [("cpuRequest", "2", "cpuLimit", "1"), ("memoryRequest", "2Gi", "memoryLimit", "1Gi")] {
        let error = read(&[(request.0, request.1), (request.2, request.3)]).unwrap_err();
        assert_eq!(error.field, format!("parameters[{:?}]", request.0));
    }
    assert_eq!(
        settings(&[], &["cache-dir=memory", "cache-size=100"]).unwrap().cache,
        Cache::Memory { size: None }
    );
}

#[test]
fn mount_flags_and_parameters_may_not_contradict_each_other() {
    let entries = [("mountOptions", "cache-size=1,ro")];
    assert!(settings(&entries, &["cache-size=1"]).is_ok());
    assert_eq!(settings(&entries, &["cache-size=2"]).unwrap_err().field, "mount_flags[0]");
    assert_eq!(settings(&entries, &["noexec", "rw"]).unwrap_err().field, "mount_flags[1]");
    assert_eq!(settings(&entries, &["subdir=a"]).unwrap_err().field, "mount_flags");
}

#[test]
fn a_cache_becomes_options_of_the_client() {
    let cases: &[(Entries, Flags, &str, Option<&str>)] = &[
        (&[], &[], "/cache", Some("8192")),
        (&[], &["cache-size=7"], "/cache", Some("7")),
        (&[("cacheSize", "1000Mi")], &[], "/cache", Some("800")),
        (&[("cacheSize", "1000Mi")], &["cache-size=7"], "/cache", Some("7")),
        (&[("cacheMedium", "claim"), ("cacheSize", "100Gi")], &[], "/cache", Some("81920")),
        (&[("cacheMedium", "memory"), ("cacheSize", "100Mi")], &[], "memory", Some("100")),
        (&[], &["cache-dir=memory", "cache-size=7"], "memory", Some("7")),
    ];
    for (entries, flags, place, size) in cases {
        let options = settings(entries, flags).unwrap().client_options("/cache");
        assert_eq!(options.get("cache-dir").map(String::as_str), Some(*place), "{entries:?}");
        assert_eq!(options.get("cache-size").map(String::as_str), *size, "{entries:?}");
    }
}
