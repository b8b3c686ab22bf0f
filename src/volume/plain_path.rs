//! What is a path that has one spelling?

use std::path::Path;

/// Is it an absolute path below the root directory without `.`, `..`, `//` and a '/' at its end? Two spellings of one path
/// would be two paths.
pub(super) fn is_plain(path: &str) -> bool {
    let parts = path.strip_prefix('/');
    parts.is_some_and(|parts| parts.split('/').all(|part| !matches!(part, "" | "." | "..")))
}

/// Is one of both the other, or inside of it? Told by whole names.
pub(crate) fn meet(one: &Path, other: &Path) -> bool {
    one.starts_with(other) || other.starts_with(one)
}

/// A type around the text of a path: kept as that text, and shown as what it is.
macro_rules! kept_as_path {
    ($type:ty, $error:ty) => {
        $crate::volume::kept_as_text!($type, $error);

        impl $type {
            /// The path as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }

            /// The path for system calls.
            #[must_use]
            pub fn as_path(&self) -> &std::path::Path {
                std::path::Path::new(&self.0)
            }
        }
    };
}
pub(super) use kept_as_path;
