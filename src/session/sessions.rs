//! Which sessions does this driver hold?

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::device::has_ended;
use crate::agent::frames::Negotiated;
use crate::mountpod::facts::{DeviceNumber, PodId};
use crate::volume::SessionId;

/// A session whose descriptors the driver holds.
#[derive(Debug, Clone)]
pub struct HeldSession {
    /// The FUSE device.
    pub fuse: Arc<OwnedFd>,
    /// The client's state.
    pub state: Arc<OwnedFd>,
    /// Of its mount.
    pub device: DeviceNumber,
    /// What FUSE_INIT negotiated.
    pub negotiated: Negotiated,
    /// The pod whose agent accepted it last.
    pub offered_to: Option<PodId>,
}

impl HeldSession {
    /// Does its connection live?
    #[must_use]
    pub fn is_alive(&self) -> bool {
        // A poll that fails says nothing; the next look may.
        !has_ended(self.fuse.as_fd()).unwrap_or(false)
    }
}

/// The sessions that are held, by name.
#[derive(Debug, Default)]
pub struct Sessions(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    held: BTreeMap<SessionId, HeldSession>,
    /// Being opened: their directories are not yet mounted, and must stay.
    opening: BTreeSet<SessionId>,
}

/// A session that is being opened; its directory is safe from the sweep.
#[derive(Debug)]
pub struct Opening {
    sessions: Arc<Sessions>,
    session: SessionId,
}

impl Drop for Opening {
    fn drop(&mut self) {
        self.sessions.lock().opening.remove(&self.session);
    }
}

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a session as being opened.
    #[must_use]
    pub fn opening(self: &Arc<Self>, session: &SessionId) -> Opening {
        self.lock().opening.insert(session.clone());
        Opening { sessions: Arc::clone(self), session: session.clone() }
    }

    /// Is it neither held nor being opened?
    #[must_use]
    pub fn is_unknown(&self, session: &SessionId) -> bool {
        let inner = self.lock();
        !inner.held.contains_key(session) && !inner.opening.contains(session)
    }

    /// What is held of a session.
    #[must_use]
    pub fn get(&self, session: &SessionId) -> Option<HeldSession> {
        self.lock().held.get(session).cloned()
    }

    /// The names of all that are held.
    #[must_use]
    pub fn names(&self) -> Vec<SessionId> {
        self.lock().held.keys().cloned().collect()
    }

    /// Holds a session from now on.
    pub fn hold(&self, session: &SessionId, held: HeldSession) {
        self.lock().held.insert(session.clone(), held);
    }

    /// Lets a session go; its descriptors are closed with their last user.
    pub fn let_go(&self, session: &SessionId) -> Option<HeldSession> {
        self.lock().held.remove(session)
    }

    /// Remembers who accepted a session last.
    pub fn set_offered_to(&self, session: &SessionId, pod: Option<PodId>) {
        if let Some(held) = self.lock().held.get_mut(session) {
            held.offered_to = pod;
        }
    }
}
