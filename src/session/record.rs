//! What is written down of a session?
//!
//! It holds no secret. After a restart it says which volume a session is of, even when its mount pod's record is gone.

use std::io;

use serde::{Deserialize, Serialize};

use super::state_dir::StateDir;
use crate::agent::frames::Negotiated;
use crate::mountpod::facts::DeviceNumber;
use crate::mountpod::pod::ServedVolume;
use crate::volume::SessionId;

/// The form of the record; a record with another one is not read.
const RECORD_VERSION: u32 = 1;

/// The record of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionRecord {
    version: u32,
    /// Which.
    pub session: SessionId,
    /// Of its mount.
    pub device: DeviceNumber,
    /// What FUSE_INIT negotiated.
    pub negotiated: Negotiated,
    /// What it serves.
    pub served: ServedVolume,
}

impl SessionRecord {
    /// The record of a session that was just opened.
    #[must_use]
    pub fn new(
        session: SessionId,
        device: DeviceNumber,
        negotiated: Negotiated,
        served: ServedVolume,
    ) -> Self {
        Self { version: RECORD_VERSION, session, device, negotiated, served }
    }

    /// Writes the record; a crash leaves the old one or the new one.
    ///
    /// # Errors
    /// When the file can't be written.
    pub fn write(&self, state_dir: &StateDir) -> io::Result<()> {
        // The session's mount does not outlive the machine, so the record need not either: no fsync.
        let draft = state_dir.record_draft(&self.session);
        std::fs::write(&draft, serde_json::to_vec(self)?)?;
        std::fs::rename(&draft, state_dir.record(&self.session))
    }

    /// Reads the record of a session; `None` when it has none of this version.
    ///
    /// # Errors
    /// When the file can't be read.
    pub fn read(state_dir: &StateDir, session: &SessionId) -> io::Result<Option<Self>> {
        let bytes = match std::fs::read(state_dir.record(session)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            read => read?,
        };
        let record = serde_json::from_slice::<Self>(&bytes).ok();
        Ok(record.filter(|record| record.version == RECORD_VERSION && record.session == *session))
    }
}
