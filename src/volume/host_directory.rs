//! Which directory of a node is meant?

use std::path::{Component, Path};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::plain_path::{is_plain, kept_as_path};

/// The user of every client that does not own files for others, which the node's directories are to belong to. It is that
/// of the mount image, too.
pub const UNPRIVILEGED_USER: u32 = 65532;
/// Longer paths are nobody's choice; several of them must fit into one volume context (CSI spec, "Size Limits").
const BYTES_MAX: usize = 512;
/// They separate paths: the client's `cache-dir`, and parameters.
const SEPARATORS: [char; 2] = [':', ','];

/// Why a text is no directory of a node; the caller adds the name of the field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be an absolute path of at most {BYTES_MAX} bytes below the root directory, without '.', '..', '//', a '/' at its \
     end, ':', ',' and control characters"
)]
pub struct InvalidHostDirectory;

/// An absolute, plain path on a node, not its root: two spellings of one directory would be two directories.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostDirectory(String);

impl HostDirectory {
    /// Is this path the directory, or something in it? A path with `..` is in none.
    #[must_use]
    pub fn holds(&self, path: &Path) -> bool {
        let plain = |part: Component<'_>| matches!(part, Component::RootDir | Component::Normal(_));
        path.components().all(plain) && path.starts_with(self.as_path())
    }
}

impl FromStr for HostDirectory {
    type Err = InvalidHostDirectory;

    fn from_str(path: &str) -> Result<Self, InvalidHostDirectory> {
        let strange = |letter: char| letter.is_control() || SEPARATORS.contains(&letter);
        if is_plain(path) && path.len() <= BYTES_MAX && !path.chars().any(strange) {
            Ok(Self(path.to_owned()))
        } else {
            Err(InvalidHostDirectory)
        }
    }
}

kept_as_path!(HostDirectory, InvalidHostDirectory);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_directory_has_one_spelling() {
        assert_eq!("/var/lib/a b".parse::<HostDirectory>().unwrap().as_str(), "/var/lib/a b");
        for path in ["", "/", "a", "/a/", "//a", "/a//b", "/a/./b", "/a/../b", "/..", "/a:b", "/a,b", "/a\n"]
        {
            assert!(path.parse::<HostDirectory>().is_err(), "{path:?}");
        }
        assert!(format!("/{}", "a".repeat(BYTES_MAX)).parse::<HostDirectory>().is_err());
    }

    #[test]
    fn what_lies_in_it_is_told_by_whole_names() {
        let directory: HostDirectory = "/srv/a".parse().unwrap();
        for inside in ["/srv/a", "/srv/a/", "/srv/a/b/c.db", "/srv/a//b"] {
            assert!(directory.holds(Path::new(inside)), "{inside}");
        }
        for outside in ["/srv", "/srv/ab", "srv/a/b", "/srv/a/../b", ""] {
            assert!(!directory.holds(Path::new(outside)), "{outside}");
        }
    }
}
