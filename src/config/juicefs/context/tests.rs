//! Does a context come back as it was written, and nothing else through?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::config::juicefs::ClassParameters;

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn context(entries: &[(&str, &str)]) -> VolumeContext {
    let class = ClassParameters::of_map("parameters", &map(entries)).unwrap();
    class.context("main".parse().unwrap(), "shop/data".parse().unwrap())
}

fn written(context: &VolumeContext) -> HashMap<String, String> {
    context.to_map().into_iter().collect()
}

#[test]
fn what_was_written_is_read_again() {
    let cases: &[&[(&str, &str)]] = &[
        &[],
        &[("sharing", "filesystem")],
        &[("sharing", "storageclass"), ("cpuLimit", "1.5"), ("juicefs/mount-memory-limit", "1Gi")],
        &[("cpuRequest", "1m"), ("memoryRequest", "4Mi"), ("cpuLimit", "0"), ("deleteDelay", "1m0.5s")],
        &[("cacheMedium", "claim"), ("cacheSize", "10Gi"), ("cacheStorageClass", "fast")],
        &[
            ("cacheMedium", "node"),
            ("cacheDirectory", "/srv/a:/srv/b"),
            ("juicefs/host-path", "/srv/c, /srv/d"),
        ],
        &[("mountOptions", "cache-dir=/srv/a"), ("hostDirectories", "/srv/a")],
        &[("juicefs/mount-cache-emptydir", ":10Gi"), ("pathPattern", "a/${.pv.name}"), ("inodes", "10")],
        &[("mountOptions", r#"ro,noexec,cache-dir=memory,tag="a,b=\"c\"",writeback"#), ("cacheSize", "64Mi")],
    ];
    for entries in cases {
        let context = context(entries);
        let mut map = written(&context);
        assert_eq!(VolumeContext::of_map("volume_context", &map).unwrap(), context, "{entries:?}");
        // kubelet and external-provisioner add theirs.
        map.insert("csi.storage.k8s.io/pod.name".to_owned(), "p".to_owned());
        map.insert("csi.storage.k8s.io/ephemeral".to_owned(), "false".to_owned());
        map.insert(
            "storage.kubernetes.io/csiProvisionerIdentity".to_owned(),
            "1-2-csi.mountpod.dev".to_owned(),
        );
        assert_eq!(VolumeContext::of_map("volume_context", &map).unwrap(), context, "{entries:?}");
        assert!(map.keys().all(|key| !key.starts_with("juicefs/")), "{map:?}");
    }
}

#[test]
fn a_context_without_what_it_needs_is_refused_by_name() {
    let whole = written(&context(&[("sharing", "storageclass")]));
    for key in ["client", "filesystem", "path", "sharing", "shareGroup"] {
        let mut map = whole.clone();
        assert!(map.remove(key).is_some(), "{key}");
        let error = VolumeContext::of_map("volume_context", &map).unwrap_err();
        assert_eq!(error.field, format!("volume_context[{key:?}]"));
    }
    let bad = [
        ("client", "hostdir"),
        ("path", "../other"),
        ("path", "/"),
        ("filesystem", "a/b"),
        ("sharing", "volume"),
        ("inodes", "5"),
        ("stray", "x"),
        ("csi.storage.k8s.io/ephemeral", "true"),
    ];
    for (key, value) in bad {
        let mut map = whole.clone();
        map.insert(key.to_owned(), value.to_owned());
        let error = VolumeContext::of_map("volume_context", &map).unwrap_err();
        let named = if key == "sharing" { "shareGroup" } else { key };
        assert_eq!(error.field, format!("volume_context[{named:?}]"), "{value}");
    }
}

#[test]
fn a_publish_adds_its_flags() {
    let context = context(&[("mountOptions", "writeback,cache-size=1")]);
    let settings =
        context.settings("volume_context", "mount_flags", &["ro".to_owned(), "prefetch=3".to_owned()]);
    let names: Vec<_> = settings.unwrap().options.into_keys().collect();
    assert_eq!(names, ["cache-size", "prefetch", "writeback"]);
    let error = context.settings("volume_context", "mount_flags", &["cache-size=2".to_owned()]).unwrap_err();
    assert_eq!(error.field, "mount_flags[0]");
    let error = context.settings("volume_context", "mount_flags", &["subdir=x".to_owned()]).unwrap_err();
    assert_eq!(error.field, "mount_flags");
}
