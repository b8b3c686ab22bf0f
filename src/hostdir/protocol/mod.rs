//! What do the bytes on `/dev/fuse` mean?
//!
//! Our own transcription of the raw protocol (`include/uapi/linux/fuse.h`, versions 7.31 to 7.45) instead of a FUSE
//! crate: surviving SIGKILL needs the request's resend bit and unique id, buffers that are resident before the kernel
//! copies into them, node ids that outlive the process, and a start without FUSE_INIT. The published crates offer
//! none or one of these: `fuser` always shakes hands, `fuse-backend-rs` can skip that but its passthrough file system
//! hands out ids that change with a restart.

pub(crate) mod opcode;
pub(crate) mod reply;
pub(crate) mod request;
