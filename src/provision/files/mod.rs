//! How are files of volumes and records reached, written and placed, so that nobody can lead elsewhere and no crash can
//! garble them?
//!
//! Shared by all that keep volumes in directories; everything here blocks.

pub(super) mod below;
pub(super) mod place;
pub(super) mod record;
