//! Where may a volume be published?

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::plain_path::{is_plain, kept_as_path};

/// `PATH_MAX` of Linux less its terminating NUL.
const PATH_BYTES_MAX: usize = 4095;

/// Why a path is no target; the caller adds the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTarget {
    /// Nothing was given.
    #[error("is missing")]
    Empty,
    /// The path does not begin with '/'.
    #[error("must be an absolute path")]
    Relative,
    /// The path is longer than the kernel takes.
    #[error("is {0} bytes long, at most {PATH_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// A NUL would cut the path short in the kernel.
    #[error("contains a NUL byte")]
    Nul,
    /// `.`, `..`, `//` or a '/' at the end: two spellings of one path would be two refs.
    #[error("must be a plain path without '.', '..', '//' or a '/' at its end")]
    NotPlain,
    /// Nothing is mounted over the root of the node.
    #[error("must not be the root directory")]
    Root,
}

/// An absolute, plain path that a volume is (to be) bind-mounted at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TargetPath(String);

impl FromStr for TargetPath {
    type Err = InvalidTarget;

    fn from_str(path: &str) -> Result<Self, InvalidTarget> {
        if path.is_empty() {
            return Err(InvalidTarget::Empty);
        }
        if path.len() > PATH_BYTES_MAX {
            return Err(InvalidTarget::TooLong(path.len()));
        }
        if path.contains('\0') {
            return Err(InvalidTarget::Nul);
        }
        if !path.starts_with('/') {
            return Err(InvalidTarget::Relative);
        }
        if path == "/" {
            return Err(InvalidTarget::Root);
        }
        if is_plain(path) { Ok(Self(path.to_owned())) } else { Err(InvalidTarget::NotPlain) }
    }
}

kept_as_path!(TargetPath, InvalidTarget);

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn a_plain_absolute_path_is_a_target() {
        for path in ["/a", "/var/lib/kubelet/pods/1/volumes/x/mount", "/..a/b.."] {
            assert_eq!(path.parse::<TargetPath>().unwrap().as_str(), path);
        }
    }

    #[test]
    fn anything_else_is_refused_with_its_reason() {
        let long = format!("/{}", "x".repeat(PATH_BYTES_MAX));
        let cases = [
            ("", InvalidTarget::Empty),
            ("a/b", InvalidTarget::Relative),
            ("/", InvalidTarget::Root),
            ("/a\0b", InvalidTarget::Nul),
            ("/a/../b", InvalidTarget::NotPlain),
            ("/a/./b", InvalidTarget::NotPlain),
            ("/a//b", InvalidTarget::NotPlain),
            ("/a/", InvalidTarget::NotPlain),
            ("//", InvalidTarget::NotPlain),
            (long.as_str(), InvalidTarget::TooLong(PATH_BYTES_MAX + 1)),
        ];
        for (path, why) in cases {
            assert_eq!(path.parse::<TargetPath>(), Err(why), "{path:?}");
        }
    }
}
