//! When is a client that died started again, and when is it given up?

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use crate::retry::Waits;

/// A client that died this often without ever serving will not do better the next time.
pub(super) const RESTARTS_MAX: usize = 5;
/// Only deaths within this time are counted together: an old trouble that passed is forgotten.
const WINDOW: Duration = Duration::from_secs(60);
/// The first wait after a death without serving; a missing directory or a full table may come right at once.
const WAIT_FIRST: Duration = Duration::from_millis(100);
/// The longest: workloads hang meanwhile.
pub(super) const WAIT_LONGEST: Duration = Duration::from_secs(5);

/// The deaths of a session's clients.
#[derive(Debug)]
pub(super) struct Restarts {
    waits: Waits,
    deaths: VecDeque<Instant>,
}

/// What is to be done after a death.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Start again, after this wait.
    Restart(Duration),
    /// It can't be brought to serve.
    GiveUp,
}

/// Did the client that died answer requests before?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Record {
    Served,
    NeverServed,
}

impl Restarts {
    pub(super) fn new() -> Self {
        Self { waits: Waits::new(WAIT_FIRST, WAIT_LONGEST), deaths: VecDeque::new() }
    }

    pub(super) fn after_death(&mut self, record: Record, now: Instant) -> Verdict {
        if record == Record::Served {
            self.waits.start_over();
            self.deaths.clear();
            return Verdict::Restart(Duration::ZERO);
        }
        self.deaths.retain(|death| now.duration_since(*death) < WINDOW);
        self.deaths.push_back(now);
        if self.deaths.len() >= RESTARTS_MAX {
            return Verdict::GiveUp;
        }
        Verdict::Restart(self.waits.next_wait())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_served_is_started_again_at_once_and_for_ever() {
        let (mut restarts, now) = (Restarts::new(), Instant::now());
        for _ in 0..100 {
            assert_eq!(restarts.after_death(Record::Served, now), Verdict::Restart(Duration::ZERO));
        }
    }

    #[test]
    fn a_client_that_never_serves_is_given_up_after_growing_waits() {
        let (mut restarts, now) = (Restarts::new(), Instant::now());
        let mut waits = Vec::new();
        for _ in 1..RESTARTS_MAX {
            let Verdict::Restart(wait) = restarts.after_death(Record::NeverServed, now) else { break };
            waits.push(wait);
        }
        assert_eq!(waits.len(), RESTARTS_MAX - 1);
        assert!(waits.last() > waits.first(), "{waits:?}");
        assert_eq!(restarts.after_death(Record::NeverServed, now), Verdict::GiveUp);
    }

    #[test]
    fn serving_and_time_make_deaths_forgotten() {
        let (mut restarts, now) = (Restarts::new(), Instant::now());
        for _ in 1..RESTARTS_MAX {
            restarts.after_death(Record::NeverServed, now);
        }
        restarts.after_death(Record::Served, now);
        assert!(matches!(restarts.after_death(Record::NeverServed, now), Verdict::Restart(_)));
        for days in 1..20 {
            let later = now + WINDOW * days;
            assert!(matches!(restarts.after_death(Record::NeverServed, later), Verdict::Restart(_)));
        }
    }
}
