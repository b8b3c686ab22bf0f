//! Does a deletion remove its volume, all of it, and nothing else?

use std::os::unix::fs::{PermissionsExt, symlink};

use super::copies::make_deep;
use super::*;

#[test]
fn links_are_removed_and_not_followed() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    world.create(&wanted("main", "b")).unwrap();
    std::fs::write(world.path("main/b/file"), "precious").unwrap();
    std::fs::create_dir(world.path("outside")).unwrap();
    std::fs::write(world.path("outside/file"), "precious").unwrap();
    symlink("../b", world.path("main/a/neighbour")).unwrap();
    symlink(world.path("outside"), world.path("main/a/outside")).unwrap();
    symlink(world.path("outside/file"), world.path("main/a/file")).unwrap();
    std::fs::hard_link(world.path("outside/file"), world.path("main/a/hard")).unwrap();
    world.delete(&id);
    assert!(!world.path("main/a").exists());
    for kept in ["main/b/file", "outside/file"] {
        assert_eq!(std::fs::read_to_string(world.path(kept)).unwrap(), "precious");
    }
}

#[test]
fn a_volume_that_was_replaced_by_a_link_is_no_way_out() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    std::fs::create_dir(world.path("outside")).unwrap();
    std::fs::write(world.path("outside/file"), "precious").unwrap();
    std::fs::remove_dir(world.path("main/a")).unwrap();
    symlink(world.path("outside"), world.path("main/a")).unwrap();
    let clone = NewDirectory { source: Some(Source::Volume(id.clone())), ..wanted("main", "b") };
    assert!(world.create(&clone).is_err());
    assert!(matches!(volumes::condition(world.roots(), &id).unwrap(), DataCondition::Missing { .. }));
    world.delete(&id);
    assert_eq!(std::fs::read_to_string(world.path("outside/file")).unwrap(), "precious");
    assert!(world.path("main/a").symlink_metadata().is_err());
}

#[test]
fn many_files_strange_names_closed_modes_and_other_owners_are_removed() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    let dir = world.path("main/a");
    for number in 0..10_000 {
        File::create(dir.join(format!("file-{number}"))).unwrap();
    }
    for name in ["-rf", "*", "new\nline", "\u{1f980}", ".hidden", "..."] {
        std::fs::create_dir_all(dir.join("names").join(name).join("inside")).unwrap();
    }
    nix::unistd::chown(&dir.join("file-1"), Some(nix::unistd::Uid::from_raw(1234)), None).unwrap();
    make_deep(&dir, 300);
    for closed in ["file-2", "names/-rf/inside", "names/-rf", "names"] {
        std::fs::set_permissions(dir.join(closed), PermissionsExt::from_mode(0o000)).unwrap();
    }
    world.delete(&id);
    assert!(!dir.exists());
    assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new());
}

#[test]
fn a_mount_inside_is_never_emptied() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    std::fs::create_dir_all(world.path("main/a/sub/mnt")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("file"), "precious").unwrap();
    let bind = nix::mount::MsFlags::MS_BIND;
    let inside = world.path("main/a/sub/mnt");
    nix::mount::mount(Some(outside.path()), &inside, None::<&str>, bind, None::<&str>).unwrap();
    let error = volumes::delete(world.roots(), &id, &Stop::default()).unwrap_err();
    assert!(matches!(error, DeleteError::MountInside { .. }), "{error}");
    assert_eq!(std::fs::read_to_string(outside.path().join("file")).unwrap(), "precious");
    assert!(matches!(volumes::find(world.roots(), &id), Err(FindError::NoSuchVolume(_))));
    // The mount moved with its directory. Once it is unmounted, the deletion goes on.
    let table = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let ours = world.dir.path().to_str().unwrap();
    for line in table.lines().filter(|line| line.contains(ours)) {
        let at = line.split(' ').nth(4).unwrap();
        nix::mount::umount2(at, nix::mount::MntFlags::MNT_DETACH).unwrap();
    }
    world.delete(&id);
    assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new());
}

#[test]
fn a_removal_that_is_stopped_goes_on_later() {
    let world = World::new(&["main"]);
    let id = world.create(&wanted("main", "a")).unwrap().id;
    std::fs::create_dir_all(world.path("main/a/sub/deeper")).unwrap();
    world.hostdir.stop();
    let error = volumes::delete(world.roots(), &id, &world.hostdir.stop).unwrap_err();
    assert!(matches!(error, DeleteError::Stopped), "{error}");
    assert!(matches!(volumes::find(world.roots(), &id), Err(FindError::NoSuchVolume(_))));
    world.delete(&id);
    assert_eq!(leftovers(&world.path("main")), Vec::<PathBuf>::new());
}
