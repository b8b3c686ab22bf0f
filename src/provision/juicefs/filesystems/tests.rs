//! Is a filesystem mounted as long as somebody works in it? The engine is a double, the clock is stopped.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::{advance, sleep};

use super::*;
use crate::mountpod::service::{Knowledge, PublishedTargets, VolumeStats};
use crate::volume::SecretFiles;

/// Some moments, in which everything that can go on does.
const MOMENT: Duration = Duration::from_millis(10);
const MOUNTING: Duration = Duration::from_secs(1);

/// An engine that counts.
#[derive(Default)]
struct Engine {
    published: AtomicUsize,
    unpublished: AtomicUsize,
    mounted: Mutex<Vec<TargetPath>>,
    refusing: AtomicUsize,
}

impl PublishedTargets for Engine {
    const KNOWLEDGE: Knowledge = Knowledge::ThisNode;

    fn targets(&self, _volume: &VolumeId) -> Vec<TargetPath> {
        Vec::new()
    }
}

impl MountService for Engine {
    fn client(&self, _volume: &VolumeId) -> Option<ClientKind> {
        None
    }

    async fn publish(&self, request: PublishRequest) -> Result<(), MountError> {
        assert_eq!(request.spec.subdirectory, "", "it is the whole filesystem");
        assert_eq!(request.pod.files.len(), 1, "its client finds the files that the Secret names");
        self.published.fetch_add(1, Ordering::SeqCst);
        sleep(MOUNTING).await;
        if self.refusing.load(Ordering::SeqCst) > 0 {
            return Err(MountError::NotMounted { volume: request.volume, target: request.target });
        }
        let mut mounted = self.mounted.lock().unwrap();
        mounted.retain(|target| *target != request.target);
        mounted.push(request.target);
        Ok(())
    }

    async fn unpublish(&self, _volume: &VolumeId, target: &TargetPath) -> Result<(), MountError> {
        self.unpublished.fetch_add(1, Ordering::SeqCst);
        self.mounted.lock().unwrap().retain(|mounted| mounted != target);
        Ok(())
    }

    async fn stats(&self, volume: &VolumeId, target: &TargetPath) -> Result<VolumeStats, MountError> {
        Err(MountError::NotMounted { volume: volume.clone(), target: target.clone() })
    }
}

impl Engine {
    fn mounts(&self) -> usize {
        self.mounted.lock().unwrap().len()
    }
}

struct World {
    engine: Arc<Engine>,
    filesystems: Arc<Filesystems<Engine>>,
    directory: tempfile::TempDir,
}

impl World {
    fn new() -> Self {
        Self::with_leftovers(&[])
    }

    fn with_leftovers(names: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let engine = Arc::new(Engine::default());
        let key = NodeKey::new(vec![1; 32]);
        let filesystems = Filesystems::start(engine.clone(), directory.path().to_owned(), key).unwrap();
        Self { engine, filesystems, directory }
    }

    async fn open(&self, password: &str) -> Result<Mounted<Engine>, FilesystemError> {
        let secrets = Secrets::from_iter([("metaurl".to_owned(), password.to_owned())]);
        let files = SecretFiles { secret: "tls".parse().unwrap(), path: "/etc/tls".parse().unwrap() };
        let pod = PodShape { files: vec![files], ..PodShape::default() };
        self.filesystems.open(&"fs".parse().unwrap(), &secrets, pod).await
    }
}

#[tokio::test(start_paused = true)]
async fn a_filesystem_is_mounted_once_for_all_who_have_the_same_credentials_and_kept_for_a_while() {
    let world = World::new();
    let (one, same, other) = tokio::join!(world.open("a"), world.open("a"), world.open("b"));
    assert_eq!(world.engine.mounts(), 2);
    let (one, same, other) = (one.unwrap(), same.unwrap(), other.unwrap());
    assert_eq!(one.target(), same.target());
    assert_ne!(one.target(), other.target());
    assert!(one.target().as_path().starts_with(world.directory.path()));
    drop((one, other));
    sleep(KEPT + MOMENT).await;
    assert_eq!(world.engine.mounts(), 1, "somebody still works in it");
    drop(same);
    sleep(KEPT / 2).await;
    drop(world.open("a").await.unwrap());
    sleep(KEPT / 2 + MOMENT).await;
    assert_eq!(world.engine.mounts(), 1, "somebody has worked in it since");
    sleep(KEPT).await;
    assert_eq!(world.engine.mounts(), 0);
    assert!(world.filesystems.slots().is_empty(), "it is forgotten");
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_mount_fail_with_it_and_the_next_tries_again() {
    let world = World::new();
    world.engine.refusing.store(1, Ordering::SeqCst);
    let (one, two, three) = tokio::join!(world.open("a"), world.open("a"), world.open("a"));
    for answer in [one, two, three] {
        assert!(matches!(answer, Err(FilesystemError::Mount { .. })));
    }
    assert_eq!(world.engine.published.load(Ordering::SeqCst), 1, "nobody waits for a second failure");
    world.engine.refusing.store(0, Ordering::SeqCst);
    assert!(world.open("a").await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_driver_left_is_unmounted_and_foreign_names_are_left_alone() {
    let world = World::with_leftovers(&["0123456789abcdef.fs", "lost+found"]);
    sleep(MOMENT).await;
    assert_eq!(world.engine.unpublished.load(Ordering::SeqCst), 1);
}

#[tokio::test(start_paused = true)]
async fn a_driver_that_ends_unmounts_at_once_what_nobody_works_in() {
    let world = World::new();
    drop(world.open("a").await.unwrap());
    advance(MOMENT).await;
    world.filesystems.shut_down().await;
    assert_eq!(world.engine.mounts(), 0);
    assert!(matches!(world.open("a").await, Err(FilesystemError::Stopping)));
}
