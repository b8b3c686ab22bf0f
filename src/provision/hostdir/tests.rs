//! Does a root hold after every step what it should, whatever is in it and wherever a crash happens?
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

mod copies;
mod crashes;
mod removal;

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::super::{CreateVolumeError, Lifetime, NewDirectory, Source};
use super::*;
use crate::config::flags::{MissingRoot, Reach};

/// Roots in a directory that goes with it.
struct World {
    dir: tempfile::TempDir,
    hostdir: Hostdir,
}

impl World {
    fn new(names: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let roots = names.iter().map(|name| root_in(dir.path(), name)).collect();
        Self { hostdir: Hostdir::new(roots).unwrap(), dir }
    }

    fn roots(&self) -> &Roots {
        &self.hostdir.roots
    }

    fn path(&self, below: &str) -> PathBuf {
        self.dir.path().join(below)
    }

    fn create(&self, new: &NewDirectory) -> Result<Volume, CreateVolumeError> {
        volumes::create(self.roots(), new, &Stop::default())
    }

    fn delete(&self, id: &VolumeId) {
        volumes::delete(self.roots(), id, &Stop::default()).unwrap();
    }
}

fn root_in(dir: &Path, name: &str) -> HostdirRoot {
    let dir = dir.join(name);
    HostdirRoot { name: name.parse().unwrap(), dir, reach: Reach::NodeLocal, missing: MissingRoot::Create }
}

fn wanted(root: &str, name: &str) -> NewDirectory {
    NewDirectory {
        csi_name: name.to_owned(),
        filesystem: root.parse().unwrap(),
        capacity: CapacityRange { required: Some(1 << 20), limit: None },
        source: None,
        resources: Resources::default(),
        lifetime: Lifetime::Persistent,
    }
}

#[test]
fn an_inline_volume_is_in_no_list_and_its_deletion_spares_others() {
    let world = World::new(&["main"]);
    let inline = NewDirectory { lifetime: Lifetime::Pod, ..wanted("main", "csi-a") };
    let id = world.create(&inline).unwrap().id;
    assert_eq!(world.create(&inline).unwrap().id, id, "made once");
    assert!(matches!(world.create(&wanted("main", "csi-a")), Err(CreateVolumeError::Exists { .. })));
    let kept = world.create(&wanted("main", "kept")).unwrap().id;
    let all = Window { after: None, entries_max: None };
    let listed = list::volumes(world.roots(), &all).unwrap();
    assert_eq!(
        listed.items.into_iter().map(|volume| volume.id).collect::<Vec<_>>(),
        std::slice::from_ref(&kept)
    );
    assert_eq!(volumes::inline(world.roots(), "csi-a").unwrap(), std::slice::from_ref(&id));
    assert!(volumes::inline(world.roots(), "kept").unwrap().is_empty());
    for id in [&id, &id, &kept] {
        volumes::delete_inline(world.roots(), id, &Stop::default()).unwrap();
    }
    assert!(matches!(volumes::find(world.roots(), &id), Err(FindError::NoSuchVolume(_))));
    assert!(volumes::find(world.roots(), &kept).is_ok(), "it lives longer than a pod");
}

/// Every path below a directory with its kind, mode, owner, size and content or link target.
fn picture(dir: &Path) -> BTreeMap<PathBuf, String> {
    let mut seen = BTreeMap::new();
    let mut pending = vec![dir.to_owned()];
    while let Some(at) = pending.pop() {
        for entry in std::fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let meta = path.symlink_metadata().unwrap();
            let content =
                if meta.is_file() { format!("{:?}", std::fs::read(&path).unwrap()) } else { String::new() };
            let link = std::fs::read_link(&path).unwrap_or_default();
            let what = format!(
                "{:o} {}:{} links {} mtime {}.{} -> {link:?} {content}",
                meta.mode(),
                meta.uid(),
                meta.gid(),
                if meta.is_file() { meta.nlink() } else { 0 },
                meta.mtime(),
                meta.mtime_nsec()
            );
            seen.insert(path.strip_prefix(dir).unwrap().to_owned(), what);
            if meta.is_dir() {
                pending.push(path);
            }
        }
    }
    seen
}

/// The names of what is in the driver's own directory, but for its fixed subdirectories.
fn leftovers(root: &Path) -> Vec<PathBuf> {
    let fixed = ["volumes", "snapshots", "new", "trash"].map(PathBuf::from);
    picture(&root.join(".mountpod")).into_keys().filter(|path| !fixed.contains(path)).collect()
}

#[test]
fn a_volume_is_a_directory_that_anyone_may_write_to() {
    let world = World::new(&["main"]);
    let volume = world.create(&wanted("main", "pvc-1")).unwrap();
    assert_eq!(volume.id.to_string(), "main#pvc-1");
    assert_eq!(volume.capacity_bytes, 1 << 20);
    let mode = world.path("main/pvc-1").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o7777, 0o777);
    let own = world.path("main/.mountpod").metadata().unwrap().permissions().mode();
    assert_eq!(own & 0o7777, 0o700);
}

#[test]
fn the_same_name_is_the_same_volume_and_another_size_is_refused() {
    let world = World::new(&["main"]);
    let first = world.create(&wanted("main", "a")).unwrap();
    assert_eq!(world.create(&wanted("main", "a")).unwrap(), first);
    let other_size = CapacityRange { required: Some(2 << 20), limit: Some(2 << 20) };
    let other = NewDirectory { capacity: other_size, ..wanted("main", "a") };
    assert!(matches!(world.create(&other), Err(CreateVolumeError::Exists { .. })));
    let limits = Resources { memory_limit: Some(crate::volume::MemoryBytes(1 << 30)), cpu_limit: None };
    let other = NewDirectory { resources: limits, ..wanted("main", "a") };
    assert!(matches!(world.create(&other), Err(CreateVolumeError::Exists { .. })));
}

#[test]
fn the_same_name_in_another_root_is_refused() {
    let world = World::new(&["one", "two"]);
    world.create(&wanted("one", "a")).unwrap();
    assert!(matches!(world.create(&wanted("two", "a")), Err(CreateVolumeError::Exists { .. })));
    assert!(!world.path("two/a").exists());
}

#[test]
fn a_foreign_directory_is_neither_taken_nor_deleted() {
    let world = World::new(&["main"]);
    std::fs::create_dir(world.path("main/theirs")).unwrap();
    std::fs::write(world.path("main/theirs/file"), "precious").unwrap();
    assert!(matches!(world.create(&wanted("main", "theirs")), Err(CreateVolumeError::Foreign { .. })));
    world.delete(&"main#theirs".parse().unwrap());
    assert_eq!(std::fs::read_to_string(world.path("main/theirs/file")).unwrap(), "precious");
    assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new());
}

#[test]
fn hostile_and_long_names_stay_below_their_root() {
    let world = World::new(&["main"]);
    let outside = picture(world.dir.path()).len();
    for name in ["-rf", "..", "../../etc", "a/b", ".mountpod", &"A".repeat(128)] {
        let volume = world.create(&wanted("main", name)).unwrap();
        assert!(world.path("main").join(volume.id.name()).is_dir(), "{name}");
        assert_eq!(world.create(&wanted("main", name)).unwrap().id, volume.id);
        world.delete(&volume.id);
    }
    assert_eq!(picture(world.dir.path()).len(), outside);
}

#[test]
fn more_than_the_root_has_in_all_is_refused() {
    let world = World::new(&["main"]);
    let absurd = CapacityRange { required: Some(1 << 59), limit: None };
    let error = world.create(&NewDirectory { capacity: absurd, ..wanted("main", "a") }).unwrap_err();
    assert!(matches!(error, CreateVolumeError::Range(_)), "{error}");
    assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new());
}

#[test]
fn a_volume_grows_and_never_shrinks() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    let range = |required, limit| CapacityRange { required, limit };
    let expand = |range| volumes::expand(world.roots(), &id, range);
    assert_eq!(expand(range(Some(2 << 20), None)).unwrap(), 2 << 20);
    assert_eq!(expand(range(Some(1 << 20), None)).unwrap(), 2 << 20);
    assert!(matches!(expand(range(Some(1), Some(1 << 20))), Err(ChangeError::Range(_))));
    assert_eq!(volumes::find(world.roots(), &id).unwrap().capacity_bytes, 2 << 20);
    let gone = volumes::expand(world.roots(), &"main#gone".parse().unwrap(), range(Some(1), None));
    assert!(matches!(gone, Err(ChangeError::NoSuchVolume(_))));
}

#[test]
fn pages_follow_on_even_when_their_last_volume_was_deleted() {
    let world = World::new(&["one", "two"]);
    for (root, name) in [("one", "a"), ("one", "b"), ("two", "c"), ("two", "d")] {
        world.create(&wanted(root, name)).unwrap();
    }
    let list = |after: Option<VolumeId>, max| {
        let window = Window { after, entries_max: std::num::NonZeroUsize::new(max) };
        let page = list::volumes(world.roots(), &window).unwrap();
        (page.items.iter().map(|volume| volume.id.to_string()).collect::<Vec<_>>(), page.next_after)
    };
    let (first, next) = list(None, 2);
    assert_eq!(first, ["one#a", "one#b"]);
    world.delete(&next.clone().unwrap());
    assert_eq!(list(next, 2), (vec!["two#c".to_owned(), "two#d".to_owned()], None));
    assert_eq!(list(None, 0).0, ["one#a", "two#c", "two#d"]);
}

#[test]
fn roots_that_would_mix_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(dir.path().join("a/b")).unwrap();
    std::fs::create_dir(dir.path().join("real")).unwrap();
    std::os::unix::fs::symlink("real", dir.path().join("link")).unwrap();
    let root = |name: &str, below: &str| HostdirRoot {
        name: name.parse().unwrap(),
        dir: dir.path().join(below),
        reach: Reach::NodeLocal,
        missing: MissingRoot::Refuse,
    };
    let refused = |roots: Vec<HostdirRoot>| Hostdir::new(roots).err().unwrap();
    assert!(matches!(refused(vec![root("x", "a"), root("y", "a/b")]), RootError::Nested { .. }));
    assert!(matches!(refused(vec![root("x", "a/b"), root("y", "a")]), RootError::Nested { .. }));
    assert!(matches!(refused(vec![root("x", "a"), root("y", "a")]), RootError::Nested { .. }));
    assert!(matches!(refused(vec![root("x", "a"), root("x", "real")]), RootError::SameName(_)));
    assert!(matches!(refused(vec![root("x", "missing")]), RootError::Unusable { .. }));
    assert!(matches!(refused(vec![root("x", "link")]), RootError::Unusable { .. }));
    assert_eq!(picture(dir.path()).len(), 4, "nothing may be made in a root that is refused");
}

#[test]
fn a_root_whose_disk_is_gone_is_not_written_to() {
    let world = World::new(&["main"]);
    std::fs::rename(world.path("main"), world.path("unmounted")).unwrap();
    std::fs::create_dir(world.path("main")).unwrap();
    let error = world.create(&wanted("main", "a")).unwrap_err();
    assert!(error.to_string().contains("is its disk mounted?"), "{error}");
    assert!(picture(&world.path("main")).is_empty());
}

#[test]
fn a_clone_needs_its_source_and_enough_room() {
    let world = World::new(&["main"]);
    let source = Source::Volume("main#gone".parse().unwrap());
    let clone = NewDirectory { source: Some(source), ..wanted("main", "b") };
    assert!(matches!(world.create(&clone), Err(CreateVolumeError::NoSuchSource(_))));
    let id = world.create(&NewDirectory {
        capacity: CapacityRange { required: Some(4 << 20), limit: None },
        ..wanted("main", "a")
    });
    let clone = NewDirectory { source: Some(Source::Volume(id.unwrap().id)), ..wanted("main", "b") };
    assert!(matches!(world.create(&clone), Err(CreateVolumeError::Range(_))));
    assert!(!world.path("main/b").exists());
}

#[test]
fn a_volume_does_not_shrink_and_the_limit_is_named() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    let smaller = CapacityRange { required: Some(1), limit: Some(2) };
    let Err(ChangeError::Range(error)) = volumes::expand(world.roots(), &id, smaller) else {
        panic!("it shrank")
    };
    assert_eq!(error.to_string(), "capacity_range.limit_bytes is 2, but 1048576 bytes are needed");
}

#[tokio::test(start_paused = true)]
async fn what_is_asked_while_the_disk_hangs_does_not_pile_up() {
    let world = World::new(&["main"]);
    let all = u32::try_from(SHORT_OPERATIONS_MAX).unwrap();
    let hanging = world.hostdir.short.turns.clone().acquire_many_owned(all).await.unwrap();
    let error = world.hostdir.volume(&"main#a".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, FindError::Store(_)), "{error}");
    drop(hanging);
    let error = world.hostdir.volume(&"main#a".parse().unwrap()).await.unwrap_err();
    assert!(matches!(error, FindError::NoSuchVolume(_)), "{error}");
}
