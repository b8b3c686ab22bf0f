//! Which directory of the filesystem is the volume?

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::volume::kept_as_text;

/// Longest name that JuiceFS takes (its `pkg/meta`, `MaxName`), bytes.
const COMPONENT_BYTES_MAX: usize = 255;
/// Leaves room for a mount point before it (PATH_MAX is 4096), and in a volume context for everything else.
const PATH_BYTES_MAX: usize = 1024;
/// Names at the root of a filesystem that are not a volume's: this driver's records, and the client's own files and trash
/// (its `pkg/vfs`, `internalNodes`).
const RESERVED_AT_ROOT: &[&str] = &[".mountpod", ".trash", ".control", ".accesslog", ".stats", ".config"];
/// With `prefix-internal` the client's own files begin so.
const RESERVED_PREFIX: &str = ".jfs.";

/// A directory below the root of a filesystem: relative, of plain components, without `.` and `..`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumePath(String);

/// Why a text is no path of a volume; the caller adds the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPath {
    /// Nothing was given.
    #[error("is empty, must be a directory below the root of the filesystem")]
    Empty,
    /// It begins with a slash.
    #[error("must not begin with '/': it is a path below the root of the filesystem")]
    Absolute,
    /// Two slashes in a row, or one at the end.
    #[error("has an empty component: '//', or '/' at the end")]
    EmptyComponent,
    /// `.` or `..`.
    #[error("has a component '.' or '..'")]
    DotComponent,
    /// A control character, among them NUL and line breaks.
    #[error("has a control character")]
    ControlCharacter,
    /// One component is longer than the filesystem takes.
    #[error("has a component of {0} bytes, at most {COMPONENT_BYTES_MAX} are allowed")]
    LongComponent(usize),
    /// The whole is too long.
    #[error("is {0} bytes long, at most {PATH_BYTES_MAX} are allowed")]
    TooLong(usize),
    /// It begins with a name that belongs to the client or to this driver.
    #[error("begins with {0:?}, which belongs to the filesystem or to this driver")]
    Reserved(String),
}

impl VolumePath {
    /// The path as text: no slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Reads a path that people write with or without slashes at its ends, as JuiceFS's `subdir=/my/dir`; `None` is the
    /// root of the filesystem.
    ///
    /// # Errors
    /// As the plain form.
    pub fn below_root(text: &str) -> Result<Option<Self>, InvalidPath> {
        let text = text.strip_prefix('/').unwrap_or(text);
        let text = text.strip_suffix('/').unwrap_or(text);
        if text.is_empty() { Ok(None) } else { text.parse().map(Some) }
    }

    /// The path `inner` below this one.
    ///
    /// # Errors
    /// When both together are too long.
    pub fn join(&self, inner: &Self) -> Result<Self, InvalidPath> {
        format!("{}/{}", self.0, inner.0).parse()
    }
}

impl FromStr for VolumePath {
    type Err = InvalidPath;

    fn from_str(text: &str) -> Result<Self, InvalidPath> {
        if text.is_empty() {
            return Err(InvalidPath::Empty);
        }
        if text.len() > PATH_BYTES_MAX {
            return Err(InvalidPath::TooLong(text.len()));
        }
        if text.starts_with('/') {
            return Err(InvalidPath::Absolute);
        }
        for component in text.split('/') {
            check_component(component)?;
        }
        match text.split('/').next() {
            Some(first) if is_reserved(first) => Err(InvalidPath::Reserved(first.to_owned())),
            _ => Ok(Self(text.to_owned())),
        }
    }
}

kept_as_text!(VolumePath, InvalidPath);

fn check_component(component: &str) -> Result<(), InvalidPath> {
    match component {
        "" => Err(InvalidPath::EmptyComponent),
        "." | ".." => Err(InvalidPath::DotComponent),
        _ if component.chars().any(char::is_control) => Err(InvalidPath::ControlCharacter),
        _ if component.len() > COMPONENT_BYTES_MAX => Err(InvalidPath::LongComponent(component.len())),
        _ => Ok(()),
    }
}

fn is_reserved(first: &str) -> bool {
    RESERVED_AT_ROOT.contains(&first) || first.starts_with(RESERVED_PREFIX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn only_plain_relative_paths_are_taken() {
        for good in ["a", "a/b", "team-a/pvc.1", "-rf", "a b", "..a", ".hidden", "a/.trash", "ä/日本"] {
            assert_eq!(good.parse::<VolumePath>().unwrap().as_str(), good);
        }
        let cases = [
            ("", InvalidPath::Empty),
            ("/a", InvalidPath::Absolute),
            ("a//b", InvalidPath::EmptyComponent),
            ("a/", InvalidPath::EmptyComponent),
            (".", InvalidPath::DotComponent),
            ("..", InvalidPath::DotComponent),
            ("a/../b", InvalidPath::DotComponent),
            ("a/..", InvalidPath::DotComponent),
            ("a\0b", InvalidPath::ControlCharacter),
            ("a\nb", InvalidPath::ControlCharacter),
            (".mountpod", InvalidPath::Reserved(".mountpod".to_owned())),
            (".trash/x", InvalidPath::Reserved(".trash".to_owned())),
            (".jfs.config", InvalidPath::Reserved(".jfs.config".to_owned())),
        ];
        for (bad, why) in cases {
            assert_eq!(bad.parse::<VolumePath>().unwrap_err(), why, "{bad:?}");
        }
    }

    #[test]
    fn lengths_have_limits() {
        assert!("x".repeat(255).parse::<VolumePath>().is_ok());
        assert_eq!("x".repeat(256).parse::<VolumePath>().unwrap_err(), InvalidPath::LongComponent(256));
        let long = vec!["y".repeat(200); 6].join("/");
        assert_eq!(long.parse::<VolumePath>().unwrap_err(), InvalidPath::TooLong(1205));
        let half: VolumePath = vec!["y".repeat(200); 3].join("/").parse().unwrap();
        assert_eq!(half.join(&half).unwrap_err(), InvalidPath::TooLong(1205));
    }

    #[test]
    fn a_setting_may_have_slashes_at_its_ends() {
        for (text, want) in [("/", None), ("", None), ("/my/dir", Some("my/dir")), ("a/b/", Some("a/b"))] {
            let path = VolumePath::below_root(text).unwrap();
            assert_eq!(path.as_ref().map(VolumePath::as_str), want, "{text:?}");
        }
        assert_eq!(VolumePath::below_root("//a").unwrap_err(), InvalidPath::Absolute);
        assert_eq!(VolumePath::below_root("/../a").unwrap_err(), InvalidPath::DotComponent);
    }
}
