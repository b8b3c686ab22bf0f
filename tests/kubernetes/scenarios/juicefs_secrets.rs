//! Where are the passwords of JuiceFS volumes? With their clients, and nowhere else.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use data_encoding::BASE64;
use serde_json::{Value, json};

use super::juicefs_refused;
use crate::Figures;
use crate::juicefs::{Filesystem, Servers};
use crate::node;
use crate::objects::{self, IDLE};
use crate::world::World;

const DATABASE: u8 = 10;
/// Everything of these namespaces is looked at: the driver and its sidecars, mount pods, the cluster's own.
const SYSTEM: &str = "kube-system";
/// What the API server shows of all objects but Secrets.
const OBJECTS: [&str; 11] = [
    "/api/v1/pods",
    "/api/v1/events",
    "/api/v1/configmaps",
    "/api/v1/persistentvolumes",
    "/api/v1/persistentvolumeclaims",
    "/apis/apps/v1/daemonsets",
    "/apis/apps/v1/statefulsets",
    "/apis/storage.k8s.io/v1/storageclasses",
    "/apis/storage.k8s.io/v1/volumeattachments",
    "/apis/snapshot.storage.k8s.io/v1/volumesnapshotcontents",
    "/apis/snapshot.storage.k8s.io/v1/volumesnapshots",
];
/// Directories of the node that are not below its own one, which has its /var/lib and /var/log.
const NODE_DIRECTORIES: [&str; 2] = ["/run", "/etc"];

/// With volumes in use, after all that the other scenarios did: no log, object, argument or file has a password; the
/// environment of clients alone does.
pub fn nowhere(world: &World) -> Figures {
    let space = world.space("jfs-secrets");
    let filesystem = Filesystem::new(&space, "secrets", DATABASE);
    filesystem.claim("new", "64Mi");
    let new = space.bound("new");
    filesystem.snapshot("shot", "new");
    filesystem.snapshot_ready("shot");
    filesystem.static_volume("old", &filesystem.name, &json!({"path": "old"}), &[]);
    for claim in ["new", "old"] {
        space.start(&objects::pod(claim, claim, IDLE));
    }
    ["new", "old"].iter().for_each(|pod| space.ready(pod));

    let servers = &filesystem.servers;
    let words = words(servers);
    let mut figures = vec![in_objects(world, &words), in_logs(world, &words), in_processes(&words)];
    figures.push(in_files(world, servers, &words));
    world.api.delete(&space.path("volumesnapshots", "shot"));
    space.gone("volumesnapshots", "shot");
    filesystem.finish(&["new", "old"], &[("new", &new)]);
    filesystem.give_up("old");
    figures
}

/// The secrets, also those that were wrong, and how they look in a Secret's data.
fn words(servers: &Servers) -> Vec<String> {
    let wrong = [juicefs_refused::WRONG_PASSWORD, juicefs_refused::WRONG_KEY];
    let plain = servers.secrets().into_iter().chain(wrong).map(str::to_owned).chain(servers.client_key());
    plain.flat_map(|word| [BASE64.encode(word.as_bytes()), word]).collect()
}

fn none_in(text: &str, words: &[String], place: &str) {
    let found = words.iter().any(|word| text.contains(word.as_str()));
    assert!(!found, "a secret stands in {place}");
}

fn in_objects(world: &World, words: &[String]) -> String {
    let mut bytes = 0;
    for path in OBJECTS {
        let text = world.api.text(path).unwrap_or_else(|why| panic!("{path}: {why}"));
        none_in(&text, words, path);
        bytes += text.len();
    }
    format!("{} kinds of objects, {} KiB", OBJECTS.len(), bytes >> 10)
}

fn in_logs(world: &World, words: &[String]) -> String {
    let (mut logs, mut bytes) = (0, 0);
    for namespace in [world.namespace.as_str(), crate::world::VOLUMES_NAMESPACE, SYSTEM] {
        for pod in world.api.list(&format!("/api/v1/namespaces/{namespace}/pods")) {
            for container in containers(&pod) {
                let name = pod["metadata"]["name"].as_str().unwrap_or_default();
                let path = format!("/api/v1/namespaces/{namespace}/pods/{name}/log?container={container}");
                // One that has not started has none.
                let Ok(log) = world.api.text(&path) else { continue };
                none_in(&log, words, &path);
                logs += 1;
                bytes += log.len();
            }
        }
    }
    assert!(logs > 0 && bytes > 0, "no log could be read");
    format!("{logs} logs, {} KiB", bytes >> 10)
}

fn containers(pod: &Value) -> Vec<String> {
    let of = |key: &str| pod["spec"][key].as_array().cloned().unwrap_or_default();
    let all = of("initContainers").into_iter().chain(of("containers"));
    all.map(|container| container["name"].as_str().unwrap_or_default().to_owned()).collect()
}

fn in_processes(words: &[String]) -> String {
    let (mut looked_at, mut clients) = (0, 0);
    for process in node::processes("") {
        none_in(&process.command, words, &format!("the arguments of {process}"));
        looked_at += 1;
        let environment = process.proc("environ");
        if process.is("juicefs") {
            clients += usize::from(words.iter().any(|word| environment.contains(word.as_str())));
        } else if !process.is("s3-server") {
            none_in(&environment, words, &format!("the environment of {process}"));
        }
    }
    assert!(clients > 0, "no client has the password in its environment: the look finds nothing");
    format!("{looked_at} processes; {clients} clients have a password, in their environment")
}

/// Files on the node's disk and in its file systems in memory, without etcd's and the servers' own.
fn in_files(world: &World, servers: &Servers, words: &[String]) -> String {
    let scratch = tempfile::tempdir().expect("a scratch directory");
    let patterns = scratch.path().join("words");
    let mut file = std::fs::File::create(&patterns).expect("a file");
    file.write_all(words.join("\n").as_bytes()).expect("its content");
    let cluster = servers.directory.parent().expect("the node's directory").to_owned();
    assert!(
        found_in(std::slice::from_ref(&servers.directory), &[], &patterns).len() >= 2,
        "the look finds nothing"
    );
    let mut places: Vec<PathBuf> = NODE_DIRECTORIES.iter().map(PathBuf::from).collect();
    places.extend(in_memory());
    places.push(cluster.clone());
    let etcd = cluster.join("etcd");
    let found = found_in(&places, &[&etcd, &servers.directory], &patterns);
    assert!(found.is_empty(), "files with a secret: {found:?}");
    let audit = std::fs::metadata(&world.audit_log).map_or(0, |facts| facts.len());
    format!("{} places with all files below, the audit log ({} KiB) among them", places.len(), audit >> 10)
}

/// File systems in memory that pods write to; what the kubelet projects from Secrets is in others.
fn in_memory() -> Vec<PathBuf> {
    let table = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    let places = table.lines().filter(|line| line.contains(" - tmpfs "));
    let places = places.filter_map(|line| line.split(' ').nth(4)).filter(|path| path.contains("empty-dir"));
    places.map(PathBuf::from).collect()
}

/// Files below the places, each in one file system, that have one of the words.
fn found_in(places: &[PathBuf], without: &[&Path], patterns: &Path) -> Vec<String> {
    let mut find = Command::new("find");
    find.args(places).arg("-xdev");
    for place in without {
        find.arg("-path").arg(place).args(["-prune", "-o"]);
    }
    find.args(["-type", "f", "-print0"]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut find = find.spawn().expect("find starts");
    let names = find.stdout.take().expect("a pipe");
    let grep = Command::new("xargs")
        .args(["-0", "grep", "--no-messages", "--files-with-matches", "--fixed-strings", "--file"])
        .arg(patterns)
        .stdin(names)
        .output()
        .expect("grep starts");
    find.wait().expect("find ends");
    String::from_utf8_lossy(&grep.stdout).lines().map(str::to_owned).collect()
}
