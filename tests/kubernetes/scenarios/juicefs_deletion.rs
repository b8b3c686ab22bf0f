//! Deleting a JuiceFS volume removes its directory and nothing else.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use serde_json::json;

use crate::Figures;
use crate::juicefs::Filesystem;
use crate::objects::{self, IDLE};
use crate::wait::seconds;
use crate::world::World;

const DATABASE: u8 = 8;
/// Files in one directory (issue), and how many threads make them.
const FILES: usize = 10_000;
const MAKERS: usize = 8;
/// A directory whose name looks like an option.
const PATTERN: &str = "-rf/${.pvc.namespace}/${.pvc.name}";

/// A volume with links to another one, 10,000 files, and names like options, in a directory that has such a name as well.
pub fn exact(world: &World) -> Figures {
    let space = world.space("jfs-deletion");
    let filesystem = Filesystem::new(&space, "deletion", DATABASE);
    let odd = "test-deletion-odd";
    let servers = &filesystem.servers;
    let meta_url = servers.meta_url(servers.entry("META_PASSWORD"), DATABASE);
    filesystem.secret(odd, &[("metaurl", &meta_url)]);
    filesystem.class(odd, &json!({"pathPattern": PATTERN}), &[]);
    space.create("persistentvolumeclaims", &filesystem.claim_of(odd, "goes", "1Gi"));
    filesystem.claim("stays", "64Mi");
    let (goes, stays) = (space.bound("goes"), space.bound("stays"));
    let whole = filesystem.shown("whole");
    let directory = whole.join(filesystem.directory_of(&goes));
    assert!(filesystem.directory_of(&goes).starts_with("-rf/"), "{}", directory.display());
    let other = whole.join(filesystem.directory_of(&stays));
    std::fs::write(other.join("kept"), "kept").expect("a file of the other volume");
    let beside = directory.with_file_name("no-volume");
    std::fs::create_dir(&beside).expect("a directory of nobody");

    let begun = Instant::now();
    fill(&directory, &other);
    let mut figures = vec![format!("{FILES} files made: {}", seconds(begun))];
    space.start(&objects::pod("user", "goes", IDLE));
    space.ready("user");
    let count = "ls /data/many | wc -l; ls -d /data/-rf";
    assert_eq!(space.sh("user", count), format!("{FILES}\n/data/-rf"));
    space.end("user");

    let begun = Instant::now();
    space.unclaim("goes", &goes);
    figures.push(format!("deleted: {}", seconds(begun)));
    filesystem.until_gone(&directory);
    assert_eq!(std::fs::read_to_string(other.join("kept")).expect("the other volume's file"), "kept");
    assert!(beside.is_dir(), "a directory beside it that is no volume is gone");
    assert!(whole.join("-rf").is_dir(), "what was above it is gone");
    std::fs::remove_dir(beside).expect("it is empty");
    filesystem.hidden("whole");
    filesystem.finish(&[], &[("stays", &stays)]);
    figures
}

fn fill(directory: &Path, other: &Path) {
    let many = directory.join("many");
    std::fs::create_dir(&many).expect("a directory");
    let back = Path::new("../../..").join(other.file_name().expect("a name"));
    for (name, target) in [("link", back.as_path()), ("-link", other), ("root", Path::new("/"))] {
        symlink(target, directory.join(name)).expect("a link");
    }
    std::fs::create_dir(directory.join("-rf")).expect("a directory");
    for name in ["-rf/--no-preserve-root", "--help", "*", "a b\n"] {
        std::fs::write(directory.join(name), name).expect("a file");
    }
    std::thread::scope(|scope| {
        for maker in 0..MAKERS {
            let many = &many;
            scope.spawn(move || {
                for number in (maker..FILES).step_by(MAKERS) {
                    std::fs::File::create(many.join(number.to_string())).expect("a file");
                }
            });
        }
    });
}
