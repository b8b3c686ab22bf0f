//! Which Secrets of the cluster does a mount pod show its client as files?

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::kept_as_text;
use super::plain_path::{is_plain, kept_as_path, meet};

/// Names of the driver's own Secrets begin so: each is a mount pod's, and holds another volume's credentials.
pub const OF_THE_DRIVER: &str = "mount-";
/// Bytes of a Secret's name (Kubernetes: a DNS subdomain, RFC 1123).
const NAME_BYTES_MAX: usize = 253;
/// Bytes of a path: far more than anybody writes, and far less than a pod's annotation takes.
const PATH_BYTES_MAX: usize = 1024;

/// A Secret of the mount pods' namespace, and the directory in which a client finds its entries.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SecretFiles {
    /// The Secret.
    pub secret: SecretName,
    /// The directory.
    pub path: PathInPod,
}

/// The name of a Secret that is none of the driver's own.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretName(String);

/// An absolute, plain path in a mount pod.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PathInPod(String);

/// Why a text names no Secret, or no place for its files; the caller adds which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidFiles {
    /// Kubernetes gives no object such a name.
    #[error(
        "is no name of a Secret: at most {NAME_BYTES_MAX} lower-case letters, digits, '-' and '.', with a letter or a \
         digit at both ends of each part"
    )]
    Name,
    /// It would hold the credentials of a volume.
    #[error("begins with {OF_THE_DRIVER:?}, as the driver's own Secrets do")]
    OfTheDriver,
    /// Two spellings of one path, or one that Kubernetes does not take.
    #[error(
        "must be an absolute path of at most {PATH_BYTES_MAX} bytes without '.', '..', '//', ':', control characters and \
         a '/' at its end"
    )]
    Path,
}

impl SecretName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SecretName {
    type Err = InvalidFiles;

    fn from_str(name: &str) -> Result<Self, InvalidFiles> {
        let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        let is_part = |part: &str| {
            part.bytes().all(|byte| inner(byte) || byte == b'-')
                && part.bytes().next().is_some_and(inner)
                && part.bytes().last().is_some_and(inner)
        };
        if name.len() > NAME_BYTES_MAX || !name.split('.').all(is_part) {
            return Err(InvalidFiles::Name);
        }
        if name.starts_with(OF_THE_DRIVER) {
            return Err(InvalidFiles::OfTheDriver);
        }
        Ok(Self(name.to_owned()))
    }
}

impl PathInPod {
    /// Is one of both the other, or inside of it?
    #[must_use]
    pub fn meets(&self, other: &Path) -> bool {
        meet(self.as_path(), other)
    }
}

impl FromStr for PathInPod {
    type Err = InvalidFiles;

    fn from_str(path: &str) -> Result<Self, InvalidFiles> {
        let is_plain = path == "/" || is_plain(path);
        let fits = |letter: char| letter != ':' && !letter.is_control();
        if is_plain && path.len() <= PATH_BYTES_MAX && path.chars().all(fits) {
            Ok(Self(path.to_owned()))
        } else {
            Err(InvalidFiles::Path)
        }
    }
}

kept_as_text!(SecretName, InvalidFiles);

kept_as_path!(PathInPod, InvalidFiles);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_name_is_one_that_kubernetes_gives_and_not_the_drivers_own() {
        let long = "a".repeat(NAME_BYTES_MAX);
        for name in ["gcs-key", "a", "0.b-c.d", "amount-1", long.as_str()] {
            assert_eq!(name.parse::<SecretName>().unwrap().as_str(), name);
        }
        let longer = "a".repeat(NAME_BYTES_MAX + 1);
        for name in
            ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a.-b", "a/b", "../a", "ä", "a b", &longer]
        {
            assert_eq!(name.parse::<SecretName>().unwrap_err(), InvalidFiles::Name, "{name:?}");
        }
        assert_eq!("mount-abc-1".parse::<SecretName>().unwrap_err(), InvalidFiles::OfTheDriver);
    }

    #[test]
    fn a_path_is_absolute_and_has_one_spelling() {
        for path in ["/", "/etc/ceph", "/root/.config/gcloud", "/a b", "/ä", "/..a"] {
            assert_eq!(path.parse::<PathInPod>().unwrap().as_str(), path);
        }
        let long = format!("/{}", "a".repeat(PATH_BYTES_MAX));
        for path in
            ["", "etc", "/etc/", "//etc", "/a//b", "/a/./b", "/.", "/..", "/a/../b", "/a:b", "/a\nb", &long]
        {
            assert_eq!(path.parse::<PathInPod>().unwrap_err(), InvalidFiles::Path, "{path:?}");
        }
    }

    #[test]
    fn paths_meet_by_their_components() {
        let path: PathInPod = "/etc/ceph".parse().unwrap();
        for other in ["/", "/etc", "/etc/ceph", "/etc/ceph/keys"] {
            assert!(path.meets(Path::new(other)), "{other}");
        }
        for other in ["/etc/ceph2", "/etc/cep", "/ceph"] {
            assert!(!path.meets(Path::new(other)), "{other}");
        }
    }

    #[test]
    fn what_was_kept_is_checked_again() {
        let files = SecretFiles { secret: "a".parse().unwrap(), path: "/b".parse().unwrap() };
        let kept = serde_json::to_string(&files).unwrap();
        assert_eq!(kept, r#"{"secret":"a","path":"/b"}"#);
        assert_eq!(serde_json::from_str::<SecretFiles>(&kept).unwrap(), files);
        for bad in [r#"{"secret":"mount-a-1","path":"/b"}"#, r#"{"secret":"a","path":"/b/.."}"#] {
            assert!(serde_json::from_str::<SecretFiles>(bad).is_err(), "{bad}");
        }
    }
}
