//! What does the node desk ask of the engine for a JuiceFS volume?
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod csi;

use std::collections::HashMap;

use csi::Driver;
use mountpod::config::juicefs::ClassParameters;
use mountpod::csi::api::v1;
use mountpod::csi::api::v1::node_client::NodeClient;
use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::mountpod::service::{PublishRequest, SessionUse};
use mountpod::programs::caller::capability;
use mountpod::volume::{CacheVolume, ClientKind, Exclusivity, MemoryBytes, Writability};
use tonic::{Code, Status};

const SECRET: &[(&str, &str)] = &[("name", "media"), ("metaurl", "redis://:hunter2@h:6379/1")];

fn map(entries: &[(&str, &str)]) -> HashMap<String, String> {
    entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn request(handle: &str, context: &[(&str, &str)], secret: &[(&str, &str)]) -> v1::NodePublishVolumeRequest {
    v1::NodePublishVolumeRequest {
        volume_id: handle.to_owned(),
        target_path: "/run/target".to_owned(),
        volume_capability: Some(capability(Mode::SingleNodeSingleWriter)),
        volume_context: map(context),
        secrets: map(secret),
        ..v1::NodePublishVolumeRequest::default()
    }
}

/// What the engine is asked, and then the end of it.
async fn asked(driver: &Driver, request: v1::NodePublishVolumeRequest) -> Result<PublishRequest, Status> {
    let mut node = NodeClient::new(driver.channel.clone());
    let (volume_id, target_path) = (request.volume_id.clone(), request.target_path.clone());
    node.node_publish_volume(request).await?;
    let asked = driver.mounts.published.lock().unwrap().last().unwrap().clone();
    node.node_unpublish_volume(v1::NodeUnpublishVolumeRequest { volume_id, target_path }).await?;
    assert!(driver.mounts.published.lock().unwrap().is_empty());
    let unpublished = driver.mounts.calls.lock().unwrap().pop().unwrap();
    assert_eq!(unpublished, format!("unpublish {} at {}", asked.volume, asked.target));
    Ok(asked)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_volume_is_served_as_its_attributes_and_secret_say() {
    let driver = Driver::start().await;
    let plain = asked(&driver, request("my volume", &[], SECRET)).await.unwrap();
    assert!(plain.volume.to_string().starts_with("_static#"), "{}", plain.volume);
    assert_eq!(plain.spec.client, ClientKind::Juicefs);
    assert_eq!((plain.spec.filesystem.as_str(), plain.spec.subdirectory.as_str()), ("media", ""));
    assert_eq!(plain.access.exclusivity, Exclusivity::SingleTarget);
    assert_eq!(plain.access.writability, Writability::ReadWrite);
    let options: Vec<_> = plain.spec.options.iter().map(|(key, value)| format!("{key}={value}")).collect();
    assert_eq!(options, ["cache-dir=/cache", "cache-size=8192"]);
    assert_eq!(plain.pod.cache, CacheVolume::Disk { bytes: Some(10 << 30) });
    assert!(!format!("{:?}", plain.spec).contains("hunter2"));
    assert_eq!(plain.pod.files, []);

    let configs = [SECRET, &[("configs", r#"{"gcs-key": "/etc/gcs"}"#)]].concat();
    let files = asked(&driver, request("my volume", &[], &configs)).await.unwrap().pod.files;
    let [one] = files.as_slice() else { panic!("{files:?}") };
    assert_eq!((one.secret.as_str(), one.path.as_str()), ("gcs-key", "/etc/gcs"));

    let context =
        [("subPath", "b"), ("mountOptions", "subdir=a,ro,noexec"), ("juicefs/mount-memory-limit", "1Gi")];
    let more = asked(&driver, request("media#data", &context, &SECRET[1..])).await.unwrap();
    assert_eq!((more.volume.to_string().as_str(), more.spec.subdirectory.as_str()), ("media#data", "a/b"));
    assert_eq!(more.access.writability, Writability::ReadOnly);
    assert!(more.spec.options.contains_key("read-only") && more.spec.options.contains_key("noexec"));
    assert_eq!(more.resources.memory_limit, Some(MemoryBytes(1 << 30)));
    assert!(
        more.spec.filesystem.as_str().parse::<mountpod::volume::FilesystemName>().is_err(),
        "nobody named it"
    );
    driver.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shared_session_is_of_the_whole_filesystem() {
    let driver = Driver::start().await;
    let context = [("sharing", "filesystem"), ("subPath", "a/b")];
    let shared = asked(&driver, request("v", &context, SECRET)).await.unwrap();
    let directory = "a/b".to_owned();
    assert_eq!(shared.session, SessionUse::Shared { group: None, directory });
    assert_eq!(shared.spec.subdirectory, "");

    let class = ClassParameters::of_map("parameters", &map(&[("sharing", "storageclass")])).unwrap();
    let made = class.context("media".parse().unwrap(), "pvc-1".parse().unwrap()).to_map();
    let made: Vec<_> = made.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let of_class = asked(&driver, request("media#pvc-1", &made, SECRET)).await.unwrap();
    let SessionUse::Shared { group: Some(_), directory } = of_class.session else { panic!("{of_class:?}") };
    assert_eq!((directory.as_str(), of_class.spec.subdirectory.as_str()), ("pvc-1", ""));
    driver.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_can_not_be_served_is_refused_before_the_engine_is_asked() {
    let driver = Driver::start().await;
    let inline = format!("csi-{}", "0a".repeat(32));
    let juicefs: &[(&str, &str)] = &[("client", "juicefs")];
    let token: &[(&str, &str)] = &[("metaurl", "redis://h/1"), ("token", "hunter2")];
    let credentials: &[(&str, &str)] = &[("metaurl", "redis://h/1"), ("configs", r#"{"mount-a-1": "/a"}"#)];
    let nowhere: &[(&str, &str)] = &[("password", "hunter2")];
    let flag = |flags: &[(&'static str, &'static str)]| flags.to_vec();
    let cases = [
        ("v", flag(juicefs), &[][..], Code::FailedPrecondition, "csi.nodePublishSecretRef"),
        ("v", flag(juicefs), nowhere, Code::InvalidArgument, "secrets[\"metaurl\"]"),
        ("v", vec![], token, Code::InvalidArgument, "secrets[\"token\"]"),
        ("v", vec![], credentials, Code::InvalidArgument, "secrets[\"configs\"]"),
        ("v", vec![("client", "ceph")], SECRET, Code::InvalidArgument, "volume_context[\"client\"]"),
        (
            "v",
            vec![("sharing", "storageclass")],
            SECRET,
            Code::InvalidArgument,
            "volume_context[\"sharing\"]",
        ),
        (
            "v",
            vec![("mountOptions", "force")],
            SECRET,
            Code::InvalidArgument,
            "volume_context[\"mountOptions\"]",
        ),
        (&inline, vec![], SECRET, Code::InvalidArgument, "volume_id"),
        ("a/b", vec![], SECRET, Code::InvalidArgument, "volume_id"),
    ];
    for (handle, context, secret, code, words) in cases {
        let status = asked(&driver, request(handle, &context, secret)).await.unwrap_err();
        assert_eq!(status.code(), code, "{words}: {status}");
        assert!(
            status.message().contains(words) && !status.message().contains("hunter2"),
            "{words}: {status}"
        );
    }
    assert!(driver.mounts.calls.lock().unwrap().is_empty());
    driver.stop().await.unwrap();
}

/// The test driver allows /srv/jfs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mount_pod_has_the_directories_that_are_allowed_and_no_others() {
    const ALLOWED: &str = "/srv/jfs";
    let driver = Driver::start().await;
    let sqlite: &[(&str, &str)] = &[("name", "media"), ("metaurl", "sqlite3:///srv/jfs/meta.db")];
    let files: &[(&str, &str)] = &[("storage", "file"), ("bucket", "/srv/objects")];
    let of_both = [sqlite, files].concat();
    let directories = |asked: &PublishRequest| -> Vec<_> {
        asked.pod.host_directories.iter().map(ToString::to_string).collect()
    };
    let plain = asked(&driver, request("plain", &[], SECRET)).await.unwrap();
    assert_eq!(directories(&plain), [""; 0]);
    let cached = [("mountOptions", "cache-dir=/srv/jfs"), ("cacheSize", "1Gi")];
    let cached = asked(&driver, request("cached", &cached, SECRET)).await.unwrap();
    assert_eq!((directories(&cached), &cached.pod.cache), (vec![ALLOWED.to_owned()], &CacheVolume::None));
    assert_eq!(cached.spec.options["cache-dir"], ALLOWED);
    assert_eq!(cached.spec.options["cache-size"], "1024");
    let derived =
        asked(&driver, request("derived", &[("juicefs/host-path", ALLOWED)], sqlite)).await.unwrap();
    assert_eq!(directories(&derived), [ALLOWED]);
    let refused = [
        (&[("mountOptions", "cache-dir=/srv/jfs/below")][..], SECRET, "volume_context[\"mountOptions\"]"),
        (
            &[("cacheMedium", "node"), ("cacheDirectory", "/srv")],
            SECRET,
            "volume_context[\"cacheDirectory\"]",
        ),
        (&[("juicefs/host-path", "/etc")], SECRET, "volume_context[\"hostDirectories\"]"),
        (&[], &of_both[..], "secrets[\"bucket\"]"),
    ];
    for (context, secret, field) in refused {
        let status = asked(&driver, request("refused", context, secret)).await.unwrap_err();
        let words = [field, ALLOWED, "mountPods.hostDirectories"];
        assert!(words.iter().all(|word| status.message().contains(word)), "{status}");
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
    }
    driver.stop().await.unwrap();
}

/// A volume that is published is known by its handle alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_published_volume_can_be_asked_about_and_expanded() {
    let driver = Driver::start().await;
    let mut node = NodeClient::new(driver.channel.clone());
    node.node_publish_volume(request("my volume", &[], SECRET)).await.unwrap();
    let stats = |handle: &str| v1::NodeGetVolumeStatsRequest {
        volume_id: handle.to_owned(),
        volume_path: "/run/target".to_owned(),
        ..Default::default()
    };
    assert!(node.node_get_volume_stats(stats("my volume")).await.is_ok());
    let other = node.node_get_volume_stats(stats("other volume")).await.unwrap_err();
    assert_eq!(other.code(), Code::NotFound);
    let expand = v1::NodeExpandVolumeRequest {
        volume_id: "my volume".to_owned(),
        volume_path: "/run/target".to_owned(),
        capacity_range: Some(v1::CapacityRange { required_bytes: 7, limit_bytes: 0 }),
        ..Default::default()
    };
    assert_eq!(node.node_expand_volume(expand).await.unwrap().into_inner().capacity_bytes, 7);
    driver.stop().await.unwrap();
}
