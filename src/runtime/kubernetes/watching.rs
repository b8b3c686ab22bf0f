//! How is it learnt what becomes of the mount pods?
//!
//! One list, then one watch that goes on from there; a new list only when the server has forgotten that version.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, WatchEvent, WatchParams};
use tokio::time::timeout;
use tokio_stream::StreamExt;

use super::Shared;
use super::cache::version;
use super::ghosts::Places;
use super::outcome::CallError;
use crate::mountpod::facts::PodUid;
use crate::retry::Waits;

/// A list of one node's mount pods is small; a server that takes longer is not well.
const LIST_LIMIT: Duration = Duration::from_secs(30);
/// The server answers a watch at once and then tells what happens.
const WATCH_BEGIN_LIMIT: Duration = Duration::from_secs(15);
/// The server ends a watch after this long, and it is begun anew: the one request of an idle driver.
const WATCH_LENGTH: Duration = Duration::from_secs(290);
/// A watch that is silent for longer than the server lets it live has lost its connection; bookmarks come each minute.
const WATCH_SILENCE_LIMIT: Duration = Duration::from_secs(300);
/// After a failure the server is asked again soon, then more and more rarely.
const RETRY_WAIT_FIRST: Duration = Duration::from_millis(200);
/// All nodes come back at once after an outage: the waits are spread.
const RETRY_WAIT_LONGEST: Duration = Duration::from_secs(15);
/// Nothing tells of the end of a ghost's processes but its directory: it is looked for while there are ghosts.
const GHOST_LOOK_FIRST: Duration = Duration::from_millis(100);
/// As above; a ghost may live for its whole grace period.
const GHOST_LOOK_LONGEST: Duration = Duration::from_secs(2);
/// HTTP status of a version that the server has forgotten.
const GONE: u16 = 410;

/// Why a watch has ended.
#[derive(Debug)]
enum WatchEnd {
    /// In good order, or with its connection: it goes on from where it was.
    Resume,
    /// The server can't go on from there.
    Forgotten,
    /// It could not be begun, or broke.
    Failed(CallError),
}

/// Waits for an answer, but not for ever.
pub(super) async fn within<T>(
    limit: Duration,
    call: impl Future<Output = Result<T, kube::Error>>,
) -> Result<T, CallError> {
    timeout(limit, call).await.map_err(|_| CallError::TimedOut(limit))?.map_err(CallError::from)
}

/// Reads all pods of the engine anew.
pub(super) async fn list(shared: &Arc<Shared>) -> Result<(), CallError> {
    let params = ListParams::default().labels(&shared.selector);
    let listed = within(LIST_LIMIT, shared.pods.list(&params)).await?;
    let at = version(listed.metadata.resource_version.as_deref());
    let gone = shared.cache().replace(listed.items, at);
    for pod in gone {
        bury(shared, pod);
    }
    shared.changed();
    Ok(())
}

/// Watches until the runtime ends.
pub(super) async fn keep_watching(shared: Arc<Shared>) {
    let mut waits = Waits::new(RETRY_WAIT_FIRST, RETRY_WAIT_LONGEST);
    loop {
        let failure = match watch(&shared, &mut waits).await {
            WatchEnd::Resume => continue,
            WatchEnd::Forgotten => match list(&shared).await {
                Ok(()) => continue,
                Err(error) => error,
            },
            WatchEnd::Failed(error) => error,
        };
        tracing::warn!(
            error = crate::telemetry::chain(&failure),
            "the mount pods can't be watched; trying again"
        );
        tokio::time::sleep(waits.next_wait()).await;
    }
}

async fn watch(shared: &Arc<Shared>, waits: &mut Waits) -> WatchEnd {
    let length = u32::try_from(WATCH_LENGTH.as_secs()).unwrap_or(u32::MAX);
    let params = WatchParams::default().labels(&shared.selector).timeout(length);
    let from = shared.cache().watched().to_string();
    let events = match within(WATCH_BEGIN_LIMIT, shared.pods.watch(&params, &from)).await {
        Ok(events) => events,
        Err(error) if error.status().is_some_and(|status| status.code == GONE) => return WatchEnd::Forgotten,
        Err(error) => return WatchEnd::Failed(error),
    };
    let mut events = pin!(events);
    let began = tokio::time::Instant::now();
    loop {
        match timeout(WATCH_SILENCE_LIMIT, events.next()).await {
            Err(_) => return WatchEnd::Failed(CallError::TimedOut(WATCH_SILENCE_LIMIT)),
            // A server that ends each watch at once (a proxy in between, say) must not be asked in a loop.
            Ok(None) if began.elapsed() < RETRY_WAIT_LONGEST => {
                tokio::time::sleep(waits.next_wait()).await;
                return WatchEnd::Resume;
            }
            Ok(None) => return WatchEnd::Resume,
            Ok(Some(Err(error))) => return WatchEnd::Failed(error.into()),
            Ok(Some(Ok(WatchEvent::Error(status)))) if status.code == GONE => return WatchEnd::Forgotten,
            Ok(Some(Ok(WatchEvent::Error(status)))) => {
                return WatchEnd::Failed(CallError::Api(kube::Error::Api(status)));
            }
            Ok(Some(Ok(event))) => {
                waits.start_over();
                take_in(shared, event);
            }
        }
    }
}

fn take_in(shared: &Arc<Shared>, event: WatchEvent<Pod>) {
    match event {
        WatchEvent::Added(pod) | WatchEvent::Modified(pod) => shared.cache().told(pod),
        WatchEvent::Deleted(pod) => {
            let last = shared.cache().told_deleted(pod);
            bury(shared, last);
        }
        WatchEvent::Bookmark(bookmark) => {
            shared.cache().passed(version(Some(&bookmark.metadata.resource_version)));
            return;
        }
        WatchEvent::Error(_) => return,
    }
    shared.changed();
}

/// The record of a pod is gone: its file goes too, at once or with the last of its processes.
pub(super) fn bury(shared: &Arc<Shared>, pod: Arc<Pod>) {
    let Some(uid) = pod.metadata.uid.clone().map(PodUid) else { return };
    let lives = shared.places.may_live(&uid);
    if lives {
        tracing::info!(pod = pod.metadata.name, "the record of the mount pod is gone, its directory is not");
        shared.cache().haunt(Arc::clone(&pod));
    }
    let shared = Arc::clone(shared);
    let tasks = shared.tasks.clone();
    let ended = shared.shutdown.clone();
    tasks.spawn(ended.run_until_cancelled_owned(async move {
        if lives {
            shared.note(&uid, "write down", move |places, uid| places.write(uid, &pod)).await;
            until_gone(&shared, &uid).await;
        }
        shared.note(&uid, "forget", Places::forget).await;
    }));
}

async fn until_gone(shared: &Shared, uid: &PodUid) {
    let mut waits = Waits::steady(GHOST_LOOK_FIRST, GHOST_LOOK_LONGEST);
    while shared.places.may_live(uid) {
        tokio::time::sleep(waits.next_wait()).await;
    }
    shared.cache().laid_to_rest(uid);
    shared.changed();
}
