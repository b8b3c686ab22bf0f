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

/// Nothing is asked while nothing happens; whoever calls this has volumes in use.
pub fn idle(world: &World) -> String {
    let user = node::plugin_user(world);
    let mark = audit::mark(world);
    let_pass(QUIET);
    let requests: Vec<Request> = audit::requests(world, &user, &mark);
    assert!(requests.is_empty(), "requests in {} idle seconds: {}", QUIET.as_secs(), audit::told(&requests));
    format!("requests in {} s of rest: 0", QUIET.as_secs())
}
