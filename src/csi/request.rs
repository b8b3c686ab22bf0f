//! Is a field of a request what CSI and this driver allow?
//!
//! Every check names its field; ids that are well-formed but can't be of this driver are `None`, because for CSI they
//! are not malformed: the thing does not exist.

use std::collections::HashMap;
use std::fmt::Display;
use std::num::NonZeroUsize;
use std::str::FromStr;

use super::api::v1;
use super::status::RpcError;
use crate::config::capacity::CapacityRange;
use crate::config::field::{InvalidField, entry, plain_map, plain_text, quoted, too_long};
use crate::config::juicefs::IgnoredKey;
use crate::config::parameters::ROOT;
use crate::provision::{Catalog, Filesystem};
use crate::volume::{ClientKind, FilesystemName, InvalidTarget, Secrets, SnapshotId, TargetPath, VolumeId};

/// A Kubernetes Secret holds up to 1 MiB, more than the general limit of CSI: certificates are secrets, too.
const SECRETS_BYTES_MAX: usize = 1 << 20;
/// `PATH_MAX` less its NUL. CSI lets paths be as long as the system allows (`NodePublishVolumeRequest.target_path`).
const PATH_BYTES_MAX: usize = 4095;

/// A required text.
pub(super) fn required_text<'a>(field: &'static str, text: &'a str) -> Result<&'a str, InvalidField> {
    if text.is_empty() { Err(InvalidField::new(field, "is missing")) } else { plain_text(field, text) }
}

/// A `volume_id`.
pub(super) fn volume_id(field: &'static str, text: &str) -> Result<Option<VolumeId>, InvalidField> {
    id(field, text)
}

/// The volume of a `volume_id` that may also be a handle which a person chose; the later calls of its life bring no more.
pub(super) fn handle(field: &'static str, text: &str) -> Result<VolumeId, InvalidField> {
    Ok(volume_id(field, text)?.unwrap_or_else(|| VolumeId::of_handle(text)))
}

/// Says which keys do nothing, once for a call that the volume's owner made.
pub(super) fn warn_of_ignored(volume: &dyn Display, ignored: &[IgnoredKey]) {
    if !ignored.is_empty() {
        let ignored: Vec<_> = ignored.iter().map(ToString::to_string).collect();
        tracing::warn!(%volume, "{}", ignored.join("; "));
    }
}

/// The name of an inline volume, as the kubelet makes it: `csi-` and a SHA-256 in hexadecimal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct InlineName(String);

impl InlineName {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

/// A `volume_id` that is the name of an inline volume; `None` for any other.
pub(super) fn inline_name(field: &'static str, text: &str) -> Result<Option<InlineName>, InvalidField> {
    let text = required_text(field, text)?;
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let sum = text.strip_prefix("csi-").filter(|sum| sum.len() == 64 && sum.bytes().all(is_digit));
    Ok(sum.map(|_| InlineName(text.to_owned())))
}

/// The root that the parameters in `field` name, or the default one.
pub(super) fn filesystem(
    catalog: &impl Catalog,
    field: &str,
    name: Option<&FilesystemName>,
) -> Result<Filesystem, InvalidField> {
    let root = catalog.filesystem(name).filter(|found| found.client == ClientKind::Hostdir);
    root.ok_or_else(|| {
        let why = match name {
            Some(name) => format!("is \"{name}\", which no --hostdir-root names"),
            None => "is missing: this driver serves no root; for a JuiceFS volume say client: juicefs and name its \
                     Secret"
                .to_owned(),
        };
        InvalidField::new(entry(field, ROOT), why)
    })
}

/// A `snapshot_id`.
pub(super) fn snapshot_id(field: &'static str, text: &str) -> Result<Option<SnapshotId>, InvalidField> {
    id(field, text)
}

fn id<I: FromStr>(field: &'static str, text: &str) -> Result<Option<I>, InvalidField> {
    let text = required_text(field, text)?;
    if text.contains('/') || text.contains("..") {
        // No driver's id is a path: this one was made up, and a clear word helps more than "not found".
        return Err(InvalidField::new(field, format!("is {}, an id has no '/' and no '..'", quoted(text))));
    }
    Ok(text.parse().ok())
}

/// The error for an id that is none of ours, or whose thing is gone.
pub(super) fn not_found(field: &'static str, thing: &'static str, id: &str) -> RpcError {
    RpcError::NotFound { field, thing, id: quoted(id) }
}

/// A path that a volume is (to be) published at.
pub(super) fn target(field: &'static str, path: &str) -> Result<TargetPath, InvalidField> {
    path.parse().map_err(|why: InvalidTarget| InvalidField::new(field, why))
}

/// A path that a volume is said to be published at; `None` for a relative one, where none can be.
pub(super) fn published_path(field: &'static str, path: &str) -> Result<Option<TargetPath>, InvalidField> {
    match path.parse() {
        Ok(target) => Ok(Some(target)),
        Err(InvalidTarget::Relative) => Ok(None),
        Err(why) => Err(InvalidField::new(field, why)),
    }
}

/// A path that this driver has no use for.
pub(super) fn unused_path(field: &'static str, path: &str) -> Result<(), InvalidField> {
    if path.len() > PATH_BYTES_MAX {
        return Err(too_long(field, path.len(), PATH_BYTES_MAX));
    }
    if path.contains('\0') {
        return Err(InvalidField::new(field, "contains a NUL byte"));
    }
    Ok(())
}

/// The secrets of a request. No error tells a value.
pub(super) fn secrets(map: HashMap<String, String>) -> Result<Secrets, InvalidField> {
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > SECRETS_BYTES_MAX {
        return Err(too_long("secrets", bytes, SECRETS_BYTES_MAX));
    }
    for (key, value) in &map {
        // CSI spec, "Secrets Requirements". A key is not shown: its sender may have mixed it up with a value.
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
        if key.is_empty() || !key.bytes().all(plain) {
            return Err(InvalidField::new(
                "secrets",
                "has a key with other than letters, digits, '-', '_' and '.'",
            ));
        }
        if value.contains('\0') {
            return Err(InvalidField::new(entry("secrets", key), "contains a NUL byte"));
        }
    }
    Ok(map.into_iter().collect())
}

/// `publish_context`: this driver has no ControllerPublishVolume that could have filled it.
pub(super) fn no_publish_context(map: &HashMap<String, String>) -> Result<(), InvalidField> {
    match plain_map("publish_context", map)?.keys().next() {
        None => Ok(()),
        Some(key) => Err(InvalidField::new(entry("publish_context", key), "is unknown; must be empty")),
    }
}

/// `capacity_range` where it may be left out.
pub(super) fn capacity(range: Option<&v1::CapacityRange>) -> Result<CapacityRange, InvalidField> {
    range.map_or(Ok(CapacityRange::default()), |range| {
        CapacityRange::parse(range.required_bytes, range.limit_bytes)
    })
}

/// `capacity_range` where it must say something.
pub(super) fn required_capacity(range: Option<&v1::CapacityRange>) -> Result<CapacityRange, InvalidField> {
    let range = capacity(range)?;
    if range == CapacityRange::default() {
        return Err(InvalidField::new(
            "capacity_range",
            "is missing: required_bytes or limit_bytes must be set",
        ));
    }
    Ok(range)
}

/// `max_entries`: zero sets no limit.
pub(super) fn entries_max(max_entries: i32) -> Result<Option<NonZeroUsize>, InvalidField> {
    let why = || InvalidField::new("max_entries", format!("is {max_entries}, must not be negative"));
    Ok(NonZeroUsize::new(usize::try_from(max_entries).map_err(|_| why())?))
}

/// `starting_token`: the id that the page before ended with.
pub(super) fn after<I: FromStr>(starting_token: &str) -> Result<Option<I>, RpcError> {
    if starting_token.is_empty() {
        return Ok(None);
    }
    let token = plain_text("starting_token", starting_token)?;
    token.parse().map(Some).map_err(|_| RpcError::Token { token: quoted(token) })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::*;

    #[test]
    fn an_id_is_ours_or_unknown_or_malformed() {
        assert!(volume_id("volume_id", "main#pvc-1").unwrap().is_some());
        for unknown in ["fake-vol-id", "main#.mountpod", "main#-rf", "#", "main#a#b", "ü"] {
            assert_eq!(volume_id("volume_id", unknown).unwrap(), None, "{unknown}");
        }
        for malformed in ["", "main#../other", "main#a/b", "a\0", &"x".repeat(129), ".."] {
            assert_eq!(volume_id("volume_id", malformed).unwrap_err().field, "volume_id", "{malformed:?}");
        }
    }

    #[test]
    fn the_name_of_an_inline_volume_becomes_an_id_that_keeps_it() {
        let text = format!("csi-{}", "0a".repeat(32));
        let name = inline_name("volume_id", &text).unwrap().unwrap();
        let id = VolumeId::for_csi_name("main".parse().unwrap(), name.as_str());
        assert_eq!(id.to_string(), format!("main#{text}"));
        let others = [format!("main#{text}"), text.replace('a', "A"), format!("{text}0"), "csi-".to_owned()];
        for other in others {
            assert_eq!(inline_name("volume_id", &other).unwrap(), None, "{other}");
        }
        assert_eq!(inline_name("volume_id", "").unwrap_err().field, "volume_id");
    }

    #[test]
    fn no_error_tells_a_secret() {
        let map = |key: &str, value: &str| HashMap::from([(key.to_owned(), value.to_owned())]);
        for bad in [
            map("a b hunter2", "x"),
            map("", "hunter2"),
            map("a", "hunter2\0"),
            map("a", &"hunter2".repeat(1 << 18)),
        ] {
            let error = secrets(bad).unwrap_err();
            assert!(error.field.starts_with("secrets") && !error.to_string().contains("hunter2"), "{error}");
        }
        assert!(secrets(map("access-key_1.x", "hunter2 \n")).is_ok());
    }

    #[test]
    fn a_token_is_an_id_or_aborted() {
        assert!(after::<VolumeId>("").unwrap().is_none());
        assert!(after::<VolumeId>("main#gone").unwrap().is_some());
        assert!(matches!(after::<VolumeId>("invalid-token"), Err(RpcError::Token { .. })));
    }

    #[test]
    fn numbers_of_entries_are_not_negative() {
        assert_eq!(entries_max(0).unwrap(), None);
        assert_eq!(entries_max(2).unwrap(), NonZeroUsize::new(2));
        assert_eq!(entries_max(i32::MIN).unwrap_err().field, "max_entries");
    }
}
