//! What must the driver know of each FUSE client?

use super::init::Wanted;
use crate::hostdir;
use crate::juicefs;
use crate::juicefs::options::{InvalidOption, NO_EXECUTION};
use crate::volume::{ClientKind, Execution, MountSpec};

/// Its needs of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientNeeds {
    /// The type of its mounts.
    pub fs_type: &'static str,
    /// What it wants to be negotiated.
    pub wanted: Wanted,
    /// Bytes of its state memfd.
    pub state_bytes: u64,
    /// May programs be run from its mounts?
    pub execution: Execution,
}

/// What the client of a spec needs.
///
/// # Errors
/// When an option of the spec asks for what can't be negotiated.
pub fn needs_of(spec: &MountSpec) -> Result<ClientNeeds, InvalidOption> {
    Ok(match spec.client {
        ClientKind::Hostdir => ClientNeeds {
            fs_type: "fuse.hostdir",
            wanted: hostdir_wants(),
            state_bytes: hostdir::STATE_LEN,
            execution: Execution::Allowed,
        },
        ClientKind::Juicefs => ClientNeeds {
            fs_type: "fuse.juicefs",
            wanted: juicefs::wanted::wanted(&spec.options)?,
            state_bytes: juicefs::saved::STATE_BYTES,
            execution: if spec.options.contains_key(NO_EXECUTION) {
                Execution::Refused
            } else {
                Execution::Allowed
            },
        },
    })
}

fn hostdir_wants() -> Wanted {
    let wanted = hostdir::init::WANTED_INIT;
    Wanted {
        minor: wanted.minor,
        flags: wanted.flags,
        max_write: wanted.max_write,
        max_pages: wanted.max_pages,
        max_readahead: wanted.max_readahead,
        max_background: wanted.max_background,
        congestion_threshold: wanted.congestion_threshold,
        time_gran: wanted.time_gran,
    }
}
