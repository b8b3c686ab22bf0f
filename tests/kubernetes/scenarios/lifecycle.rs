//! Claim -> volume -> two workloads -> nothing.

use std::time::Instant;

use crate::Figures;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::wait::{GONE, eventually, seconds, so};
use crate::world::World;

/// One mount pod serves both workloads, stays for the one that is left, and goes with the last; then the volume goes.
pub fn two_workloads(world: &World) -> Figures {
    let space = world.space("lifecycle");
    let mut figures = Figures::new();

    let begun = Instant::now();
    space.claim("claim");
    let volume = space.bound("claim");
    figures.push(format!("claim to Bound: {}", seconds(begun)));
    let (directories, records) = observe::volumes_on_disk(world);
    assert_eq!(
        (directories.len(), records.len()),
        (1, 1),
        "volumes in the root: {directories:?}, {records:?}"
    );

    let begun = Instant::now();
    space.start(&objects::pod("first", "claim", IDLE));
    space.ready("first");
    figures.push(format!("first pod to Ready: {}", seconds(begun)));
    let begun = Instant::now();
    space.start(&objects::pod("second", "claim", IDLE));
    space.ready("second");
    figures.push(format!("second pod to Ready: {}", seconds(begun)));

    let pods = observe::mount_pods(world);
    assert_eq!(pods.len(), 1, "mount pods for one volume with two workloads");
    assert_eq!(pods[0].refs().len(), 2, "refs of the mount pod: {:?}", pods[0].refs());
    let serving = pods[0].uid().to_owned();
    space.sh("first", "echo from the first >/data/file");
    assert_eq!(space.sh("second", "cat /data/file"), "from the first");
    let on_disk = std::fs::read_to_string(directories[0].join("file")).unwrap_or_default();
    assert_eq!(on_disk, "from the first\n", "the file in the volume's directory on the node");

    space.end("first");
    eventually(GONE, "one ref to be left", || {
        let pods = observe::mount_pods(world);
        so(pods.len() == 1 && pods[0].refs().len() == 1, || {
            format!("{:?}", pods.iter().map(observe::MountPod::refs).collect::<Vec<_>>())
        })
    });
    assert_eq!(observe::mount_pods(world)[0].uid(), serving, "the mount pod that serves the second workload");
    assert_eq!(space.sh("second", "echo more >>/data/file; cat /data/file"), "from the first\nmore");

    let begun = Instant::now();
    space.end("second");
    observe::no_publish_left(world);
    figures.push(format!("last pod to nothing left: {}", seconds(begun)));
    let (directories, _) = observe::volumes_on_disk(world);
    assert_eq!(directories.len(), 1, "the volume outlives its workloads: {directories:?}");

    // The data is there for the next workload, in a mount pod of its own.
    space.start(&objects::pod("third", "claim", IDLE));
    space.ready("third");
    assert_eq!(space.sh("third", "cat /data/file"), "from the first\nmore");
    assert_ne!(observe::mount_pods(world)[0].uid(), serving, "a new mount pod");
    space.end("third");
    observe::no_publish_left(world);

    let begun = Instant::now();
    space.unclaim("claim", &volume);
    observe::no_volume_left(world);
    figures.push(format!("claim deleted to nothing left: {}", seconds(begun)));
    figures
}
