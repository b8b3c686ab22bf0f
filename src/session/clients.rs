//! What must the driver know of each FUSE client?

use super::init::Wanted;
use crate::hostdir;
use crate::juicefs::{self, options::InvalidOption};
use crate::volume::{ClientKind, MountSpec};

/// Its needs of a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientNeeds {
    /// The type of its mounts.
    pub fs_type: &'static str,
    /// What it wants to be negotiated.
    pub wanted: Wanted,
    /// Bytes of its state memfd.
    pub state_bytes: u64,
}

/// What the client of a spec needs.
///
/// # Errors
/// When an option of the spec asks for what can't be negotiated.
pub fn needs_of(spec: &MountSpec) -> Result<ClientNeeds, InvalidOption> {
    Ok(match spec.client {
        ClientKind::Hostdir => {
            ClientNeeds { fs_type: "fuse.hostdir", wanted: hostdir_wants(), state_bytes: hostdir::STATE_LEN }
        }
        ClientKind::Juicefs => ClientNeeds {
            fs_type: "fuse.juicefs",
            wanted: juicefs::wanted::wanted(&spec.options)?,
            state_bytes: juicefs::saved::STATE_BYTES,
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
