//! Where are the credentials of a mount pod's client kept?
//!
//! In a Secret with the pod's name, owned by the pod: the garbage collector removes it with the pod. It is read only when
//! a client must be started by a driver that was restarted since.

use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use kube::api::PostParams;

use super::outcome::{CallError, runtime_error};
use super::watching::within;
use super::{CALL_LIMIT, FIELD_MANAGER, Shared};
use crate::mountpod::facts::PodId;
use crate::runtime::RuntimeError;
use crate::volume::Secrets;

const KEEP: &str = "keep the credentials of";
const READ: &str = "read the credentials of";

/// Writes the Secret. One that is left of an earlier pod of that name is replaced.
pub(super) async fn keep(shared: &Shared, pod: &PodId, secrets: &Secrets) -> Result<(), RuntimeError> {
    let secret = secret(shared, pod, secrets);
    let params = PostParams { dry_run: false, field_manager: Some(FIELD_MANAGER.to_owned()) };
    let created = within(CALL_LIMIT, shared.secrets.create(&params, &secret)).await;
    let written = match created {
        // The garbage collector may come a while after the earlier pod has gone.
        Err(error) if error.status().is_some_and(|status| status.reason == "AlreadyExists") => {
            within(CALL_LIMIT, shared.secrets.replace(&pod.name.0, &params, &secret)).await
        }
        created => created,
    };
    written.map(drop).map_err(|error| failed(KEEP, pod, error))
}

/// Reads the Secret of that very pod, if there is one.
pub(super) async fn read(shared: &Shared, pod: &PodId) -> Result<Secrets, RuntimeError> {
    match within(CALL_LIMIT, shared.secrets.get(&pod.name.0)).await {
        Ok(secret) if is_of(&secret, pod) => Ok(secrets_in(secret)),
        Ok(_) => Ok(Secrets::default()),
        Err(error) if error.is_not_found() => Ok(Secrets::default()),
        Err(error) => Err(failed(READ, pod, error)),
    }
}

fn failed(what: &'static str, pod: &PodId, error: CallError) -> RuntimeError {
    runtime_error(what, &pod.name.0, error)
}

fn secret(shared: &Shared, pod: &PodId, secrets: &Secrets) -> Secret {
    Secret {
        metadata: ObjectMeta {
            name: Some(pod.name.0.clone()),
            namespace: Some(shared.home.namespace.clone()),
            labels: Some(shared.home.labels()),
            owner_references: Some(vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Pod".to_owned(),
                name: pod.name.0.clone(),
                uid: pod.uid.0.clone(),
                ..OwnerReference::default()
            }]),
            ..ObjectMeta::default()
        },
        string_data: Some(secrets.expose().map(|(key, value)| (key.to_owned(), value.to_owned())).collect()),
        type_: Some("Opaque".to_owned()),
        ..Secret::default()
    }
}

fn is_of(secret: &Secret, pod: &PodId) -> bool {
    secret.metadata.owner_references.iter().flatten().any(|owner| owner.uid == pod.uid.0)
}

/// What is no text was not written here.
fn secrets_in(secret: Secret) -> Secrets {
    let data = secret.data.unwrap_or_default().into_iter();
    data.filter_map(|(key, value)| Some((key, String::from_utf8(value.0).ok()?))).collect()
}
