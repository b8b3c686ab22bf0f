//! Which part of a shared session does each target show, and of which volume is it?
//!
//! A session of one volume shows that volume at every target. One that several volumes share serves the whole filesystem,
//! and each target shows a directory of it: an annotation beside the target's ref says which. The engine counts targets
//! alike; who may have a volume alone is therefore written here, per volume, and looked at before the engine is asked.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};

use super::pod::{ServedVolume, refs_of};
use super::refs::{PART_PREFIX, Refs, ref_key};
use crate::volume::{Exclusivity, TargetPath, VolumeId};

/// What does a target of a session show?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Shown {
    /// All of it: the session is of one volume.
    #[default]
    Whole,
    /// A part, each its own.
    Part,
}

/// What one target shows of a session that several volumes share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The volume; `None` when nothing but the mount itself tells of it.
    pub volume: Option<VolumeId>,
    /// Its directory: plain, relative, without `..`; empty for the whole filesystem.
    pub directory: String,
    /// May the volume have another target beside this one?
    pub exclusivity: Exclusivity,
}

/// The name of the annotation that says what a target shows: `part.mountpod.dev/<key of its ref>`. Its value is the JSON of
/// a [`Part`].
#[must_use]
pub fn part_annotation_name(target: &TargetPath) -> String {
    format!("{PART_PREFIX}{}", ref_key(target))
}

/// The annotation that says what a target shows.
///
/// # Errors
/// Never in practice: a part always has a JSON form.
pub fn part_annotation(target: &TargetPath, part: &Part) -> Result<(String, String), serde_json::Error> {
    Ok((part_annotation_name(target), serde_json::to_string(part)?))
}

/// What a record says that a target shows; `None` when it does not.
#[must_use]
pub fn part_in(pod: &Pod, target: &TargetPath) -> Option<Part> {
    let annotations: &BTreeMap<String, String> = pod.metadata.annotations.as_ref()?;
    serde_json::from_str(annotations.get(&part_annotation_name(target))?).ok()
}

/// The refs in a record that are of this volume, as the volume's own access modes count them.
#[must_use]
pub fn refs_of_volume(pod: &Pod, served: &ServedVolume, volume: &VolumeId) -> Refs {
    match served.shown {
        Shown::Whole if served.volume == *volume => refs_of(pod),
        Shown::Whole => Refs::default(),
        Shown::Part => {
            let of_volume = |target: &TargetPath| {
                let part = part_in(pod, target).filter(|part| part.volume.as_ref() == Some(volume))?;
                Some((target.clone(), part.exclusivity))
            };
            refs_of(pod).iter().filter_map(|(target, _)| of_volume(target)).collect()
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;
    use crate::mountpod::facts::Generation;
    use crate::mountpod::pod::new_pod;
    use crate::volume::{ClientKind, MountSpec, Resources};

    fn served(shown: Shown) -> ServedVolume {
        let spec = MountSpec {
            client: ClientKind::Juicefs,
            filesystem: "data".parse().unwrap(),
            subdirectory: String::new(),
            options: BTreeMap::new(),
            credentials: None,
        };
        let own = ServedVolume::new("data#a".parse().unwrap(), spec, Resources::default());
        ServedVolume { shown, ..own }
    }

    fn target(name: &str) -> TargetPath {
        name.parse().unwrap()
    }

    fn record(shown: Shown, parts: &[(&str, &str, Exclusivity)]) -> Pod {
        let session = "0123456789abcdef0123456789abcdef".parse().unwrap();
        let refs = parts.iter().map(|(at, ..)| (target(at), Exclusivity::Shared)).collect();
        let mut pod = new_pod("node", &session, Generation(1), &refs, &served(shown)).unwrap();
        for (at, volume, exclusivity) in parts {
            let volume = Some(volume.parse().unwrap());
            let part = Part { volume, directory: "vols/x".to_owned(), exclusivity: *exclusivity };
            let (name, value) = part_annotation(&target(at), &part).unwrap();
            pod.metadata.annotations.as_mut().unwrap().insert(name, value);
        }
        pod
    }

    #[test]
    fn a_session_of_one_volume_has_all_refs_of_it() {
        let pod = record(Shown::Whole, &[("/1", "data#a", Exclusivity::Shared)]);
        let refs = |volume: &str| refs_of_volume(&pod, &served(Shown::Whole), &volume.parse().unwrap());
        assert_eq!((refs("data#a").len(), refs("data#b").len()), (1, 0));
    }

    #[test]
    fn in_a_shared_session_each_volume_has_its_own_refs_and_its_own_access_mode() {
        let alone = Exclusivity::SingleTarget;
        let pod = record(
            Shown::Part,
            &[
                ("/1", "data#a", alone),
                ("/2", "data#b", Exclusivity::Shared),
                ("/3", "data#b", Exclusivity::Shared),
            ],
        );
        let refs = |volume: &str| refs_of_volume(&pod, &served(Shown::Part), &volume.parse().unwrap());
        assert_eq!((refs("data#a").len(), refs("data#b").len(), refs("data#c").len()), (1, 2, 0));
        assert_eq!(refs("data#a").in_the_way(&target("/4"), Exclusivity::Shared), Some(&target("/1")));
        assert_eq!(refs("data#b").in_the_way(&target("/4"), Exclusivity::Shared), None);
    }

    #[test]
    fn what_is_said_of_a_target_is_read_back() {
        let pod = record(Shown::Part, &[("/1", "data#a", Exclusivity::Shared)]);
        assert_eq!(part_in(&pod, &target("/1")).unwrap().directory, "vols/x");
        assert_eq!(part_in(&pod, &target("/2")), None);
        let (_, own) = part_annotation_name(&target("/1"))
            .split_once('/')
            .map(|(a, b)| (a.to_owned(), b.to_owned()))
            .unwrap();
        assert!(own.len() <= 63);
    }
}
