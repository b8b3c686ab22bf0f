//! What is known of the mount pods, from the watch and from this process's own writes?
//!
//! Resource versions of one kind are compared as numbers (Kubernetes API, "Resource versions", since 1.35; etcd's
//! revisions before). The watch has told everything up to the highest version it showed, so an older answer is stale.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;

use super::phase::phase_of;
use crate::mountpod::facts::{PodId, PodPhase, PodUid};
use crate::mountpod::pod::pod_id;
use crate::runtime::{AnnotationPatch, RunningPod, patch_annotations};

/// The pods of one engine, as `list` shows them.
#[derive(Debug, Default)]
pub(super) struct Cache {
    pods: BTreeMap<PodUid, Arc<Pod>>,
    /// The watch has told everything up to here.
    watched: u64,
    /// Their deletion was asked for by this process; the watch has not told of it yet.
    deleting: BTreeSet<PodUid>,
    /// Pods without a record at the API, whose directory is still there: their processes may live.
    ghosts: BTreeMap<PodUid, Arc<Pod>>,
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
    pub(super) fn replace(&mut self, pods: Vec<Pod>, version: u64) -> Vec<Arc<Pod>> {
        let listed: BTreeMap<_, _> =
            pods.into_iter().filter_map(|pod| Some((uid_of(&pod)?, slim(pod)))).collect();
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
            self.keep_newer(uid, slim(pod));
        }
    }

    /// Takes in that a pod's record is gone; gives back the last that was known of it.
    pub(super) fn told_deleted(&mut self, last: Pod) -> Arc<Pod> {
        let last = slim(last);
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
            self.keep_newer(uid, slim(pod.clone()));
        }
    }

    /// This process has asked for a pod's deletion.
    pub(super) fn deletion_asked(&mut self, uid: &PodUid) {
        if self.pods.contains_key(uid) {
            self.deleting.insert(uid.clone());
        }
    }

    /// This process was told that there is no such pod any more, before the watch has said so.
    pub(super) fn known_gone(&mut self, uid: &PodUid) -> Option<Arc<Pod>> {
        self.deleting.remove(uid);
        self.pods.remove(uid)
    }

    /// Keeps a pod whose processes may outlive its record.
    pub(super) fn haunt(&mut self, mut pod: Arc<Pod>) {
        let Some(uid) = uid_of(&pod).filter(|uid| !self.pods.contains_key(uid)) else { return };
        mark_deleted(Arc::make_mut(&mut pod));
        self.ghosts.entry(uid).or_insert(pod);
    }

    /// The directory of a ghost is gone, and so are its processes.
    pub(super) fn laid_to_rest(&mut self, uid: &PodUid) {
        self.ghosts.remove(uid);
    }

    /// Changes annotations of a ghost: there is no record at the API that could be. `None` when it is none.
    pub(super) fn patch_ghost(&mut self, uid: &PodUid, patch: &AnnotationPatch) -> Option<Pod> {
        let ghost = self.ghosts.get_mut(uid)?;
        patch_annotations(Arc::make_mut(ghost), patch);
        Some(Pod::clone(ghost))
    }

    /// All pods, with their phases.
    pub(super) fn list(&self) -> Vec<RunningPod> {
        let recorded = self.pods.iter().map(|(uid, pod)| {
            let mut record = Arc::clone(pod);
            if self.deleting.contains(uid) {
                mark_deleted(Arc::make_mut(&mut record));
            }
            RunningPod { phase: phase_of(pod), record }
        });
        // Whatever its last status said: it has a directory, so it may have processes.
        let ghosts =
            self.ghosts.values().map(|pod| RunningPod { record: Arc::clone(pod), phase: PodPhase::Running });
        recorded.chain(ghosts).collect()
    }

    /// The ids of the pods that have a record.
    pub(super) fn recorded(&self) -> Vec<PodId> {
        self.pods.values().filter_map(|pod| pod_id(pod).ok()).collect()
    }

    fn keep_newer(&mut self, uid: PodUid, pod: Arc<Pod>) {
        match self.pods.get(&uid) {
            Some(known) if version_of(known) > version_of(&pod) => (),
            _ => drop(self.pods.insert(uid, pod)),
        }
    }
}

/// What the engine reads of a pod. Who manages which field, and what was asked for, are the larger part of a record.
fn slim(mut pod: Pod) -> Arc<Pod> {
    pod.metadata.managed_fields = None;
    pod.spec = None;
    Arc::new(pod)
}

/// When is not known here; that it was asked for is what counts.
fn mark_deleted(pod: &mut Pod) {
    pod.metadata.deletion_timestamp.get_or_insert(Time(Timestamp::UNIX_EPOCH));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn pod(uid: &str, version: u64) -> Pod {
        let mut pod = Pod::default();
        pod.metadata.name = Some(format!("mount-{uid}"));
        pod.metadata.uid = Some(uid.to_owned());
        pod.metadata.resource_version = Some(version.to_string());
        pod
    }

    fn uid(text: &str) -> PodUid {
        PodUid(text.to_owned())
    }

    /// Uid and version of each pod, with `!` when its deletion was asked for.
    fn shown(cache: &Cache) -> Vec<String> {
        let meta = cache.list().into_iter().map(|pod| pod.record.metadata.clone());
        meta.map(|meta| {
            let mark = if meta.deletion_timestamp.is_some() { "!" } else { "" };
            format!("{}@{}{mark}", meta.uid.unwrap(), meta.resource_version.unwrap())
        })
        .collect()
    }

    fn watching(pods: &[(&str, u64)], version: u64) -> Cache {
        let mut cache = Cache::default();
        assert!(cache.replace(pods.iter().map(|(uid, at)| pod(uid, *at)).collect(), version).is_empty());
        cache
    }

    #[test]
    fn an_own_write_shows_at_once_and_older_news_do_not_undo_it() {
        let mut cache = watching(&[("a", 5)], 10);
        cache.answered(&pod("a", 12));
        cache.answered(&pod("b", 13));
        assert_eq!(shown(&cache), ["a@12", "b@13"]);
        cache.told(pod("a", 11));
        assert_eq!(shown(&cache), ["a@12", "b@13"]);
        cache.told(pod("a", 14));
        assert_eq!(shown(&cache), ["a@14", "b@13"]);
    }

    #[test]
    fn numbers_are_compared_as_numbers() {
        let mut cache = watching(&[("a", 9)], 9);
        cache.answered(&pod("a", 10));
        assert_eq!(shown(&cache), ["a@10"]);
    }

    #[test]
    fn a_late_answer_does_not_bring_a_deleted_pod_back() {
        let mut cache = watching(&[("a", 5)], 10);
        cache.told_deleted(pod("a", 20));
        cache.answered(&pod("a", 15));
        assert!(shown(&cache).is_empty());
        cache.passed(30);
        cache.answered(&pod("b", 25));
        assert!(shown(&cache).is_empty(), "the watch has told everything up to 30");
    }

    #[test]
    fn a_new_list_keeps_what_was_written_after_it_and_says_what_is_gone() {
        let mut cache = watching(&[("a", 5), ("b", 6)], 10);
        cache.answered(&pod("c", 25));
        cache.answered(&pod("b", 22));
        let gone = cache.replace(vec![pod("b", 12)], 20);
        assert_eq!(gone, [Arc::new(pod("a", 5))]);
        assert_eq!(shown(&cache), ["b@22", "c@25"]);
    }

    #[test]
    fn an_asked_deletion_shows_before_the_watch_tells_of_it() {
        let mut cache = watching(&[("a", 5)], 10);
        cache.deletion_asked(&uid("a"));
        assert_eq!(shown(&cache), ["a@5!"]);
        cache.told_deleted(pod("a", 11));
        cache.deletion_asked(&uid("a"));
        assert!(shown(&cache).is_empty());
    }

    #[test]
    fn a_ghost_is_shown_as_deleted_and_running_until_it_rests() {
        let mut cache = watching(&[("a", 5)], 10);
        let last = cache.known_gone(&uid("a")).unwrap();
        cache.haunt(last);
        assert_eq!(shown(&cache), ["a@5!"]);
        assert_eq!(cache.list()[0].phase, PodPhase::Running);
        let patch = AnnotationPatch::from([("r".to_owned(), Some("/t".to_owned())), ("s".to_owned(), None)]);
        let patched = cache.patch_ghost(&uid("a"), &patch).unwrap();
        assert_eq!(patched.metadata.annotations.unwrap()["r"], "/t");
        assert!(cache.patch_ghost(&uid("b"), &patch).is_none());
        cache.laid_to_rest(&uid("a"));
        assert!(shown(&cache).is_empty());
    }
}
