//! Which volumes share a mount pod?

use std::collections::BTreeMap;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use sha2::{Digest, Sha256};

use crate::config::field::quoted;

/// Hex digits of a group: 128 bits of a SHA-256, which two StorageClasses will not share by chance.
const GROUP_DIGITS: usize = 32;
/// Parameters that say who asked differ from volume to volume.
const SIDECAR_PREFIX: &str = "csi.storage.k8s.io/";

/// Which volumes share a mount pod with this one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Share {
    /// None.
    Volume,
    /// Those of the same group.
    Group(ShareGroup),
    /// All of the filesystem.
    Filesystem,
}

/// The volumes of one StorageClass.
///
/// CSI tells a driver no StorageClass, only its parameters; those make the group. Two classes with the same parameters
/// share their mount pods too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShareGroup(String);

impl ShareGroup {
    pub(super) fn of_parameters(parameters: &BTreeMap<&str, &str>) -> Self {
        let mut hash = Sha256::new();
        for (key, value) in parameters.iter().filter(|(key, _)| !key.starts_with(SIDECAR_PREFIX)) {
            // Lengths make the encoding unambiguous: ("ab","c") and ("a","bc") differ.
            for part in [key, value] {
                hash.update(part.len().to_le_bytes());
                hash.update(part.as_bytes());
            }
        }
        let mut digits = HEXLOWER.encode(&hash.finalize());
        digits.truncate(GROUP_DIGITS);
        Self(digits)
    }

    /// The group as text: hex digits, safe as a label value and a file name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ShareGroup {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let hex = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == GROUP_DIGITS && text.bytes().all(hex) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!("is {}, must be {GROUP_DIGITS} hex digits that this driver computed", quoted(text)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_group_is_made_of_what_the_class_says_and_not_of_who_asks() {
        let group = |entries: &[(&'static str, &'static str)]| {
            ShareGroup::of_parameters(&entries.iter().copied().collect::<BTreeMap<_, _>>())
        };
        let class = group(&[("cpuLimit", "1"), ("csi.storage.k8s.io/pvc/name", "a")]);
        assert_eq!(class, group(&[("cpuLimit", "1"), ("csi.storage.k8s.io/pvc/name", "b")]));
        assert_ne!(class, group(&[("cpuLimit", "2")]));
        assert_ne!(group(&[("ab", "c")]), group(&[("a", "bc")]));
        assert_eq!(class.as_str().parse::<ShareGroup>().unwrap(), class);
        for bad in ["", "xyz", &"A".repeat(32), &"a".repeat(33)] {
            assert!(bad.parse::<ShareGroup>().is_err(), "{bad}");
        }
    }
}
