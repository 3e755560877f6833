//! Time as the virtual machine sees it.
//!
//! The unit of everything here is the TSC tick, because that is what the kernel's timers and the
//! guest's own clock count in. Machine time starts at zero when the VM is created; whoever runs
//! the machine adds the host's origin. Devices with their own crystal convert through
//! [`ClockRatio`], so no device keeps a second notion of "now".

use serde::{Deserialize, Serialize};

/// A moment or a span of machine time, in TSC ticks since the VM was created.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Ticks(pub u64);

impl Ticks {
    /// The later moment, or the end of time.
    #[must_use]
    pub fn after(self, span: Ticks) -> Ticks {
        Ticks(self.0.saturating_add(span.0))
    }

    /// The span since `earlier`, or zero if that lies ahead.
    #[must_use]
    pub fn since(self, earlier: Ticks) -> Ticks {
        Ticks(self.0.saturating_sub(earlier.0))
    }
}

/// The earlier of two optional deadlines.
#[must_use]
pub fn earliest(left: Option<Ticks>, right: Option<Ticks>) -> Option<Ticks> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (deadline, None) | (None, deadline) => deadline,
    }
}

/// Below this the conversions to the fastest device clock (the LAPIC's 24 MHz) would lose
/// precision; no 64-bit CPU is that slow.
pub const MINIMUM_TSC_KHZ: u64 = 50_000;
/// 100 GHz: keeps `kHz × 1000` and every product below far from overflow.
pub const MAXIMUM_TSC_KHZ: u64 = 100_000_000;

/// The TSC frequency is not one that a machine can be built on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImplausibleFrequency;

/// How long a tick is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimeBase {
    tsc_khz: u64,
}

impl TimeBase {
    /// A time base for a TSC of `tsc_khz` kHz.
    ///
    /// # Errors
    /// [`ImplausibleFrequency`] outside [`MINIMUM_TSC_KHZ`]..=[`MAXIMUM_TSC_KHZ`].
    pub fn new(tsc_khz: u64) -> Result<Self, ImplausibleFrequency> {
        if (MINIMUM_TSC_KHZ..=MAXIMUM_TSC_KHZ).contains(&tsc_khz) {
            Ok(Self { tsc_khz })
        } else {
            Err(ImplausibleFrequency)
        }
    }

    /// TSC frequency in kHz.
    #[must_use]
    pub fn tsc_khz(self) -> u64 {
        self.tsc_khz
    }

    /// `ns` nanoseconds in ticks, rounded down.
    #[must_use]
    pub fn ticks_from_ns(self, ns: u64) -> Ticks {
        let ticks = u128::from(ns) * u128::from(self.tsc_khz) / 1_000_000;
        Ticks(u64::try_from(ticks).unwrap_or(u64::MAX))
    }

    /// `ticks` in nanoseconds, rounded down.
    #[must_use]
    pub fn ns_from_ticks(self, ticks: Ticks) -> u64 {
        let ns = u128::from(ticks.0) * 1_000_000 / u128::from(self.tsc_khz);
        u64::try_from(ns).unwrap_or(u64::MAX)
    }

    /// Converter to a device clock of `frequency_hz`, which must be below the TSC's.
    #[must_use]
    pub fn ratio(self, frequency_hz: u64) -> ClockRatio {
        let tsc_hz = u128::from(self.tsc_khz) * 1000;
        // Rounded up, so that converting a count's own start never lands one below it.
        let scaled = ((u128::from(frequency_hz) << 64).div_ceil(tsc_hz)).min(u128::from(u64::MAX));
        ClockRatio {
            multiplier: scaled as u64,
        }
    }
}

/// Device clock ticks per TSC tick, as a 0.64 fixed-point number.
///
/// One multiplication converts, so that a polled counter (the PM timer) costs no division.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockRatio {
    multiplier: u64,
}

impl ClockRatio {
    /// How many device ticks have passed after `span`.
    #[must_use]
    pub fn count(self, span: Ticks) -> u64 {
        ((u128::from(span.0) * u128::from(self.multiplier)) >> 64) as u64
    }

    /// The shortest span after which `count` device ticks have passed.
    #[must_use]
    pub fn span(self, count: u64) -> Ticks {
        let span = (u128::from(count) << 64).div_ceil(u128::from(self.multiplier.max(1)));
        Ticks(u64::try_from(span).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn implausible_frequencies_are_refused() {
        assert_eq!(TimeBase::new(0), Err(ImplausibleFrequency));
        assert_eq!(TimeBase::new(u64::MAX), Err(ImplausibleFrequency));
        assert!(TimeBase::new(1_000_000).is_ok());
    }

    #[test]
    fn one_second_is_one_second_in_every_clock() {
        let base = TimeBase::new(2_400_000).unwrap();
        let second = base.ticks_from_ns(1_000_000_000);
        assert_eq!(second, Ticks(2_400_000_000));
        assert_eq!(base.ns_from_ticks(second), 1_000_000_000);
        assert_eq!(base.ratio(3_579_545).count(second), 3_579_545);
    }

    proptest! {
        #[test]
        fn a_span_reaches_its_count_and_one_tick_less_does_not(
            khz in MINIMUM_TSC_KHZ..10_000_000u64, frequency in 1000u64..24_000_001, count in 1u64..1 << 36,
        ) {
            let ratio = TimeBase::new(khz).unwrap().ratio(frequency);
            let span = ratio.span(count);
            prop_assert_eq!(ratio.count(span), count);
            prop_assert!(ratio.count(Ticks(span.0 - 1)) < count);
        }
    }
}
