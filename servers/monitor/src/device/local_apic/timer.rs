//! The local APIC's timer: one-shot, periodic, and TSC deadline.
//!
//! As with the PIT nothing counts: the moment of the start is kept, the rest is computed.

use serde::{Deserialize, Serialize};

use crate::time::{ClockRatio, Ticks, TimeBase};

/// The timer's input clock, which CPUID leaf 0x15 calls the crystal.
pub const FREQUENCY_HZ: u64 = 24_000_000;

/// A periodic timer fires no more often than this, whatever the guest asks for. KVM's bound is
/// 200 µs; a kernel that ticks faster than 20 kHz has another problem.
const MINIMUM_PERIOD_NS: u64 = 50_000;

/// What the timer's local vector table entry chooses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum TimerMode {
    /// Fires once when the count ends.
    OneShot,
    /// Fires whenever the count ends.
    Periodic,
    /// Fires when the TSC reaches a value.
    TscDeadline,
}

impl TimerMode {
    /// From bits 17 and 18 of the entry. The reserved encoding counts as one-shot.
    #[must_use]
    pub fn from_entry(entry: u32) -> Self {
        match entry >> 17 & 3 {
            1 => TimerMode::Periodic,
            2 => TimerMode::TscDeadline,
            _ => TimerMode::OneShot,
        }
    }
}

/// The timer.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ApicTimer {
    ratio: ClockRatio,
    minimum_period: Ticks,
    mode: TimerMode,
    initial: u32,
    divide: u8,
    started: Ticks,
    deadline: Option<Ticks>,
    /// What the guest wrote to TSC_DEADLINE, while it is armed.
    tsc_deadline: u64,
}

impl ApicTimer {
    /// A stopped timer.
    #[must_use]
    pub fn new(base: TimeBase) -> Self {
        Self {
            ratio: base.ratio(FREQUENCY_HZ),
            minimum_period: base.ticks_from_ns(MINIMUM_PERIOD_NS),
            mode: TimerMode::OneShot,
            initial: 0,
            divide: 0,
            started: Ticks(0),
            deadline: None,
            tsc_deadline: 0,
        }
    }

    /// When it fires next.
    #[must_use]
    pub fn deadline(&self) -> Option<Ticks> {
        self.deadline
    }

    /// Whether it has fired by `now`. Periods that were missed count once.
    pub fn advance(&mut self, now: Ticks) -> bool {
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return false;
        }
        self.deadline = None;
        self.tsc_deadline = 0;
        if self.mode == TimerMode::Periodic {
            self.schedule(now);
        }
        true
    }

    /// Stops it for good, as INIT does.
    pub fn stop(&mut self) {
        self.initial = 0;
        self.divide = 0;
        self.deadline = None;
        self.tsc_deadline = 0;
        self.mode = TimerMode::OneShot;
    }

    /// Takes the mode from a new local vector table entry.
    pub fn set_mode(&mut self, mode: TimerMode, now: Ticks) {
        if mode == self.mode {
            return;
        }
        let crosses = mode == TimerMode::TscDeadline || self.mode == TimerMode::TscDeadline;
        self.mode = mode;
        if crosses {
            self.deadline = None;
            self.tsc_deadline = 0;
            self.initial = 0;
        } else {
            self.schedule(now);
        }
    }

    /// Writes the initial count register, which starts the timer.
    pub fn set_initial(&mut self, count: u32, now: Ticks) {
        if self.mode == TimerMode::TscDeadline {
            return;
        }
        self.initial = count;
        self.started = now;
        self.schedule(now);
    }

    /// The initial count register.
    #[must_use]
    pub fn initial(&self) -> u32 {
        self.initial
    }

    /// The current count register.
    #[must_use]
    pub fn current(&self, now: Ticks) -> u32 {
        let initial = u64::from(self.initial);
        if initial == 0 || self.mode == TimerMode::TscDeadline {
            return 0;
        }
        let passed = self.passed(now);
        match self.mode {
            TimerMode::Periodic => (initial - passed % initial) as u32,
            _ => initial.saturating_sub(passed) as u32,
        }
    }

    /// The divide configuration register.
    #[must_use]
    pub fn divide(&self) -> u8 {
        self.divide
    }

    /// Writes the divide configuration register. A running count goes on from where it is.
    pub fn set_divide(&mut self, value: u8, now: Ticks) {
        let current = self.current(now);
        self.divide = value & 0b1011;
        if self.deadline.is_some() && self.mode != TimerMode::TscDeadline {
            let passed = u64::from(self.initial - current.min(self.initial));
            let span = self.ratio.span(passed << self.divide_shift());
            self.started = Ticks(now.0.saturating_sub(span.0));
            self.schedule(now);
        }
    }

    /// The TSC_DEADLINE register.
    #[must_use]
    pub fn tsc_deadline(&self) -> u64 {
        self.tsc_deadline
    }

    /// Writes TSC_DEADLINE: `value` as the guest wrote it, `deadline` the same in machine time.
    pub fn set_tsc_deadline(&mut self, value: u64, deadline: Ticks) {
        if self.mode != TimerMode::TscDeadline {
            return;
        }
        self.tsc_deadline = value;
        self.deadline = (value != 0).then_some(deadline);
    }

    /// Divider as a power of two: bits 0, 1 and 3 encode 2, 4, … 128, 1.
    fn divide_shift(&self) -> u32 {
        let code = u32::from(self.divide & 3) | u32::from(self.divide >> 3 & 1) << 2;
        (code + 1) & 7
    }

    /// Counts since the start.
    fn passed(&self, now: Ticks) -> u64 {
        self.ratio.count(now.since(self.started)) >> self.divide_shift()
    }

    fn schedule(&mut self, now: Ticks) {
        let initial = u64::from(self.initial);
        if initial == 0 {
            self.deadline = None;
            return;
        }
        let periods = match self.mode {
            TimerMode::Periodic => self.passed(now) / initial + 1,
            _ => 1,
        };
        let counts = periods.saturating_mul(initial).min(u64::MAX >> 8);
        let end = self
            .started
            .after(self.ratio.span(counts << self.divide_shift()));
        self.deadline = Some(match self.mode {
            TimerMode::Periodic => end.max(now.after(self.minimum_period)),
            _ => end,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// 1000 ticks are one count with divider 1.
    const KHZ: u64 = 24_000_000;
    /// Divide by one.
    const BY_ONE: u8 = 0b1011;

    fn timer(mode: TimerMode) -> ApicTimer {
        let mut timer = ApicTimer::new(TimeBase::new(KHZ).unwrap());
        timer.set_mode(mode, Ticks(0));
        timer.set_divide(BY_ONE, Ticks(0));
        timer
    }

    fn at(counts: u64) -> Ticks {
        Ticks(counts * 1000 + 1)
    }

    #[test]
    fn one_shot_counts_down_and_fires_once() {
        let mut timer = timer(TimerMode::OneShot);
        timer.set_initial(10_000, Ticks(0));
        assert_eq!(timer.current(at(4000)), 6000);
        assert!(!timer.advance(at(9999)));
        assert!(timer.advance(at(10_000)));
        assert_eq!(timer.current(at(10_001)), 0);
        assert_eq!(timer.deadline(), None);
    }

    #[test]
    fn periodic_keeps_its_phase() {
        let mut timer = timer(TimerMode::Periodic);
        timer.set_initial(10_000, Ticks(0));
        assert!(timer.advance(at(10_500)), "served late");
        let next = timer.deadline().unwrap();
        assert!(next >= Ticks(20_000_000) && next <= at(20_000), "{next:?}");
        assert_eq!(timer.current(at(10_500)), 9500);
    }

    #[test]
    fn a_tiny_period_is_not_a_storm() {
        let mut timer = timer(TimerMode::Periodic);
        timer.set_initial(1, Ticks(0));
        timer.advance(at(5));
        assert!(timer.deadline().unwrap() >= Ticks(50 * 24_000));
    }

    #[test]
    fn the_divider_slows_the_count() {
        let mut timer = timer(TimerMode::OneShot);
        timer.set_divide(0b0011, Ticks(0));
        timer.set_initial(1000, Ticks(0));
        assert_eq!(timer.current(at(1600)), 900);
        timer.set_divide(BY_ONE, at(1600));
        assert!((899..=900).contains(&timer.current(at(1600))));
    }

    #[test]
    fn the_tsc_deadline_replaces_the_count() {
        let mut timer = timer(TimerMode::TscDeadline);
        timer.set_initial(5, Ticks(0));
        assert_eq!(timer.deadline(), None);
        timer.set_tsc_deadline(777, Ticks(500));
        assert_eq!(timer.tsc_deadline(), 777);
        assert!(timer.advance(Ticks(500)));
        assert_eq!(timer.tsc_deadline(), 0);
        timer.set_tsc_deadline(777, Ticks(500));
        timer.set_tsc_deadline(0, Ticks(0));
        assert_eq!(timer.deadline(), None);
    }

    proptest! {
        #[test]
        fn no_sequence_panics(
            steps in proptest::collection::vec((0u8..5, any::<u32>(), 0u64..1 << 60), 0..100),
        ) {
            let mut timer = timer(TimerMode::OneShot);
            let mut now = Ticks(0);
            for (kind, value, pause) in steps {
                now = now.after(Ticks(pause));
                match kind {
                    0 => timer.set_initial(value, now),
                    1 => timer.set_divide(value as u8, now),
                    2 => timer.set_mode(TimerMode::from_entry(value), now),
                    3 => timer.set_tsc_deadline(pause, Ticks(pause)),
                    _ => { timer.advance(now); }
                }
                prop_assert!(timer.current(now) <= timer.initial());
            }
        }
    }
}
