//! When is each session looked at again?
//!
//! One loop, fed by changes of pods, links and the mount table, and by moments that the engine names; beside a kubelet
//! also by a slow clock, because nothing tells that a workload is gone. It is level-triggered: a change only says
//! "look", what is to be done follows from the facts. Each session is reconciled by a task of its own, so that one that
//! waits holds up nobody.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::Semaphore;
use tokio::task::{Id, JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

use super::effects::NodeEffects;
use crate::mountpod::effects::Effects;
use crate::mountpod::engine::{Engine, EngineError};
use crate::mountpod::facts::Timestamp;
use crate::mountpod::plan::Goal;
use crate::retry::Waits;
use crate::runtime::MountPods;
use crate::volume::SessionId;

/// Changes come in bursts (a publish alone makes several): they are looked at together.
const DEBOUNCE: Duration = Duration::from_millis(20);
/// The first wait before a session that could not be reconciled is tried again.
const RETRY_FIRST: Duration = Duration::from_millis(500);
/// The longest such wait: somebody may have repaired what was wrong, and workloads hang meanwhile.
const RETRY_LONGEST: Duration = Duration::from_secs(20);
/// Sessions reconciled at the same time; most of them only wait.
const RECONCILED_AT_ONCE: usize = 64;

type Ended = (SessionId, Result<Option<Timestamp>, EngineError>);

/// Reconciles every session now and after each change, until the shutdown.
pub(super) async fn keep_reconciled<R: MountPods>(
    engine: Arc<Engine<NodeEffects<R>>>,
    limit: Duration,
    shutdown: CancellationToken,
) {
    let reconciler = Reconciler {
        engine,
        limit,
        slots: Arc::new(Semaphore::new(RECONCILED_AT_ONCE)),
        tasks: JoinSet::new(),
        names: BTreeMap::new(),
        running: BTreeMap::new(),
        due: BTreeMap::new(),
        failing: BTreeMap::new(),
    };
    shutdown.run_until_cancelled(reconciler.run()).await;
}

/// Is a session to be looked at again when its task has ended?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

struct Reconciler<R> {
    engine: Arc<Engine<NodeEffects<R>>>,
    limit: Duration,
    slots: Arc<Semaphore>,
    tasks: JoinSet<Ended>,
    /// Whose task is it? For one that panics.
    names: BTreeMap<Id, SessionId>,
    running: BTreeMap<SessionId, Again>,
    /// Sessions that are to be looked at although nothing changes.
    due: BTreeMap<SessionId, Instant>,
    failing: BTreeMap<SessionId, Waits>,
}

impl<R: MountPods> Reconciler<R> {
    async fn run(mut self) {
        let mut changes = self.engine.effects().changes();
        let mut pods = self.engine.effects().runtime.changes();
        let config = &self.engine.effects().config;
        let (looks_for_workloads, workloads_wait) = (config.kubelet_dir.is_some(), config.limits.workloads);
        let mut workloads_at = Instant::now() + workloads_wait;
        self.look_at_all().await;
        loop {
            let next = self.due.values().min().copied();
            tokio::select! {
                () = sleep_until(workloads_at), if looks_for_workloads => {}
                changed = changes.changed() => if changed.is_err() { return },
                changed = pods.changed() => if changed.is_err() { return },
                Some(ended) = self.tasks.join_next_with_id() => {
                    match ended {
                        Ok((task, ended)) => {
                            self.names.remove(&task);
                            self.note(ended);
                        }
                        Err(error) => self.broke_off(&error),
                    }
                    continue;
                }
                () = sleep_until(next.unwrap_or_else(Instant::now)), if next.is_some() => {
                    self.look_at_due();
                    continue;
                }
            }
            sleep(DEBOUNCE).await;
            changes.mark_unchanged();
            pods.mark_unchanged();
            self.look_at_all().await;
            workloads_at = Instant::now() + workloads_wait;
        }
    }

    async fn look_at_all(&mut self) {
        match self.engine.effects().sessions().await {
            Ok(sessions) => {
                let alive: BTreeSet<_> = sessions.iter().cloned().collect();
                self.due.retain(|session, _| alive.contains(session));
                self.failing.retain(|session, _| alive.contains(session));
                for session in sessions {
                    if !self.waits_for_its_time(&session) {
                        self.look_at(session);
                    }
                }
            }
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, "the sessions can't be listed");
            }
        }
        if let Err(error) = self.engine.effects().sweep().await {
            tracing::warn!(
                error = &error as &dyn std::error::Error,
                "what ended sessions left can't be swept"
            );
        }
    }

    /// What a failing session does changes pods and links, too: looked at after each change it would never rest.
    fn waits_for_its_time(&self, session: &SessionId) -> bool {
        self.failing.contains_key(session) && self.due.contains_key(session)
    }

    fn look_at_due(&mut self) {
        let now = Instant::now();
        let due: Vec<_> =
            self.due.iter().filter(|(_, at)| **at <= now).map(|(session, _)| session.clone()).collect();
        for session in due {
            self.due.remove(&session);
            self.look_at(session);
        }
    }

    fn look_at(&mut self, session: SessionId) {
        if let Some(again) = self.running.get_mut(&session) {
            *again = Again::Yes;
            return;
        }
        self.running.insert(session.clone(), Again::No);
        let (engine, slots, limit) = (Arc::clone(&self.engine), Arc::clone(&self.slots), self.limit);
        let name = session.clone();
        let task = self.tasks.spawn(async move {
            let _slot = slots.acquire().await;
            let result = engine.achieve(&session, Goal::Reconcile, Instant::now() + limit).await;
            (session, result)
        });
        self.names.insert(task.id(), name);
    }

    fn note(&mut self, (session, result): Ended) {
        let again = self.running.remove(&session);
        match result {
            Ok(moment) => {
                self.failing.remove(&session);
                self.due.remove(&session);
                if let Some(moment) = moment {
                    self.due.insert(session.clone(), Instant::now() + until(moment));
                }
            }
            Err(error) => {
                tracing::warn!(
                    error = &error as &dyn std::error::Error, %session,
                    "the session could not be reconciled; it is tried again"
                );
                self.try_later(session);
                // What changed meanwhile may be this very failure: the wait must not be cut short by it.
                return;
            }
        }
        if again == Some(Again::Yes) {
            self.look_at(session);
        }
    }

    /// A task that panicked: without this its session would count as being looked at for ever.
    fn broke_off(&mut self, error: &JoinError) {
        tracing::error!(%error, "a reconcile broke off; it is tried again");
        if let Some(session) = self.names.remove(&error.id()) {
            self.running.remove(&session);
            self.try_later(session);
        }
    }

    fn try_later(&mut self, session: SessionId) {
        let waits =
            self.failing.entry(session.clone()).or_insert_with(|| Waits::new(RETRY_FIRST, RETRY_LONGEST));
        self.due.insert(session, Instant::now() + waits.next_wait());
    }
}

/// How long it is until a moment of the wall clock.
fn until(moment: Timestamp) -> Duration {
    let since_epoch = Duration::from_millis(moment.0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    since_epoch.saturating_sub(now)
}

#[cfg(test)]
#[path = "reconcile_tests.rs"]
pub(in crate::node) mod tests;
