//! A JuiceFS filesystem that lies in a directory of the node, with a cache in another one.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::Figures;
use crate::juicefs::{CLIENT_LEARNS, Filesystem};
use crate::node;
use crate::objects::{self, IDLE, Source};
use crate::observe;
use crate::told::{self, Awaited, ON_CLAIM, ON_POD};
use crate::wait::{GONE, eventually, seconds, short, so};
use crate::world::{Space, VOLUMES_NAMESPACE, World};

/// As tests/kubernetes/values.yaml allows them: metadata and objects, and the cache. Nobody has made them before.
const FILES: &str = "/var/lib/mountpod-jfs";
const CACHE: &str = "/var/lib/mountpod-jfs-cache";
/// Of the mount pods.
const USER: u32 = 65532;
/// Issue: the event says what is wrong within 20 s.
const REFUSED: Duration = Duration::from_secs(20);
const WRITTEN_MIB: u64 = 40;
/// A client that is busy leaves blocks out of its cache.
const CACHED_MIB: u64 = 4;

/// SQLite metadata, objects in files, a cache that outlives mount pods: everything is replaced, and the volume is as it was.
pub fn kept(world: &World) -> Figures {
    let space = world.space("jfs-one-node");
    for directory in [FILES, CACHE] {
        let found = Path::new(directory).metadata().expect("the kubelet has made it");
        assert_eq!((found.uid(), found.gid(), found.mode() & 0o7777), (USER, USER, 0o700), "{directory}");
    }
    let filesystem =
        Filesystem::in_files(&space, "one-node", Path::new(FILES), &[&format!("cache-dir={CACHE}")]);
    filesystem.claim("claim", "64Mi");
    let begun = Instant::now();
    let volume = space.bound("claim");
    let mut figures = vec![format!("formatted, and the claim Bound: {}", seconds(begun))];
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    space.sh(
        "user",
        &format!("dd if=/dev/urandom of=/data/file bs=1M count={WRITTEN_MIB} conv=fsync 2>/dev/null"),
    );
    let written = sum(&space);
    quota(&space, 64);
    space.expand("claim", "128Mi");
    let size = || space.mebibytes("user");
    eventually(CLIENT_LEARNS, "df to show 128 MiB", || so(size() == "128", size));
    quota(&space, 128);
    copied(&filesystem, &written);

    figures.extend(replaced(world, &filesystem));
    assert_eq!(sum(&space), written, "after everything was replaced");
    figures.push(read_from_the_cache(&filesystem, &written));
    not_ours(Path::new(FILES));
    figures.extend(refused(&filesystem));
    figures.push(missing(&filesystem));

    let whole = filesystem.shown("whole");
    let directory = whole.join(filesystem.directory_of(&volume));
    assert!(directory.join("file").exists(), "{}", directory.display());
    world.api.delete(&space.path("persistentvolumeclaims", "claim"));
    space.unclaim("claim", &volume);
    filesystem.until_gone(&directory);
    filesystem.hidden("whole");
    observe::no_publish_left(world);
    figures
}

fn sum(space: &Space<'_>) -> String {
    space.sh("user", "sha256sum </data/file")
}

/// A file of the volume's whole size is too much beside the other.
fn quota(space: &Space<'_>, mib: u64) {
    assert_eq!(space.mebibytes("user"), mib.to_string(), "MiB that df shows");
    let told =
        space.sh_fails("user", &format!("dd if=/dev/zero of=/data/large bs=1M count={mib} conv=fsync"));
    assert!(told.to_lowercase().contains("quota exceeded"), "a write past {mib} MiB said: {told}");
    space.sh("user", "rm /data/large");
}

/// A snapshot becomes a volume with the same content.
fn copied(filesystem: &Filesystem<'_>, written: &str) {
    let space = filesystem.space;
    filesystem.snapshot("shot", "claim");
    filesystem.snapshot_ready("shot");
    let mut claim = objects::claim_from("restored", "128Mi", &Source::Snapshot("shot"));
    claim["spec"]["storageClassName"] = json!(filesystem.name);
    space.create("persistentvolumeclaims", &claim);
    let restored = space.bound("restored");
    space.start(&objects::pod("reader", "restored", IDLE));
    space.ready("reader");
    assert_eq!(space.sh("reader", "sha256sum </data/file"), written, "the restored volume");
    space.world.api.delete(&space.path("volumesnapshots", "shot"));
    space.gone("volumesnapshots", "shot");
    space.end("reader");
    space.world.api.delete(&space.path("persistentvolumeclaims", "restored"));
    space.unclaim("restored", &restored);
}

/// Mount pods of both engines, the node plugin and the controller.
fn replaced(world: &World, filesystem: &Filesystem<'_>) -> Option<String> {
    let begun = Instant::now();
    let workload = filesystem.space.pod("user").expect("the pod");
    let before = observe::mount_pod_of(world, &workload);
    assert_eq!(directories_of(&before.0), [FILES, CACHE], "{}", before.0["spec"]["volumes"]);
    let all = observe::mount_pods(world).into_iter().chain(observe::mount_pods_of_the_controller(world));
    let all: Vec<_> = all.collect();
    all.iter().for_each(|pod| world.api.delete(&pod.path()));
    let pods = format!("/api/v1/namespaces/{}/pods", world.namespace);
    for pod in world.api.list(&pods) {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        world.api.delete(&format!("{pods}/{name}"));
    }
    let of_drivers = ["daemonsets/mountpod-node", "statefulsets/mountpod-controller"];
    eventually(GONE, "mount pods and drivers to be others", || {
        let left = all
            .iter()
            .filter(|pod| world.api.get(&pod.path()).is_some_and(|now| now["metadata"]["uid"] == pod.uid()));
        let left: Vec<_> = left.map(|pod| pod.name().to_owned()).collect();
        so(left.is_empty(), || format!("{left:?} are there"))?;
        of_drivers.iter().try_for_each(|driver| {
            let path = format!("/apis/apps/v1/namespaces/{}/{driver}", world.namespace);
            let status = world.api.get(&path).ok_or("gone")?["status"].clone();
            let ready = status["numberReady"] == 1 || status["readyReplicas"] == 1;
            so(ready, || format!("{driver}: {status}"))
        })
    });
    node::plugin_ready(world);
    let after = observe::next_generation(world, &workload, &before);
    assert_eq!(directories_of(&after.0), [FILES, CACHE], "{}", after.0["spec"]["volumes"]);
    Some(format!("{} mount pods and both drivers replaced: {}", all.len(), seconds(begun)))
}

/// The node's directories that a pod has.
fn directories_of(pod: &serde_json::Value) -> Vec<String> {
    let volumes = pod["spec"]["volumes"].as_array().cloned().unwrap_or_default();
    let path = |volume: &serde_json::Value| volume["hostPath"]["path"].as_str().map(str::to_owned);
    volumes.iter().filter_map(path).collect()
}

/// The cache stays when the mount pod goes, and the next mount pod's client reads from it.
fn read_from_the_cache(filesystem: &Filesystem<'_>, written: &str) -> String {
    let space = filesystem.space;
    space.end("user");
    observe::no_publish_left(space.world);
    let pods = observe::mount_pods(space.world);
    assert!(
        pods.is_empty(),
        "mount pods are left: {:?}",
        pods.iter().map(observe::MountPod::name).collect::<Vec<_>>()
    );
    let cached: u64 =
        files_below(Path::new(CACHE)).iter().filter_map(|file| file.metadata().ok()).map(|it| it.len()).sum();
    assert!(cached >= CACHED_MIB << 20, "{cached} bytes of cache without a mount pod");
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    assert_eq!(sum(space), written, "from the cache");
    let figure = |name: &str| {
        let line = space.sh("user", &format!("grep '^juicefs_{name} ' /data/.stats | awk '{{print $2}}'"));
        line.trim().parse::<f64>().unwrap_or_else(|why| panic!("{name}: {line:?}: {why}"))
    };
    let (hits, misses) = (figure("blockcache_hit_bytes"), figure("blockcache_miss_bytes"));
    let least = (CACHED_MIB << 20) as f64;
    assert!(hits >= least, "{hits} bytes from the cache, {misses} from the storage");
    space.end("user");
    format!(
        "{cached} bytes stay in the cache; the next pod read {hits} from it and {misses} from the storage"
    )
}

/// The controller's commands run as root: what they leave must be the mount pods' own.
fn not_ours(directory: &Path) {
    let others =
        files_below(directory).into_iter().filter(|file| file.metadata().is_ok_and(|it| it.uid() != USER));
    let others: Vec<_> = others.collect();
    assert!(others.is_empty(), "not the mount pods' own: {others:?}");
}

fn files_below(directory: &Path) -> Vec<PathBuf> {
    let entries = observe::entries(directory);
    let (directories, mut files): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.is_dir());
    files.extend(directories.iter().flat_map(|directory| files_below(directory)));
    files
}

/// What the administrator does not allow is told on the claim, or on the pod of a volume that exists.
fn refused(filesystem: &Filesystem<'_>) -> Figures {
    let space = filesystem.space;
    let class = |what: &str| format!("test-one-node-{what}");
    let elsewhere = [("metaurl", "sqlite3:///var/lib/mountpod-elsewhere/meta.db")];
    ["cache", "path"].iter().for_each(|what| filesystem.secret(&class(what), &[]));
    filesystem.secret(&class("metadata"), &elsewhere);
    filesystem.class(&class("cache"), &json!({}), &["cache-dir=/var/lib/mountpod-jfs-cache/below"]);
    filesystem.class(&class("path"), &json!({"juicefs/host-path": "/var/lib"}), &[]);
    filesystem.class(&class("metadata"), &json!({}), &[]);
    filesystem.static_volume("old", &class("path"), &json!({"juicefs/host-path": "/etc/kubernetes"}), &[]);
    space.bound("old");
    let begun = Instant::now();
    let awaited = |object: &str, reason, field| Awaited {
        object: object.to_owned(),
        reason,
        words: vec![field, "mountPods.hostDirectories"],
    };
    let claims = [("cache", "mount_flags"), ("path", "hostDirectories"), ("metadata", "metaurl")];
    let claims = claims.map(|(what, field)| (what, format!("refused-{what}"), field));
    for (what, claim, _) in &claims {
        space.create("persistentvolumeclaims", &filesystem.claim_of(&class(what), claim, "64Mi"));
    }
    space.start(&objects::pod("old", "old", IDLE));
    let on_claims = claims.iter().map(|(_, claim, field)| awaited(claim, ON_CLAIM, field));
    let all = on_claims.chain([awaited("old", ON_POD, "hostDirectories")]).collect();
    let figures = told::each(space, REFUSED, begun, all);
    let pods = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/pods");
    for pod in space.world.api.list(&pods) {
        let directories = directories_of(&pod);
        assert!(directories.iter().all(|path| path == FILES || path == CACHE), "{directories:?}");
    }
    space.end("old");
    filesystem.give_up("old");
    for (_, claim, _) in &claims {
        space.world.api.delete(&space.path("persistentvolumeclaims", claim));
        space.gone("persistentvolumeclaims", claim);
    }
    figures
}

/// The kubelet makes a directory that is missing, as root's: the agent says whose it must be.
fn missing(filesystem: &Filesystem<'_>) -> String {
    let space = filesystem.space;
    let away = format!("{CACHE}-away");
    std::fs::rename(CACHE, &away).expect("nobody uses it");
    filesystem.static_volume("missing", &filesystem.name, &json!({}), &[&format!("cache-dir={CACHE}")]);
    space.bound("missing");
    let begun = Instant::now();
    space.start(&objects::pod("missing", "missing", IDLE));
    let told = eventually(REFUSED, "an event that says how the directory must be", || {
        let events = space.events("missing");
        let told = events.iter().find(|event| event.contains("install -d -o 65532") && event.contains(CACHE));
        told.cloned().ok_or_else(|| events.join(" | "))
    });
    let figure = format!("a missing directory after {}: {}", seconds(begun), short(&told));
    space.end("missing");
    filesystem.give_up("missing");
    observe::no_publish_left(space.world);
    std::fs::remove_dir(CACHE).expect("the kubelet has made it, and nobody has written there");
    std::fs::rename(&away, CACHE).expect("it is as it was");
    figure
}
