//! Who works on a session or a target now?
//!
//! A room per key, made when somebody enters it and gone with the last who leaves: the map never grows beyond the work
//! in flight.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Deref;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync;

use crate::volume::TargetPath;

/// Rooms by key.
#[derive(Debug)]
pub(super) struct Rooms<K: Ord, R>(Mutex<BTreeMap<K, Arc<R>>>);

impl<K: Ord, R> Default for Rooms<K, R> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Ord + Clone, R: Default> Rooms<K, R> {
    /// Enters the room of a key.
    pub(super) fn enter(&self, key: &K) -> Visit<'_, K, R> {
        let room = Arc::clone(locked(&self.0).entry(key.clone()).or_default());
        Visit { rooms: self, key: key.clone(), room }
    }

    /// How many rooms are there now?
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        locked(&self.0).len()
    }
}

/// A stay in a room.
#[derive(Debug)]
pub(super) struct Visit<'a, K: Ord, R> {
    rooms: &'a Rooms<K, R>,
    key: K,
    room: Arc<R>,
}

impl<K: Ord, R> Deref for Visit<'_, K, R> {
    type Target = R;

    fn deref(&self) -> &R {
        &self.room
    }
}

impl<K: Ord, R> Drop for Visit<'_, K, R> {
    fn drop(&mut self) {
        let mut rooms = locked(&self.rooms.0);
        // The map's own and ours: nobody can enter while the map is locked.
        if Arc::strong_count(&self.room) == 2 {
            rooms.remove(&self.key);
        }
    }
}

/// What the tasks that work on one session share.
#[derive(Debug, Default)]
pub(super) struct SessionRoom {
    /// Held while facts are read and quick steps carried out; never across a slow step.
    pub(super) lock: sync::Mutex<()>,
    /// Does a task give the session to a pod or take it away? Only one may. Begun under `lock`, ended later.
    ///
    /// Not a lock: a fair one is handed to whoever waits for its end, and two who wait and then try to move would find
    /// it with each other for ever.
    moving: sync::watch::Sender<bool>,
    /// The mover closes the session; `observe` may not show it yet.
    closing: AtomicBool,
    /// Targets of publishes in flight, and how many.
    wanted: Mutex<BTreeMap<TargetPath, usize>>,
}

impl SessionRoom {
    /// Says that a publish of the target is in flight, until the guard is dropped.
    pub(super) fn want(&self, target: &TargetPath) -> Wanted<'_> {
        *locked(&self.wanted).entry(target.clone()).or_default() += 1;
        Wanted { room: self, target: target.clone() }
    }

    /// The targets of publishes in flight.
    pub(super) fn wanted(&self) -> BTreeSet<TargetPath> {
        locked(&self.wanted).keys().cloned().collect()
    }

    /// Becomes the one that moves the session, if nobody is.
    pub(super) fn try_move(&self, closes: bool) -> Option<Moving<'_>> {
        let mine = self.moving.send_if_modified(|moving| !std::mem::replace(moving, true));
        mine.then(|| {
            self.closing.store(closes, Ordering::SeqCst);
            Moving { room: self }
        })
    }

    /// Waits until nobody moves the session.
    pub(super) async fn until_moved(&self) {
        // It can't fail: the sender is the room's own.
        drop(self.moving.subscribe().wait_for(|moving| !moving).await);
    }

    /// Is a task of ours closing the session?
    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }
}

/// A publish in flight.
#[derive(Debug)]
pub(super) struct Wanted<'a> {
    room: &'a SessionRoom,
    target: TargetPath,
}

impl Drop for Wanted<'_> {
    fn drop(&mut self) {
        let mut wanted = locked(&self.room.wanted);
        if let Some(count) = wanted.get_mut(&self.target) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(&self.target);
            }
        }
    }
}

/// The session is being moved.
#[derive(Debug)]
pub(super) struct Moving<'a> {
    room: &'a SessionRoom,
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        self.room.closing.store(false, Ordering::SeqCst);
        self.room.moving.send_replace(false);
    }
}

/// A lock that a panicking holder left is as good as any here: each holder leaves the data whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_room_is_gone_with_its_last_visitor() {
        let rooms: Rooms<u8, SessionRoom> = Rooms::default();
        let first = rooms.enter(&1);
        let second = rooms.enter(&1);
        let other = rooms.enter(&2);
        assert_eq!(rooms.len(), 2);
        drop((first, other));
        assert_eq!(rooms.len(), 1);
        drop(second);
        assert_eq!(rooms.len(), 0);
    }

    #[test]
    fn a_target_is_wanted_until_its_last_publish_ends() {
        let (room, target) = (SessionRoom::default(), "/t".parse().unwrap());
        let (first, second) = (room.want(&target), room.want(&target));
        drop(first);
        assert!(room.wanted().contains(&target));
        drop(second);
        assert!(room.wanted().is_empty());
    }

    #[test]
    fn one_task_moves_a_session_at_a_time() {
        let room = SessionRoom::default();
        let moving = room.try_move(true);
        assert!(moving.is_some() && room.is_closing());
        assert!(room.try_move(false).is_none());
        drop(moving);
        assert!(!room.is_closing());
        assert!(room.try_move(false).is_some());
    }

    /// On one thread, as the driver runs: each would find the room in the hands of the other otherwise.
    #[tokio::test]
    async fn all_who_waited_for_a_move_get_to_move() {
        let room = Arc::new(SessionRoom::default());
        let moving = room.try_move(false);
        let movers = [Arc::clone(&room), Arc::clone(&room)].map(|room| {
            tokio::spawn(async move {
                let mut tries = 1;
                while room.try_move(false).is_none() {
                    room.until_moved().await;
                    tries += 1;
                }
                tries
            })
        });
        while room.moving.receiver_count() < movers.len() {
            tokio::task::yield_now().await;
        }
        drop(moving);
        for mover in movers {
            let tries = tokio::time::timeout(std::time::Duration::from_secs(10), mover).await;
            assert_eq!(tries.unwrap().unwrap(), 2, "they wait for each other");
        }
    }
}
