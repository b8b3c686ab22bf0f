//! In which order are the driver and its baselines measured?
//!
//! In turn, and each first in every other round, so that a node that gets busier or slower does so for both.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::calls::Stage;
use super::pauses::Pauses;
use crate::node;
use crate::observe;

/// Warm publishes and unpublishes in one round, each beside a PATCH of its own.
const WARM_IN_A_ROUND: usize = 6;
/// What one call or PATCH makes others do (the kubelet, the API server's watchers) is over before the next is measured.
const REST: Duration = Duration::from_millis(100);

/// All that was measured.
#[derive(Debug, Default)]
pub struct Measured {
    pub cold: Vec<Duration>,
    pub pause: Vec<Duration>,
    pub warm_publish: Vec<Duration>,
    pub warm_unpublish: Vec<Duration>,
    pub patch: Vec<Duration>,
    pub last_unpublish: Vec<Duration>,
    pub cold_at_once: Vec<Duration>,
    pub pauses_at_once: Vec<Duration>,
    pub resident_kib: Vec<u64>,
}

/// One volume: cold, warm several times, and unpublished for the last time; beside one pause pod.
pub async fn one_by_one(round: usize, stage: &Stage<'_>, pauses: &Pauses, measured: &mut Measured) {
    let pause = [format!("pause-{round}")];
    if round.is_multiple_of(2) {
        measured.pause.push(pauses.start(&pause).await);
        measured.cold.push(stage.publish(0, &stage.first).await);
    } else {
        measured.cold.push(stage.publish(0, &stage.first).await);
        measured.pause.push(pauses.start(&pause).await);
    }
    for turn in 0..WARM_IN_A_ROUND {
        measured.patch.push(at_rest(pauses.patch(&pause[0], 2 * turn)).await);
        measured.warm_publish.push(at_rest(stage.publish(0, &stage.second)).await);
        measured.patch.push(at_rest(pauses.patch(&pause[0], 2 * turn + 1)).await);
        measured.warm_unpublish.push(at_rest(stage.unpublish(0, &stage.second)).await);
    }
    measured.last_unpublish.push(stage.unpublish(0, &stage.first).await);
    observe::no_publish_left(stage.world);
    pauses.stop(&pause).await;
}

/// A measurement that nothing of the one before disturbs.
async fn at_rest(measurement: impl Future<Output = Duration>) -> Duration {
    tokio::time::sleep(REST).await;
    measurement.await
}

/// All volumes at once, and as many pause pods at once.
pub async fn at_once(round: usize, stage: &Stage<'_>, pauses: &Pauses, measured: &mut Measured) {
    let names: Vec<String> =
        stage.volumes().map(|number| format!("pause-at-once-{round}-{number}")).collect();
    if round.is_multiple_of(2) {
        pauses_at_once(&names, pauses, measured).await;
        publishes_at_once(stage, measured).await;
    } else {
        publishes_at_once(stage, measured).await;
        pauses_at_once(&names, pauses, measured).await;
    }
}

async fn pauses_at_once(names: &[String], pauses: &Pauses, measured: &mut Measured) {
    measured.pauses_at_once.push(pauses.start(names).await);
    pauses.stop(names).await;
}

async fn publishes_at_once(stage: &Stage<'_>, measured: &mut Measured) {
    let begun = Instant::now();
    let publishes: JoinSet<_> = stage.volumes().map(|volume| stage.publish(volume, &stage.first)).collect();
    publishes.join_all().await;
    measured.cold_at_once.push(begun.elapsed());
    measured.resident_kib.push(node::resident_kib());
    let unpublishes: JoinSet<_> =
        stage.volumes().map(|volume| stage.unpublish(volume, &stage.first)).collect();
    unpublishes.join_all().await;
    observe::no_publish_left(stage.world);
}
