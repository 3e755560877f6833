//! A figure: many measurements of one thing.

use core::fmt;
use core::sync::atomic::{AtomicU64, Ordering};

/// Measurements of one figure. A timer interrupt now and then is no trouble for the median.
pub const ROUNDS: usize = 64;
/// Rounds before the first that counts: translations and lazily written state settle.
const WARM_UP: usize = 8;

/// Room for the measurements of one figure, which threads of any address space fill.
pub struct Samples([AtomicU64; WARM_UP + ROUNDS]);

impl Samples {
    /// Empty room.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; WARM_UP + ROUNDS])
    }

    /// The rounds that a measuring thread goes through.
    pub fn rounds() -> core::ops::Range<usize> {
        0..WARM_UP + ROUNDS
    }

    /// Sets what round `round` measured.
    pub fn set(&self, round: usize, ticks: u64) {
        self.0[round].store(ticks, Ordering::Relaxed);
    }

    /// What they say.
    pub fn figure(&self) -> Figure {
        let mut ticks: [u64; ROUNDS] =
            core::array::from_fn(|round| self.0[WARM_UP + round].load(Ordering::Relaxed));
        ticks.sort_unstable();
        Figure {
            median: ticks[ROUNDS / 2],
            least: ticks[0],
            most: ticks[ROUNDS - 1],
        }
    }
}

/// What the measurements of one thing say, in ticks of the counter.
#[derive(Clone, Copy, Debug)]
pub struct Figure {
    median: u64,
    least: u64,
    most: u64,
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}..{})", self.median, self.least, self.most)
    }
}
