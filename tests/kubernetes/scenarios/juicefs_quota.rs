//! The size of a JuiceFS volume is its quota.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::Figures;
use crate::juicefs::{CLIENT_LEARNS, Filesystem};
use crate::objects::{self, IDLE};
use crate::wait::{eventually, seconds, so};
use crate::world::{Space, World};

const DATABASE: u8 = 3;
/// The kubelet looks at volumes every 15 s (tests/cluster/config/kubelet.yaml.in).
const KUBELET_LOOKS: Duration = Duration::from_secs(60);
const SUMMARY: &str = "/api/v1/nodes/node1/proxy/stats/summary";
const MIB: u64 = 1 << 20;

/// A write past the quota fails with EDQUOT, `df` shows the quota, and after the claim has grown the same pod goes on, and the
/// kubelet tells monitors the same.
pub fn expanded(world: &World) -> Figures {
    let space = world.space("jfs-quota");
    let filesystem = Filesystem::new(&space, "quota", DATABASE);
    filesystem.claim("claim", "64Mi");
    let volume = space.bound("claim");
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    let size = || space.mebibytes("user");
    assert_eq!(size(), "64", "MiB that df shows");
    space.sh("user", "dd if=/dev/zero of=/data/fits bs=1M count=40 conv=fsync 2>/dev/null");
    let refused = space.sh_fails("user", "dd if=/dev/zero of=/data/large bs=1M count=60 conv=fsync");
    assert!(refused.to_lowercase().contains("quota exceeded"), "a write past the quota said: {refused}");
    space.sh("user", "rm /data/large");

    let begun = Instant::now();
    space.expand("claim", "128Mi");
    let mut figures = vec![format!("64 Mi to 128 Mi in use: {}", seconds(begun))];
    eventually(CLIENT_LEARNS, "df to show 128 MiB", || {
        let now = size();
        so(now == "128", || now.clone())
    });
    figures.push(format!("seen by the running pod: {}", seconds(begun)));
    space.sh("user", "dd if=/dev/zero of=/data/large bs=1M count=60 conv=fsync 2>/dev/null");
    let told = |usage: &Value| ["capacityBytes", "usedBytes"].map(|name| usage[name].as_u64().unwrap_or(0));
    eventually(KUBELET_LOOKS, "the kubelet to tell 128 MiB, 100 of them used", || {
        let usage = usage_of(&space, "claim").ok_or("the kubelet does not know the volume yet")?;
        let [capacity, used] = told(&usage);
        so(capacity == 128 * MIB && (100 * MIB..=101 * MIB).contains(&used), || usage.to_string())
    });
    filesystem.finish(&["user"], &[("claim", &volume)]);
    figures
}

/// What the kubelet tells of a claim's volume (`stats/v1alpha1`).
fn usage_of(space: &Space<'_>, claim: &str) -> Option<Value> {
    let summary = space.world.api.get(SUMMARY)?;
    let pods = summary["pods"].as_array()?.iter();
    let mut volumes = pods.flat_map(|pod| pod["volume"].as_array().into_iter().flatten());
    let wanted = json!({"name": claim, "namespace": space.name});
    volumes.find(|volume| volume["pvcRef"] == wanted).cloned()
}
