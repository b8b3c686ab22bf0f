//! How long is to be waited before the next try?
//!
//! The only place that knows the `backoff` crate: it is asked for, and unmaintained (see deny.toml).

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff;

/// Each wait is about this many times the one before.
const FACTOR: f64 = 2.0;
/// Waits are spread by this share, so that many waiters do not come back at once.
const SPREAD: f64 = 0.3;

/// Growing, spread waits between tries. The caller bounds the whole; these bound one wait.
#[derive(Debug)]
pub struct Waits(ExponentialBackoff);

impl Waits {
    /// Waits that begin at about `first` and grow to about `longest`.
    #[must_use]
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self::spread_by(SPREAD, first, longest)
    }

    /// Waits that are not spread, where nobody else waits for the same: the same every time.
    #[must_use]
    pub fn steady(first: Duration, longest: Duration) -> Self {
        Self::spread_by(0.0, first, longest)
    }

    fn spread_by(share: f64, first: Duration, longest: Duration) -> Self {
        Self(ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: share,
            multiplier: FACTOR,
            max_interval: longest,
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        })
    }

    /// The next wait.
    #[must_use = "it is a length of time, nothing has been waited for"]
    pub fn next_wait(&mut self) -> Duration {
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// Begins again at the first wait, after a success.
    pub fn start_over(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_longest_and_start_over() {
        let (first, longest) = (Duration::from_millis(10), Duration::from_millis(100));
        let mut waits = Waits::new(first, longest);
        let seen: Vec<_> = (0..8).map(|_| waits.next_wait()).collect();
        assert!(seen[0] <= first.mul_f64(1.0 + SPREAD), "the first wait is {:?}", seen[0]);
        assert!(seen[7] >= longest.mul_f64(1.0 - SPREAD), "the last wait is {:?}", seen[7]);
        assert!(seen.iter().all(|wait| *wait <= longest.mul_f64(1.0 + SPREAD)), "{seen:?}");
        waits.start_over();
        assert!(waits.next_wait() <= first.mul_f64(1.0 + SPREAD));
    }
}
