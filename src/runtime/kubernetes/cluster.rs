//! What is the cluster asked for the controller: what a claim's owner wrote on it, and which volumes have a
//! PersistentVolume?

use std::collections::HashMap;
use std::fmt;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::ListParams;
use kube::{Api, Client};

use super::CALL_LIMIT;
use super::outcome::CallError;
use super::watching::within;
use crate::config::juicefs::VolumeContext;
use crate::config::quantity::whole;
use crate::provision::cluster::{Answer, ClaimMetadata, Cluster, Unknown};
use crate::provision::{StoreError, Volume};
use crate::telemetry::chain;
use crate::volume::{Resources, VolumeId};

/// A cluster of Kubernetes, as the API server tells it.
pub struct KubernetesCluster {
    client: Client,
    driver: String,
}

impl KubernetesCluster {
    /// Asks with this client, for the volumes of this driver.
    #[must_use]
    pub fn new(client: Client, driver: String) -> Self {
        Self { client, driver }
    }
}

impl fmt::Debug for KubernetesCluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KubernetesCluster").field("driver", &self.driver).finish_non_exhaustive()
    }
}

impl Cluster for KubernetesCluster {
    fn metadata<'a>(&'a self, namespace: &'a str, name: &'a str) -> Answer<'a, ClaimMetadata, Unknown> {
        Box::pin(async move {
            let claims: Api<PersistentVolumeClaim> = Api::namespaced(self.client.clone(), namespace);
            let found = within(CALL_LIMIT, claims.get_metadata(name)).await;
            let found = found.map_err(|error| unknown(namespace, name, &error))?;
            Ok(ClaimMetadata {
                labels: found.metadata.labels.unwrap_or_default(),
                annotations: found.metadata.annotations.unwrap_or_default(),
            })
        })
    }

    fn volumes(&self) -> Answer<'_, Option<Vec<Volume>>, StoreError> {
        Box::pin(async {
            let all: Api<PersistentVolume> = Api::all(self.client.clone());
            // From the API server's memory: whoever lists volumes does so again and again.
            let listed = within(CALL_LIMIT, all.list(&ListParams::default().match_any())).await;
            let listed = listed.map_err(|error| {
                StoreError::new("reading the PersistentVolumes", std::io::Error::other(chain(&error)))
            })?;
            Ok(Some(listed.items.into_iter().filter_map(|volume| made_by(&self.driver, volume)).collect()))
        })
    }
}

fn unknown(namespace: &str, name: &str, error: &CallError) -> Unknown {
    let needs = format!("needs labels or annotations of claim {namespace}/{name}");
    let why = format!("{needs}, which can't be read: {}", chain(error));
    if error.is_passing() { Unknown::ForNow(why) } else { Unknown::ForGood(why) }
}

/// The JuiceFS volume that a PersistentVolume tells of, if this driver made it; a person may have written any other one.
fn made_by(driver: &str, volume: PersistentVolume) -> Option<Volume> {
    let spec = volume.spec?;
    let csi = spec.csi.filter(|csi| csi.driver == driver)?;
    let id: VolumeId = csi.volume_handle.parse().ok()?;
    let context: HashMap<_, _> = csi.volume_attributes?.into_iter().collect();
    let context = VolumeContext::of_map("volumeAttributes", &context).ok()?;
    let capacity = whole(&spec.capacity?.get("storage")?.0).ok()?;
    (context.filesystem == *id.filesystem()).then(|| Volume {
        id,
        capacity_bytes: u64::try_from(capacity).unwrap_or(u64::MAX),
        // A PersistentVolume does not tell what it was filled from.
        source: None,
        context: context.to_map(),
        resources: Resources::default(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use kube::core::Status;
    use serde_json::{Value, json};

    use super::*;

    fn told(driver: &str, handle: &str, more: &Value) -> Option<Volume> {
        let mut attributes = json!({
            "client": "juicefs", "filesystem": "files", "path": "a/b", "sharing": "volume",
            "storage.kubernetes.io/csiProvisionerIdentity": "1-csi.mountpod.dev",
        });
        attributes.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let volume = json!({
            "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "pv"},
            "spec": {
                "capacity": {"storage": "2Gi"},
                "csi": {"driver": driver, "volumeHandle": handle, "volumeAttributes": attributes},
            },
        });
        made_by("csi.mountpod.dev", serde_json::from_value(volume).unwrap())
    }

    #[test]
    fn a_volume_that_this_driver_made_is_told_as_it_was_made() {
        let volume = told("csi.mountpod.dev", "files#pvc-1", &json!({})).unwrap();
        assert_eq!((volume.id.to_string().as_str(), volume.capacity_bytes), ("files#pvc-1", 2 << 30));
        assert_eq!(volume.context.get("path").map(String::as_str), Some("a/b"));
        assert!(!volume.context.keys().any(|key| key.contains("Identity")), "{:?}", volume.context);
    }

    #[test]
    fn metadata_are_unknown_for_good_only_when_the_api_server_says_so() {
        let answer = |code, reason| {
            let status = Status { code, ..Status::failure("it says no", reason) };
            unknown("prod", "data", &CallError::Api(kube::Error::Api(status.boxed())))
        };
        let told = "needs labels or annotations of claim prod/data, which can't be read: ";
        let missing = answer(404, "NotFound");
        assert!(matches!(&missing, Unknown::ForGood(why) if why.starts_with(told)), "{missing:?}");
        for passing in [
            answer(500, "InternalError"),
            answer(429, "TooManyRequests"),
            unknown("prod", "data", &CallError::TimedOut(CALL_LIMIT)),
        ] {
            assert!(matches!(&passing, Unknown::ForNow(why) if why.starts_with(told)), "{passing:?}");
        }
    }

    #[test]
    fn what_others_made_or_wrote_is_left_out() {
        assert_eq!(told("other.example", "files#pvc-1", &json!({})), None);
        assert_eq!(told("csi.mountpod.dev", "photos", &json!({})), None);
        assert_eq!(told("csi.mountpod.dev", "other#pvc-1", &json!({})), None);
        assert_eq!(told("csi.mountpod.dev", "files#pvc-1", &json!({"unknown": "x"})), None);
    }
}
