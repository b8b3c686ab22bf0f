//! Where does a test kill the serving process? Self-kills at named points, off unless `--chaos N` is given.

use std::cell::Cell;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use nix::sys::signal::{Signal, kill};
use nix::unistd::getpid;

use super::state::layout::{CHAOS_POINTS, Layout};

/// A place in the life of a request at which a kill must do no harm.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Point {
    /// The request has been read, nothing is done.
    BeforeOperation,
    /// The system calls have been made, the result is not recorded.
    AfterOperation,
    /// The result is recorded, not answered.
    BeforeReply,
    /// The kernel has the answer, the record is not freed.
    AfterReply,
}

/// The decision at each point.
pub(crate) struct Chaos {
    one_in: Option<NonZeroU64>,
    kills: &'static [AtomicU64; CHAOS_POINTS],
}

impl Chaos {
    pub(crate) fn new(one_in: Option<NonZeroU64>, layout: &'static Layout) -> Self {
        Self { one_in, kills: &layout.header.chaos }
    }

    /// Kills this process with the asked probability.
    pub(crate) fn at(&self, point: Point) {
        let Some(one_in) = self.one_in else { return };
        if !next_random().is_multiple_of(one_in.get()) {
            return;
        }
        self.kills[point as usize].fetch_add(1, Relaxed);
        if let Err(error) = kill(getpid(), Signal::SIGKILL) {
            tracing::error!(%error, "the asked self-kill failed");
        }
    }
}

/// Marsaglia's xorshift, seeded for each thread from the clock.
fn next_random() -> u64 {
    thread_local! {
        static STATE: Cell<u64> = Cell::new(seed());
    }
    STATE.with(|state| {
        let mut x = state.get();
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        state.set(x);
        x
    })
}

fn seed() -> u64 {
    let since_epoch = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    since_epoch.as_secs().rotate_left(32)
        ^ u64::from(since_epoch.subsec_nanos()).wrapping_mul(0x9E37_79B9_7F4A_7C15)
        | 1
}
