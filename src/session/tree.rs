//! Which directory of the node does a volume's client serve?

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use crate::mounts::syscalls::{clone_tree, open_directory_below, open_plain_directory};

/// Why the directory of a volume can't be had.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// The root that the administrator configured is not there.
    #[error("the root directory {root} of the filesystem can't be opened")]
    Root {
        /// Its path.
        root: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The volume has no directory.
    #[error("the volume has no directory {subdirectory:?} in its filesystem")]
    Missing {
        /// Its path below the root.
        subdirectory: String,
    },
    /// The volume's directory is none, or a symlink leads to it.
    #[error("the directory {subdirectory:?} of the volume can't be opened")]
    Unusable {
        /// Its path below the root.
        subdirectory: String,
        /// Why.
        #[source]
        source: io::Error,
    },
}

/// A mount of the volume's directory that is attached nowhere: whoever has it can't reach anything above it.
///
/// # Errors
/// See [`TreeError`].
pub fn open_volume_tree(root: &Path, subdirectory: &str) -> Result<OwnedFd, TreeError> {
    let no_root = |source| TreeError::Root { root: root.display().to_string(), source };
    let unusable = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => TreeError::Missing { subdirectory: subdirectory.to_owned() },
        _ => TreeError::Unusable { subdirectory: subdirectory.to_owned(), source },
    };
    // The administrator may have named the root through a symlink; below it none is followed.
    let root = open_plain_directory(&root.canonicalize().map_err(no_root)?).map_err(no_root)?;
    let directory = match subdirectory {
        "" => root,
        below => open_directory_below(root.as_fd(), Path::new(below)).map_err(unusable)?,
    };
    clone_tree(directory.as_fd()).map_err(unusable)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test stops at the first surprise")]

    use super::*;

    #[test]
    fn only_a_directory_below_the_root_is_given() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(root.path().join("volumes/v")).unwrap();
        std::fs::write(root.path().join("file"), "").unwrap();
        std::os::unix::fs::symlink("/etc", root.path().join("out")).unwrap();
        std::os::unix::fs::symlink("volumes/v", root.path().join("within")).unwrap();
        assert!(open_volume_tree(root.path(), "volumes/v").is_ok());
        assert!(open_volume_tree(root.path(), "").is_ok());
        assert!(matches!(open_volume_tree(root.path(), "volumes/w"), Err(TreeError::Missing { .. })));
        for bad in ["out", "within", "file", "../", "/etc", "volumes/../.."] {
            assert!(matches!(open_volume_tree(root.path(), bad), Err(TreeError::Unusable { .. })), "{bad}");
        }
        assert!(matches!(open_volume_tree(&root.path().join("none"), ""), Err(TreeError::Root { .. })));
    }
}
