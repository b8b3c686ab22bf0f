//! Is a PersistentVolume of the JuiceFS CSI driver read as that driver meant it?

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use super::*;
use crate::volume::Writability;

type Entries = &'static [(&'static str, &'static str)];
type Flags = &'static [&'static str];

fn read(attributes: &[(&str, &str)], flags: &[&str]) -> Result<PublishedVolume, InvalidField> {
    let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let flags: Vec<_> = flags.iter().map(|flag| (*flag).to_owned()).collect();
    PublishedVolume::of_attributes("volume_context", &attributes, "mount_flags", &flags)
}

#[test]
fn the_directory_is_what_subdir_and_sub_path_say_together() {
    let cases: &[(Entries, Flags, Option<&str>)] = &[
        (&[], &[], None),
        (&[("subPath", "fluentd")], &[], Some("fluentd")),
        (&[], &["subdir=/my/sub/dir"], Some("my/sub/dir")),
        (&[("subPath", "inner")], &["subdir=/outer/"], Some("outer/inner")),
        (&[("path", "/data"), ("subPath", "data")], &[], Some("data")),
        (&[("mountOptions", "subdir=a"), ("subPath", "/")], &["subdir=/a"], Some("a")),
    ];
    for (attributes, flags, want) in cases {
        let volume = read(attributes, flags).unwrap();
        assert_eq!(volume.path.as_ref().map(VolumePath::as_str), *want, "{attributes:?} {flags:?}");
    }
}

#[test]
fn a_volume_that_the_juicefs_csi_driver_made_is_taken_with_warnings() {
    let volume = read(
        &[
            ("subPath", "pvc-4f2e2384-61f2-4045-b4df-fbdabe496c1b"),
            ("capacity", "1073741824"),
            ("juicefs/controller-quota-set", "true"),
            ("juicefs/mount-cpu-limit", "1"),
            ("pathPattern", "${.pvc.namespace}-${.pvc.name}"),
            ("secretFinalizer", "true"),
            ("csi.storage.k8s.io/provisioner-secret-name", "juicefs-secret"),
            ("csi.storage.k8s.io/provisioner-secret-namespace", "kube-system"),
            ("storage.kubernetes.io/csiProvisionerIdentity", "1791548452146-883-csi.juicefs.com"),
            ("csi.storage.k8s.io/pod.name", "app"),
        ],
        &["cache-size=204800", "ro"],
    )
    .unwrap();
    assert_eq!(volume.path.unwrap().as_str(), "pvc-4f2e2384-61f2-4045-b4df-fbdabe496c1b");
    assert_eq!(volume.settings.attributes.writability, Some(Writability::ReadOnly));
    assert_eq!(volume.share, Share::Volume);
    assert_eq!(volume.ignored.len(), 6, "{:?}", volume.ignored);
}

#[test]
fn a_bad_attribute_is_named() {
    let cases = [
        ("subPath", "../../etc"),
        ("path", "a//b"),
        ("subPath", ".mountpod/volumes"),
        ("sharing", "storageclass"),
        ("shareGroup", "00000000000000000000000000000000"),
        ("inodes", "5"),
        ("juicefs/host-path", "/etc/"),
        ("juicefs/mount-image", "x"),
        ("subpath", "a"),
    ];
    for (key, value) in cases {
        let error = read(&[(key, value)], &[]).unwrap_err();
        assert_eq!(error.field, format!("volume_context[{key:?}]"), "{value}");
    }
    let error = read(&[("path", "a"), ("subPath", "b")], &[]).unwrap_err().to_string();
    assert!(error.contains("\"path\"") && error.contains("\"subPath\""), "{error}");
    let long = vec!["y".repeat(200); 4].join("/");
    let error = read(&[("path", &long)], &[&format!("subdir={long}")]).unwrap_err();
    assert_eq!(error.field, "volume_context[\"path\"]");
}
