//! Are snapshots, restored volumes and clones of a JuiceFS volume complete, whatever happens beside them, and does a crash of
//! the driver at any moment leave something that the same call can end?
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
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use data_encoding::HEXLOWER;
use juicefs_volumes_support::{MIB, Scene, Wanted, names, of_snapshot, of_volume, refused};
use mountpod::csi::api::v1::{CreateSnapshotRequest, DeleteSnapshotRequest, DeleteVolumeRequest, Volume};
use nix::sys::statvfs::statvfs;
use sha2::{Digest, Sha256};
use tonic::Code;

/// Restored at once.
const RESTORES: usize = 10;
/// Between the beginning of a call and the death of the driver: from its first step to beyond its last.
const DEATHS_AFTER: [u64; 8] = [0, 20, 50, 90, 140, 200, 300, 500];

/// Fills a volume with a tree of files.
fn plant(at: &Path) {
    for directory in ["a", "a/b", "a/b/c", "d"] {
        fs::create_dir(at.join(directory)).unwrap();
        for file in 0..20 {
            let content = format!("{directory} {file} ").repeat(500 * (file + 1));
            let path = at.join(directory).join(format!("file {file}"));
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, PermissionsExt::from_mode(0o640)).unwrap();
            std::os::unix::fs::chown(&path, Some(1000), Some(1001)).unwrap();
        }
    }
    std::os::unix::fs::symlink("a/b", at.join("link")).unwrap();
}

/// Every path below, with owner, mode and checksum, but for the client's own files: reading some of them never ends.
fn picture(at: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![at.to_owned()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            if directory == at && path.file_name().unwrap().as_encoded_bytes().starts_with(b".") {
                continue;
            }
            let meta = path.symlink_metadata().unwrap();
            let content = if meta.is_file() { fs::read(&path).unwrap() } else { Vec::new() };
            let sum = HEXLOWER.encode(&Sha256::digest(content));
            let facts = format!("{:o} {} {} {sum}", meta.mode(), meta.uid(), meta.gid());
            seen.insert(path.strip_prefix(at).unwrap().to_owned(), facts);
            if meta.is_dir() {
                pending.push(path);
            }
        }
    }
    seen
}

async fn picture_of(scene: &Scene, volume: &Volume) -> BTreeMap<PathBuf, String> {
    let seen = picture(&scene.publish(volume).await);
    scene.unpublish(volume).await;
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_and_clones_are_complete_when_they_are_told_and_outlive_their_source() {
    let scene = Scene::new().await;
    let source = scene.create(&Wanted::new("source", 64 * MIB)).await;
    let at = scene.publish(&source).await;
    plant(&at);
    let planted = picture(&at);
    let begun = Instant::now();
    let snapshot = scene.snapshot("s", &source).await.unwrap();
    println!("a snapshot of {} files was taken in {:?}", planted.len(), begun.elapsed());
    assert!(snapshot.ready_to_use && snapshot.size_bytes == 64 * MIB, "{snapshot:?}");
    assert_eq!(scene.snapshot("s", &source).await.unwrap(), snapshot, "the same call again");
    let clone = scene.create(&Wanted { source: of_volume(&source), ..Wanted::new("clone", 64 * MIB) }).await;
    refused(scene.snapshot("s", &clone).await, Code::AlreadyExists, "test-fs#source");
    fs::remove_dir_all(at.join("a")).unwrap();
    scene.unpublish(&source).await;
    scene.delete(&source.volume_id).await.unwrap();

    let small = Wanted { source: of_snapshot(&snapshot), ..Wanted::new("small", MIB) };
    refused(scene.try_create(&small).await, Code::OutOfRange, "source has");
    let restored: Vec<String> = (0..RESTORES).map(|number| format!("restored-{number}")).collect();
    let begun = Instant::now();
    let calls = restored.iter().map(|name| {
        let wanted = Wanted { source: of_snapshot(&snapshot), ..Wanted::new(name, 128 * MIB) };
        let request = scene.request(&wanted);
        let mut controller = scene.caller.controller.clone();
        tokio::spawn(async move { controller.create_volume(request).await })
    });
    let mut volumes = vec![clone];
    for call in calls.collect::<Vec<_>>() {
        let made = call.await.unwrap().unwrap_or_else(|status| panic!("{status}\n{}", scene.driver.log()));
        volumes.push(made.into_inner().volume.unwrap());
    }
    println!("{RESTORES} volumes were restored at once in {:?}", begun.elapsed());
    for volume in &volumes {
        assert_eq!(picture_of(&scene, volume).await, planted, "{}", volume.volume_id);
    }
    assert_eq!(volumes[1].capacity_bytes, 128 * MIB);
    let at = scene.publish(&volumes[1]).await;
    let room = statvfs(&at).unwrap();
    assert_eq!(room.blocks() * room.fragment_size(), 128 << 20, "the quota is the new volume's");
    assert!(
        room.blocks_available() < room.blocks() && room.files_available() < room.files(),
        "and knows the copy"
    );
    scene.unpublish(&volumes[1]).await;
    assert_eq!(scene.snapshots("").await, ["test-fs#s"]);
    assert_eq!(scene.snapshots("test-fs#source").await, ["test-fs#s"]);
    assert_eq!(scene.snapshots("test-fs#clone").await, Vec::<String>::new());
    scene.delete_snapshot(&snapshot.snapshot_id).await.unwrap();
    scene.delete_snapshot(&snapshot.snapshot_id).await.unwrap();
    assert_eq!(picture_of(&scene, &volumes[1]).await, planted, "a restored volume is its own");
    for volume in &volumes {
        scene.delete(&volume.volume_id).await.unwrap();
    }
    nothing_is_recorded(&scene).await;
    scene.end().await;
}

/// Bytes and files that a volume counts to its quota.
async fn counted(scene: &Scene, volume: &Volume) -> (u64, u64) {
    let room = statvfs(&scene.publish(volume).await).unwrap();
    scene.unpublish(volume).await;
    ((room.blocks() - room.blocks_available()) * room.fragment_size(), room.files() - room.files_available())
}

/// Makes a volume as a driver leaves it that dies while the client counts what is in it: its quota is there, and knows of
/// nothing. Such a moment is too short to be met.
async fn count_is_cut_short(scene: &Scene, name: &str) {
    let (whole, all) = scene.whole().await;
    let inode = fs::metadata(all.join(name)).unwrap().ino();
    let record = all.join(".mountpod/volumes").join(format!("{name}.json"));
    let text = fs::read_to_string(&record).unwrap();
    assert!(text.contains(r#""ready""#), "{text}");
    fs::write(&record, text.replace(r#""ready""#, &format!(r#"{{"placing":{{"inode":{inode}}}}}"#))).unwrap();
    for key in ["dirQuotaUsedSpace", "dirQuotaUsedInodes"] {
        scene.redis.tell(&["HSET", key, &inode.to_string(), "0"]).await;
    }
    scene.unpublish(&whole).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_count_that_was_cut_short_is_made_anew() {
    let scene = Scene::new().await;
    let source = scene.create(&Wanted::new("source", 64 * MIB)).await;
    plant(&scene.publish(&source).await);
    scene.unpublish(&source).await;
    let wanted = Wanted { source: of_volume(&source), ..Wanted::new("copy", 64 * MIB) };
    let copy = scene.create(&wanted).await;
    let whole_count = counted(&scene, &copy).await;
    assert!(whole_count.0 > 0 && whole_count.1 > 80, "{whole_count:?}");
    count_is_cut_short(&scene, "copy").await;
    assert_eq!(counted(&scene, &copy).await, (0, 0), "nothing is counted");
    assert_eq!(scene.create(&wanted).await, copy);
    assert_eq!(counted(&scene, &copy).await, whole_count);
    for volume in [copy, source] {
        scene.delete(&volume.volume_id).await.unwrap();
    }
    scene.end().await;
}

async fn nothing_is_recorded(scene: &Scene) {
    let (whole, all) = scene.whole().await;
    for directory in ["volumes", "paths", "snapshots", "new", "trash"] {
        assert_eq!(names(&all.join(".mountpod").join(directory)), Vec::<String>::new(), "{directory}");
    }
    let mut left = names(&all);
    left.retain(|name| !name.starts_with('.'));
    assert_eq!(left, Vec::<String>::new());
    scene.unpublish(&whole).await;
}

/// The same for a snapshot, which is then told by the call that follows.
async fn snapshot_in_spite_of_deaths(scene: &mut Scene, source: &Volume, after_ms: u64) {
    let secrets: HashMap<String, String> = scene.secret.clone().into_iter().collect();
    let taken = CreateSnapshotRequest {
        source_volume_id: source.volume_id.clone(),
        name: "s".to_owned(),
        secrets: secrets.clone(),
        ..CreateSnapshotRequest::default()
    };
    let mut controller = scene.caller.controller.clone();
    killed_during(scene, after_ms, async move { controller.create_snapshot(taken).await }).await;
    let snapshot = scene.snapshot("s", source).await.unwrap();
    assert!(snapshot.ready_to_use);
    assert_eq!(scene.snapshots("").await, ["test-fs#s"], "killed after {after_ms} ms");
    let deleted = DeleteSnapshotRequest { snapshot_id: snapshot.snapshot_id.clone(), secrets };
    let mut controller = scene.caller.controller.clone();
    killed_during(scene, after_ms, async move { controller.delete_snapshot(deleted).await }).await;
    scene.delete_snapshot(&snapshot.snapshot_id).await.unwrap();
    assert_eq!(scene.snapshots("").await, Vec::<String>::new());
}

/// Begins a call, and kills the driver a moment later; a new one serves then.
async fn killed_during<T: Send + 'static>(
    scene: &mut Scene,
    after_ms: u64,
    call: impl Future<Output = T> + Send + 'static,
) {
    let call = tokio::spawn(call);
    tokio::time::sleep(Duration::from_millis(after_ms)).await;
    scene.driver.kill();
    call.await.ok();
    scene.driver.start_again();
    scene.caller = scene.driver.caller().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_dies_in_a_call_leaves_what_the_same_call_ends() {
    let mut scene = Scene::new().await;
    let source = scene.create(&Wanted::new("source", 64 * MIB)).await;
    plant(&scene.publish(&source).await);
    scene.unpublish(&source).await;
    let planted = picture_of(&scene, &source).await;
    for after_ms in DEATHS_AFTER {
        let wanted = Wanted { source: of_volume(&source), ..Wanted::new("copy", 64 * MIB) };
        let (mut controller, request) = (scene.caller.controller.clone(), scene.request(&wanted));
        killed_during(&mut scene, after_ms, async move { controller.create_volume(request).await }).await;
        let copy = scene.create(&wanted).await;
        assert_eq!(picture_of(&scene, &copy).await, planted, "killed after {after_ms} ms");

        let mut controller = scene.caller.controller.clone();
        let request = DeleteVolumeRequest {
            volume_id: copy.volume_id.clone(),
            secrets: scene.secret.clone().into_iter().collect(),
        };
        killed_during(&mut scene, after_ms, async move { controller.delete_volume(request).await }).await;
        scene
            .delete(&copy.volume_id)
            .await
            .unwrap_or_else(|status| panic!("{status}\n{}", scene.driver.log()));
    }
    for after_ms in DEATHS_AFTER.into_iter().step_by(2) {
        snapshot_in_spite_of_deaths(&mut scene, &source, after_ms).await;
    }
    scene.delete(&source.volume_id).await.unwrap();
    nothing_is_recorded(&scene).await;
    scene.end().await;
}
