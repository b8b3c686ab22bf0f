//! What does the driver remember of a volume or a snapshot in a JuiceFS filesystem?

use std::collections::BTreeMap;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::super::super::Source;
use super::super::super::files::record::VolumeState;
use crate::config::juicefs::VolumePath;
use crate::volume::{SnapshotId, VolumeId};

/// Record of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct VolumeRecord {
    /// Of which form the record is.
    pub(in super::super) form: u32,
    /// Its id: a filesystem may be known by another name to somebody else.
    pub(in super::super) id: VolumeId,
    /// The name that the caller chose.
    pub(in super::super) csi_name: String,
    /// Its directory.
    pub(in super::super) path: VolumePath,
    /// Bytes promised.
    pub(in super::super) capacity_bytes: u64,
    /// Most files and directories.
    pub(in super::super) inodes: Option<u64>,
    /// Filled from what.
    pub(in super::super) source: Option<Source>,
    /// What its publishers are told; a repeated call must come to the same.
    pub(in super::super) context: BTreeMap<String, String>,
    /// How far it is.
    pub(in super::super) state: VolumeState,
}

/// Record of a snapshot; the snapshot is complete as soon as its directory is in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in super::super) struct SnapshotRecord {
    /// Of which form the record is.
    pub(in super::super) form: u32,
    /// Its id.
    pub(in super::super) id: SnapshotId,
    /// The name that the caller chose.
    pub(in super::super) csi_name: String,
    /// Of which volume.
    pub(in super::super) source: VolumeId,
    /// Bytes promised of the source when it was cloned.
    pub(in super::super) size_bytes: u64,
    /// When it was asked for.
    pub(in super::super) created: SystemTime,
}
