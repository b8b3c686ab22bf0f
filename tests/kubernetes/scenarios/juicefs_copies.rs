//! Snapshots of a JuiceFS volume, and volumes from them.

use std::path::{Path, PathBuf};
use std::time::Instant;

use serde_json::json;
use sha2::{Digest, Sha256};

use crate::Figures;
use crate::juicefs::Filesystem;
use crate::objects::{self, IDLE, Source};
use crate::wait::seconds;
use crate::world::World;

const DATABASE: u8 = 4;
/// Snapshots, and restored volumes, at once (issue).
const COPIES: usize = 20;
/// The source: so many files, the largest of some blocks of the object storage.
const FILES: usize = 50;

/// 20 snapshots at once, and 20 volumes from them at once: each has the right content at the moment that its claim is
/// Bound. The source goes before a clone and a second restore do.
pub fn at_once(world: &World) -> Figures {
    let space = world.space("jfs-copies");
    let filesystem = Filesystem::new(&space, "copies", DATABASE);
    let whole = filesystem.shown("whole");
    filesystem.claim("source", "256Mi");
    let source = space.bound("source");
    space.start(&objects::pod("user", "source", IDLE));
    space.ready("user");
    space.sh(
        "user",
        &format!(
            "cd /data && mkdir -p deep/er && for i in $(seq {FILES}); do echo $i >deep/er/$i; done && ln -s deep/er link \
             && dd if=/dev/urandom of=large bs=1M count=20 2>/dev/null && sync && chmod 0751 deep"
        ),
    );
    let wanted = checksum(&whole.join(filesystem.directory_of(&source)));

    let names = |kind: &str| (0..COPIES).map(|number| format!("{kind}-{number}")).collect::<Vec<_>>();
    let (shots, restored) = (names("shot"), names("restored"));
    let begun = Instant::now();
    shots.iter().for_each(|shot| filesystem.snapshot(shot, "source"));
    shots.iter().for_each(|shot| filesystem.snapshot_ready(shot));
    let mut figures = vec![format!("{COPIES} snapshots to ready: {}", seconds(begun))];
    space.sh("user", "rm -r /data/deep /data/large && echo later >/data/later && sync");

    let begun = Instant::now();
    let make = |claim: &str, source: &Source<'_>| {
        let mut object = objects::claim_from(claim, "256Mi", source);
        object["spec"]["storageClassName"] = json!(filesystem.name);
        space.create("persistentvolumeclaims", &object);
    };
    restored.iter().zip(&shots).for_each(|(claim, shot)| make(claim, &Source::Snapshot(shot)));
    let check = |claim: &str| {
        let volume = space.bound(claim);
        let found = checksum(&whole.join(filesystem.directory_of(&volume)));
        assert_eq!(found, wanted, "the content of {claim} when it is Bound");
        volume
    };
    let volumes: Vec<String> = std::thread::scope(|scope| {
        let check = &check;
        let looks: Vec<_> = restored.iter().map(|claim| scope.spawn(move || check(claim))).collect();
        looks.into_iter().map(|look| look.join().expect("the right content")).collect()
    });
    figures.push(format!(
        "{COPIES} restored volumes to Bound, each with the right checksum: {}",
        seconds(begun)
    ));

    space.end("user");
    space.unclaim("source", &source);
    make("again", &Source::Snapshot(&shots[0]));
    make("clone", &Source::Claim(&restored[0]));
    let more = [("again", check("again")), ("clone", check("clone"))];
    figures.push("restored again after its source was deleted, and cloned: the same".to_owned());

    shots.iter().for_each(|shot| world.api.delete(&space.path("volumesnapshots", shot)));
    shots.iter().for_each(|shot| space.gone("volumesnapshots", shot));
    let claims: Vec<(&str, &str)> =
        restored.iter().zip(&volumes).map(|(a, b)| (a.as_str(), b.as_str())).collect();
    filesystem.hidden("whole");
    filesystem.finish(&[], &claims);
    filesystem.finish(&[], &more.each_ref().map(|(claim, volume)| (*claim, volume.as_str())));
    figures
}

/// Of names, kinds, modes and contents, in the order of the names.
fn checksum(tree: &Path) -> String {
    let mut hash = Sha256::new();
    let mut left: Vec<PathBuf> = vec![tree.to_owned()];
    while let Some(path) = left.pop() {
        let facts = path.symlink_metadata().unwrap_or_else(|why| panic!("{}: {why}", path.display()));
        hash.update(path.strip_prefix(tree).expect("below it").as_os_str().as_encoded_bytes());
        if path != tree {
            hash.update(format!("\0{:?}{:?}\0", facts.file_type(), facts.permissions()));
        }
        if facts.is_symlink() {
            hash.update(std::fs::read_link(&path).expect("a link").as_os_str().as_encoded_bytes());
        } else if facts.is_dir() {
            let mut below = crate::observe::entries(&path);
            below.sort();
            left.extend(below);
        } else {
            hash.update(std::fs::read(&path).unwrap_or_else(|why| panic!("{}: {why}", path.display())));
        }
    }
    data_encoding::HEXLOWER.encode(&hash.finalize())
}
