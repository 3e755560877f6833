//! The fixed hardware of ACPI: power-management events, sleep control, and the PM timer.
//! Source: ACPI 6.4, section 4.8. The machine is always in ACPI mode: there is no SMI command.

use serde::{Deserialize, Serialize};

use super::Line;
use crate::time::{ClockRatio, Ticks, TimeBase};

/// First port of the block.
pub const BASE_PORT: u16 = 0x600;
/// Ports of the block: events, enables, control, and the timer at [`TIMER_OFFSET`].
pub const PORTS: u16 = 0x10;
/// Offset of the control register.
pub const CONTROL_OFFSET: u16 = 4;
/// Offset of the timer.
pub const TIMER_OFFSET: u16 = 8;
/// SLP_TYP value that means "soft off", as the DSDT's \_S5 says.
pub const SLEEP_TYPE_OFF: u16 = 5;

/// The PM timer's clock.
pub const FREQUENCY_HZ: u64 = 3_579_545;

const STATUS_TIMER: u16 = 1 << 0;
const STATUS_POWER_BUTTON: u16 = 1 << 8;
/// Event bits that exist.
const EVENTS: u16 = STATUS_TIMER | 1 << 5 | STATUS_POWER_BUTTON | 1 << 9 | 1 << 10;
const CONTROL_SCI_ENABLE: u16 = 1 << 0;
const CONTROL_SLEEP: u16 = 1 << 13;

/// What a write asked the machine to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PowerRequest {
    /// Nothing.
    None,
    /// S5.
    Off,
}

/// The block.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AcpiPower {
    ratio: ClockRatio,
    status: u16,
    enable: u16,
    control: u16,
    /// Half periods of the timer (its bit 31 toggles) that were noted.
    seen_halves: u64,
}

impl AcpiPower {
    /// A block that counts in `base`'s time.
    #[must_use]
    pub fn new(base: TimeBase) -> Self {
        Self {
            ratio: base.ratio(FREQUENCY_HZ),
            status: 0,
            enable: 0,
            control: CONTROL_SCI_ENABLE,
            seen_halves: 0,
        }
    }

    /// The PM timer, 32 bits.
    #[must_use]
    #[inline]
    pub fn timer(&self, now: Ticks) -> u32 {
        self.ratio.count(now) as u32
    }

    /// Reads the 16-bit register at `offset` (even, below the timer).
    pub fn read(&mut self, offset: u16, now: Ticks) -> u16 {
        self.advance(now);
        match offset {
            0 => self.status,
            2 => self.enable,
            CONTROL_OFFSET => self.control,
            _ => 0,
        }
    }

    /// Writes the 16-bit register at `offset`.
    pub fn write(&mut self, offset: u16, value: u16, now: Ticks) -> PowerRequest {
        self.advance(now);
        match offset {
            0 => self.status &= !value,
            2 => self.enable = value & EVENTS,
            CONTROL_OFFSET => {
                self.control = value & !CONTROL_SLEEP & 0x1c07 | CONTROL_SCI_ENABLE;
                if value & CONTROL_SLEEP != 0 && value >> 10 & 7 == SLEEP_TYPE_OFF {
                    return PowerRequest::Off;
                }
            }
            _ => {}
        }
        PowerRequest::None
    }

    /// Somebody pressed the power button.
    pub fn press_power_button(&mut self) {
        self.status |= STATUS_POWER_BUTTON;
    }

    /// The system control interrupt.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::asserted_if(|| self.status & self.enable != 0)
    }

    /// Notes a turn of the timer's highest bit.
    pub fn advance(&mut self, now: Ticks) {
        let halves = self.ratio.count(now) >> 31;
        if halves != self.seen_halves {
            self.seen_halves = halves;
            self.status |= STATUS_TIMER;
        }
    }

    /// When [`AcpiPower::advance`] has something to do that somebody wants to know.
    #[must_use]
    pub fn deadline(&self) -> Option<Ticks> {
        (self.enable & STATUS_TIMER != 0).then(|| self.ratio.span((self.seen_halves + 1) << 31))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const KHZ: u64 = 1_000_000;

    fn power() -> AcpiPower {
        AcpiPower::new(TimeBase::new(KHZ).unwrap())
    }

    #[test]
    fn the_timer_runs_at_its_frequency() {
        assert_eq!(power().timer(Ticks(1_000_000_000)), 3_579_545);
    }

    #[test]
    fn the_power_button_raises_the_sci_until_its_status_is_cleared() {
        let mut power = power();
        power.press_power_button();
        assert_eq!(power.line(), Line::Low, "not enabled");
        power.write(2, STATUS_POWER_BUTTON, Ticks(0));
        assert_eq!(power.line(), Line::High);
        power.write(0, STATUS_POWER_BUTTON, Ticks(0));
        assert_eq!(power.line(), Line::Low);
    }

    #[test]
    fn only_sleep_type_five_turns_off() {
        let mut power = power();
        let sleep = |kind: u16| kind << 10 | CONTROL_SLEEP;
        assert_eq!(power.write(4, sleep(1), Ticks(0)), PowerRequest::None);
        assert_eq!(
            power.write(4, SLEEP_TYPE_OFF << 10, Ticks(0)),
            PowerRequest::None
        );
        assert_eq!(power.write(4, sleep(5), Ticks(0)), PowerRequest::Off);
    }

    #[test]
    fn the_machine_is_always_in_acpi_mode() {
        let mut power = power();
        power.write(4, 0, Ticks(0));
        assert_eq!(
            power.read(4, Ticks(0)) & CONTROL_SCI_ENABLE,
            CONTROL_SCI_ENABLE
        );
    }

    #[test]
    fn a_turn_of_the_timer_is_an_event() {
        let mut power = power();
        power.write(2, STATUS_TIMER, Ticks(0));
        let deadline = power.deadline().unwrap();
        assert_eq!(power.read(0, Ticks(deadline.0 - 1)), 0);
        assert_eq!(power.read(0, deadline), STATUS_TIMER);
        assert_eq!(power.line(), Line::High);
        assert!(power.deadline().unwrap() > deadline);
    }

    proptest! {
        #[test]
        fn no_access_panics(steps in proptest::collection::vec((0u16..16, any::<u16>(), any::<u64>()), 0..100)) {
            let mut power = power();
            for (offset, value, now) in steps {
                power.write(offset, value, Ticks(now));
                power.read(offset, Ticks(now));
                let _ = (power.line(), power.deadline(), power.timer(Ticks(now)));
            }
        }
    }
}
