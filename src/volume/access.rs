//! How may a target use its volume?

use serde::{Deserialize, Serialize};

/// May the target change the volume?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Writability {
    /// The bind mount is read-only.
    ReadOnly,
    /// The bind mount is writable.
    ReadWrite,
}

/// May programs of a volume be run?
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum Execution {
    /// Yes.
    #[default]
    Allowed,
    /// No: every mount of the volume is `noexec`.
    Refused,
}

/// May another target on this node use the volume at the same time?
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exclusivity {
    /// Any number of targets (every access mode but the next).
    Shared,
    /// One target at a time: CSI `SINGLE_NODE_SINGLE_WRITER`.
    SingleTarget,
}

/// What a publish asks for, decided from the CSI access mode and the `readonly` field.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Access {
    /// May the target write?
    pub writability: Writability,
    /// May others publish beside it?
    pub exclusivity: Exclusivity,
}
