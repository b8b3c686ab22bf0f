//! How many API requests does the node plugin make?

use std::time::Duration;

use crate::Figures;
use crate::audit::{self, Request};
use crate::node;
use crate::objects::{self, IDLE};
use crate::observe;
use crate::wait::let_pass;
use crate::world::World;

/// Issue: cold publish at most 3 writes and 1 read, warm 1 write, unpublish 1 write (the last 2).
struct Budget {
    writes: usize,
    reads: usize,
}
const COLD: Budget = Budget { writes: 3, reads: 1 };
const WARM: Budget = Budget { writes: 1, reads: 0 };
const UNPUBLISH: Budget = Budget { writes: 1, reads: 0 };
const LAST_UNPUBLISH: Budget = Budget { writes: 2, reads: 0 };

/// Volumes that are in use while nothing happens.
const IDLE_VOLUMES: usize = 20;
/// How long nothing happens.
const QUIET: Duration = Duration::from_secs(60);

/// Each step of two workloads' life, counted.
pub fn publishes(world: &World) -> Figures {
    let user = node::plugin_user(world);
    let space = world.space("budget");
    space.claim("claim");
    let volume = space.bound("claim");
    observe::no_publish_left(world);
    let mut figures = Figures::new();
    let mut over = Vec::new();
    let mut count = |what: &str, budget: &Budget, step: &dyn Fn()| {
        let mark = audit::mark(world);
        step();
        let requests = audit::requests(world, &user, &mark);
        let writes = requests.iter().filter(|one| one.is_write()).count();
        let reads = requests.iter().filter(|one| one.is_read()).count();
        let line = format!("{what}: {writes} writes, {reads} reads: {}", audit::told(&requests));
        if writes > budget.writes || reads > budget.reads {
            over.push(format!("{line} (allowed: {} and {})", budget.writes, budget.reads));
        }
        figures.push(line);
    };
    count("cold publish", &COLD, &|| {
        space.start(&objects::pod("first", "claim", IDLE));
        space.ready("first");
    });
    count("warm publish", &WARM, &|| {
        space.start(&objects::pod("second", "claim", IDLE));
        space.ready("second");
    });
    count("unpublish", &UNPUBLISH, &|| space.end("first"));
    count("last unpublish", &LAST_UNPUBLISH, &|| {
        space.end("second");
        observe::no_publish_left(world);
    });
    assert!(over.is_empty(), "over the budget: {over:#?}");
    space.unclaim("claim", &volume);
    figures
}

/// Nothing is asked while nothing happens.
pub fn idle(world: &World) -> Figures {
    let user = node::plugin_user(world);
    let space = world.space("idle");
    let claims: Vec<String> = (0..IDLE_VOLUMES).map(|number| format!("claim-{number}")).collect();
    claims.iter().for_each(|claim| space.claim(claim));
    let volumes: Vec<String> = claims.iter().map(|claim| space.bound(claim)).collect();
    for (number, claim) in claims.iter().enumerate() {
        space.start(&objects::pod(&format!("user-{number}"), claim, IDLE));
    }
    (0..IDLE_VOLUMES).for_each(|number| space.ready(&format!("user-{number}")));
    let mark = audit::mark(world);
    let_pass(QUIET);
    let requests: Vec<Request> = audit::requests(world, &user, &mark);
    assert!(requests.is_empty(), "requests in {} idle seconds: {}", QUIET.as_secs(), audit::told(&requests));
    (0..IDLE_VOLUMES).for_each(|number| world.api.delete(&space.path("pods", &format!("user-{number}"))));
    (0..IDLE_VOLUMES).for_each(|number| space.gone("pods", &format!("user-{number}")));
    observe::no_publish_left(world);
    claims.iter().zip(&volumes).for_each(|(claim, volume)| space.unclaim(claim, volume));
    vec![format!("0 requests in {} s with {IDLE_VOLUMES} volumes in use", QUIET.as_secs())]
}
