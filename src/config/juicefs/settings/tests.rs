//! Does a cache become what its client and its pod need?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::HashMap;

use super::*;
use crate::config::juicefs::ClassParameters;

fn settings(entries: &[(&str, &str)]) -> ClientSettings {
    let map: HashMap<_, _> =
        entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    ClassParameters::of_map("parameters", &map).unwrap().settings("parameters", "mount_flags", &[]).unwrap()
}

fn of(entries: &[(&str, &str)]) -> (Option<String>, Option<String>, CacheVolume) {
    let settings = settings(entries);
    let mut options = settings.client_options("/cache");
    (options.remove(CACHE_DIRECTORY), options.remove(CACHE_SIZE_OPTION), settings.pod_shape().cache)
}

#[test]
fn every_cache_has_a_place_and_a_limit() {
    let text = |text: &str| Some(text.to_owned());
    let disk = |bytes| CacheVolume::Disk { bytes };
    let claim = CacheVolume::Claim { bytes: 5 << 30, storage_class: Some("fast".to_owned()) };
    let in_claim = [("cacheMedium", "claim"), ("cacheSize", "5Gi"), ("cacheStorageClass", "fast")];
    assert_eq!(of(&[]), (text("/cache"), text("8192"), disk(Some(10 << 30))));
    assert_eq!(of(&[("cacheSize", "1Gi")]), (text("/cache"), text("819"), disk(Some(1 << 30))));
    assert_eq!(of(&[("mountOptions", "cache-size=2048")]), (text("/cache"), text("2048"), disk(None)));
    assert_eq!(of(&in_claim), (text("/cache"), text("4096"), claim));
    let in_memory = [("cacheMedium", "memory"), ("cacheSize", "256Mi")];
    assert_eq!(of(&in_memory), (text("memory"), text("256"), CacheVolume::None));
}

#[test]
fn a_cache_in_memory_is_asked_for_unless_more_was_said() {
    let in_memory = [("cacheMedium", "memory"), ("cacheSize", "256Mi")];
    let request = |more: &[(&str, &str)]| settings(&[&in_memory, more].concat()).pod_shape().requests.memory;
    assert_eq!(request(&[]), Some(MemoryBytes(320 << 20)));
    assert_eq!(request(&[("memoryRequest", "100Mi")]), Some(MemoryBytes(100 << 20)));
    assert_eq!(request(&[("memoryLimit", "1Gi")]), None);
}

#[test]
fn a_cache_in_a_directory_of_the_node_is_no_volume_of_the_pod() {
    let of_node = |size: &str, more: &[(&str, &str)]| {
        let entries = [&[("cacheMedium", "node"), ("cacheDirectory", "/srv/b:/srv/a")], more].concat();
        assert_eq!(
            of(&entries),
            (Some("/srv/b:/srv/a".to_owned()), Some(size.to_owned()), CacheVolume::None)
        );
    };
    of_node("10240", &[]);
    of_node("1024", &[("cacheSize", "1Gi")]);
    of_node("77", &[("mountOptions", "cache-size=77")]);
    of_node("10240", &[("mountOptions", "cache-dir=/srv/b:/srv/a")]);
    let directories = |entries: &[(&str, &str)]| -> Vec<_> {
        settings(entries).pod_shape().host_directories.iter().map(ToString::to_string).collect()
    };
    assert_eq!(directories(&[("mountOptions", "cache-dir=/srv/b")]), ["/srv/b"]);
    assert_eq!(
        directories(&[("mountOptions", "cache-dir=/srv/b"), ("juicefs/host-path", "/srv/b,/srv/a")]),
        ["/srv/a", "/srv/b"]
    );
    assert_eq!(directories(&[]), [""; 0]);
}

#[test]
fn a_directory_is_asked_for_by_the_field_that_names_it() {
    let fields = |entries: &[(&str, &str)], flags: &[&str]| -> Vec<_> {
        let map: HashMap<_, _> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let flags: Vec<_> = flags.iter().map(|&flag| flag.to_owned()).collect();
        let class = ClassParameters::of_map("parameters", &map).unwrap();
        let settings = class.settings("parameters", "mount_flags", &flags).unwrap();
        settings.host_directories.into_iter().map(|asked| asked.field).collect()
    };
    let node = ("cacheMedium", "node");
    assert_eq!(fields(&[], &["cache-dir=/a"]), ["mount_flags"]);
    assert_eq!(fields(&[("mountOptions", "cache-dir=/a")], &[]), ["parameters[\"mountOptions\"]"]);
    assert_eq!(fields(&[node, ("cacheDirectory", "/a")], &[]), ["parameters[\"cacheDirectory\"]"]);
    assert_eq!(fields(&[("juicefs/host-path", "/a")], &[]), ["parameters[\"hostDirectories\"]"]);
}

#[test]
fn a_directory_and_a_medium_that_do_not_fit_are_refused() {
    let refused = |entries: &[(&str, &str)]| {
        let map: HashMap<_, _> =
            entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let class = ClassParameters::of_map("parameters", &map).unwrap();
        class.settings("parameters", "mount_flags", &[]).unwrap_err().field
    };
    let (directory, node) = (("cacheDirectory", "/a"), ("cacheMedium", "node"));
    for entries in [
        &[directory][..],
        &[directory, ("cacheMedium", "disk")],
        &[node],
        &[node, directory, ("mountOptions", "cache-dir=/b")],
    ] {
        assert_eq!(refused(entries), "parameters[\"cacheDirectory\"]", "{entries:?}");
    }
    assert_eq!(refused(&[node, ("mountOptions", "cache-dir=memory")]), "parameters[\"cacheMedium\"]");
}
