//! Why does a client not serve?

use serde::{Deserialize, Serialize};

/// Why a client can't serve, as far as its agent could tell: each asks for another remedy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientFault {
    /// It has no such option, or not with that value.
    Option,
    /// Its credentials are refused.
    Credentials,
    /// What it is to serve is not there, or not as it is described: no filesystem, no bucket.
    Filesystem,
    /// A server can't be reached.
    Unreachable,
    /// Something else.
    #[default]
    Unknown,
}
