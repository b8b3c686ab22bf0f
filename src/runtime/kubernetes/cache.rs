//! What is known of the mount pods, from the watch and from this process's own writes?
//!
//! Resource versions of one kind are compared as numbers (Kubernetes API, "Resource versions", since 1.35; etcd's
//! revisions before). The watch has told everything up to the highest version it showed, so an older answer is stale.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::phase::phase_of;
use crate::mountpod::facts::{PodId, PodPhase, PodUid};
use crate::mountpod::pod::pod_id;
use crate::runtime::{AnnotationPatch, RunningPod};

/// The pods of one engine, as `list` shows them.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pods: BTreeMap<PodUid, Pod>,
    /// The watch has told everything up to here.
    watched: u64,
    /// Their deletion was asked for by this process; the watch has not told of it yet.
    deleting: BTreeSet<PodUid>,
    /// Pods without a record at the API, whose directory is still there: their processes may live.
    ghosts: BTreeMap<PodUid, Pod>,
}

fn version_of(pod: &Pod) -> u64 {
    version(pod.metadata.resource_version.as_deref())
}

/// A version as a number; 0, older than all, when it is none.
pub(super) fn version(text: Option<&str>) -> u64 {
    text.and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn uid_of(pod: &Pod) -> Option<PodUid> {
    pod.metadata.uid.clone().map(PodUid)
}

impl Cache {
    /// The version that a watch is to go on from.
    pub(super) fn watched(&self) -> u64 {
        self.watched
    }

    /// Takes in a whole list, and gives back what is no more.
    pub(super) fn replace(&mut self, pods: Vec<Pod>, version: u64) -> Vec<Pod> {
        let listed: BTreeMap<_, _> = pods.into_iter().filter_map(|pod| Some((uid_of(&pod)?, pod))).collect();
        let before = std::mem::replace(&mut self.pods, listed);
        self.watched = self.watched.max(version);
        let mut gone = Vec::new();
        for (uid, pod) in before {
            // Written by this process after the list was read.
            if version_of(&pod) > version {
                self.keep_newer(uid, pod);
            } else if !self.pods.contains_key(&uid) {
                self.deleting.remove(&uid);
                gone.push(pod);
            }
        }
        gone
    }

    /// Takes in what the watch tells of a pod that is there.
    pub(super) fn told(&mut self, pod: Pod) {
        self.passed(version_of(&pod));
        if let Some(uid) = uid_of(&pod) {
            self.keep_newer(uid, pod);
        }
    }

    /// Takes in that a pod's record is gone; gives back the last that was known of it.
    pub(super) fn told_deleted(&mut self, last: Pod) -> Pod {
        self.passed(version_of(&last));
        if let Some(uid) = uid_of(&last) {
            self.pods.remove(&uid);
            self.deleting.remove(&uid);
        }
        last
    }

    /// The watch has told everything up to that version.
    pub(super) fn passed(&mut self, version: u64) {
        self.watched = self.watched.max(version);
    }

    /// Takes in the answer to a write of this process, unless the watch has told what came of it.
    pub(super) fn answered(&mut self, pod: &Pod) {
        if let Some(uid) = uid_of(pod).filter(|_| version_of(pod) > self.watched) {
            self.keep_newer(uid, pod.clone());
        }
    }

    /// This process has asked for a pod's deletion.
    pub(super) fn deletion_asked(&mut self, uid: &PodUid) {
        if self.pods.contains_key(uid) {
            self.deleting.insert(uid.clone());
        }
    }

    /// This process was told that there is no such pod any more, before the watch has said so.
    pub(super) fn known_gone(&mut self, uid: &PodUid) -> Option<Pod> {
        self.deleting.remove(uid);
        self.pods.remove(uid)
    }

    /// Keeps a pod whose processes may outlive its record.
    pub(super) fn haunt(&mut self, mut pod: Pod) {
        let Some(uid) = uid_of(&pod).filter(|uid| !self.pods.contains_key(uid)) else { return };
        mark_deleted(&mut pod);
        self.ghosts.entry(uid).or_insert(pod);
    }

    /// The directory of a ghost is gone, and so are its processes.
    pub(super) fn laid_to_rest(&mut self, uid: &PodUid) {
        self.ghosts.remove(uid);
    }

    /// Changes annotations of a ghost: there is no record at the API that could be. `None` when it is none.
    pub(super) fn patch_ghost(&mut self, uid: &PodUid, patch: &AnnotationPatch) -> Option<Pod> {
        let ghost = self.ghosts.get_mut(uid)?;
        let annotations = ghost.metadata.annotations.get_or_insert_default();
        for (name, value) in patch {
            match value {
                Some(value) => annotations.insert(name.clone(), value.clone()),
                None => annotations.remove(name),
            };
        }
        Some(ghost.clone())
    }

    /// Is the pod of that uid known, with its record or without?
    pub(super) fn knows(&self, uid: &PodUid) -> bool {
        self.pods.contains_key(uid) || self.ghosts.contains_key(uid)
    }

    /// All pods, with their phases.
    pub(super) fn list(&self) -> Vec<RunningPod> {
        let recorded = self.pods.iter().map(|(uid, pod)| {
            let mut record = pod.clone();
            if self.deleting.contains(uid) {
                mark_deleted(&mut record);
            }
            RunningPod { phase: phase_of(pod), record }
        });
        // Whatever its last status said: it has a directory, so it may have processes.
        let ghosts = self.ghosts.values().map(|pod| RunningPod { record: pod.clone(), phase: PodPhase::Running });
        recorded.chain(ghosts).collect()
    }

    /// The ids of the pods that have a record.
    pub(super) fn recorded(&self) -> Vec<PodId> {
        self.pods.values().filter_map(|pod| pod_id(pod).ok()).collect()
    }

    fn keep_newer(&mut self, uid: PodUid, pod: Pod) {
        match self.pods.get(&uid) {
            Some(known) if version_of(known) > version_of(&pod) => (),
            _ => drop(self.pods.insert(uid, pod)),
        }
    }
}

/// When is not known here; that it was asked for is what counts.
fn mark_deleted(pod: &mut Pod) {
    pod.metadata.deletion_timestamp.get_or_insert(Time(Timestamp::UNIX_EPOCH));
}
