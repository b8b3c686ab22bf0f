//! What if the driver dies between any two steps?
//!
//! Each state that a crash can leave is made by hand, and then creation and deletion must both come to their end.

use std::os::fd::AsFd;

use super::*;
use crate::provision::{
    NewSnapshot,
    files::record::{self, VolumeState},
    hostdir::record::VolumeRecord,
};

const NAME: &str = "a";

fn id() -> VolumeId {
    "main#a".parse().unwrap()
}

/// What it is, and how it is made.
type State = (&'static str, fn(&World));

/// Every state that a crash can leave while the volume `a` is made or removed.
fn states() -> Vec<State> {
    vec![
        ("a draft of the record", |world| {
            std::fs::write(world.path("main/.mountpod/volumes/.a.draft"), "{").unwrap();
        }),
        ("the record alone", |world| write(world, VolumeState::Creating)),
        ("a half-filled directory", |world| {
            write(world, VolumeState::Creating);
            fill_new(world);
        }),
        ("a filled directory that is announced", |world| {
            fill_new(world);
            let inode = inode(world, "main/.mountpod/new/volume-a");
            write(world, VolumeState::Placing { inode });
        }),
        ("the directory in its place", |world| {
            std::fs::create_dir(world.path("main/a")).unwrap();
            let inode = inode(world, "main/a");
            write(world, VolumeState::Placing { inode });
        }),
        ("a deletion that is announced", |world| {
            std::fs::create_dir(world.path("main/a")).unwrap();
            std::fs::write(world.path("main/a/old"), "x").unwrap();
            let inode = inode(world, "main/a");
            write(world, VolumeState::Deleting { inode });
        }),
        ("a deletion with the directory in the trash", |world| {
            std::fs::create_dir_all(world.path("main/.mountpod/trash/volume-a/0/sub/deeper")).unwrap();
            std::fs::write(world.path("main/.mountpod/trash/volume-a/0/old"), "x").unwrap();
            write(world, VolumeState::Deleting { inode: 1 });
        }),
        ("a deletion with the trash emptied", |world| write(world, VolumeState::Deleting { inode: 1 })),
    ]
}

fn write(world: &World, state: VolumeState) {
    let record = VolumeRecord { state, ..VolumeRecord::new(&wanted("main", NAME), 1 << 20) };
    let root = world.roots().get(&"main".parse().unwrap()).unwrap().open().unwrap();
    record::write(root.volumes.as_fd(), NAME, &record).unwrap();
}

fn fill_new(world: &World) {
    std::fs::create_dir_all(world.path("main/.mountpod/new/volume-a/half")).unwrap();
}

fn inode(world: &World, path: &str) -> u64 {
    world.path(path).metadata().unwrap().ino()
}

#[test]
fn creation_comes_to_its_end_from_every_state() {
    for (state, make) in states() {
        let world = World::new(&["main"]);
        make(&world);
        let volume = world.create(&wanted("main", NAME)).unwrap_or_else(|error| panic!("{state}: {error:?}"));
        assert_eq!(volume.id, id(), "{state}");
        assert!(picture(&world.path("main/a")).is_empty(), "{state}: a new volume is empty");
        assert_eq!(leftovers(&world.path("main")), [PathBuf::from("volumes/a.json")], "{state}");
        world.delete(&id());
        assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new(), "{state}");
    }
}

#[test]
fn deletion_comes_to_its_end_from_every_state_and_no_half_volume_is_ever_found() {
    for (state, make) in states() {
        let world = World::new(&["main"]);
        make(&world);
        assert!(volumes::find(world.roots(), &id()).is_err(), "{state}: it is not ready");
        let window = Window { after: None, entries_max: None };
        assert!(list::volumes(world.roots(), &window).unwrap().items.is_empty(), "{state}");
        world.delete(&id());
        world.delete(&id());
        assert!(!world.path("main/a").exists(), "{state}");
        let drafts = leftovers(&world.path("main"));
        assert!(drafts.iter().all(|path| path.ends_with(".a.draft")), "{state}: {drafts:?}");
    }
}

#[test]
fn a_foreign_directory_that_appears_in_between_is_never_ours() {
    for state in
        [VolumeState::Creating, VolumeState::Placing { inode: 1 }, VolumeState::Deleting { inode: 1 }]
    {
        let world = World::new(&["main"]);
        write(&world, state.clone());
        std::fs::create_dir(world.path("main/a")).unwrap();
        std::fs::write(world.path("main/a/file"), "precious").unwrap();
        let outcome = world.create(&wanted("main", NAME));
        assert!(matches!(outcome, Err(CreateVolumeError::Foreign { .. })), "{state:?}: {outcome:?}");
        world.delete(&id());
        assert_eq!(std::fs::read_to_string(world.path("main/a/file")).unwrap(), "precious", "{state:?}");
        assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new(), "{state:?}");
    }
}

#[test]
fn a_snapshot_that_was_half_copied_is_no_snapshot_and_is_taken_anew() {
    let world = World::new(&["main"]);
    let source = world.create(&wanted("main", NAME)).unwrap().id;
    std::fs::write(world.path("main/a/file"), "new").unwrap();
    std::fs::create_dir_all(world.path("main/.mountpod/new/snapshot-s/data")).unwrap();
    std::fs::write(world.path("main/.mountpod/new/snapshot-s/data/file"), "half").unwrap();
    let window = Window { after: None, entries_max: None };
    assert!(list::snapshots(world.roots(), None, &window).unwrap().items.is_empty());
    let new = NewSnapshot { csi_name: "s".to_owned(), source };
    let snapshot = snapshots::create(world.roots(), &new, &Stop::default()).unwrap();
    let copy = world.path("main/.mountpod/snapshots/s/data/file");
    assert_eq!(std::fs::read_to_string(copy).unwrap(), "new");
    // A deletion that died after moving it into the trash.
    std::fs::create_dir(world.path("main/.mountpod/trash/snapshot-s")).unwrap();
    std::fs::rename(
        world.path("main/.mountpod/snapshots/s"),
        world.path("main/.mountpod/trash/snapshot-s/0"),
    )
    .unwrap();
    snapshots::delete(world.roots(), &snapshot.id, &Stop::default()).unwrap();
    assert_eq!(leftovers(&world.path("main")), [PathBuf::from("volumes/a.json")]);
}

#[test]
fn a_garbled_or_newer_record_is_an_error_and_nothing_is_touched() {
    for text in ["", "{", "{\"form\": 2}", "[]"] {
        let world = World::new(&["main"]);
        std::fs::create_dir(world.path("main/a")).unwrap();
        std::fs::write(world.path("main/.mountpod/volumes/a.json"), text).unwrap();
        let before = picture(&world.path("main"));
        assert!(matches!(world.create(&wanted("main", NAME)), Err(CreateVolumeError::Store(_))), "{text}");
        assert!(volumes::delete(world.roots(), &id(), &Stop::default()).is_err(), "{text}");
        assert_eq!(picture(&world.path("main")), before, "{text}");
    }
}
