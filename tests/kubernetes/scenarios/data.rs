//! Expansion, snapshots and clones through the real sidecars.

use std::time::Instant;

use crate::Figures;
use crate::objects::{self, IDLE, Source};
use crate::observe;
use crate::wait::{VOLUME, eventually, seconds, so};
use crate::world::{Space, World};

/// A claim that asks for more gets it, while it is used.
pub fn expanded(world: &World) -> Figures {
    let space = world.space("expand");
    let volume = filled(&space, "keep this");
    let begun = Instant::now();
    space.expand("claim", "128Mi");
    let figures = vec![format!("64 Mi to 128 Mi in use: {}", seconds(begun))];
    let persistent = world.api.get(&format!("/api/v1/persistentvolumes/{volume}")).expect("the volume");
    assert_eq!(persistent["spec"]["capacity"]["storage"], "128Mi");
    assert_eq!(space.sh("user", "cat /data/file"), "keep this");
    space.finish(&["user"], &[("claim", &volume)]);
    figures
}

/// A volume from a snapshot holds what was there then, not what came later.
pub fn restored(world: &World) -> Figures {
    let space = world.space("snapshot");
    let volume = filled(&space, "before");
    let begun = Instant::now();
    space.create("volumesnapshots", &objects::snapshot("shot", "claim"));
    let path = space.path("volumesnapshots", "shot");
    eventually(VOLUME, "the snapshot to be ready", || {
        let shot = world.api.get(&path).ok_or("gone")?;
        so(shot["status"]["readyToUse"] == true, || {
            format!("{} events: {}", shot["status"], space.events("shot").join(" | "))
        })
    });
    let mut figures = vec![format!("snapshot to ready: {}", seconds(begun))];
    space.sh("user", "echo after >/data/file; echo new >/data/other");
    let begun = Instant::now();
    let restored = copied(&space, "restored", &Source::Snapshot("shot"));
    figures.push(format!("restored and in use: {}", seconds(begun)));
    assert_eq!(space.sh("user-of-restored", "cat /data/file; ls /data"), "before\nfile");
    assert_eq!(space.sh("user", "cat /data/file"), "after");
    world.api.delete(&path);
    space.gone("volumesnapshots", "shot");
    assert_eq!(space.sh("user-of-restored", "cat /data/file"), "before", "the volume outlives the snapshot");
    space.finish(&["user-of-restored", "user"], &[("claim", &volume), ("restored", &restored)]);
    let shots = observe::entries(&world.root.join(".mountpod/snapshots"));
    assert!(shots.is_empty(), "records of snapshots are left: {shots:?}");
    figures
}

/// A volume from a claim holds the same, and is another one.
pub fn cloned(world: &World) -> Figures {
    let space = world.space("clone");
    let volume = filled(&space, "original");
    let begun = Instant::now();
    let copy = copied(&space, "copy", &Source::Claim("claim"));
    let figures = vec![format!("cloned and in use: {}", seconds(begun))];
    assert_eq!(space.sh("user-of-copy", "cat /data/file; echo changed >/data/file"), "original");
    assert_eq!(space.sh("user", "cat /data/file"), "original");
    space.finish(&["user-of-copy", "user"], &[("claim", &volume), ("copy", &copy)]);
    figures
}

/// A claim with a file in it, used by the pod `user`; says its volume.
fn filled(space: &Space<'_>, content: &str) -> String {
    space.claim("claim");
    let volume = space.bound("claim");
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    space.sh("user", &format!("echo {content} >/data/file; sync"));
    volume
}

/// A claim made from something else, used by the pod `user-of-NAME`; says its volume.
fn copied(space: &Space<'_>, name: &str, source: &Source<'_>) -> String {
    space.create("persistentvolumeclaims", &objects::claim_from(name, "64Mi", source));
    let volume = space.bound(name);
    let user = format!("user-of-{name}");
    space.start(&objects::pod(&user, name, IDLE));
    space.ready(&user);
    volume
}
