//! Is a copy what its source was?

use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

use nix::sys::stat::{Mode, SFlag};
use nix::unistd::{Gid, Uid};

use super::*;
use crate::provision::files::below;
use crate::provision::{CopyError, CreateSnapshotError, NewSnapshot};

fn snapshot_of(world: &World, id: &VolumeId, name: &str) -> Result<Snapshot, CreateSnapshotError> {
    let new = NewSnapshot { csi_name: name.to_owned(), source: id.clone() };
    snapshots::create(world.roots(), &new, &Stop::default())
}

/// Fills a directory with one of each kind.
fn fill(dir: &Path) {
    let file = |name: &str, text: &str, mode: u32| {
        std::fs::write(dir.join(name), text).unwrap();
        std::fs::set_permissions(dir.join(name), PermissionsExt::from_mode(mode)).unwrap();
    };
    file("plain", "text", 0o640);
    file("secret", "closed", 0o000);
    file("-rf", "dash", 0o644);
    file("setuid", "s", 0o644);
    std::fs::hard_link(dir.join("plain"), dir.join("hard")).unwrap();
    std::fs::create_dir_all(dir.join("sub/deeper")).unwrap();
    std::fs::hard_link(dir.join("plain"), dir.join("sub/deeper/hard")).unwrap();
    symlink("/etc/passwd", dir.join("absolute")).unwrap();
    symlink("../../../..", dir.join("sub/up")).unwrap();
    nix::unistd::mkfifo(&dir.join("fifo"), Mode::from_bits_truncate(0o622)).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(dir.join("socket")).unwrap();
    drop(socket);
    nix::sys::stat::mknod(&dir.join("null"), SFlag::S_IFCHR, Mode::S_IRUSR, nix::sys::stat::makedev(1, 3))
        .unwrap();
    let owner = (Some(Uid::from_raw(1234)), Some(Gid::from_raw(4321)));
    for name in ["setuid", "sub", "fifo"] {
        nix::unistd::chown(&dir.join(name), owner.0, owner.1).unwrap();
    }
    std::fs::set_permissions(dir.join("setuid"), PermissionsExt::from_mode(0o4755)).unwrap();
    let old = std::time::UNIX_EPOCH + Duration::new(1_000_000_000, 123_456_789);
    for name in ["plain", "sub/deeper", "sub"] {
        File::open(dir.join(name)).unwrap().set_modified(old).unwrap();
    }
    std::fs::set_permissions(dir.join("sub"), PermissionsExt::from_mode(0o1770)).unwrap();
    std::fs::set_permissions(dir, PermissionsExt::from_mode(0o2750)).unwrap();
}

#[test]
fn a_snapshot_and_a_volume_from_it_hold_all_that_the_source_held() {
    let world = World::new(&["main", "other"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    fill(&world.path("main/a"));
    let before = picture(&world.path("main/a"));
    let snapshot = snapshot_of(&world, &id, "s").unwrap();
    assert_eq!(snapshot_of(&world, &id, "s").unwrap(), snapshot, "the same snapshot again");
    assert_eq!(picture(&world.path("main/.mountpod/snapshots/s/data")), before);

    // The source goes, the snapshot stays; restoring works twice, into another root as well.
    world.delete(&id);
    for (root, name) in [("main", "r1"), ("other", "r2")] {
        let new = NewDirectory { source: Some(Source::Snapshot(snapshot.id.clone())), ..wanted(root, name) };
        let restored = world.create(&new).unwrap();
        assert_eq!(restored.source, new.source);
        assert_eq!(picture(&world.path(root).join(name)), before);
        assert_eq!(world.path(root).join(name).metadata().unwrap().mode() & 0o7777, 0o2750);
    }
    snapshots::delete(world.roots(), &snapshot.id, &Stop::default()).unwrap();
    snapshots::delete(world.roots(), &snapshot.id, &Stop::default()).unwrap();
    assert!(matches!(snapshots::find(world.roots(), &snapshot.id), Err(FindError::NoSuchSnapshot(_))));
    assert_eq!(picture(&world.path("main/r1")), before);
}

#[test]
fn a_snapshot_name_is_one_snapshot() {
    let world = World::new(&["one", "two"]);
    let first = world.create(&wanted("one", "a")).unwrap().id;
    let second = world.create(&wanted("two", "b")).unwrap().id;
    snapshot_of(&world, &first, "s").unwrap();
    assert!(matches!(snapshot_of(&world, &second, "s"), Err(CreateSnapshotError::Exists { .. })));
    let gone = snapshot_of(&world, &"one#gone".parse().unwrap(), "t");
    assert!(matches!(gone, Err(CreateSnapshotError::NoSuchVolume(_))));
}

#[test]
fn holes_stay_holes_and_attributes_are_kept() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    let sparse = File::create(world.path("main/a/sparse")).unwrap();
    sparse.write_all_at(b"begin", 0).unwrap();
    sparse.write_all_at(b"end", (256 << 20) - 3).unwrap();
    sys::set_xattr(sparse.as_fd(), c"user.colour", b"blue").unwrap();
    let clone = NewDirectory { source: Some(Source::Volume(id)), ..wanted("main", "b") };
    world.create(&clone).unwrap();
    let copy = File::open(world.path("main/b/sparse")).unwrap();
    let meta = copy.metadata().unwrap();
    assert_eq!(meta.len(), 256 << 20);
    assert!(meta.blocks() * 512 < 4 << 20, "{} bytes on disk", meta.blocks() * 512);
    let mut end = [0; 3];
    copy.read_exact_at(&mut end, (256 << 20) - 3).unwrap();
    assert_eq!(&end, b"end");
    assert_eq!(sys::xattr(copy.as_fd(), c"user.colour").unwrap(), b"blue");
}

#[test]
fn a_deep_tree_with_long_names_is_copied_and_removed() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    make_deep(&world.path("main/a"), 300);
    let clone = NewDirectory { source: Some(Source::Volume(id.clone())), ..wanted("main", "b") };
    let copy = world.create(&clone).unwrap().id;
    assert_eq!(depth(&world.path("main/b")), 300);
    world.delete(&id);
    world.delete(&copy);
    assert!(!world.path("main/a").exists() && !world.path("main/b").exists());
    assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new());
}

/// Directories in one another, each with a name of 60 bytes: far more than `PATH_MAX` at 300 levels.
pub(super) fn make_deep(dir: &Path, levels: usize) {
    let name = "d".repeat(60);
    let mut at = below::open_dir(File::open(dir).unwrap().as_fd(), &below::Below::default()).unwrap();
    for _ in 0..levels {
        nix::sys::stat::mkdirat(&at, name.as_str(), Mode::S_IRWXU).unwrap();
        at = below::open(at.as_fd(), name.as_bytes(), nix::fcntl::OFlag::O_DIRECTORY).unwrap();
    }
}

fn depth(dir: &Path) -> usize {
    let name = "d".repeat(60);
    let mut at = below::open_dir(File::open(dir).unwrap().as_fd(), &below::Below::default()).unwrap();
    let mut depth = 0;
    while let Ok(next) = below::open(at.as_fd(), name.as_bytes(), nix::fcntl::OFlag::O_DIRECTORY) {
        (at, depth) = (next, depth + 1);
    }
    depth
}

#[test]
fn a_copy_that_is_stopped_leaves_nothing() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    std::fs::write(world.path("main/a/file"), "x").unwrap();
    world.hostdir.stop();
    let stop = &world.hostdir.stop;
    let clone = NewDirectory { source: Some(Source::Volume(id.clone())), ..wanted("main", "b") };
    let error = volumes::create(world.roots(), &clone, stop).unwrap_err();
    assert!(matches!(error, CreateVolumeError::Copy(CopyError::Stopped)), "{error}");
    let new = NewSnapshot { csi_name: "s".to_owned(), source: id };
    let error = snapshots::create(world.roots(), &new, stop).unwrap_err();
    assert!(matches!(error, CreateSnapshotError::Copy { source: CopyError::Stopped, .. }), "{error}");
    assert_eq!(leftovers(&world.path("main")), [PathBuf::from("volumes/a.json")]);
    assert!(!world.path("main/b").exists());
}

#[test]
fn a_full_disk_is_told_and_leaves_nothing() {
    let world = World::new(&["main"]);
    let _small = Mounted::tmpfs(&world.path("main"), "size=4m");
    let hostdir = Hostdir::new(vec![root_in(world.dir.path(), "main")]).unwrap();
    let id = volumes::create(&hostdir.roots, &wanted("main", "a"), &Stop::default()).unwrap().id;
    std::fs::write(world.path("main/a/file"), vec![7; 3 << 20]).unwrap();
    let before = picture(&world.path("main"));
    let clone = NewDirectory { source: Some(Source::Volume(id.clone())), ..wanted("main", "b") };
    let error = volumes::create(&hostdir.roots, &clone, &Stop::default()).unwrap_err();
    let CreateVolumeError::Copy(CopyError::Store(store)) = error else { panic!("{error}") };
    assert_eq!(store.full(), crate::provision::Full::Yes);
    let new = NewSnapshot { csi_name: "s".to_owned(), source: id };
    let error = snapshots::create(&hostdir.roots, &new, &Stop::default()).unwrap_err();
    assert!(matches!(error, CreateSnapshotError::Copy { source: CopyError::Store(_), .. }), "{error}");
    assert_eq!(picture(&world.path("main")).keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
}

#[test]
fn a_mount_inside_the_source_is_not_copied() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    std::fs::create_dir(world.path("main/a/mnt")).unwrap();
    let _inside = Mounted::tmpfs(&world.path("main/a/mnt"), "size=1m");
    std::fs::write(world.path("main/a/mnt/theirs"), "x").unwrap();
    let clone = NewDirectory { source: Some(Source::Volume(id)), ..wanted("main", "b") };
    let error = world.create(&clone).unwrap_err();
    assert!(matches!(error, CreateVolumeError::Copy(CopyError::MountInside { .. })), "{error}");
    assert!(!world.path("main/b").exists());
}

/// A mount that goes with it.
pub(super) struct Mounted(PathBuf);

impl Mounted {
    pub(super) fn tmpfs(at: &Path, options: &str) -> Self {
        let flags = nix::mount::MsFlags::MS_NOSUID;
        nix::mount::mount(Some("none"), at, Some("tmpfs"), flags, Some(options))
            .expect("these tests need root");
        Self(at.to_owned())
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH)
            .expect("the test's own mount can be unmounted");
    }
}

/// `system.posix_acl_*` as in linux/posix_acl_xattr.h: owner all, user 1000 all, group none, mask all, others none.
const ACL_WITH_A_GUEST: &[u8] = &[
    2, 0, 0, 0, //
    0x01, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
    0x02, 0, 7, 0, 0xe8, 0x03, 0, 0, //
    0x04, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, //
    0x10, 0, 7, 0, 0xff, 0xff, 0xff, 0xff, //
    0x20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, //
];

#[test]
fn the_copy_of_a_file_lets_in_nobody_whom_the_file_does_not() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    std::fs::create_dir(world.path("main/a/dir")).unwrap();
    std::fs::create_dir(world.path("main/a/dir/inner")).unwrap();
    std::fs::write(world.path("main/a/dir/file"), "x").unwrap();
    std::fs::set_permissions(world.path("main/a/dir/file"), PermissionsExt::from_mode(0o640)).unwrap();
    let dir = File::open(world.path("main/a/dir")).unwrap();
    // Later than the file, which has therefore inherited nothing.
    sys::set_xattr(dir.as_fd(), c"system.posix_acl_default", ACL_WITH_A_GUEST).unwrap();
    world.create(&NewDirectory { source: Some(Source::Volume(id)), ..wanted("main", "b") }).unwrap();
    let acls = |path: &str| {
        let file = File::open(world.path(path)).unwrap();
        let names = sys::xattr_names(file.as_fd()).unwrap();
        names.into_iter().filter(|name| name.to_bytes().starts_with(b"system.posix_acl")).collect::<Vec<_>>()
    };
    assert_eq!(acls("main/b/dir"), [c"system.posix_acl_default".to_owned()]);
    assert!(acls("main/b/dir/file").is_empty() && acls("main/b/dir/inner").is_empty());
    assert_eq!(world.path("main/b/dir/file").metadata().unwrap().mode() & 0o7777, 0o640);
}

#[test]
fn a_path_ends_where_no_caller_could_name_it_at_once() {
    let mut path = below::Below::default();
    for _ in 0..2048 {
        path = path.join(c"d").unwrap();
    }
    assert_eq!(path.to_string().len(), 4095);
    assert_eq!(path.join(c"d").unwrap_err(), nix::errno::Errno::ENAMETOOLONG);
    assert_eq!(path.entry(c"e").to_string(), format!("{path}/e"));
    assert_eq!(below::Below::default().entry(c"e").to_string(), "e");
}
