//! How are references written on a mount pod, and read back?

use std::collections::BTreeMap;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::volume::{Exclusivity, TargetPath};

/// Annotations with this prefix are refs: `ref.mountpod.dev/<key>` = target path.
pub const REF_PREFIX: &str = "ref.mountpod.dev/";
/// Annotations with this prefix mark a ref that admits no other: `exclusive.mountpod.dev/<key>` = "true".
pub const EXCLUSIVE_PREFIX: &str = "exclusive.mountpod.dev/";
/// Annotations with this prefix say what a ref's target shows of a session that several volumes share: see `parts`.
pub const PART_PREFIX: &str = "part.mountpod.dev/";
/// When a mount pod without refs may end, in milliseconds since the Unix epoch.
pub const DELETE_AFTER: &str = "mountpod.dev/delete-after";
/// Hex digits of a ref key: an annotation's name part may have 63 characters.
const KEY_DIGITS: usize = 32;

/// Does an annotation of that name belong to a ref?
#[must_use]
pub fn is_ref(annotation: &str) -> bool {
    [REF_PREFIX, EXCLUSIVE_PREFIX, PART_PREFIX].iter().any(|prefix| annotation.starts_with(prefix))
}

/// The references on one mount pod, by target.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Refs(BTreeMap<TargetPath, Exclusivity>);

impl Refs {
    /// Reads the refs among a pod's annotations; what isn't a well-formed ref is left alone.
    #[must_use]
    pub fn read(annotations: &BTreeMap<String, String>) -> Self {
        let refs = annotations.iter().filter_map(|(name, value)| {
            let key = name.strip_prefix(REF_PREFIX)?;
            let target: TargetPath = value.parse().ok()?;
            let exclusive = annotations.contains_key(&format!("{EXCLUSIVE_PREFIX}{key}"));
            (key == ref_key(&target))
                .then_some((target, if exclusive { Exclusivity::SingleTarget } else { Exclusivity::Shared }))
        });
        Self(refs.collect())
    }

    /// The annotations that say these refs.
    #[must_use]
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.0.iter().flat_map(|(target, exclusivity)| ref_annotations(target, *exclusivity)).collect()
    }

    /// Is nobody counted?
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// How many are counted?
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Is this target counted?
    #[must_use]
    pub fn contains(&self, target: &TargetPath) -> bool {
        self.0.contains_key(target)
    }

    /// How is this target counted, if it is?
    #[must_use]
    pub fn exclusivity_of(&self, target: &TargetPath) -> Option<Exclusivity> {
        self.0.get(target).copied()
    }

    /// The first target beside which this one can't be used in that way: one of the two wants the volume alone.
    #[must_use]
    pub fn in_the_way(&self, target: &TargetPath, exclusivity: Exclusivity) -> Option<&TargetPath> {
        let alone = |exclusivity| exclusivity == Exclusivity::SingleTarget;
        let mut others = self.iter().filter(|(other, _)| *other != target);
        others.find(|(_, other)| alone(exclusivity) || alone(*other)).map(|(other, _)| other)
    }

    /// Counts a target; again is no harm.
    pub fn insert(&mut self, target: TargetPath, exclusivity: Exclusivity) {
        self.0.insert(target, exclusivity);
    }

    /// Counts a target no longer.
    pub fn remove(&mut self, target: &TargetPath) {
        self.0.remove(target);
    }

    /// The targets, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&TargetPath, Exclusivity)> {
        self.0.iter().map(|(target, exclusivity)| (target, *exclusivity))
    }
}

impl FromIterator<(TargetPath, Exclusivity)> for Refs {
    fn from_iter<I: IntoIterator<Item = (TargetPath, Exclusivity)>>(refs: I) -> Self {
        Self(refs.into_iter().collect())
    }
}

/// The key of a target's ref: hex of its SHA-256, cut.
#[must_use]
pub fn ref_key(target: &TargetPath) -> String {
    let mut digits = HEXLOWER.encode(&Sha256::digest(target.as_str()));
    digits.truncate(KEY_DIGITS);
    digits
}

/// The annotations of one ref.
#[must_use]
pub fn ref_annotations(target: &TargetPath, exclusivity: Exclusivity) -> Vec<(String, String)> {
    let key = ref_key(target);
    let counted = (format!("{REF_PREFIX}{key}"), target.to_string());
    match exclusivity {
        Exclusivity::Shared => vec![counted],
        Exclusivity::SingleTarget => vec![counted, (format!("{EXCLUSIVE_PREFIX}{key}"), "true".to_owned())],
    }
}

/// The names of the annotations that one ref may have; removing them drops it.
#[must_use]
pub fn ref_annotation_names(target: &TargetPath) -> [String; 2] {
    let key = ref_key(target);
    [format!("{REF_PREFIX}{key}"), format!("{EXCLUSIVE_PREFIX}{key}")]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    fn target(path: &str) -> TargetPath {
        path.parse().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let refs: Refs = [(target("/a"), Exclusivity::Shared), (target("/b"), Exclusivity::SingleTarget)]
            .into_iter()
            .collect();
        assert_eq!(refs.annotations().len(), 3);
        assert_eq!(Refs::read(&refs.annotations()), refs);
        assert_eq!(refs.exclusivity_of(&target("/b")), Some(Exclusivity::SingleTarget));
        assert_eq!(refs.exclusivity_of(&target("/c")), None);
    }

    #[test]
    fn who_wants_a_volume_alone_and_anybody_else_are_in_each_others_way() {
        let (a, b) = (target("/a"), target("/b"));
        let counted = |exclusivity| Refs::from_iter([(a.clone(), exclusivity)]);
        assert_eq!(counted(Exclusivity::Shared).in_the_way(&b, Exclusivity::Shared), None);
        assert_eq!(counted(Exclusivity::Shared).in_the_way(&b, Exclusivity::SingleTarget), Some(&a));
        assert_eq!(counted(Exclusivity::SingleTarget).in_the_way(&b, Exclusivity::Shared), Some(&a));
        assert_eq!(counted(Exclusivity::SingleTarget).in_the_way(&a, Exclusivity::SingleTarget), None);
    }

    #[test]
    fn what_is_no_ref_is_left_alone() {
        let key = ref_key(&target("/a"));
        let strange = [
            ("unrelated", "/a".to_owned()),
            ("ref.mountpod.dev/0123", "/a".to_owned()),
            (&format!("{REF_PREFIX}{key}"), "/b".to_owned()),
            (&format!("{REF_PREFIX}{key}x"), "a".to_owned()),
            (&format!("{EXCLUSIVE_PREFIX}{key}"), "true".to_owned()),
        ];
        let annotations = strange.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        assert!(Refs::read(&annotations).is_empty());
    }

    #[test]
    fn removing_both_names_drops_a_ref() {
        let refs: Refs = [(target("/b"), Exclusivity::SingleTarget)].into_iter().collect();
        let mut annotations = refs.annotations();
        for name in ref_annotation_names(&target("/b")) {
            assert!(annotations.remove(&name).is_some(), "{name}");
        }
        assert!(annotations.is_empty());
    }

    #[test]
    fn names_are_what_an_annotation_admits() {
        for name in ref_annotation_names(&target(&format!("/{}", "long".repeat(1_000)))) {
            let (_, own) = name.split_once('/').unwrap();
            assert!(own.len() <= 63 && own.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{name}");
        }
    }
}
