//! How are filesystems, volumes and snapshots named?

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::names::{component_for, is_component};

/// CSI limits identifiers and names to 128 bytes (CSI spec, "Size Limits").
const ID_BYTES_MAX: usize = 128;
/// A filesystem's name stands in ids beside the volume's own name, so it is kept short.
const FILESYSTEM_NAME_BYTES_MAX: usize = 32;
/// Separates the filesystem's name from the volume's or the snapshot's; neither may contain it.
const SEPARATOR: char = '#';
/// Stands in the place of a filesystem's name in the ids of volumes that a person named, in a PersistentVolume of their
/// own. No filesystem can be called so: a name begins with a letter or digit. What a caller sends is never read as such an
/// id either, only as the handle that it stands for.
const NAMED_BY_A_PERSON: &str = "_static";

/// Why a string is no identifier of ours; the caller adds the name of the field.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidId {
    /// Nothing was given.
    #[error("is missing")]
    Empty,
    /// The string is longer than CSI or we allow.
    #[error("is {got} bytes long, at most {max} are allowed")]
    TooLong {
        /// Bytes given.
        got: usize,
        /// Bytes allowed.
        max: usize,
    },
    /// The string does not have the form of our ids.
    #[error("must be letters, digits, '-', '_' or '.', and begin with a letter or digit")]
    Characters,
    /// The string is not `<filesystem>#<name>`.
    #[error("is not of the form <filesystem>#<name> that this driver gives out")]
    Form,
}

/// The name of a filesystem: the NAME of a `--hostdir-root NAME=DIR`, what a class or a Secret calls a JuiceFS filesystem,
/// or the stand-in for one that nobody named.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FilesystemName(String);

/// One volume: the filesystem that it lives in and its name there.
///
/// Printed as `<filesystem>#<name>`; this is the CSI `volume_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct VolumeId {
    filesystem: FilesystemName,
    name: String,
}

/// One snapshot: the filesystem that it lives in and its name there.
///
/// Printed as `<filesystem>#<name>`; this is the CSI `snapshot_id`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SnapshotId {
    filesystem: FilesystemName,
    name: String,
}

/// A name that is safe as one path component, a label value and part of an id.
fn check_name(name: &str, bytes_max: usize) -> Result<(), InvalidId> {
    if name.is_empty() {
        return Err(InvalidId::Empty);
    }
    if name.len() > bytes_max {
        return Err(InvalidId::TooLong { got: name.len(), max: bytes_max });
    }
    if is_component(name) { Ok(()) } else { Err(InvalidId::Characters) }
}

fn split_id(id: &str) -> Result<(&str, &str), InvalidId> {
    if id.is_empty() {
        return Err(InvalidId::Empty);
    }
    if id.len() > ID_BYTES_MAX {
        return Err(InvalidId::TooLong { got: id.len(), max: ID_BYTES_MAX });
    }
    let (filesystem, name) = id.split_once(SEPARATOR).ok_or(InvalidId::Form)?;
    check_name(name, ID_BYTES_MAX).map_err(|_| InvalidId::Form)?;
    Ok((filesystem, name))
}

impl FromStr for FilesystemName {
    type Err = InvalidId;

    fn from_str(name: &str) -> Result<Self, InvalidId> {
        check_name(name, FILESYSTEM_NAME_BYTES_MAX)?;
        Ok(Self(name.to_owned()))
    }
}

impl FilesystemName {
    /// The name for a filesystem that others named, which they may have done at length. Two never get the same.
    #[must_use]
    pub fn for_name(name: &str) -> Self {
        Self(component_for(name, FILESYSTEM_NAME_BYTES_MAX))
    }

    /// Stands for a filesystem that nobody named.
    #[must_use]
    pub fn unnamed() -> Self {
        Self(NAMED_BY_A_PERSON.to_owned())
    }

    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Reads what this driver wrote down, which may be [`FilesystemName::unnamed`].
impl TryFrom<String> for FilesystemName {
    type Error = InvalidId;

    fn try_from(name: String) -> Result<Self, InvalidId> {
        if name == NAMED_BY_A_PERSON { Ok(Self(name)) } else { name.parse() }
    }
}

impl From<FilesystemName> for String {
    fn from(name: FilesystemName) -> Self {
        name.0
    }
}

impl fmt::Display for FilesystemName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

macro_rules! two_part_id {
    ($id:ident) => {
        impl $id {
            /// Puts an id together; the name must be one safe path component.
            ///
            /// # Errors
            /// When the name has other characters, or the whole is longer than CSI allows.
            pub fn new(filesystem: FilesystemName, name: &str) -> Result<Self, InvalidId> {
                check_name(name, ID_BYTES_MAX - filesystem.0.len() - SEPARATOR.len_utf8())?;
                Ok(Self { filesystem, name: name.to_owned() })
            }

            /// The id for a name that a CSI caller chose: any text. Two names never get the same id.
            #[must_use]
            pub fn for_csi_name(filesystem: FilesystemName, csi_name: &str) -> Self {
                let name_bytes_max = ID_BYTES_MAX - FILESYSTEM_NAME_BYTES_MAX - SEPARATOR.len_utf8();
                Self { filesystem, name: component_for(csi_name, name_bytes_max) }
            }

            /// The filesystem that it lives in.
            #[must_use]
            pub fn filesystem(&self) -> &FilesystemName {
                &self.filesystem
            }

            /// Its name within the filesystem: one path component.
            #[must_use]
            pub fn name(&self) -> &str {
                &self.name
            }
        }

        impl FromStr for $id {
            type Err = InvalidId;

            fn from_str(id: &str) -> Result<Self, InvalidId> {
                let (filesystem, name) = split_id(id)?;
                let filesystem = filesystem.parse().map_err(|_| InvalidId::Form)?;
                Ok(Self { filesystem, name: name.to_owned() })
            }
        }

        /// Reads what this driver wrote down.
        impl TryFrom<String> for $id {
            type Error = InvalidId;

            fn try_from(id: String) -> Result<Self, InvalidId> {
                let (filesystem, name) = split_id(&id)?;
                let filesystem =
                    FilesystemName::try_from(filesystem.to_owned()).map_err(|_| InvalidId::Form)?;
                Ok(Self { filesystem, name: name.to_owned() })
            }
        }

        impl From<$id> for String {
            fn from(id: $id) -> Self {
                id.to_string()
            }
        }

        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{SEPARATOR}{}", self.filesystem, self.name)
            }
        }
    };
}

two_part_id!(VolumeId);
two_part_id!(SnapshotId);

impl VolumeId {
    /// The id of the volume with this CSI handle: itself when this driver gave it out; any other, which a person wrote into
    /// a PersistentVolume, has one made of its text alone. Two handles never get the same id.
    #[must_use]
    pub fn of_handle(handle: &str) -> Self {
        handle.parse().unwrap_or_else(|_| Self::for_csi_name(FilesystemName::unnamed(), handle))
    }

    /// The handle that a PersistentVolume has for it; one that a person chose with other than plain characters stands here
    /// in another form.
    #[must_use]
    pub fn handle(&self) -> String {
        if self.filesystem == FilesystemName::unnamed() { self.name.clone() } else { self.to_string() }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_id_is_read_as_it_was_printed() {
        let id = VolumeId::new("main".parse().unwrap(), "pvc-1").unwrap();
        assert_eq!(id.to_string(), "main#pvc-1");
        assert_eq!(id.to_string().parse::<VolumeId>().unwrap(), id);
    }

    #[test]
    fn what_could_leave_the_filesystem_is_no_id() {
        let ids = [
            "main#..",
            "main#../other",
            "main#.mountpod",
            "main#-rf",
            "main#a/b",
            "main#",
            "#a",
            "main#a#b",
            "a",
            "../x#a",
            "main#a\0",
            "main#.",
            "main#a b",
        ];
        for id in ids {
            assert_eq!(id.parse::<VolumeId>(), Err(InvalidId::Form), "{id:?}");
        }
        assert_eq!("".parse::<VolumeId>(), Err(InvalidId::Empty));
        assert_eq!("x".repeat(129).parse::<VolumeId>(), Err(InvalidId::TooLong { got: 129, max: 128 }));
    }

    #[test]
    fn a_handle_that_a_person_chose_has_an_id_that_no_other_handle_has() {
        assert_eq!(VolumeId::of_handle("main#pvc-1").to_string(), "main#pvc-1");
        for handle in ["main#pvc-1", "media"] {
            assert_eq!(VolumeId::of_handle(handle).handle(), handle);
        }
        let handles =
            ["media", "_static#media", "a b", "main#-rf", "#", "main#a#b", &"x".repeat(128), "ü", "main"];
        let mut seen = std::collections::BTreeSet::new();
        for handle in handles {
            let id = VolumeId::of_handle(handle);
            assert_eq!(id.filesystem(), &FilesystemName::unnamed(), "{handle}");
            let written = serde_json::to_string(&id).unwrap();
            assert_eq!(serde_json::from_str::<VolumeId>(&written).unwrap(), id, "{handle}");
            assert!(seen.insert(id.clone()), "{id} stands for two handles");
            // As a handle, the id is somebody else's.
            assert_ne!(VolumeId::of_handle(&id.to_string()), id, "{handle}");
        }
        assert!("_static".parse::<FilesystemName>().is_err());
    }

    #[test]
    fn a_filesystem_that_others_named_at_length_has_a_name_here() {
        assert_eq!(FilesystemName::for_name("media").as_str(), "media");
        let long = [62, 63].map(|length| FilesystemName::for_name(&"m".repeat(length)));
        assert_ne!(long[0], long[1]);
        for name in long {
            assert_eq!(name.as_str().parse::<FilesystemName>().unwrap(), name);
        }
    }

    #[test]
    fn any_name_in_any_filesystem_has_an_id_that_can_be_read() {
        let filesystems = ["a".to_owned(), "f".repeat(FILESYSTEM_NAME_BYTES_MAX)];
        let names = ["-rf", "..", &"A".repeat(128), &"ü".repeat(64), "pvc-1"];
        for filesystem in &filesystems {
            for name in names {
                let id = VolumeId::for_csi_name(filesystem.parse().unwrap(), name);
                assert_eq!(id.to_string().parse::<VolumeId>().unwrap(), id);
            }
        }
    }
}
