//! Is a JuiceFS volume what was asked for when it is made, while it grows, and gone when it is deleted, and nothing else?
//!
//! Everything is real: the driver as a process, the unmodified client, a Redis server, a directory for objects.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    reason = "a test stops at the first surprise, and prints its figures"
)]

mod juicefs_support;
mod juicefs_volumes_support;
mod session_support;
mod support;

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::time::{Duration, Instant};

use juicefs_support::without_storage;
use juicefs_volumes_support::{MIB, Scene, Wanted, names, of_snapshot, of_volume, refused};
use mountpod::csi::api::v1::volume_capability::access_mode::Mode;
use mountpod::csi::api::v1::volume_capability::{AccessType, MountVolume};
use mountpod::csi::api::v1::{
    CapacityRange, ControllerExpandVolumeRequest, ControllerGetVolumeHealthRequest,
    ControllerGetVolumeRequest, ControllerModifyVolumeRequest, CreateVolumeRequest, GetCapacityRequest,
    ListVolumesRequest, ValidateVolumeCapabilitiesRequest,
};
use mountpod::programs::caller::capability;
use nix::libc;
use nix::sys::statvfs::statvfs;
use tonic::Code;

/// A client hears of another quota at its next heartbeat.
const HEARTBEAT: Duration = Duration::from_secs(12);
/// What is wrong is said within this time.
const ERROR_LIMIT: Duration = Duration::from_secs(20);

/// Bytes that `df` shows in all.
fn size(target: &Path) -> i64 {
    let seen = statvfs(target).unwrap();
    i64::try_from(seen.blocks() * seen.fragment_size()).unwrap()
}

/// Appends so many pieces of a MiB.
fn fill(file: &Path, pieces: usize) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().create(true).append(true).open(file)?;
    for _ in 0..pieces {
        file.write_all(&vec![7; 1 << 20])?;
        file.sync_all()?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_volume_has_its_directory_and_its_quota_when_it_is_made_and_grows_in_use() {
    let scene = Scene::new().await;
    let parameters = [
        ("client", "juicefs"),
        ("pathPattern", "${.pvc.namespace}/${.pvc.name}"),
        ("inodes", "100"),
        ("csi.storage.k8s.io/pvc/namespace", "shop"),
        ("csi.storage.k8s.io/pvc/name", "data"),
    ];
    let wanted = Wanted { parameters: &parameters, ..Wanted::new("pvc-1", 16 * MIB) };
    let begun = Instant::now();
    let volume = scene.create(&wanted).await;
    println!("the first volume was made in {:?}", begun.elapsed());
    let begun = Instant::now();
    assert_eq!(scene.create(&wanted).await, volume, "the same call again");
    println!("the same call again took {:?}", begun.elapsed());
    assert_eq!((volume.volume_id.as_str(), volume.capacity_bytes), ("test-fs#pvc-1", 16 * MIB));
    assert_eq!(volume.volume_context["path"], "shop/data");
    refused(
        scene.try_create(&Wanted { bytes: 17 * MIB, ..wanted.clone() }).await,
        Code::AlreadyExists,
        "capacity_range",
    );
    let other = [("client", "juicefs"), ("pathPattern", "x"), ("memoryLimit", "1Gi")];
    refused(
        scene.try_create(&Wanted { parameters: &other, ..wanted.clone() }).await,
        Code::AlreadyExists,
        "other parameters",
    );
    refused(
        scene.try_create(&Wanted { name: "pvc-2", ..wanted.clone() }).await,
        Code::AlreadyExists,
        "belongs to volume \"pvc-1\"",
    );

    let target = scene.publish(&volume).await;
    assert_eq!(fs::metadata(&target).unwrap().permissions().mode() & 0o7777, 0o777);
    assert_eq!(size(&target), 16 * MIB);
    assert_eq!(statvfs(&target).unwrap().files(), 100);
    let full = fill(&target.join("file"), 32).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::EDQUOT), "{full}");

    assert_eq!(scene.expand(&volume.volume_id, 64 * MIB).await.unwrap(), 64 * MIB);
    assert_eq!(scene.expand(&volume.volume_id, 32 * MIB).await.unwrap(), 64 * MIB, "it never shrinks");
    let begun = Instant::now();
    while size(&target) != 64 * MIB && begun.elapsed() < 2 * HEARTBEAT {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    println!("the larger size was seen after {:?}", begun.elapsed());
    assert_eq!(size(&target), 64 * MIB);
    fill(&target.join("more"), 20).unwrap();

    refused(scene.delete(&volume.volume_id).await, Code::FailedPrecondition, "is published");
    scene.unpublish(&volume).await;
    let (whole, all) = scene.whole().await;
    assert!(all.join("shop/data/more").exists());
    scene.delete(&volume.volume_id).await.unwrap();
    scene.delete(&volume.volume_id).await.unwrap();
    assert_eq!(names(&all.join("shop")), Vec::<String>::new());
    for directory in ["volumes", "paths", "new", "trash"] {
        assert_eq!(names(&all.join(".mountpod").join(directory)), Vec::<String>::new(), "{directory}");
    }
    scene.unpublish(&whole).await;
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_share_a_mount_pod_have_each_its_own_directory_and_quota() {
    let scene = Scene::new().await;
    let parameters = [("client", "juicefs"), ("sharing", "storageclass")];
    let wanted = |name, mebibytes| Wanted { parameters: &parameters, ..Wanted::new(name, mebibytes * MIB) };
    let small = scene.create(&wanted("small", 16)).await;
    let large = scene.create(&wanted("large", 32)).await;
    let (of_small, of_large) = (scene.publish(&small).await, scene.publish(&large).await);
    let connection = |target: &Path| fs::metadata(target).unwrap().dev();
    assert_eq!(connection(&of_small), connection(&of_large), "one mount pod serves both");
    assert_eq!((size(&of_small), size(&of_large)), (16 * MIB, 32 * MIB));
    let full = fill(&of_small.join("file"), 24).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::EDQUOT), "{full}");
    fill(&of_large.join("file"), 24).unwrap();
    assert_eq!((names(&of_small), names(&of_large)), (vec!["file".to_owned()], vec!["file".to_owned()]));
    refused(scene.delete(&small.volume_id).await, Code::FailedPrecondition, "is published");
    scene.unpublish(&small).await;
    scene.delete(&small.volume_id).await.unwrap();
    assert_eq!(fs::metadata(of_large.join("file")).unwrap().len(), 24 << 20);
    scene.unpublish(&large).await;
    scene.delete(&large.volume_id).await.unwrap();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_filesystem_of_one_machine_has_its_metadata_in_a_file() {
    let scene = Scene::new().await.in_a_file();
    let volume = scene.create(&Wanted::new("pvc-1", 16 * MIB)).await;
    let target = scene.publish(&volume).await;
    fs::write(target.join("kept"), "hello").unwrap();
    fs::File::open(target.join("kept")).unwrap().sync_all().unwrap();
    let snapshot = scene.snapshot("before", &volume).await.unwrap();
    let full = fill(&target.join("file"), 32).unwrap_err();
    assert_eq!(full.raw_os_error(), Some(libc::EDQUOT), "{full}");
    let source = of_snapshot(&snapshot);
    let restored = scene.create(&Wanted { source, ..Wanted::new("pvc-2", 16 * MIB) }).await;
    let copy = scene.publish(&restored).await;
    let restored_names = names(&copy);
    assert!(restored_names.contains(&"kept".to_owned()) && !restored_names.contains(&"file".to_owned()));
    assert_eq!(fs::read_to_string(copy.join("kept")).unwrap(), "hello");
    for volume in [&volume, &restored] {
        scene.unpublish(volume).await;
        scene.delete(&volume.volume_id).await.unwrap();
    }
    scene.delete_snapshot(&snapshot.snapshot_id).await.unwrap();
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_removes_one_directory_whatever_is_in_it() {
    let mut scene = Scene::new().await;
    // The filesystem's own trash is another way to remove.
    scene.secret = scene.with("trash-days", "1");
    let victim = scene.create(&Wanted::new("victim", 64 * MIB)).await;
    let dashed = [("pathPattern", "-rf")];
    let doomed = scene.create(&Wanted { parameters: &dashed, ..Wanted::new("doomed", 64 * MIB) }).await;
    let (kept, at) = (scene.publish(&victim).await, scene.publish(&doomed).await);
    fs::write(kept.join("kept"), "data").unwrap();
    let (whole, all) = scene.whole().await;
    symlink("../victim", at.join("to-victim")).unwrap();
    symlink("/", at.join("to-root")).unwrap();
    fs::write(at.join("-rf"), "x").unwrap();
    fs::create_dir(at.join("*")).unwrap();
    fs::create_dir(at.join("many")).unwrap();
    for file in 0..10_000 {
        fs::File::create(at.join(format!("many/{file}"))).unwrap();
    }
    scene.unpublish(&doomed).await;
    let begun = Instant::now();
    scene.delete(&doomed.volume_id).await.unwrap();
    println!("10,000 files were removed in {:?}", begun.elapsed());
    assert_eq!(fs::read_to_string(kept.join("kept")).unwrap(), "data");
    let mut left = names(&all);
    left.retain(|name| !name.starts_with('.'));
    assert_eq!(left, ["victim"]);

    // What has no record is nobody's to delete.
    fs::create_dir(all.join("foreign")).unwrap();
    scene.delete("test-fs#foreign").await.unwrap();
    assert!(all.join("foreign").exists());
    refused(scene.try_create(&Wanted::new("foreign", MIB)).await, Code::AlreadyExists, "did not make");
    assert!(all.join("foreign").exists());
    for volume in [&victim, &whole] {
        scene.unpublish(volume).await;
    }
    scene.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_said_in_time_with_its_code_and_without_secrets() {
    let mut scene = Scene::new().await;
    let good = scene.secret.clone();
    let wrong_password = scene.with("metaurl", &scene.redis.url("wrong-hunter2"));
    let away = scene.with("metaurl", "redis://:meta-pass-hunter2@127.0.0.1:1/1");
    let mut nameless = good.clone();
    nameless.retain(|key, _| key == "metaurl");
    let danger = [("mountOptions", "update-fstab")];
    let label = [("pathPattern", "${.pvc.labels.team}")];
    let juicefs = [("client", "juicefs")];
    let key = [("client", "juicefs"), ("pathpattern", "x")];
    let none: &[(&str, &str)] = &[];
    let cases = [
        (wrong_password, none, Code::Unauthenticated, "refused the credentials"),
        (away, none, Code::Unavailable, "can't be reached"),
        (without_storage(&good), none, Code::FailedPrecondition, "object storage"),
        (scene.with("token", "hunter2"), none, Code::InvalidArgument, "secrets[\"token\"]"),
        (BTreeMap::new(), &juicefs, Code::FailedPrecondition, "csi.storage.k8s.io/provisioner-secret-name"),
        (nameless, none, Code::InvalidArgument, "parameters[\"filesystem\"]"),
        (good.clone(), &danger, Code::InvalidArgument, "update-fstab"),
        (good.clone(), &label, Code::InvalidArgument, "parameters[\"pathPattern\"]"),
        (good.clone(), &key, Code::InvalidArgument, "parameters[\"pathpattern\"]"),
    ];
    for (secret, parameters, code, words) in cases {
        scene.secret = secret;
        let begun = Instant::now();
        let answer = scene.try_create(&Wanted { parameters, ..Wanted::new("wrong", MIB) }).await;
        let took = begun.elapsed();
        println!("{words:?} after {took:?}");
        refused(answer, code, words);
        assert!(took < ERROR_LIMIT, "{words:?}: {took:?}");
    }

    scene.secret = good;
    let volume = scene.create(&Wanted::new("right", MIB)).await;
    let elsewhere = [("filesystem", "other")];
    let copy = Wanted { parameters: &elsewhere, source: of_volume(&volume), ..Wanted::new("copy", MIB) };
    refused(scene.try_create(&copy).await, Code::InvalidArgument, "volume_content_source");
    let gone = mountpod::csi::api::v1::Volume { volume_id: "test-fs#gone".to_owned(), ..volume.clone() };
    let copy = Wanted { source: of_volume(&gone), ..Wanted::new("copy", MIB) };
    refused(scene.try_create(&copy).await, Code::NotFound, "test-fs#gone");
    refused(scene.snapshot("s", &gone).await, Code::NotFound, "test-fs#gone");
    refused(scene.expand("test-fs#gone", MIB).await, Code::NotFound, "test-fs#gone");

    // Calls without a Secret say which parameter names one.
    let secret = std::mem::take(&mut scene.secret);
    refused(scene.delete(&volume.volume_id).await, Code::FailedPrecondition, "provisioner-secret-name");
    refused(
        scene.expand(&volume.volume_id, MIB).await,
        Code::FailedPrecondition,
        "controller-expand-secret-name",
    );
    refused(scene.snapshot("s", &volume).await, Code::FailedPrecondition, "snapshotter-secret-name");
    refused(scene.delete_snapshot("test-fs#s").await, Code::FailedPrecondition, "snapshotter-secret-name");
    scene.secret = secret;
    scene.delete(&volume.volume_id).await.unwrap();
    scene.end().await;
}

/// CSI has no secrets for some calls; they are answered as far as they can be.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_is_told_as_far_as_the_secrets_of_a_call_reach() {
    let scene = Scene::new().await;
    let parameters = [("client", "juicefs")];
    let volume = scene.create(&Wanted { parameters: &parameters, ..Wanted::new("v", MIB) }).await;
    let mut controller = scene.caller.controller.clone();
    let secrets = scene.request(&Wanted::new("v", MIB)).secrets;

    let validate = |flags: &[&str]| {
        let mut capability = capability(Mode::SingleNodeWriter);
        let mount_flags = flags.iter().map(|flag| (*flag).to_owned()).collect();
        capability.access_type = Some(AccessType::Mount(MountVolume { mount_flags, ..Default::default() }));
        ValidateVolumeCapabilitiesRequest {
            volume_id: volume.volume_id.clone(),
            volume_context: volume.volume_context.clone(),
            volume_capabilities: vec![capability],
            secrets: secrets.clone(),
            ..Default::default()
        }
    };
    let answer = controller
        .validate_volume_capabilities(validate(&["ro", "cache-size=100", "writeback_cache"]))
        .await
        .unwrap();
    assert!(answer.into_inner().confirmed.is_some());
    let answer = controller.validate_volume_capabilities(validate(&["update-fstab"])).await.unwrap();
    assert!(answer.get_ref().confirmed.is_none() && answer.get_ref().message.contains("update-fstab"));

    // Kubernetes sends the volume's mount options along.
    let expansion = ControllerExpandVolumeRequest {
        volume_id: volume.volume_id.clone(),
        capacity_range: Some(CapacityRange { required_bytes: 2 * MIB, limit_bytes: 0 }),
        volume_capability: validate(&["cache-size=100"]).volume_capabilities.pop(),
        ..Default::default()
    };
    let answer = controller.controller_expand_volume(expansion).await;
    refused(answer, Code::FailedPrecondition, "controller-expand-secret-name");

    let health = |secrets| ControllerGetVolumeHealthRequest { volume_id: volume.volume_id.clone(), secrets };
    let known = controller.controller_get_volume_health(health(secrets)).await.unwrap().into_inner();
    assert_eq!(known.volume_health.unwrap().volume_id, volume.volume_id);
    let unknown = controller.controller_get_volume_health(health(HashMap::new())).await;
    refused(unknown, Code::FailedPrecondition, "credentials");
    let get = ControllerGetVolumeRequest { volume_id: volume.volume_id.clone() };
    refused(
        controller.controller_get_volume(get).await,
        Code::FailedPrecondition,
        "no secrets for this call",
    );
    let listed = controller.list_volumes(ListVolumesRequest::default()).await.unwrap().into_inner();
    assert!(listed.entries.is_empty());
    let room = GetCapacityRequest {
        parameters: HashMap::from([("client".to_owned(), "juicefs".to_owned())]),
        ..Default::default()
    };
    assert!(controller.get_capacity(room).await.unwrap().into_inner().available_capacity > 1 << 50);
    let modify = ControllerModifyVolumeRequest {
        volume_id: volume.volume_id.clone(),
        mutable_parameters: HashMap::from([("memoryLimit".to_owned(), "1Gi".to_owned())]),
        ..Default::default()
    };
    refused(controller.controller_modify_volume(modify).await, Code::InvalidArgument, "mutable_parameters");
    let limited = CreateVolumeRequest {
        mutable_parameters: HashMap::from([("memoryLimit".to_owned(), "1Gi".to_owned())]),
        ..scene.request(&Wanted { parameters: &parameters, ..Wanted::new("limited", MIB) })
    };
    let limited = controller.create_volume(limited).await.unwrap().into_inner().volume.unwrap();
    assert_eq!(limited.volume_context["memoryLimit"], (1_u64 << 30).to_string());
    for volume in [volume, limited] {
        scene.delete(&volume.volume_id).await.unwrap();
    }
    scene.end().await;
}

/// The metadata engine is stopped while the filesystem is mounted, and comes back.
#[tokio::test(flavor = "multi_thread")]
async fn calls_fail_in_time_while_the_metadata_engine_is_away_and_go_on_after() {
    let mut scene = Scene::new().await;
    let volume = scene.create(&Wanted::new("before", MIB)).await;
    scene.redis.stop().await;
    for round in 0..2 {
        let begun = Instant::now();
        let answer = scene.try_create(&Wanted::new("meanwhile", MIB)).await;
        let took = begun.elapsed();
        println!(
            "round {round}: refused after {took:?}: {:?}",
            answer.as_ref().err().map(tonic::Status::message)
        );
        refused(answer, Code::Unavailable, "");
        assert!(took < ERROR_LIMIT, "{took:?}");
    }
    scene.redis.start_again().await;
    let deadline = Instant::now() + 3 * ERROR_LIMIT;
    let made = loop {
        match scene.try_create(&Wanted::new("meanwhile", MIB)).await {
            Ok(made) => break made,
            Err(status) => assert!(Instant::now() < deadline, "{status}"),
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    for volume in [volume, made] {
        scene.delete(&volume.volume_id).await.unwrap();
    }
    scene.end().await;
}
