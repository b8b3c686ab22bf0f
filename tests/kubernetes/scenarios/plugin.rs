//! The node plugin dies.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Figures;
use crate::node;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::wait::{let_pass, seconds};
use crate::world::World;
use crate::writer::Writer;

/// How often it dies in one run.
const DEATHS: u32 = 20;
/// Of so many deaths one is the deletion of its pod. The kubelet starts a container at once only after its first crash,
/// then it waits 10, 20, 40 s: with every second death a new pod, it never waits.
const DELETIONS_ONE_IN: u32 = 2;
/// Of four publishes in flight two are of a volume that nobody else uses, so that its mount pod comes and goes.
const COLD: [bool; 4] = [false, false, true, true];
/// The longest random time before a death: the publishes that are in flight last about as long.
const BEFORE_DEATH_MS_MAX: u64 = 1_500;

/// Killed and deleted at random times under a writer, with a publish in flight each time.
pub fn killed(world: &World) -> Figures {
    let space = world.space("plugin");
    ["claim", "cold"].iter().for_each(|claim| space.claim(claim));
    let [volume, cold] = ["claim", "cold"].map(|claim| space.bound(claim));
    let writer = Writer::start(&space, "writer", "claim");
    let serving = observe::mount_pod_of(world, &space.pod("writer").unwrap());
    let mut random = Random::new();
    let begun = Instant::now();
    let mut slowest = Duration::ZERO;
    for death in 0..DEATHS {
        let started = Instant::now();
        let name = format!("in-flight-{death}");
        let claim = if COLD[death as usize % COLD.len()] { "cold" } else { "claim" };
        space.start(&objects::pod(&name, claim, IDLE));
        let_pass(Duration::from_millis(random.below(BEFORE_DEATH_MS_MAX)));
        if death % DELETIONS_ONE_IN == DELETIONS_ONE_IN - 1 {
            node::delete_plugin_pod(world);
        } else {
            node::kill_plugin();
        }
        space.ready(&name);
        slowest = slowest.max(started.elapsed());
        // The ends are in flight too: the next death may find them half done.
        world.api.delete(&space.path("pods", &name));
        node::plugin_ready(world);
    }
    let progress = writer.must_be_well();
    let now = observe::mount_pod_of(world, &space.pod("writer").unwrap());
    assert_eq!(now.uid(), serving.uid(), "the mount pod is still the same");
    let figures = vec![
        format!("{DEATHS} deaths in {} (seed {}): {progress}", seconds(begun), random.seed),
        format!("slowest publish through a death: {:.1} s", slowest.as_secs_f64()),
    ];
    (0..DEATHS).for_each(|death| space.gone("pods", &format!("in-flight-{death}")));
    space.finish(&["writer"], &[("claim", &volume), ("cold", &cold)]);
    figures
}

/// A workload that ends while the node plugin is away leaves nothing once the plugin is back.
pub fn unpublish_later(world: &World) -> Figures {
    let space = world.space("away");
    space.claim("claim");
    let volume = space.bound("claim");
    space.start(&objects::pod("user", "claim", IDLE));
    space.ready("user");
    node::delete_plugin_pod(world);
    let begun = Instant::now();
    space.end("user");
    observe::no_publish_left(world);
    let figures =
        vec![format!("workload and plugin deleted together, nothing left after {}", seconds(begun))];
    space.unclaim("claim", &volume);
    observe::no_volume_left(world);
    node::plugin_ready(world);
    figures
}

/// A small generator whose seed can be told: xorshift64 (Marsaglia 2003).
struct Random {
    seed: u64,
    state: u64,
}

impl Random {
    fn new() -> Self {
        let said = std::env::var("MOUNTPOD_SEED").ok().and_then(|word| word.parse().ok());
        let now =
            SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |time| u64::from(time.subsec_nanos()) + 1);
        let seed = said.unwrap_or(now);
        Self { seed, state: seed.max(1) }
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.state % limit
    }
}
