//! How does a mount pod come to files of other Secrets, and are these Secrets there?
//!
//! The kubelet mounts them; no value of them comes into this process or into the pod's object. A pod that names a Secret
//! which does not exist would wait for it without saying so in its status: it is therefore looked for before.

use k8s_openapi::api::core::v1::{SecretVolumeSource, Volume, VolumeMount};

use super::watching::within;
use super::{CALL_LIMIT, Shared};
use crate::mountpod::service::NoFiles;
use crate::runtime::RuntimeError;
use crate::volume::SecretFiles;

const LOOK: &str = "look for the Secrets of";

fn name_of(number: usize) -> String {
    format!("files-{number}")
}

/// A volume for each.
pub(super) fn volumes(files: &[SecretFiles]) -> impl Iterator<Item = Volume> {
    files.iter().enumerate().map(|(number, one)| Volume {
        name: name_of(number),
        secret: Some(SecretVolumeSource {
            secret_name: Some(one.secret.to_string()),
            ..SecretVolumeSource::default()
        }),
        ..Volume::default()
    })
}

/// Where each is seen.
pub(super) fn mounts(files: &[SecretFiles]) -> impl Iterator<Item = VolumeMount> {
    files.iter().enumerate().map(|(number, one)| VolumeMount {
        name: name_of(number),
        mount_path: one.path.to_string(),
        read_only: Some(true),
        ..VolumeMount::default()
    })
}

/// Looks for the Secrets that a pod is to be made with, one request for each; a pod without any costs none.
///
/// # Errors
/// [`RuntimeError::NoFiles`] with the first that is missing.
pub(super) async fn look_for(shared: &Shared, name: &str, files: &[SecretFiles]) -> Result<(), RuntimeError> {
    for SecretFiles { secret, .. } in files {
        let name = || name.to_owned();
        // The name alone: the API server leaves out what it holds.
        match within(CALL_LIMIT, shared.secrets.get_metadata(secret.as_str())).await {
            Ok(_) => {}
            Err(error) if error.is_not_found() => {
                let namespace = shared.home.namespace.clone();
                let why = NoFiles::Missing { secret: secret.clone(), namespace };
                return Err(RuntimeError::NoFiles { name: name(), why });
            }
            Err(error) => {
                let source = Box::new(error);
                return Err(RuntimeError::Failed { what: LOOK, name: name(), source });
            }
        }
    }
    Ok(())
}
