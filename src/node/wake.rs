//! Which sessions must be sent requests, so that their clients go on?
//!
//! JuiceFS needs two of them (juicefs v1.4.1 with its fork of go-fuse). A client that is to leave its open files to a
//! successor has readers that sleep in the kernel until the next request. And one that has taken over a session looks
//! for lost requests among the first that it sees: where it sees only those that were given out again, it looks for ever,
//! with a whole processor.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use super::effects::NodeEffects;
use crate::agent::frames::ClientState;
use crate::mountpod::engine::Engine;
use crate::mountpod::facts::{AgentFact, Generation, PodId};
use crate::mountpod::pod::{pod_fact, served_volume, session_of};
use crate::mounts::helper::{HelperAnswer, HelperError, HelperJob, Helpers, WAKE};
use crate::runtime::MountPods;
use crate::session::link::AgentView;
use crate::volume::{ClientKind, SessionId};

/// Requests go on hanging while no client serves; a successor serves within seconds.
const WAKE_LIMIT: Duration = Duration::from_secs(30);
/// Between two tries to have the one helper of a session.
const BUSY_WAIT: Duration = Duration::from_millis(50);

/// Runs a job for a session whose client may just be sent requests: that is soon over.
pub(super) async fn run_beside_wake(
    helpers: &Helpers,
    session: &SessionId,
    job: &HelperJob,
    limit: Duration,
) -> Result<HelperAnswer, HelperError> {
    let deadline = Instant::now() + limit;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match helpers.run(session, job, left).await {
            Err(HelperError::StillWaiting { job: WAKE, .. }) if !left.is_zero() => sleep(BUSY_WAIT).await,
            answer => return answer,
        }
    }
}

/// What a client was woken for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Parting { starts: u32 },
    Serving { starts: u32 },
}

/// Sends requests wherever a client needs them, until `shutdown`.
pub(super) async fn keep_awake<R: MountPods>(
    engine: Arc<Engine<NodeEffects<R>>>,
    shutdown: CancellationToken,
) {
    let mut changes = engine.effects().changes();
    let mut seen: BTreeMap<PodId, Stage> = BTreeMap::new();
    let mut tasks = JoinSet::new();
    let follow = async {
        while changes.changed().await.is_ok() {
            while tasks.try_join_next().is_some() {}
            let stages = stages(engine.effects());
            seen.retain(|pod, _| stages.iter().any(|(known, ..)| known == pod));
            for (pod, session, stage) in stages {
                if seen.insert(pod, stage) != Some(stage) && stage.wants_requests() {
                    let engine = Arc::clone(&engine);
                    tasks.spawn(async move { wake(engine.effects(), &session).await });
                }
            }
        }
    };
    shutdown.run_until_cancelled(follow).await;
}

impl Stage {
    /// The first client of a session finds nothing that an earlier one has lost.
    fn wants_requests(self) -> bool {
        self != Self::Serving { starts: 1 }
    }
}

/// How far the clients are that may need requests. Those of later pods count as later clients of their session.
fn stages<R: MountPods>(effects: &NodeEffects<R>) -> Vec<(PodId, SessionId, Stage)> {
    let pods = effects.runtime.list();
    let of_pod = pods.iter().filter_map(|pod| {
        served_volume(&pod.record).ok().filter(|served| served.spec.client == ClientKind::Juicefs)?;
        let fact = pod_fact(&pod.record, pod.phase.clone(), AgentFact::Silent).ok()?;
        let session = session_of(&pod.record).ok()?;
        let AgentView::Holding { session: held, client } = effects.links.view(&fact.id) else { return None };
        let Generation(generation) = fact.generation;
        let later = generation.saturating_sub(1);
        let stage = match client {
            ClientState::Parting { starts } => Stage::Parting { starts },
            ClientState::Serving { starts, .. } => Stage::Serving { starts: starts.saturating_add(later) },
            ClientState::Starting { .. } | ClientState::Failed { .. } | ClientState::Ended => return None,
        };
        (held == session).then_some((fact.id, session, stage))
    });
    of_pod.collect()
}

fn is_parting<R: MountPods>(effects: &NodeEffects<R>, session: &SessionId) -> bool {
    stages(effects).iter().any(|(_, of, stage)| of == session && matches!(stage, Stage::Parting { .. }))
}

async fn wake<R: MountPods>(effects: &NodeEffects<R>, session: &SessionId) {
    let job = HelperJob::Wake { path: effects.state_dir.mount_point(session) };
    let deadline = Instant::now() + WAKE_LIMIT;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match effects.helpers.run(session, &job, left).await {
            // It writes what it has before its readers stop, which may take longer than one row of requests.
            Ok(_) if is_parting(effects, session) && !left.is_zero() => {}
            Ok(_) => return,
            // An earlier one still goes on, or somebody asks for statistics.
            Err(HelperError::StillWaiting { .. }) if !left.is_zero() => sleep(BUSY_WAIT).await,
            Err(error) => {
                tracing::debug!(error = &error as &dyn std::error::Error, %session, "its client was not sent requests");
                return;
            }
        }
    }
}
