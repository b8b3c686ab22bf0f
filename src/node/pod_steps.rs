//! How are the engine's steps on mount pods carried out?

use kube::core::params::Preconditions;

use super::effects::NodeEffects;
use super::outcome::{failed, of_runtime, stale};
use crate::mountpod::effects::EffectError;
use crate::mountpod::facts::{Generation, PodId, ResourceVersion, Timestamp};
use crate::mountpod::parts::part_annotation_name;
use crate::mountpod::pod::{new_pod, pod_id};
use crate::mountpod::refs::{DELETE_AFTER, Refs, ref_annotation_names, ref_annotations};
use crate::runtime::{AnnotationPatch, MountPods, RuntimeError};
use crate::volume::{Exclusivity, SessionId, TargetPath};

impl<R: MountPods> NodeEffects<R> {
    pub(super) async fn create_pod(
        &self,
        session: &SessionId,
        generation: Generation,
        refs: &Refs,
    ) -> Result<(), EffectError> {
        const WHAT: &str = "create the mount pod";
        let launch = self.launch_with_secrets(session).await?;
        let mut pod = new_pod(&self.config.owner, session, generation, refs, &launch.served)
            .map_err(|error| failed(WHAT, error))?;
        let parts = self.part_annotations(session, refs).await?;
        pod.metadata.annotations.get_or_insert_default().extend(parts);
        let created = self.runtime.create(pod).await.map_err(|error| of_runtime(WHAT, error))?;
        if !launch.secrets.is_empty() {
            let pod = pod_id(&created).map_err(|error| failed(WHAT, error))?;
            let kept = self.runtime.keep_credentials(&pod, &launch.secrets).await;
            kept.map_err(|error| of_runtime("keep the credentials of the mount pod", error))?;
        }
        self.links.follow(&*self.runtime, &self.runtime.list());
        Ok(())
    }

    pub(super) async fn add_ref(
        &self,
        session: &SessionId,
        pod: &PodId,
        target: &TargetPath,
        exclusivity: Exclusivity,
    ) -> Result<(), EffectError> {
        const WHAT: &str = "add the ref";
        // Both names first, so that a ref that was exclusive before isn't any more.
        let mut patch: AnnotationPatch =
            ref_annotation_names(target).into_iter().map(|name| (name, None)).collect();
        patch.extend(
            ref_annotations(target, exclusivity).into_iter().map(|(name, value)| (name, Some(value))),
        );
        let refs = [(target.clone(), exclusivity)].into_iter().collect();
        let parts = self.part_annotations(session, &refs).await?;
        patch.extend(parts.into_iter().map(|(name, value)| (name, Some(value))));
        patch.insert(DELETE_AFTER.to_owned(), None);
        let patched = self.runtime.patch(&pod.name, &pod.uid, &patch).await;
        let record = patched.map_err(|error| of_runtime(WHAT, error))?;
        // The deletion came first: the ref would go with the pod.
        if record.metadata.deletion_timestamp.is_some() { Err(stale(&*pod.name.0)) } else { Ok(()) }
    }

    pub(super) async fn drop_ref(
        &self,
        pod: &PodId,
        target: &TargetPath,
        delete_after: Option<Timestamp>,
    ) -> Result<(), EffectError> {
        let mut patch: AnnotationPatch =
            ref_annotation_names(target).into_iter().map(|name| (name, None)).collect();
        patch.insert(part_annotation_name(target), None);
        if let Some(Timestamp(moment)) = delete_after {
            patch.insert(DELETE_AFTER.to_owned(), Some(moment.to_string()));
        }
        match self.runtime.patch(&pod.name, &pod.uid, &patch).await {
            Ok(_) | Err(RuntimeError::Gone(_)) => Ok(()),
            Err(error) => Err(of_runtime("drop the ref", error)),
        }
    }

    pub(super) async fn delete_pod(&self, pod: &PodId, version: &ResourceVersion) -> Result<(), EffectError> {
        let preconditions =
            Preconditions { uid: Some(pod.uid.0.clone()), resource_version: Some(version.0.clone()) };
        match self.runtime.delete(&pod.name, &preconditions).await {
            Ok(()) | Err(RuntimeError::Gone(_)) => Ok(()),
            Err(error) => Err(of_runtime("delete the mount pod", error)),
        }
    }
}
