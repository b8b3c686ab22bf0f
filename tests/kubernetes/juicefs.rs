//! What does a scenario with JuiceFS volumes need: servers, a filesystem of its own, classes and volumes of it?

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::objects::{self, IDLE};
use crate::wait::{GONE, VOLUME, eventually, so};
use crate::world::{DRIVER, Space, World};

/// Where the Secrets are, as tests/kubernetes/values.yaml lets the sidecars read them. They stay, so that what a failed
/// scenario leaves can still be deleted.
const SECRETS_IN: &str = "default";
/// Where the kubelet keeps the volumes of pods.
pub const PODS: &str = "/var/lib/kubelet/pods";

/// Running clients read their quotas at each heartbeat, every 12 s.
pub const CLIENT_LEARNS: Duration = Duration::from_secs(30);

/// The servers that tests/servers/up has started, and their passwords.
pub struct Servers {
    entries: BTreeMap<String, String>,
    pub directory: PathBuf,
}

impl Servers {
    pub fn of(world: &World) -> Self {
        let file = world.servers.join("env");
        let text = std::fs::read_to_string(&file).unwrap_or_else(|why| panic!("{}: {why}", file.display()));
        let entry =
            |line: &str| line.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        Self { entries: text.lines().filter_map(entry).collect(), directory: world.servers.clone() }
    }

    pub fn entry(&self, name: &str) -> &str {
        self.entries.get(name).unwrap_or_else(|| panic!("the servers' env has no {name}"))
    }

    /// Everything that only clients may know.
    pub fn secrets(&self) -> Vec<&str> {
        ["META_PASSWORD", "SECRET_KEY"].map(|name| self.entry(name)).into()
    }

    /// The metadata engine's URL with a password; each filesystem has a database of its own.
    pub fn meta_url(&self, password: &str, database: u8) -> String {
        let base = self.entry("META_URL").rsplit_once('/').map_or("", |(base, _)| base);
        base.replacen("://", &format!("://:{password}@"), 1) + &format!("/{database}")
    }

    /// The same over TLS, for a client that finds the authority and a certificate of its own in that directory.
    pub fn meta_url_with_tls(&self, database: u8, directory: &str) -> String {
        let address = self.entry("META_TLS_URL").rsplit_once('/').map_or("", |(base, _)| base);
        let url = address.replacen("://", &format!("://:{}@", self.entry("META_PASSWORD")), 1);
        let files = [("ca-cert", "ca.crt"), ("cert", "tls.crt"), ("key", "tls.key")];
        let files = files.map(|(what, file)| format!("tls-{what}-file={directory}/{file}"));
        format!("{url}/{database}?{}", files.join("&"))
    }

    /// The lines of the key that clients show Redis over TLS.
    pub fn client_key(&self) -> Vec<String> {
        let key = std::fs::read_to_string(self.directory.join("tls/tls.key")).expect("a client's key");
        key.lines().filter(|line| !line.starts_with("---")).map(str::to_owned).collect()
    }
}

/// A filesystem on the servers: its Secret, and classes that name it.
pub struct Filesystem<'a> {
    pub space: &'a Space<'a>,
    pub servers: Servers,
    pub name: String,
    meta_url: String,
    storage: Storage,
}

/// Where the objects are.
enum Storage {
    S3,
    /// In a directory.
    Files(String),
}

impl<'a> Filesystem<'a> {
    /// Describes one; it is formatted when it is first used. `database` is no other scenario's.
    pub fn new(space: &'a Space<'a>, name: &str, database: u8) -> Self {
        let servers = Servers::of(space.world);
        let meta_url = servers.meta_url(servers.entry("META_PASSWORD"), database);
        let filesystem =
            Self { space, servers, name: format!("test-{name}"), meta_url, storage: Storage::S3 };
        filesystem.described(&[])
    }

    /// Describes one whose metadata and objects are in a directory of the node.
    pub fn in_files(space: &'a Space<'a>, name: &str, directory: &Path, mount_options: &[&str]) -> Self {
        let servers = Servers::of(space.world);
        let meta_url = format!("sqlite3://{}/meta.db", directory.display());
        let storage = Storage::Files(format!("{}/objects", directory.display()));
        Self { space, servers, name: format!("test-{name}"), meta_url, storage }.described(mount_options)
    }

    fn described(self, mount_options: &[&str]) -> Self {
        let filesystem = self;
        filesystem.secret(&filesystem.name, &[]);
        filesystem.class(&filesystem.name, &json!({}), mount_options);
        filesystem.keep(
            "/apis/snapshot.storage.k8s.io/v1/volumesnapshotclasses",
            &json!({
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
                "metadata": {"name": filesystem.name}, "driver": DRIVER, "deletionPolicy": "Delete",
                "parameters": secret_references(&filesystem.name, &["snapshotter", "snapshotter-list"]),
            }),
        );
        filesystem
    }

    /// Makes an object that a failed run may have left.
    fn keep(&self, collection: &str, object: &Value) {
        let answer = self.space.world.api.call("POST", collection, "application/json", object);
        assert!(matches!(answer.code, 200 | 201 | 409), "{collection}: {}: {}", answer.code, answer.body);
    }

    /// A Secret of the filesystem with other values for some keys.
    pub fn secret(&self, name: &str, other: &[(&str, &str)]) {
        let mut data = BTreeMap::from([
            ("name", self.name.as_str()),
            ("metaurl", &self.meta_url),
            // What is deleted is to be gone at once, for the test's sake.
            ("trash-days", "0"),
        ]);
        match &self.storage {
            Storage::S3 => data.extend([
                ("storage", "s3"),
                ("bucket", self.servers.entry("BUCKET")),
                ("access-key", self.servers.entry("ACCESS_KEY")),
                ("secret-key", self.servers.entry("SECRET_KEY")),
            ]),
            Storage::Files(directory) => data.extend([("storage", "file"), ("bucket", directory.as_str())]),
        }
        data.extend(other.iter().copied());
        let secret = json!({"metadata": {"name": name}, "stringData": data});
        self.keep(&format!("/api/v1/namespaces/{SECRETS_IN}/secrets"), &secret);
    }

    /// A StorageClass for new volumes that names the Secret of the same name.
    pub fn class(&self, name: &str, parameters: &Value, mount_options: &[&str]) {
        let roles = ["provisioner", "node-publish", "controller-expand"];
        let mut all = secret_references(name, &roles);
        all["client"] = json!("juicefs");
        let more = parameters.as_object().cloned().unwrap_or_default();
        all.as_object_mut().expect("a map").extend(more);
        let class = json!({
            "metadata": {"name": name}, "provisioner": DRIVER, "parameters": all, "mountOptions": mount_options,
            "volumeBindingMode": "Immediate", "reclaimPolicy": "Delete", "allowVolumeExpansion": true,
        });
        self.keep("/apis/storage.k8s.io/v1/storageclasses", &class);
    }

    /// Asks for a new volume, without waiting.
    pub fn claim(&self, name: &str, size: &str) {
        self.space.create("persistentvolumeclaims", &self.claim_of(&self.name, name, size));
    }

    pub fn claim_of(&self, class: &str, name: &str, size: &str) -> Value {
        let mut claim = objects::claim(name, size);
        claim["spec"]["storageClassName"] = json!(class);
        claim
    }

    /// A claim for a static volume: `attributes` say which directory of the filesystem; the Secret is the one of that name.
    pub fn static_volume(&self, claim: &str, secret: &str, attributes: &Value, mount_options: &[&str]) {
        let volume = self.static_name(claim);
        let mut all = json!({"client": "juicefs"});
        all.as_object_mut().expect("a map").extend(attributes.as_object().cloned().unwrap_or_default());
        self.space.world.api.create(
            "/api/v1/persistentvolumes",
            &json!({
                "metadata": {"name": volume},
                "spec": {
                    "capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteMany"],
                    "persistentVolumeReclaimPolicy": "Retain", "storageClassName": "", "mountOptions": mount_options,
                    "csi": {
                        "driver": DRIVER, "volumeHandle": volume, "volumeAttributes": all,
                        "nodePublishSecretRef": {"name": secret, "namespace": SECRETS_IN},
                    },
                },
            }),
        );
        // A claim that comes before its volume is known is looked at again only after 15 s.
        let path = format!("/api/v1/persistentvolumes/{volume}");
        eventually(VOLUME, &format!("{volume} to be Available"), || {
            let phase = self.space.world.api.get(&path).ok_or("gone")?["status"]["phase"].clone();
            so(phase == "Available", || phase.to_string())
        });
        let mut object = self.claim_of("", claim, "1Gi");
        object["spec"]["volumeName"] = json!(volume);
        self.space.create("persistentvolumeclaims", &object);
    }

    fn static_name(&self, claim: &str) -> String {
        format!("{}-{claim}", self.space.name)
    }

    /// Deletes a claim for a static volume, and the volume's object.
    pub fn give_up(&self, claim: &str) {
        let api = &self.space.world.api;
        api.delete(&self.space.path("persistentvolumeclaims", claim));
        self.space.gone("persistentvolumeclaims", claim);
        let path = format!("/api/v1/persistentvolumes/{}", self.static_name(claim));
        api.delete(&path);
        eventually(GONE, &format!("{path} to be gone"), || {
            so(api.get(&path).is_none(), || "there".to_owned())
        });
    }

    /// Shows all of the filesystem: a pod of that name keeps it mounted, and the path on the node is answered.
    pub fn shown(&self, pod: &str) -> PathBuf {
        self.static_volume(pod, &self.name, &json!({}), &[]);
        self.space.bound(pod);
        self.space.start(&objects::pod(pod, pod, IDLE));
        self.space.ready(pod);
        self.mounted(pod, &self.static_name(pod))
    }

    /// Ends what [`Self::shown`] began.
    pub fn hidden(&self, pod: &str) {
        self.space.end(pod);
        self.give_up(pod);
    }

    /// Where a pod's volume is mounted on the node.
    pub fn mounted(&self, pod: &str, volume: &str) -> PathBuf {
        let uid = self.space.pod(pod).expect("a pod")["metadata"]["uid"].clone();
        let uid = uid.as_str().unwrap_or_default();
        Path::new(PODS).join(uid).join("volumes/kubernetes.io~csi").join(volume).join("mount")
    }

    /// The directory of a dynamic volume below the root of the filesystem.
    pub fn directory_of(&self, volume: &str) -> String {
        let object =
            self.space.world.api.get(&format!("/api/v1/persistentvolumes/{volume}")).expect("a volume");
        let path = object["spec"]["csi"]["volumeAttributes"]["path"].as_str().map(str::to_owned);
        path.unwrap_or_else(|| panic!("no path in {}", object["spec"]["csi"]))
    }

    /// Waits until a deleted volume's directory is seen no more: this client believes in what it saw for a second.
    pub fn until_gone(&self, directory: &Path) {
        eventually(GONE, "the volume's directory to be gone", || {
            so(!directory.exists(), || "there".to_owned())
        });
    }

    /// Ends pods and deletes claims of dynamic volumes; nothing of the publishes and no volume object stays.
    pub fn finish(&self, pods: &[&str], claims: &[(&str, &str)]) {
        let api = &self.space.world.api;
        pods.iter().for_each(|pod| api.delete(&self.space.path("pods", pod)));
        pods.iter().for_each(|pod| self.space.gone("pods", pod));
        claims.iter().for_each(|(claim, _)| api.delete(&self.space.path("persistentvolumeclaims", claim)));
        claims.iter().for_each(|(claim, volume)| self.space.unclaim(claim, volume));
        crate::observe::no_publish_left(self.space.world);
    }

    /// Takes a snapshot, without waiting.
    pub fn snapshot(&self, name: &str, claim: &str) {
        let mut object = objects::snapshot(name, claim);
        object["spec"]["volumeSnapshotClassName"] = json!(self.name);
        self.space.create("volumesnapshots", &object);
    }

    pub fn snapshot_ready(&self, name: &str) {
        let path = self.space.path("volumesnapshots", name);
        eventually(VOLUME, &format!("snapshot {name} to be ready"), || {
            let shot = self.space.world.api.get(&path).ok_or("gone")?;
            so(shot["status"]["readyToUse"] == true, || {
                format!("{} events: {}", shot["status"], self.space.events(name).join(" | "))
            })
        });
    }
}

/// `csi.storage.k8s.io/<role>-secret-name` and `-namespace` for each role.
fn secret_references(name: &str, roles: &[&str]) -> Value {
    let of_role = |role: &&str| {
        [("name", name), ("namespace", SECRETS_IN)]
            .map(|(part, value)| (format!("csi.storage.k8s.io/{role}-secret-{part}"), json!(value)))
    };
    Value::Object(roles.iter().flat_map(of_role).collect())
}
