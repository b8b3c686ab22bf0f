//! What happens in the demo, in order?

use std::path::Path;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout};

use super::DemoError;
use super::narrator::Narrator;
use super::stage::Stage;
use crate::csi::api::v1::Volume;
use crate::mountpod::refs::REF_PREFIX;

const GIB: i64 = 1 << 30;
/// Clients killed under the writer.
const CLIENT_KILLS: u32 = 5;
/// The writer writes that long between two faults.
const BETWEEN_FAULTS: Duration = Duration::from_millis(300);
/// A replacement mount pod serves within this.
const REPLACED_MAX: Duration = Duration::from_secs(20);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// Plays the story; every sentence told is checked first.
pub(super) async fn play(stage: &mut Stage, narrator: &Narrator) -> Result<(), DemoError> {
    narrator.chapter("A volume for two workloads");
    let volume = create(stage, narrator).await?;
    let (a, b) = (stage.target("workload-a"), stage.target("workload-b"));
    publish_to_both(stage, narrator, &volume, [&a, &b]).await?;
    write_and_read(narrator, &a, &b).await?;

    narrator.chapter("Clients, the driver and a whole mount pod die while a workload writes");
    stage.start_writer(&a.join("log"))?;
    sleep(BETWEEN_FAULTS).await;
    kill_clients(stage, narrator).await?;
    crash_driver(stage, narrator).await?;
    kill_mount_pod(stage, narrator).await?;
    sleep(BETWEEN_FAULTS).await;
    judge_writer(stage, narrator).await?;

    narrator.chapter("Growing, and going");
    expand(stage, narrator, &volume).await?;
    unpublish_both(stage, narrator, &volume, [&a, &b]).await?;
    delete(stage, narrator, &volume).await
}

async fn create(stage: &mut Stage, narrator: &Narrator) -> Result<Volume, DemoError> {
    let begun = Instant::now();
    let volume = stage.caller.create_volume("demo", GIB, &[]).await?;
    narrator.held(&format!("CreateVolume: {} with 1 GiB", volume.volume_id), begun.elapsed());
    Ok(volume)
}

async fn publish_to_both(
    stage: &mut Stage,
    narrator: &Narrator,
    volume: &Volume,
    targets: [&Path; 2],
) -> Result<(), DemoError> {
    let begun = Instant::now();
    stage.publish(volume, targets[0]).await?;
    narrator.held("NodePublishVolume to workload-a: a mount pod was started (cold)", begun.elapsed());
    let begun = Instant::now();
    stage.publish(volume, targets[1]).await?;
    narrator.held("NodePublishVolume to workload-b: the same mount pod (warm)", begun.elapsed());
    let (pods, refs) = (stage.pods().len(), refs(stage).await?);
    check(pods == 1 && refs == 2, || format!("one mount pod with two refs (there are {pods} with {refs})"))?;
    narrator.says("one mount pod, two refs, two bind mounts");
    Ok(())
}

async fn write_and_read(narrator: &Narrator, a: &Path, b: &Path) -> Result<(), DemoError> {
    let begun = Instant::now();
    let greeting = "written through workload-a";
    tokio::fs::write(a.join("greeting"), greeting)
        .await
        .map_err(DemoError::machine("write through workload-a"))?;
    let read = tokio::fs::read_to_string(b.join("greeting")).await;
    let read = read.map_err(DemoError::machine("read through workload-b"))?;
    check(read == greeting, || format!("workload-b reads what workload-a wrote (it read {read:?})"))?;
    narrator.held("workload-b reads what workload-a wrote", begun.elapsed());
    Ok(())
}

async fn kill_clients(stage: &Stage, narrator: &Narrator) -> Result<(), DemoError> {
    for number in 1..=CLIENT_KILLS {
        let begun = Instant::now();
        let pods = stage.pods();
        let before = pods.first().ok_or_else(|| DemoError::NotSo("a mount pod runs".to_owned()))?;
        // The last process below the agent is the one that serves; the first is its keeper.
        let victim = if number == CLIENT_KILLS { before.client.first() } else { before.client.last() };
        let victim = *victim.ok_or_else(|| DemoError::NotSo("a client runs".to_owned()))?;
        stage.kill(victim.pid)?;
        until(|| {
            stage.pods().iter().any(|pod| {
                pod.agent == before.agent && pod.client.len() >= 2 && !pod.client.contains(&victim)
            })
        })
        .await?;
        narrator.held(
            &format!("SIGKILL for client {} of {CLIENT_KILLS} (process {}): restarted", number, victim.pid),
            begun.elapsed(),
        );
        sleep(BETWEEN_FAULTS).await;
    }
    Ok(())
}

async fn crash_driver(stage: &mut Stage, narrator: &Narrator) -> Result<(), DemoError> {
    let begun = Instant::now();
    stage.crash_and_restart_driver().await?;
    until(|| stage.driver_holds_a_session()).await?;
    let refs = refs(stage).await?;
    check(refs == 2, || format!("the restarted driver finds both refs (it finds {refs})"))?;
    narrator.held("SIGKILL for the driver: restarted, it found its sessions and refs again", begun.elapsed());
    sleep(BETWEEN_FAULTS).await;
    Ok(())
}

async fn kill_mount_pod(stage: &Stage, narrator: &Narrator) -> Result<(), DemoError> {
    let begun = Instant::now();
    let pods = stage.pods();
    let before = pods.first().ok_or_else(|| DemoError::NotSo("a mount pod runs".to_owned()))?;
    stage.kill(before.agent.pid)?;
    until(|| stage.pods().iter().any(|pod| pod.agent != before.agent && pod.client.len() >= 2)).await?;
    let refs = refs(stage).await?;
    check(refs == 2, || format!("the new mount pod has both refs (it has {refs})"))?;
    narrator.held(
        "SIGKILL for the whole mount pod: a new one serves the same session, refs kept",
        begun.elapsed(),
    );
    Ok(())
}

async fn judge_writer(stage: &mut Stage, narrator: &Narrator) -> Result<(), DemoError> {
    let begun = Instant::now();
    let seen = stage.end_writer().await?;
    check(seen.errors.is_empty() && seen.mismatches == 0, || {
        format!("the writer saw no error ({:?}, {} mismatches)", seen.errors, seen.mismatches)
    })?;
    let sentence = format!(
        "the writer saw 0 errors, 0 mismatches in {} blocks; its longest call took {:.0} ms",
        seen.blocks, seen.longest_call_ms
    );
    narrator.held(&sentence, begun.elapsed());
    Ok(())
}

async fn expand(stage: &mut Stage, narrator: &Narrator, volume: &Volume) -> Result<(), DemoError> {
    let begun = Instant::now();
    let capacity = stage.caller.expand_volume(&volume.volume_id, 2 * GIB).await?;
    check(capacity == 2 * GIB, || format!("the volume has 2 GiB now (it has {capacity} bytes)"))?;
    narrator.held("ControllerExpandVolume to 2 GiB, while it is in use", begun.elapsed());
    Ok(())
}

async fn unpublish_both(
    stage: &mut Stage,
    narrator: &Narrator,
    volume: &Volume,
    targets: [&Path; 2],
) -> Result<(), DemoError> {
    let begun = Instant::now();
    stage.unpublish(volume, targets[0]).await?;
    let pods = stage.pods().len();
    check(pods == 1, || format!("the mount pod stays for the other ref (there are {pods})"))?;
    narrator.held("NodeUnpublishVolume from workload-a: the mount pod stays for workload-b", begun.elapsed());
    let begun = Instant::now();
    stage.unpublish(volume, targets[1]).await?;
    narrator.held(
        "NodeUnpublishVolume from workload-b: the last ref, so the client flushed and ended",
        begun.elapsed(),
    );
    let left = stage.leftovers().await?;
    check(left.is_none(), || format!("nothing is left (there are {left})"))?;
    narrator.says(&format!("left: {left}"));
    Ok(())
}

async fn delete(stage: &mut Stage, narrator: &Narrator, volume: &Volume) -> Result<(), DemoError> {
    let begun = Instant::now();
    stage.caller.delete_volume(&volume.volume_id).await?;
    narrator.held("DeleteVolume: its directory and record are gone", begun.elapsed());
    Ok(())
}

/// The refs on all mount pods, as their records say.
async fn refs(stage: &Stage) -> Result<usize, DemoError> {
    let records = stage.pod_records().await?;
    Ok(records.iter().map(|record| record.matches(REF_PREFIX).count()).sum())
}

fn check(holds: bool, otherwise: impl FnOnce() -> String) -> Result<(), DemoError> {
    if holds { Ok(()) } else { Err(DemoError::NotSo(otherwise())) }
}

async fn until(mut holds: impl FnMut() -> bool) -> Result<(), DemoError> {
    let looked = timeout(REPLACED_MAX, async {
        while !holds() {
            sleep(PAUSE).await;
        }
    });
    looked.await.map_err(DemoError::machine("see the replacement in time"))
}
