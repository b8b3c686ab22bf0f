//! What does every scenario share: the API server, the driver's names, a namespace of its own?

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::{Value, json};

use crate::api::Api;
use crate::wait::{GONE, POD, VOLUME, eventually, so};
use crate::{objects, observe};

/// The driver's name.
pub const DRIVER: &str = "csi.mountpod.dev";
/// Where mount pods live: the chart's default for `mountPods.namespace`.
pub const VOLUMES_NAMESPACE: &str = "mountpod-volumes";

/// A cluster with the driver on it.
pub struct World {
    pub api: Api,
    /// Where the driver itself runs.
    pub namespace: String,
    /// The name of the node that this program runs in.
    pub node: String,
    /// The directory on the node in which volumes are made.
    pub root: PathBuf,
    /// The directory of the servers that JuiceFS volumes need (tests/servers).
    pub servers: PathBuf,
    /// The API server's audit log.
    pub audit_log: PathBuf,
    made: AtomicU32,
}

fn told(name: &str) -> String {
    std::env::var(name)
        .unwrap_or_else(|_| panic!("{name} is not set: this program is started by tests/kubernetes/run"))
}

impl World {
    pub fn enter() -> Self {
        Self {
            api: Api::start(),
            namespace: told("MOUNTPOD_NAMESPACE"),
            node: told("MOUNTPOD_NODE"),
            root: PathBuf::from(told("MOUNTPOD_ROOT")),
            servers: PathBuf::from(told("MOUNTPOD_SERVERS")),
            audit_log: PathBuf::from(told("MOUNTPOD_AUDIT_LOG")),
            made: AtomicU32::new(0),
        }
    }

    /// A namespace for one scenario.
    pub fn space(&self, name: &str) -> Space<'_> {
        let name = format!("test-{name}-{}", self.made.fetch_add(1, Ordering::Relaxed));
        self.api.create("/api/v1/namespaces", &json!({"metadata": {"name": name}}));
        let account = format!("/api/v1/namespaces/{name}/serviceaccounts/default");
        eventually(POD, "the namespace's default service account", || {
            self.api.get(&account).map(|_| ()).ok_or_else(|| "none".to_owned())
        });
        Space { world: self, name }
    }
}

/// A namespace that goes with its end of scope, and all that is in it.
pub struct Space<'a> {
    pub world: &'a World,
    pub name: String,
}

impl Space<'_> {
    fn api(&self) -> &Api {
        &self.world.api
    }

    pub fn path(&self, kind: &str, name: &str) -> String {
        let group = if kind == "volumesnapshots" { "apis/snapshot.storage.k8s.io" } else { "api" };
        let path = format!("/{group}/v1/namespaces/{}/{kind}", self.name);
        if name.is_empty() { path } else { format!("{path}/{name}") }
    }

    /// Makes any object of the namespace.
    pub fn create(&self, kind: &str, object: &Value) {
        self.api().create(&self.path(kind, ""), object);
    }

    /// Makes a claim of 64 MiB, without waiting.
    pub fn claim(&self, name: &str) {
        self.create("persistentvolumeclaims", &objects::claim(name, "64Mi"));
    }

    /// Waits for a claim and says the name of its volume.
    pub fn bound(&self, name: &str) -> String {
        let path = self.path("persistentvolumeclaims", name);
        eventually(VOLUME, &format!("claim {name} to be Bound"), || {
            let claim = self.api().get(&path).ok_or("gone")?;
            so(claim["status"]["phase"] == "Bound", || {
                format!("{} events: {}", claim["status"], self.events(name).join(" | "))
            })?;
            Ok(claim["spec"]["volumeName"].as_str().unwrap_or_default().to_owned())
        })
    }

    /// Makes a pod, without waiting.
    pub fn start(&self, pod: &Value) {
        self.create("pods", pod);
    }

    /// Waits until a pod's containers are ready.
    pub fn ready(&self, name: &str) {
        eventually(POD, &format!("pod {name} to be Ready"), || {
            let pod = self.pod(name).ok_or("gone")?;
            let conditions = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
            so(conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True"), || {
                format!("{} events: {}", pod["status"]["phase"], self.events(name).join(" | "))
            })
        });
    }

    pub fn pod(&self, name: &str) -> Option<Value> {
        self.api().get(&self.path("pods", name))
    }

    /// Asks a pod to end and waits until it is gone.
    pub fn end(&self, name: &str) {
        self.api().delete(&self.path("pods", name));
        self.gone("pods", name);
    }

    pub fn gone(&self, kind: &str, name: &str) {
        let path = self.path(kind, name);
        eventually(GONE, &format!("{kind} {name} to be gone"), || match self.api().get(&path) {
            None => Ok(()),
            Some(object) => {
                Err(format!("{} events: {}", object["status"]["phase"], self.events(name).join(" | ")))
            }
        });
    }

    /// Deletes a claim and waits until it and its PersistentVolume are gone.
    pub fn unclaim(&self, claim: &str, volume: &str) {
        self.api().delete(&self.path("persistentvolumeclaims", claim));
        self.gone("persistentvolumeclaims", claim);
        let path = format!("/api/v1/persistentvolumes/{volume}");
        eventually(GONE, &format!("PersistentVolume {volume} to be gone"), || match self.api().get(&path) {
            None => Ok(()),
            Some(object) => Err(object["status"].to_string()),
        });
    }

    /// Lets a claim that is bound ask for more, and waits until it has it.
    pub fn expand(&self, claim: &str, size: &str) {
        let path = self.path("persistentvolumeclaims", claim);
        self.api().patch(&path, &json!({"spec": {"resources": {"requests": {"storage": size}}}}));
        eventually(VOLUME, &format!("the claim to say {size}"), || {
            let now = self.api().get(&path).ok_or("gone")?;
            so(now["status"]["capacity"]["storage"] == size, || {
                format!("{} events: {}", now["status"], self.events(claim).join(" | "))
            })
        });
    }

    /// Ends these pods, deletes these claims (each with the name of its volume), and waits until nothing is left.
    pub fn finish(&self, pods: &[&str], claims: &[(&str, &str)]) {
        pods.iter().for_each(|pod| self.end(pod));
        observe::no_publish_left(self.world);
        claims.iter().for_each(|(claim, volume)| self.unclaim(claim, volume));
        observe::no_volume_left(self.world);
    }

    /// What was said about an object: reason and message.
    pub fn events(&self, name: &str) -> Vec<String> {
        let said = |event: &Value| {
            format!(
                "{}: {}",
                event["reason"].as_str().unwrap_or_default(),
                event["message"].as_str().unwrap_or_default()
            )
        };
        self.events_of(name).iter().map(said).collect()
    }

    /// All events of an object: when each was first seen by who tells of it, when it was told, and how often since.
    pub fn history(&self, name: &str) -> String {
        let told = |event: &Value| {
            format!(
                "{} seen {}, told {}, {} times",
                event["reason"],
                event["firstTimestamp"],
                event["metadata"]["creationTimestamp"],
                event["count"]
            )
        };
        self.events_of(name).iter().map(told).collect::<Vec<_>>().join(", ")
    }

    fn events_of(&self, name: &str) -> Vec<Value> {
        let path = format!("{}?fieldSelector=involvedObject.name={name}", self.path("events", ""));
        self.api().list(&path)
    }

    /// Runs a shell command in a pod, which must succeed.
    pub fn sh(&self, pod: &str, command: &str) -> String {
        let said = crate::api::exec(&self.name, pod, command);
        said.unwrap_or_else(|why| panic!("in pod {pod}, '{command}': {why}")).trim_end().to_owned()
    }

    /// MiB that a pod with a volume sees of it.
    pub fn mebibytes(&self, pod: &str) -> String {
        self.sh(pod, "df -P -m /data | tail -n 1 | awk '{print $2}'")
    }

    /// Runs a shell command in a pod, which must fail; says what it said.
    pub fn sh_fails(&self, pod: &str, command: &str) -> String {
        let said = crate::api::exec(&self.name, pod, command);
        said.err().unwrap_or_else(|| panic!("in pod {pod}, '{command}' succeeded"))
    }
}

impl Drop for Space<'_> {
    /// Nothing is awaited: a scenario that ends well has waited, and one that failed must say why first.
    fn drop(&mut self) {
        let path = format!("/api/v1/namespaces/{}", self.name);
        let gone = self.api().call("DELETE", &path, "application/json", &Value::Null);
        if gone.code >= 300 {
            eprintln!("namespace {} stays: {}", self.name, gone.body);
        }
    }
}
