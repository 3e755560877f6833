//! Time since root started, out of the time-stamp counter.

/// Microseconds and ticks, in both directions.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    began: u64,
    ticks_per_ms: u64,
}

impl Clock {
    /// Time began at the counter's value `began`; it makes `ticks_per_ms` ticks a millisecond.
    #[must_use]
    pub const fn new(began: u64, ticks_per_ms: u64) -> Self {
        // A machine that does not say how fast it counts would divide by zero.
        let ticks_per_ms = if ticks_per_ms == 0 { 1 } else { ticks_per_ms };
        Self {
            began,
            ticks_per_ms,
        }
    }

    /// Microseconds at the counter's value `stamp`.
    #[must_use]
    pub const fn microseconds(self, stamp: u64) -> u64 {
        let ticks = stamp.saturating_sub(self.began) as u128;
        (ticks * 1000 / self.ticks_per_ms as u128) as u64
    }

    /// The counter's value at `microseconds`, not before.
    #[must_use]
    pub const fn stamp(self, microseconds: u64) -> u64 {
        let ticks = (microseconds as u128 * self.ticks_per_ms as u128).div_ceil(1000);
        self.began.saturating_add(ticks as u64)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_deadline_is_not_early(began in 0u64..1 << 50, us in 0u64..1 << 40, khz in 1u64..10_000_000) {
            let clock = Clock::new(began, khz);
            prop_assert!(clock.microseconds(clock.stamp(us)) >= us);
        }
    }

    #[test]
    fn an_unknown_speed_and_a_stamp_before_the_beginning_do_no_harm() {
        assert_eq!(Clock::new(100, 0).microseconds(50), 0);
        assert_eq!(
            Clock::new(100, 2_000_000).microseconds(100 + 2_000_000),
            1000
        );
    }
}
