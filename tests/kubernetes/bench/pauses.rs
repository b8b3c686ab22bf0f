//! What would such a pod take by itself? Pause pods of the mount pod's spec, made by hand and followed by a watch.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use kube::Client;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::core::Request;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_stream::StreamExt as _;

use super::calls::Stage;
use crate::observe;
use crate::wait::{GONE, POD};
use crate::world::{VOLUMES_NAMESPACE, World};

/// tests/cluster/lib/images.sh; it is on the node because every pod has one.
const IMAGE: &str = "mountpod.test/pause:1";
/// Tells these pods from others; the driver does not know it.
const LABEL: (&str, &str) = ("bench.mountpod.test", "pause");
/// The image ends at SIGTERM.
const GRACE_SECONDS: u32 = 5;
/// A watch of the API server lives for so long: longer than the whole benchmark.
const WATCH_SECONDS: u32 = 3600;

/// What the watch has told: the pods that are there, and since when they are ready.
type Seen = BTreeMap<String, Option<Instant>>;

/// Makes pause pods, patches and deletes them.
pub struct Pauses {
    client: Client,
    pods: kube::Api<Pod>,
    requests: Request,
    template: Value,
    seen: watch::Receiver<Seen>,
    watching: JoinHandle<()>,
}

impl Drop for Pauses {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Pauses {
    /// Publishes a volume to see what a mount pod looks like.
    pub async fn like_a_mount_pod(world: &World, stage: &Stage<'_>) -> Self {
        stage.publish(0, &stage.first).await;
        let mount_pod = observe::mount_pods(world).pop().expect("the mount pod of the volume").0;
        stage.unpublish(0, &stage.first).await;
        observe::no_publish_left(world);
        let client = mountpod::runtime::kubernetes::connect().await.expect("the API server");
        let pods: kube::Api<Pod> = kube::Api::namespaced(client.clone(), VOLUMES_NAMESPACE);
        let (tell, seen) = watch::channel(Seen::new());
        let watching = tokio::spawn(follow(pods.clone(), tell));
        let requests = Request::new(format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/pods"));
        Self { client, pods, requests, template: template(&mount_pod), seen, watching }
    }

    /// From the request to create these pods, all at once, to the moment at which the last is Ready.
    pub async fn start(&self, names: &[String]) -> Duration {
        let bodies: Vec<Vec<u8>> = names.iter().map(|name| self.manifest(name)).collect();
        let begun = Instant::now();
        let creations = bodies.into_iter().map(|body| {
            let request = self.requests.create(&PostParams::default(), body).expect("a request");
            let client = self.client.clone();
            tokio::spawn(async move { client.request_text(request).await.expect("the pod is created") })
        });
        for creation in creations.collect::<Vec<_>>() {
            creation.await.expect("no panic");
        }
        let all_ready = |seen: &Seen| names.iter().all(|name| seen.get(name).is_some_and(Option::is_some));
        let seen = self.until(POD, "pause pods to be Ready", all_ready).await;
        let last = names.iter().filter_map(|name| seen[name]).max().expect("a pod");
        last.duration_since(begun)
    }

    /// The time of one annotation patch. The answer is not decoded, so that this takes no longer than it must.
    pub async fn patch(&self, name: &str, value: usize) -> Duration {
        let body = json!({"metadata": {"annotations": {"bench.mountpod.test/patch": value.to_string()}}});
        let request =
            self.requests.patch(name, &PatchParams::default(), &Patch::Merge(body)).expect("a request");
        let begun = Instant::now();
        self.client.request_text(request).await.expect("the pod is patched");
        begun.elapsed()
    }

    /// Deletes pods, all at once, and waits until they are gone.
    pub async fn stop(&self, names: &[String]) {
        for name in names {
            let params =
                DeleteParams { grace_period_seconds: Some(GRACE_SECONDS), ..DeleteParams::default() };
            self.pods.delete(name, &params).await.expect("the pod is deleted");
        }
        let gone: BTreeSet<&String> = names.iter().collect();
        self.until(GONE, "pause pods to be gone", |seen| !seen.keys().any(|name| gone.contains(name))).await;
    }

    fn manifest(&self, name: &str) -> Vec<u8> {
        let mut pod = self.template.clone();
        pod["metadata"]["name"] = json!(name);
        pod.to_string().into_bytes()
    }

    async fn until(&self, limit: Duration, what: &str, is_so: impl Fn(&Seen) -> bool) -> Seen {
        let mut seen = self.seen.clone();
        let seen = timeout(limit, seen.wait_for(is_so)).await;
        seen.unwrap_or_else(|_| panic!("waited {limit:?} in vain for {what}"))
            .expect("the watch goes on")
            .clone()
    }
}

/// The mount pod's spec with another image: its user, capabilities, volumes, resources, affinity and priority stay.
fn template(mount_pod: &Value) -> Value {
    let mut spec = mount_pod["spec"].clone();
    let fields = spec.as_object_mut().expect("a spec");
    // The API server and the scheduler fill these in.
    for name in ["nodeName", "serviceAccount", "serviceAccountName", "priority", "preemptionPolicy"] {
        fields.remove(name);
    }
    let container = spec["containers"][0].as_object_mut().expect("a container");
    container.insert("image".to_owned(), json!(IMAGE));
    container.remove("args");
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"namespace": VOLUMES_NAMESPACE, "labels": {LABEL.0: LABEL.1}},
        "spec": spec,
    })
}

/// Tells what becomes of the pods.
async fn follow(pods: kube::Api<Pod>, tell: watch::Sender<Seen>) {
    let params = WatchParams::default().labels(&format!("{}={}", LABEL.0, LABEL.1)).timeout(WATCH_SECONDS);
    let events = pods.watch(&params, "0").await.expect("the pods can be watched");
    let mut events = pin!(events);
    while let Some(event) = events.next().await {
        let now = Instant::now();
        match event.expect("the watch goes on") {
            WatchEvent::Added(pod) | WatchEvent::Modified(pod) => tell.send_modify(|seen| {
                let since = seen.entry(name_of(&pod)).or_default();
                if is_ready(&pod) {
                    since.get_or_insert(now);
                }
            }),
            WatchEvent::Deleted(pod) => tell.send_modify(|seen| {
                seen.remove(&name_of(&pod));
            }),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => panic!("the watch of the pause pods ended: {}", status.message),
        }
    }
}

fn name_of(pod: &Pod) -> String {
    pod.metadata.name.clone().unwrap_or_default()
}

fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.as_ref().and_then(|status| status.conditions.as_ref());
    conditions.into_iter().flatten().any(|one| one.type_ == "Ready" && one.status == "True")
}
