//! JuiceFS volumes: one that exists already, and one that is made.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Figures;
use crate::juicefs::Filesystem;
use crate::objects::{self, IDLE};
use crate::observe::{self, MountPod};
use crate::wait::seconds;
use crate::world::{Space, World};

/// Databases of the metadata engine that are these scenarios' alone.
const STATIC: u8 = 1;
const DYNAMIC: u8 = 2;
/// Where the chart lets clients tell their metrics.
const METRICS_PORT: u16 = 9567;
/// A client answers within milliseconds.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);

/// Two static volumes of one directory, the second read-only, and one of the whole filesystem: what is written through the
/// first is read through the others after every pod was replaced.
pub fn existing(world: &World) -> Figures {
    let space = world.space("jfs-static");
    let filesystem = Filesystem::new(&space, "static", STATIC);
    let directory = json!({"path": "team/photos"});
    filesystem.static_volume("write", &filesystem.name, &directory, &[]);
    filesystem.static_volume("read", &filesystem.name, &directory, &["ro"]);
    ["write", "read"].iter().for_each(|claim| drop(space.bound(claim)));
    let mut figures = Figures::new();
    let begun = Instant::now();
    space.start(&objects::pod("writer", "write", IDLE));
    space.ready("writer");
    figures.push(format!("filesystem formatted, first pod Ready: {}", seconds(begun)));
    space.sh("writer", "echo kept >/data/file && sync && cat /data/file");
    replaced(&space, &["writer"]);

    let begun = Instant::now();
    space.start(&objects::pod("reader", "read", IDLE));
    space.start(&read_only("second-reader", "write"));
    space.ready("reader");
    space.ready("second-reader");
    figures.push(format!("two pods Ready, on two mount pods: {}", seconds(begun)));
    for reader in ["reader", "second-reader"] {
        assert_eq!(space.sh(reader, "cat /data/file"), "kept", "what {reader} reads");
        let refused = space.sh_fails(reader, "echo x >/data/file");
        assert!(refused.contains("Read-only file system"), "a write of {reader} said: {refused}");
    }
    let whole = filesystem.shown("whole");
    let read = std::fs::read_to_string(whole.join("team/photos/file")).expect("a file of the filesystem");
    assert_eq!(read, "kept\n");
    filesystem.hidden("whole");
    filesystem.finish(&["reader", "second-reader"], &[]);
    ["write", "read"].iter().for_each(|claim| filesystem.give_up(claim));
    observe::no_publish_left(world);
    figures
}

/// A claim becomes a volume, which two workloads share; its data outlives all pods, not its claim.
pub fn new(world: &World) -> Figures {
    let space = world.space("jfs-dynamic");
    let filesystem = Filesystem::new(&space, "dynamic", DYNAMIC);
    let mut figures = Figures::new();
    let begun = Instant::now();
    filesystem.claim("claim", "64Mi");
    let volume = space.bound("claim");
    figures.push(format!("first claim of a filesystem to Bound: {}", seconds(begun)));
    let begun = Instant::now();
    space.start(&objects::pod("first", "claim", IDLE));
    space.start(&objects::pod("second", "claim", IDLE));
    space.ready("first");
    space.ready("second");
    figures.push(format!("two pods to Ready: {}", seconds(begun)));
    let serving = observe::mount_pods(world);
    assert_eq!(serving.len(), 1, "mount pods for one volume with two workloads");
    figures.push(metrics(&serving[0], &observe::handle(world, &volume)));
    space.sh("first", "echo of the first >/data/file && sync");
    assert_eq!(space.sh("second", "cat /data/file; echo of the second >/data/second"), "of the first");
    replaced(&space, &["first", "second"]);

    space.start(&objects::pod("third", "claim", IDLE));
    space.start(&read_only("fourth", "claim"));
    space.ready("third");
    space.ready("fourth");
    for reader in ["third", "fourth"] {
        assert_eq!(space.sh(reader, "cat /data/file /data/second"), "of the first\nof the second");
    }
    let refused = space.sh_fails("fourth", "echo x >/data/file");
    assert!(refused.contains("Read-only file system"), "a write said: {refused}");
    let begun = Instant::now();
    filesystem.claim("another", "64Mi");
    let another = space.bound("another");
    figures.push(format!("next claim to Bound: {}", seconds(begun)));
    let labelled = with_label(&filesystem);
    filesystem
        .finish(&["third", "fourth"], &[("claim", &volume), ("another", &another), ("labelled", &labelled)]);
    figures
}

/// What the client of a volume tells of itself, with the name that the volume's PersistentVolume has for it.
fn metrics(pod: &MountPod, handle: &str) -> String {
    let address = pod.0["status"]["podIP"].as_str().expect("the address of a mount pod");
    let mut connection = TcpStream::connect((address, METRICS_PORT)).expect("the port of its metrics");
    connection.set_read_timeout(Some(ANSWER_LIMIT)).unwrap();
    connection.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").unwrap();
    let mut told = String::new();
    connection.read_to_string(&mut told).expect("metrics");
    let label = format!("volume=\"{handle}\"");
    let labelled = told.lines().filter(|line| line.starts_with("juicefs_") && line.contains(&label)).count();
    assert!(labelled > 0, "no metric of JuiceFS has {label}: {told}");
    format!("metrics of the client with the volume's name: {labelled}")
}

/// A claim whose label names the directory: the controller reads it from the claim.
fn with_label(filesystem: &Filesystem<'_>) -> String {
    let class = "test-dynamic-labels";
    filesystem.secret(class, &[]);
    filesystem.class(class, &json!({"pathPattern": "teams/${.pvc.labels.team}/${.pvc.name}"}), &[]);
    let mut claim = filesystem.claim_of(class, "labelled", "64Mi");
    claim["metadata"]["labels"] = json!({"team": "blue"});
    filesystem.space.create("persistentvolumeclaims", &claim);
    let volume = filesystem.space.bound("labelled");
    assert_eq!(filesystem.directory_of(&volume), "teams/blue/labelled");
    volume
}

/// Every pod and every mount pod goes.
fn replaced(space: &Space<'_>, pods: &[&str]) {
    pods.iter().for_each(|pod| space.end(pod));
    observe::no_publish_left(space.world);
}

fn read_only(name: &str, claim: &str) -> Value {
    objects::pod_with(name, &json!({"persistentVolumeClaim": {"claimName": claim, "readOnly": true}}), IDLE)
}
