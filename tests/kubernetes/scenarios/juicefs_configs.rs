//! Clients find the files of the Secrets that the key `configs` names: here what a metadata engine with TLS wants.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::inside::is_restricted;
use crate::Figures;
use crate::juicefs::Filesystem;
use crate::node;
use crate::objects::{self, IDLE};
use crate::observe::{self, MountPod};
use crate::wait::{POD, eventually, seconds, short};
use crate::world::{Space, VOLUMES_NAMESPACE, World};

const DATABASE: u8 = 14;
/// The Secret in the mount pods' namespace.
const FILES: &str = "test-configs-files";
/// Where the metadata URL looks for it; tests/kubernetes/values.yaml gives the controller's own container the same.
const PLACE: &str = "/etc/metadata-tls";
/// What it holds (tests/servers/up).
const NAMES: [&str; 3] = ["ca.crt", "tls.crt", "tls.key"];
/// The filesystem's Secret and the class that names it.
const CLASS: &str = "test-configs-tls";
/// Issue: the event says what is wrong within 20 s.
const LIMIT: Duration = Duration::from_secs(20);

/// A Secret that is missing is named on a new volume's claim and on the pod of an existing one. When it is there both go on
/// by themselves, the files are seen in their mount pods, and in those that come after them.
pub fn files(world: &World) -> Figures {
    let space = world.space("jfs-configs");
    let filesystem = Filesystem::new(&space, "configs", DATABASE);
    let url = filesystem.servers.meta_url_with_tls(DATABASE, PLACE);
    let configs = json!({FILES: PLACE}).to_string();
    filesystem.secret(CLASS, &[("metaurl", &url), ("configs", &configs)]);
    filesystem.class(CLASS, &json!({}), &[]);
    let secrets = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/secrets");
    // A failed run may have left it.
    world.api.delete(&format!("{secrets}/{FILES}"));

    filesystem.static_volume("old", CLASS, &json!({"path": "old"}), &[]);
    space.bound("old");
    let begun = Instant::now();
    space.create("persistentvolumeclaims", &filesystem.claim_of(CLASS, "new", "64Mi"));
    space.start(&objects::pod("old", "old", IDLE));
    let mut figures = missing_is_told(&space, begun);

    let contents = NAMES.map(|name| {
        let text = std::fs::read_to_string(filesystem.servers.directory.join("tls").join(name));
        text.expect("a file of the servers")
    });
    let data: Value = NAMES.into_iter().zip(&contents).map(|(name, text)| (name, json!(text))).collect();
    world.api.create(&secrets, &json!({"metadata": {"name": FILES}, "stringData": data}));
    let begun = Instant::now();
    space.ready("old");
    figures.push(format!("the same pod is ready {} after the Secret is there", seconds(begun)));
    let new = space.bound("new");
    space.start(&objects::pod("new", "new", IDLE));
    space.ready("new");
    figures.push("a new volume has its directory and quota over TLS".to_owned());

    let workload = space.pod("old").expect("a pod");
    space.sh("old", "echo kept > /data/file");
    let before = observe::mount_pod_of(world, &workload);
    sees_files(&before, &contents);
    let object = before.0.to_string();
    let told = filesystem.servers.client_key().into_iter().any(|line| object.contains(&line));
    assert!(!told, "a key stands in the pod");
    is_restricted(&space, &before);
    world.api.delete(&before.path());
    let after = observe::next_generation(world, &workload, &before);
    assert_eq!(space.sh("old", "cat /data/file && echo more >> /data/file"), "kept");
    sees_files(&after, &contents);
    figures.push(format!("{} and {} see the files", before.name(), after.name()));

    filesystem.finish(&["old", "new"], &[("new", &new)]);
    filesystem.give_up("old");
    world.api.delete(&format!("{secrets}/{FILES}"));
    figures
}

/// Both events name the key, the Secret and the namespace.
fn missing_is_told(space: &Space<'_>, begun: Instant) -> Figures {
    let wanted = format!("secrets[\"configs\"]: there is no Secret {FILES} in namespace {VOLUMES_NAMESPACE}");
    let told = |(object, reason): (&str, &str)| {
        let events = eventually(LIMIT, &format!("an event of {object} that names the Secret"), || {
            let events = space.events(object);
            let found = events.iter().find(|one| one.starts_with(reason) && one.contains(&wanted)).cloned();
            found.ok_or_else(|| format!("{events:?}"))
        });
        format!("{object} after {}: {}", seconds(begun), short(&events))
    };
    let figures = [("old", "FailedMount"), ("new", "ProvisioningFailed")].map(told).to_vec();
    // No pod waits for a Secret that may never come.
    let pods = observe::mount_pods(space.world);
    let waiting: Vec<_> = pods.iter().map(MountPod::name).collect();
    assert!(waiting.is_empty(), "mount pods without their files: {waiting:?}");
    figures
}

/// In the client's own view.
fn sees_files(mount_pod: &MountPod, contents: &[String; 3]) {
    let client = eventually(POD, "a client that speaks TLS", || {
        let mut running = node::processes_of_pod(mount_pod.uid());
        let seen = format!("{running:?}");
        running.retain(|process| process.is("juicefs") && process.command.contains("rediss://"));
        running.pop().ok_or(seen)
    });
    let directory = format!("/proc/{}/root{PLACE}", client.pid);
    let seen = NAMES.map(|name| {
        let file = format!("{directory}/{name}");
        std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{file}: {why}"))
    });
    assert_eq!(seen, *contents, "the files of {FILES} in {}", mount_pod.name());
    let written = std::fs::write(format!("{directory}/more"), "");
    let refused = written.err().and_then(|why| why.raw_os_error());
    assert_eq!(refused, Some(nix::errno::Errno::EROFS as i32), "the files can be written to");
}
