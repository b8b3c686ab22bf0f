//! How does a FUSE session begin?

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::clients::needs_of;
use super::device::open_device;
use super::init::{InvalidInit, Wanted, init_reply, negotiate, parse_init};
use super::record::SessionRecord;
use super::state::create_state;
use super::state_dir::StateDir;
use crate::agent::frames::Negotiated;
use crate::juicefs::options::InvalidOption;
use crate::mountpod::facts::DeviceNumber;
use crate::mountpod::pod::ServedVolume;
use crate::mounts::syscalls::{Unmount, mount_fuse, unmount};
use crate::mounts::table::MountTable;
use crate::volume::SessionId;

/// mount(2) has queued FUSE_INIT before it returns; a kernel that takes this long is broken.
const INIT_LIMIT: Duration = Duration::from_secs(5);
/// The kernel refuses to fill a smaller buffer (`FUSE_MIN_READ_BUFFER`).
const REQUEST_BYTES: usize = 8192;
/// Limits by which the kernel aborts a connection whose client is slow; a client that is replaced is slow.
const TIMEOUT_SYSCTLS: [&str; 2] =
    ["/proc/sys/fs/fuse/default_request_timeout", "/proc/sys/fs/fuse/max_request_timeout"];

/// A session that was opened; nobody serves it yet.
#[derive(Debug)]
pub struct OpenedSession {
    /// The FUSE device.
    pub fuse: OwnedFd,
    /// The client's state.
    pub state: OwnedFd,
    /// What is written down of it.
    pub record: SessionRecord,
}

/// Why a session could not be opened. Nothing of it is left.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A system call failed.
    #[error("can't {what}")]
    System {
        /// What was asked.
        what: &'static str,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The kernel's first request is not what it must be.
    #[error("the kernel's FUSE_INIT can't be answered")]
    Init(#[from] InvalidInit),
    /// The spec asks for a session that can't be.
    #[error("the session can't be opened as it is asked for")]
    Option(#[from] InvalidOption),
    /// No FUSE_INIT came.
    #[error("the kernel sent no FUSE_INIT within {INIT_LIMIT:?}")]
    NoInit,
    /// Something is mounted at the session's mount point.
    #[error("{0} is mounted at the session's mount point already")]
    Occupied(String),
}

fn system(what: &'static str) -> impl Fn(io::Error) -> OpenError {
    move |source| OpenError::System { what, source }
}

/// Opens a FUSE device, mounts it, answers FUSE_INIT and writes the session's record. It blocks for a moment.
///
/// # Errors
/// See [`OpenError`].
pub fn open_session(
    state_dir: &StateDir,
    session: &SessionId,
    served: &ServedVolume,
) -> Result<OpenedSession, OpenError> {
    let mount_point = state_dir.mount_point(session);
    // Before its directories are touched: a mount there may have nobody who answers.
    let table = MountTable::read().map_err(system("read the mount table"))?;
    if let Some(top) = table.stack_at(&mount_point).last() {
        return Err(OpenError::Occupied(top.source.clone()));
    }
    state_dir.create_session(session).map_err(system("create the session's directory"))?;
    let opened = mount_session(state_dir, session, served, &mount_point);
    if opened.is_err() {
        clean_up(state_dir, session, &mount_point);
    }
    opened
}

fn mount_session(
    state_dir: &StateDir,
    session: &SessionId,
    served: &ServedVolume,
    mount_point: &Path,
) -> Result<OpenedSession, OpenError> {
    let needs = needs_of(&served.spec)?;
    let state = create_state(needs.state_bytes).map_err(system("create the client's state"))?;
    let fuse = open_device().map_err(system("open /dev/fuse"))?;
    let source = state_dir.mount_source(session);
    mount_fuse(mount_point, (&source, needs.fs_type), fuse.as_fd(), needs.wanted.max_write, needs.execution)
        .map_err(system("mount the session"))?;
    let negotiated = answer_init(fuse.as_fd(), &needs.wanted)?;
    let device = device_at(mount_point, &source).map_err(system("find the session in the mount table"))?;
    let record = SessionRecord::new(session.clone(), device, negotiated, served.clone());
    record.write(state_dir).map_err(system("write the session's record"))?;
    Ok(OpenedSession { fuse, state, record })
}

fn answer_init(fuse: BorrowedFd<'_>, wanted: &Wanted) -> Result<Negotiated, OpenError> {
    let limit = PollTimeout::try_from(INIT_LIMIT).unwrap_or(PollTimeout::MAX);
    let mut ready = [PollFd::new(fuse, PollFlags::POLLIN)];
    if poll(&mut ready, limit).map_err(|errno| system("wait for FUSE_INIT")(errno.into()))? == 0 {
        return Err(OpenError::NoInit);
    }
    let mut request = vec![0; REQUEST_BYTES];
    let length =
        nix::unistd::read(fuse, &mut request).map_err(|errno| system("read FUSE_INIT")(errno.into()))?;
    let offer = parse_init(&request[..length])?;
    let negotiated = negotiate(&offer, wanted);
    let reply = init_reply(offer.unique, &negotiated, wanted);
    nix::unistd::write(fuse, &reply).map_err(|errno| system("answer FUSE_INIT")(errno.into()))?;
    Ok(negotiated)
}

fn device_at(mount_point: &Path, source: &str) -> io::Result<DeviceNumber> {
    let table = MountTable::read()?;
    let top = table.stack_at(mount_point).last().copied().filter(|top| top.source == source);
    top.map(|top| top.device).ok_or_else(|| io::ErrorKind::NotFound.into())
}

/// The device is closed by now, so the connection is dead and an unmount waits for nobody.
fn clean_up(state_dir: &StateDir, session: &SessionId, mount_point: &Path) {
    if let Err(error) = unmount(mount_point, Unmount::Detach) {
        tracing::debug!(%error, %session, "a session that failed to open had no mount");
    }
    if let Err(error) = state_dir.remove_session(session) {
        tracing::warn!(%error, %session, "the directory of a session that failed to open stays");
    }
}

/// Kernel settings by which a session would be aborted while its client is replaced; each as `path = value`.
///
/// A kernel that has no such settings (before 6.14) has no such limits.
#[must_use]
pub fn harmful_settings() -> Vec<String> {
    let set = |path: &&str| {
        let value = std::fs::read_to_string(path).ok()?;
        let value = value.trim();
        (value != "0").then(|| format!("{path} = {value}"))
    };
    TIMEOUT_SYSCTLS.iter().filter_map(set).collect()
}
