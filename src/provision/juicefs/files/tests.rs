//! Do the steps in a filesystem come to their end from wherever they were broken off? The client's part is played by hand.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::time::UNIX_EPOCH;

use super::*;
use crate::provision::Source;
use crate::provision::files::record::{FORM, VolumeState};

/// Rounds of a race, and those who run in it.
const ROUNDS: usize = 100;
const AT_ONCE: usize = 4;

struct World {
    directory: tempfile::TempDir,
    tree: Tree,
}

impl World {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let tree = Tree::open(directory.path()).unwrap();
        Self { directory, tree }
    }

    fn path(&self, below_root: impl AsRef<Path>) -> PathBuf {
        self.directory.path().join(below_root)
    }

    /// What a client does: clones a source with one file.
    fn clone_to(&self, below_root: impl AsRef<Path>) {
        std::fs::create_dir(self.path(&below_root)).unwrap();
        std::fs::write(self.path(below_root).join("cloned"), "x").unwrap();
    }

    fn create(&self, record: &VolumeRecord) -> Progress {
        let progress = volumes::begin(&self.tree, record.clone()).unwrap();
        if progress == Progress::Placed {
            volumes::finish(&self.tree, record.id.name()).unwrap();
        }
        progress
    }

    /// The whole of a deletion.
    fn delete(&self, name: &str) {
        if volumes::begin_deletion(&self.tree, name).unwrap().is_some() {
            if volumes::trash(&self.tree, name).unwrap() {
                std::fs::remove_dir_all(self.path(Trash::Volume(name).path())).unwrap();
            }
            volumes::end_deletion(&self.tree, name).unwrap();
        }
    }

    /// Names in a directory of the driver's.
    fn names(&self, directory: &str) -> Vec<String> {
        let entries = std::fs::read_dir(self.path(".mountpod").join(directory)).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn nothing_is_left(&self) {
        for directory in ["volumes", "paths", "snapshots", "new", "trash"] {
            assert_eq!(self.names(directory), Vec::<String>::new(), "{directory}");
        }
    }
}

fn record(name: &str, path: &str) -> VolumeRecord {
    VolumeRecord {
        form: FORM,
        id: format!("fs#{name}").parse().unwrap(),
        csi_name: name.to_owned(),
        path: path.parse().unwrap(),
        capacity_bytes: 1 << 30,
        inodes: None,
        source: None,
        context: BTreeMap::new(),
        state: VolumeState::Creating,
    }
}

fn cloned(name: &str, path: &str) -> VolumeRecord {
    VolumeRecord { source: Some(Source::Volume("fs#source".parse().unwrap())), ..record(name, path) }
}

#[test]
fn a_volume_is_a_directory_that_its_users_may_write_to() {
    let world = World::new();
    assert_eq!(world.create(&record("a", "shop/data")), Progress::Placed);
    let mode = |path: &str| std::fs::metadata(world.path(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!((mode("shop/data"), mode("shop"), mode(".mountpod")), (0o777, 0o755, 0o700));
    let found = volumes::find(&world.tree, "a").unwrap().unwrap();
    assert_eq!((found.record.state, found.present), (VolumeState::Ready, true));
    assert_eq!(volumes::advance(&world.tree, "a").unwrap(), Progress::Ready);
    world.delete("a");
    assert!(!world.path("shop/data").exists() && world.path("shop").exists());
    world.nothing_is_left();
    world.delete("a");
}

#[test]
fn a_clone_is_complete_or_absent() {
    let world = World::new();
    assert_eq!(world.create(&cloned("a", "a")), Progress::ToClone);
    assert!(!world.path("a").exists());
    world.clone_to(volume_in_the_making("a"));
    assert_eq!(volumes::advance(&world.tree, "a").unwrap(), Progress::Placed);
    assert!(world.path("a/cloned").exists());
    world.delete("a");
    world.nothing_is_left();
}

#[test]
fn no_two_volumes_share_files() {
    let world = World::new();
    world.create(&record("a", "team"));
    let taken = |path: &str| Progress::Taken { path: path.to_owned(), owner: "a".to_owned() };
    assert_eq!(world.create(&record("b", "team")), taken("team"));
    world.delete("b");
    assert_eq!(world.create(&record("c", "team/x/data")), taken("team"));
    world.delete("c");
    assert!(!world.path("team/x").exists(), "nothing was made in another's volume");
    // A directory around one, and one that somebody else made.
    world.create(&record("d", "shop/data"));
    assert_eq!(world.create(&record("e", "shop")), Progress::Foreign);
    world.delete("e");
    std::fs::create_dir(world.path("foreign")).unwrap();
    assert_eq!(world.create(&record("f", "foreign")), Progress::Foreign);
    world.delete("f");
    assert!(
        world.path("team").exists() && world.path("shop/data").exists() && world.path("foreign").exists()
    );
    // A name that was given back can be had.
    world.delete("a");
    assert_eq!(world.create(&record("b", "team")), Progress::Placed);
}

#[test]
fn a_claim_without_a_record_binds_nobody() {
    let world = World::new();
    world.create(&record("a", "team"));
    std::fs::remove_file(world.path(".mountpod/volumes/a.json")).unwrap();
    std::fs::remove_dir(world.path("team")).unwrap();
    assert_eq!(world.create(&record("b", "team")), Progress::Placed);
}

#[test]
fn of_many_that_find_a_claim_without_a_record_one_has_the_path() {
    let world = World::new();
    for round in 0..ROUNDS {
        let path = format!("p{round}");
        let begun = record(&format!("gone{round}"), &path);
        paths::claim(&world.tree, begun.id.name(), &begun.path).unwrap().unwrap();
        let names: Vec<String> = (0..AT_ONCE).map(|number| format!("v{round}-{number}")).collect();
        let progress: Vec<Progress> = std::thread::scope(|scope| {
            let begins = names.iter().map(|name| {
                let (directory, record) = (world.directory.path(), record(name, &path));
                scope.spawn(move || volumes::begin(&Tree::open(directory).unwrap(), record).unwrap())
            });
            let begins: Vec<_> = begins.collect();
            begins.into_iter().map(|begin| begin.join().unwrap()).collect()
        });
        let winners: Vec<_> =
            names.iter().zip(&progress).filter(|(_, progress)| **progress == Progress::Placed).collect();
        assert_eq!(winners.len(), 1, "{progress:?}");
        let inner = record("inner", &format!("{path}/inner"));
        let taken = paths::around(&world.tree, &inner.path).unwrap().unwrap();
        assert_eq!(taken.owner, *winners[0].0, "the path is claimed by whoever has it");
    }
}

#[test]
fn a_volume_that_was_begun_can_be_finished_or_removed_from_every_state() {
    type State = (&'static str, fn(&World));
    let states: [State; 5] = [
        ("the record alone", |world| put(world, VolumeState::Creating)),
        ("a directory in the making", |world| {
            put(world, VolumeState::Creating);
            world.clone_to(volume_in_the_making("a"));
        }),
        ("a directory that is to be placed", |world| {
            world.clone_to(volume_in_the_making("a"));
            let inode = std::fs::metadata(world.path(volume_in_the_making("a"))).unwrap().ino();
            put(world, VolumeState::Placing { inode });
        }),
        ("a directory in its place", |world| {
            world.clone_to("a");
            let inode = std::fs::metadata(world.path("a")).unwrap().ino();
            put(world, VolumeState::Placing { inode });
        }),
        ("a ready volume", |world| {
            world.clone_to("a");
            put(world, VolumeState::Ready);
        }),
    ];
    for (what, lay) in states {
        let world = World::new();
        lay(&world);
        if volumes::advance(&world.tree, "a").unwrap() == Progress::ToClone {
            world.clone_to(volume_in_the_making("a"));
            assert_eq!(volumes::advance(&world.tree, "a").unwrap(), Progress::Placed, "{what}");
        }
        volumes::finish(&world.tree, "a").unwrap();
        assert!(world.path("a/cloned").exists(), "{what}");

        let world = World::new();
        lay(&world);
        world.delete("a");
        assert!(!world.path("a").exists(), "{what}");
        world.nothing_is_left();
    }
}

fn put(world: &World, state: VolumeState) {
    let record = VolumeRecord { state, ..cloned("a", "a") };
    crate::provision::files::record::write(std::os::fd::AsFd::as_fd(&world.tree.volumes), "a", &record)
        .unwrap();
}

#[test]
fn a_removal_goes_on_where_it_was_broken_off_and_spares_what_came_since() {
    let world = World::new();
    world.create(&record("a", "a"));
    let first = volumes::begin_deletion(&world.tree, "a").unwrap().unwrap();
    assert_eq!(first.quota.as_deref(), Some("/a"));
    assert!(volumes::trash(&world.tree, "a").unwrap());
    assert!(volumes::end_deletion(&world.tree, "a").is_err(), "its files are still there");
    // Somebody has put something in its place since.
    std::fs::create_dir(world.path("a")).unwrap();
    let again = volumes::begin_deletion(&world.tree, "a").unwrap().unwrap();
    assert_eq!(again.quota, None);
    world.delete("a");
    assert!(world.path("a").exists());
    world.nothing_is_left();
}

#[test]
fn a_symlink_in_a_volumes_place_or_on_the_way_leads_nowhere() {
    let world = World::new();
    world.create(&record("victim", "victim"));
    std::fs::write(world.path("victim/kept"), "x").unwrap();
    world.create(&record("a", "a"));
    std::fs::remove_dir(world.path("a")).unwrap();
    symlink("victim", world.path("a")).unwrap();
    volumes::begin_deletion(&world.tree, "a").unwrap();
    volumes::trash(&world.tree, "a").unwrap();
    assert!(world.path("victim/kept").exists() && world.path("a").symlink_metadata().is_err());

    symlink("victim", world.path("way")).unwrap();
    assert!(volumes::begin(&world.tree, record("b", "way/b")).is_err());
    assert!(!world.path("victim/b").exists());
}

fn snapshot(name: &str) -> SnapshotRecord {
    SnapshotRecord {
        form: FORM,
        id: format!("fs#{name}").parse().unwrap(),
        csi_name: name.to_owned(),
        source: "fs#a".parse().unwrap(),
        size_bytes: 7,
        created: UNIX_EPOCH,
    }
}

#[test]
fn a_snapshot_is_complete_or_absent() {
    let world = World::new();
    assert!(!snapshots::begin(&world.tree, &snapshot("s")).unwrap());
    assert_eq!(snapshots::find(&world.tree, "s").unwrap(), None);
    assert!(snapshots::place(&world.tree, "s").is_err(), "the client has cloned nothing");
    world.clone_to(new_snapshot_data("s"));
    assert!(snapshots::begin(&world.tree, &snapshot("s")).unwrap(), "an earlier try came so far");
    snapshots::place(&world.tree, "s").unwrap();
    assert_eq!(snapshots::list(&world.tree).unwrap(), [snapshot("s")]);
    assert!(world.path(snapshot_data("s")).join("cloned").exists());
    assert!(snapshots::trash(&world.tree, "s").unwrap());
    assert!(snapshots::end_trash(&world.tree, "s").is_err(), "its files are still there");
    std::fs::remove_dir_all(world.path(Trash::Snapshot("s").path())).unwrap();
    assert!(!snapshots::trash(&world.tree, "s").unwrap());
    world.nothing_is_left();
}

#[test]
fn nothing_is_written_where_nothing_is_mounted() {
    let directory = tempfile::tempdir().unwrap();
    let refused = refuse_unmounted(directory.path()).unwrap_err();
    assert!(refused.source.to_string().contains("not mounted"), "{refused:?}");
}

#[test]
fn an_error_is_the_same_on_the_other_side() {
    let told = Outcome::from(StoreError::new("writing", nix::errno::Errno::EDQUOT));
    let heard: Outcome = serde_json::from_slice(&serde_json::to_vec(&told).unwrap()).unwrap();
    let error = heard.into_result().unwrap_err();
    assert_eq!((error.what.as_str(), error.source.raw_os_error()), ("writing", Some(nix::libc::EDQUOT)));
}
