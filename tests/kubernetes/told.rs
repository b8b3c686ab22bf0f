//! Which events are to come, and when did they?

use std::time::{Duration, Instant};

use crate::Figures;
use crate::wait::{eventually, seconds, short, so};
use crate::world::Space;

/// The kubelet's reason, and external-provisioner's.
pub const ON_POD: &str = "FailedMount";
pub const ON_CLAIM: &str = "ProvisioningFailed";

/// Seldom, an event comes some 12 s later than always: with what came before it, the delay can be placed.
const LATE: Duration = Duration::from_secs(10);

/// An event that is to come.
pub struct Awaited {
    pub object: String,
    pub reason: &'static str,
    /// All of them stand in it.
    pub words: Vec<&'static str>,
}

impl Awaited {
    fn found_in(&self, events: &[String]) -> Option<String> {
        let says = |event: &&String| self.words.iter().all(|word| event.contains(word));
        events.iter().filter(|event| event.starts_with(self.reason)).find(says).cloned()
    }
}

/// Waits until each was told, and says how long after `begun`.
pub fn each(space: &Space<'_>, limit: Duration, begun: Instant, mut awaited: Vec<Awaited>) -> Figures {
    let mut figures = Figures::new();
    eventually(limit, "an event for each that says what is wrong", || {
        awaited.retain(|one| {
            let told = one.found_in(&space.events(&one.object));
            let figure = |said| format!("{} after {}: {}", one.object, seconds(begun), short(said));
            figures.extend(told.as_deref().map(figure));
            if told.is_some() {
                figures.extend(history_if_late(space, &one.object, begun));
            }
            told.is_none()
        });
        let left = |one: &Awaited| {
            format!("{}: {:?}, {}", one.object, space.events(&one.object), space.history(&one.object))
        };
        so(awaited.is_empty(), || awaited.iter().map(left).collect::<Vec<_>>().join("; "))
    });
    figures
}

/// What else was told of an object, if its event came late.
fn history_if_late(space: &Space<'_>, object: &str, begun: Instant) -> Option<String> {
    (begun.elapsed() > LATE).then(|| format!("late: {}", space.history(object)))
}
