//! What does the driver remember of a volume or a snapshot in a root?

use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::super::files::record::{FORM, VolumeState};
use super::super::{Lifetime, NewDirectory, Source};
use crate::volume::{Resources, VolumeId};

/// Record of a volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VolumeRecord {
    /// Of which form the record is.
    pub form: u32,
    /// The name that the caller chose.
    pub csi_name: String,
    /// Bytes promised.
    pub capacity_bytes: u64,
    /// Filled from what.
    pub source: Option<Source>,
    /// Limits that CreateVolume named: what a repeated call is compared with.
    pub created_with: Resources,
    /// Limits now.
    pub resources: Resources,
    /// How long the volume lives; records of the first drivers do not say it.
    #[serde(default)]
    pub lifetime: Lifetime,
    /// How far it is.
    pub state: VolumeState,
}

impl VolumeRecord {
    /// The record of a volume that is to be made.
    pub(super) fn new(wanted: &NewDirectory, capacity_bytes: u64) -> Self {
        Self {
            form: FORM,
            csi_name: wanted.csi_name.clone(),
            capacity_bytes,
            source: wanted.source.clone(),
            created_with: wanted.resources,
            resources: wanted.resources,
            lifetime: wanted.lifetime,
            state: VolumeState::Creating,
        }
    }
}

/// Record of a snapshot; the snapshot is complete as soon as its directory is in its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct SnapshotRecord {
    /// Of which form the record is.
    pub form: u32,
    /// The name that the caller chose.
    pub csi_name: String,
    /// Of which volume.
    pub source: VolumeId,
    /// Bytes promised of the source when copying began.
    pub size_bytes: u64,
    /// When copying began.
    pub created: SystemTime,
}
