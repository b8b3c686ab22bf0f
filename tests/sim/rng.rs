//! Where does all chance of a run come from? From its seed.

use std::ops::Range;

/// SplitMix64 (Steele, Lea, Flood 2014): small, and good enough to choose faults.
#[derive(Debug)]
pub(crate) struct Rng(u64);

impl Rng {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number of the range.
    pub(crate) fn within(&mut self, range: Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// True in that many of 1000 cases.
    pub(crate) fn happens(&mut self, per_mille: u64) -> bool {
        self.within(0..1000) < per_mille
    }

    /// One of the choices, or none when there are none.
    pub(crate) fn pick<T: Clone>(&mut self, choices: &[T]) -> Option<T> {
        let count = u64::try_from(choices.len()).ok().filter(|count| *count > 0)?;
        usize::try_from(self.within(0..count)).ok().and_then(|at| choices.get(at).cloned())
    }
}
