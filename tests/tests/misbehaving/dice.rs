//! A small generator that several OS threads may share, so that a script is one number.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

#[derive(Debug)]
pub(crate) struct Dice(AtomicU64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Dice(AtomicU64::new(seed))
    }

    /// SplitMix64. Relaxed: any order of those who roll will do.
    pub(crate) fn number(&self) -> u64 {
        const STEP: u64 = 0x9E37_79B9_7F4A_7C15;
        let mut mixed = self.0.fetch_add(STEP, Relaxed).wrapping_add(STEP);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }

    pub(crate) fn below(&self, bound: u64) -> u64 {
        self.number() % bound
    }

    /// True once in `times`.
    pub(crate) fn hits(&self, times: u64) -> bool {
        self.below(times) == 0
    }

    /// A number of any magnitude, or one of those that arithmetic stumbles over.
    pub(crate) fn any(&self) -> u64 {
        match self.below(6) {
            0 => 0,
            1 => u64::MAX,
            2 => i64::MAX as u64 + self.below(3),
            _ => self.number() >> self.below(64),
        }
    }
}
