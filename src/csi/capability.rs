//! Can a volume be used as a capability asks?

use super::api::v1;
use super::api::v1::volume_capability::access_mode::Mode;
use super::api::v1::volume_capability::{AccessType, MountVolume};
use crate::config::field::{InvalidField, plain_text, too_long};
use crate::config::juicefs::MountOptions;
use crate::juicefs::options::InvalidOption;
use crate::volume::{Access, ClientKind, Exclusivity, Writability};

/// CSI spec, `MountVolume.mount_flags`: "The total size of this repeated field SHALL NOT exceed 4 KiB".
const MOUNT_FLAGS_BYTES_MAX: usize = 4096;

/// Flags that make a mount read-only.
const READ_ONLY_FLAGS: &[&str] = &["ro"];
/// Flags that say what is so anyway: mounts are writable, carry no set-id bits and no devices, and the kernel writes no
/// access times of its own to a FUSE mount.
const IDLE_FLAGS: &[&str] = &["rw", "nosuid", "nodev", "noatime", "nodiratime", "relatime"];

/// File system types that a volume of JuiceFS may name: examples for the JuiceFS CSI driver do so in each PersistentVolume.
pub(super) const JUICEFS_TYPES: &[&str] = &["juicefs"];

/// Why a capability can't be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum CapabilityError {
    /// The request is broken.
    #[error(transparent)]
    Malformed(InvalidField),
    /// The request is well-formed; this driver does not offer it.
    #[error(transparent)]
    Unsupported(InvalidField),
}

impl From<CapabilityError> for InvalidField {
    fn from(error: CapabilityError) -> Self {
        match error {
            CapabilityError::Malformed(field) | CapabilityError::Unsupported(field) => field,
        }
    }
}

/// Reads a list of capabilities that must not be empty.
pub(super) fn all(capabilities: &[v1::VolumeCapability]) -> Result<(), CapabilityError> {
    if capabilities.is_empty() {
        return Err(CapabilityError::Malformed(InvalidField::new("volume_capabilities", "is missing")));
    }
    each(capabilities)
}

/// Reads a list of capabilities. A malformed one is told before an unsupported one.
pub(super) fn each(capabilities: &[v1::VolumeCapability]) -> Result<(), CapabilityError> {
    let mut unsupported = None;
    for (index, capability) in capabilities.iter().enumerate() {
        match access(&format!("volume_capabilities[{index}]"), capability) {
            Ok(_) => {}
            Err(CapabilityError::Unsupported(field)) => unsupported = unsupported.or(Some(field)),
            Err(malformed) => return Err(malformed),
        }
    }
    unsupported.map_or(Ok(()), |field| Err(CapabilityError::Unsupported(field)))
}

/// How a capability lets a target use a volume of the built-in client; `field` is the capability's name in errors.
pub(super) fn access(field: &str, capability: &v1::VolumeCapability) -> Result<Access, CapabilityError> {
    let (access, flags) = access_and_flags(field, capability, &[])?;
    let writability = plain_flags(&format!("{field}.mount.mount_flags"), flags)?;
    Ok(if writability == Writability::ReadOnly { Access { writability, ..access } } else { access })
}

/// Can a volume of that client be used so? Mount flags of JuiceFS, which are its client's options, are not read here.
pub(super) fn usable(
    field: &str,
    capability: &v1::VolumeCapability,
    client: ClientKind,
) -> Result<(), CapabilityError> {
    match client {
        ClientKind::Hostdir => access(field, capability).map(drop),
        ClientKind::Juicefs => access_and_flags(field, capability, JUICEFS_TYPES).map(drop),
    }
}

/// An option that the client can't have, by the field that said it: mount flags, with their name, or other options.
pub(super) fn invalid_option(
    error: &InvalidOption,
    (flags_field, flags): (&str, &[String]),
    options_field: String,
) -> InvalidField {
    let said = MountOptions::of_flags(flags_field, flags);
    let in_flags = said.is_ok_and(|options| options.client.contains_key(&error.name));
    let field = if in_flags { flags_field.to_owned() } else { options_field };
    InvalidField::new(field, format!("can't be used: {error}"))
}

/// How a capability lets a target use its volume, apart from its mount flags: those are the client's to read. `fs_types`
/// are the file system types that it may name, which change nothing.
pub(super) fn access_and_flags<'a>(
    field: &str,
    capability: &'a v1::VolumeCapability,
    fs_types: &[&str],
) -> Result<(Access, &'a [String]), CapabilityError> {
    let malformed =
        |name: &str, why: &str| CapabilityError::Malformed(InvalidField::new(format!("{field}.{name}"), why));
    let flags = match &capability.access_type {
        None => return Err(malformed("access_type", "is missing: mount must be set")),
        Some(AccessType::Mount(mount)) => mount_flags(&format!("{field}.mount"), mount, fs_types)?,
        Some(AccessType::Block(_)) => {
            let why = "is not offered: volumes are file systems, not block devices";
            return Err(CapabilityError::Unsupported(InvalidField::new(format!("{field}.block"), why)));
        }
    };
    let mode = capability.access_mode.as_ref().ok_or_else(|| malformed("access_mode", "is missing"))?;
    match Mode::try_from(mode.mode) {
        Err(_) | Ok(Mode::Unknown) => {
            Err(malformed("access_mode.mode", &format!("is {}, which is no access mode", mode.mode)))
        }
        Ok(known) => Ok((of_mode(known), flags)),
    }
}

/// A shared file system honours every mode. Only one of them makes a second target on a node an error: see the table
/// of `NodePublishVolume` in the CSI spec for plugins with `SINGLE_NODE_MULTI_WRITER`. The caller holds the limits of
/// the others, across nodes.
fn of_mode(mode: Mode) -> Access {
    let writability = match mode {
        Mode::SingleNodeReaderOnly | Mode::MultiNodeReaderOnly => Writability::ReadOnly,
        _ => Writability::ReadWrite,
    };
    let exclusivity = match mode {
        Mode::SingleNodeSingleWriter => Exclusivity::SingleTarget,
        _ => Exclusivity::Shared,
    };
    Access { writability, exclusivity }
}

/// The flags of a mount whose other fields are as they may be.
fn mount_flags<'a>(
    field: &str,
    mount: &'a MountVolume,
    fs_types: &[&str],
) -> Result<&'a [String], CapabilityError> {
    let checked = |name: &str, value: &str| {
        plain_text(&format!("{field}.{name}"), value).map(drop).map_err(CapabilityError::Malformed)
    };
    checked("fs_type", &mount.fs_type)?;
    checked("volume_mount_group", &mount.volume_mount_group)?;
    let bytes: usize = mount.mount_flags.iter().map(String::len).sum();
    if bytes > MOUNT_FLAGS_BYTES_MAX {
        let field = format!("{field}.mount_flags");
        return Err(CapabilityError::Malformed(too_long(&field, bytes, MOUNT_FLAGS_BYTES_MAX)));
    }
    let unsupported = |name: &str, why: String| {
        CapabilityError::Unsupported(InvalidField::new(format!("{field}.{name}"), why))
    };
    if !mount.fs_type.is_empty() && !fs_types.contains(&mount.fs_type.as_str()) {
        let known: String = fs_types.iter().map(|known| format!(" or {known:?}")).collect();
        let why = format!("must be empty{known}: volumes are served by a FUSE client");
        return Err(unsupported("fs_type", why));
    }
    if !mount.volume_mount_group.is_empty() {
        let why = "is not offered: this driver does not claim VOLUME_MOUNT_GROUP".to_owned();
        return Err(unsupported("volume_mount_group", why));
    }
    Ok(&mount.mount_flags)
}

fn plain_flags(field: &str, flags: &[String]) -> Result<Writability, CapabilityError> {
    let mut writability = Writability::ReadWrite;
    for (index, flag) in flags.iter().enumerate() {
        if READ_ONLY_FLAGS.contains(&flag.as_str()) {
            writability = Writability::ReadOnly;
        } else if !IDLE_FLAGS.contains(&flag.as_str()) {
            // The flag itself is not repeated: CSI calls mount flags sensitive.
            let known = [READ_ONLY_FLAGS, IDLE_FLAGS].concat().join(", ");
            let why = format!("is unknown; known flags are: {known}");
            return Err(CapabilityError::Unsupported(InvalidField::new(format!("{field}[{index}]"), why)));
        }
    }
    Ok(writability)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

    use super::super::api::v1::volume_capability::{AccessMode, BlockVolume};
    use super::*;

    fn capability(mode: i32, mount: MountVolume) -> v1::VolumeCapability {
        let access_type = Some(AccessType::Mount(mount));
        v1::VolumeCapability { access_type, access_mode: Some(AccessMode { mode }) }
    }

    fn with_flags(flags: &[&str]) -> MountVolume {
        MountVolume {
            mount_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..MountVolume::default()
        }
    }

    #[test]
    fn each_mode_has_its_access() {
        use Exclusivity::{Shared, SingleTarget};
        use Writability::{ReadOnly, ReadWrite};
        let cases = [
            (Mode::SingleNodeWriter, ReadWrite, Shared),
            (Mode::SingleNodeReaderOnly, ReadOnly, Shared),
            (Mode::MultiNodeReaderOnly, ReadOnly, Shared),
            (Mode::MultiNodeSingleWriter, ReadWrite, Shared),
            (Mode::MultiNodeMultiWriter, ReadWrite, Shared),
            (Mode::SingleNodeSingleWriter, ReadWrite, SingleTarget),
            (Mode::SingleNodeMultiWriter, ReadWrite, Shared),
        ];
        for (mode, writability, exclusivity) in cases {
            let got = access("c", &capability(mode.into(), MountVolume::default())).unwrap();
            assert_eq!(got, Access { writability, exclusivity }, "{mode:?}");
        }
    }

    #[test]
    fn the_flag_ro_makes_any_mode_read_only() {
        for (flags, want) in
            [(&["rw", "ro"][..], Writability::ReadOnly), (&["rw", "noatime"], Writability::ReadWrite)]
        {
            let got = access("c", &capability(Mode::MultiNodeMultiWriter.into(), with_flags(flags))).unwrap();
            assert_eq!(got.writability, want, "{flags:?}");
        }
    }

    #[test]
    fn the_flags_of_another_client_are_given_as_they_are() {
        let mount = MountVolume { fs_type: "juicefs".to_owned(), ..with_flags(&["ro", "cache-size=1"]) };
        let capability = capability(Mode::SingleNodeSingleWriter.into(), mount);
        let (access, flags) = access_and_flags("c", &capability, &["juicefs"]).unwrap();
        assert_eq!((access.writability, flags.len()), (Writability::ReadWrite, 2));
        let error = access_and_flags("c", &capability, &[]).unwrap_err();
        assert_eq!(InvalidField::from(error).field, "c.mount.fs_type");
    }

    #[test]
    fn what_is_wrong_is_named() {
        let writer = i32::from(Mode::SingleNodeWriter);
        let mount = |fs_type: &str, group: &str| MountVolume {
            fs_type: fs_type.to_owned(),
            mount_flags: Vec::new(),
            volume_mount_group: group.to_owned(),
        };
        let block = v1::VolumeCapability {
            access_type: Some(AccessType::Block(BlockVolume {})),
            access_mode: Some(AccessMode { mode: writer }),
        };
        let no_mode =
            v1::VolumeCapability { access_mode: None, ..capability(writer, MountVolume::default()) };
        let cases = [
            (v1::VolumeCapability::default(), "c.access_type", false),
            (no_mode, "c.access_mode", false),
            (capability(0, MountVolume::default()), "c.access_mode.mode", false),
            (capability(99, MountVolume::default()), "c.access_mode.mode", false),
            (block, "c.block", true),
            (capability(writer, mount("ext4", "")), "c.mount.fs_type", true),
            (capability(writer, mount("\0", "")), "c.mount.fs_type", false),
            (capability(writer, mount("", "1000")), "c.mount.volume_mount_group", true),
            (capability(writer, with_flags(&["ro", "password=x"])), "c.mount.mount_flags[1]", true),
            (capability(writer, with_flags(&[&"x".repeat(4097)])), "c.mount.mount_flags", false),
        ];
        for (capability, field, well_formed) in cases {
            let error = access("c", &capability).unwrap_err();
            assert_eq!(matches!(error, CapabilityError::Unsupported(_)), well_formed, "{field}");
            assert_eq!(InvalidField::from(error.clone()).field, field);
            assert!(!error.to_string().contains("password"), "{error}");
        }
    }
}
