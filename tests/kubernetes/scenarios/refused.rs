//! What can't be done is told to the workload, soon.

use std::time::Instant;

use serde_json::json;

use crate::Figures;
use crate::objects::{self, IDLE};
use crate::wait::{GONE, TOLD, eventually, seconds};
use crate::world::{DRIVER, Space, VOLUMES_NAMESPACE, World};

/// A ResourceQuota that admits no mount pod is named on the workload; when it goes, the workload starts.
pub fn by_quota(world: &World) -> Figures {
    let space = world.space("quota");
    space.claim("claim");
    let volume = space.bound("claim");
    let quotas = format!("/api/v1/namespaces/{VOLUMES_NAMESPACE}/resourcequotas");
    let quota = format!("{quotas}/no-mount-pods");
    world
        .api
        .create(&quotas, &json!({"metadata": {"name": "no-mount-pods"}, "spec": {"hard": {"pods": "0"}}}));
    let taken_away = Removal { world, path: quota };
    eventually(GONE, "the quota to be in force", || {
        let hard = world.api.get(&taken_away.path).ok_or("gone")?["status"]["hard"]["pods"].clone();
        if hard == "0" { Ok(()) } else { Err(hard.to_string()) }
    });
    let begun = Instant::now();
    space.start(&objects::pod("user", "claim", IDLE));
    let told = failed_mount(&space, "user", "no-mount-pods");
    let figures = vec![format!("told after {}: {told}", seconds(begun))];
    drop(taken_away);
    space.ready("user");
    space.finish(&["user"], &[("claim", &volume)]);
    figures
}

/// An inline volume of a root that nobody named is refused by its name, and leaves nothing.
pub fn unknown_root(world: &World) -> Figures {
    let space = world.space("unknown");
    let volume = json!({"csi": {"driver": DRIVER, "volumeAttributes": {"root": "nowhere"}}});
    let begun = Instant::now();
    space.start(&objects::pod_with("user", &volume, IDLE));
    let told = failed_mount(&space, "user", "nowhere");
    let figures = vec![format!("told after {}: {told}", seconds(begun))];
    space.finish(&["user"], &[]);
    figures
}

fn failed_mount(space: &Space<'_>, pod: &str, cause: &str) -> String {
    eventually(TOLD, &format!("a FailedMount event of {pod} that names {cause}"), || {
        let events = space.events(pod);
        let told = events.iter().find(|event| event.starts_with("FailedMount") && event.contains(cause));
        told.cloned().ok_or_else(|| format!("{events:?}"))
    })
}

/// Takes an object of the mount pods' namespace away, also when the scenario fails.
struct Removal<'a> {
    world: &'a World,
    path: String,
}

impl Drop for Removal<'_> {
    fn drop(&mut self) {
        self.world.api.delete(&self.path);
    }
}
