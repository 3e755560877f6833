//! The MC146818 real-time clock and its CMOS memory. Source: Motorola MC146818A data sheet.
//!
//! The clock keeps no seconds: it holds the machine time at which the calendar had a certain
//! value, and computes the rest. The host's wall clock comes in once, when the VM is created.

use serde::{Deserialize, Serialize};

use super::Line;
use crate::time::{Ticks, TimeBase, earliest};
use calendar::DateTime;

mod calendar;

/// Bytes of CMOS memory, registers included.
const CMOS_BYTES: usize = 128;
/// Index of the century byte, as the FADT tells.
pub const CENTURY: u8 = 0x32;

const REGISTER_A: u8 = 10;
const REGISTER_B: u8 = 11;
const REGISTER_C: u8 = 12;
const REGISTER_D: u8 = 13;

const B_24_HOURS: u8 = 1 << 1;
const B_BINARY: u8 = 1 << 2;
const B_UPDATE_INTERRUPT: u8 = 1 << 4;
const B_ALARM_INTERRUPT: u8 = 1 << 5;
const B_PERIODIC_INTERRUPT: u8 = 1 << 6;
const B_SET: u8 = 1 << 7;

const C_UPDATE: u8 = 1 << 4;
const C_ALARM: u8 = 1 << 5;
const C_PERIODIC: u8 = 1 << 6;
const C_REQUEST: u8 = 1 << 7;

/// The end of the year 9999, beyond which two century digits do not reach.
const LATEST_SECONDS: i64 = 253_402_300_799;
/// The update-in-progress bit is up for this long before each second.
const UPDATE_NS: u64 = 244_000;
/// A host that slept longer than this finds its alarms in the past.
const MAXIMUM_MISSED_SECONDS: u64 = 60;
/// The chip can interrupt every 122 µs, which is also the shortest we give.
const FASTEST_PERIODIC_HZ: u64 = 8192;

/// The clock.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RealTimeClock {
    base: TimeBase,
    /// Seconds since 1970 at machine time zero; moves when the guest sets the clock.
    epoch_seconds: i64,
    index: u8,
    memory: [[u8; 32]; CMOS_BYTES / 32],
    flags: u8,
    /// Whole seconds of machine time that were looked at for updates and alarms.
    seen_seconds: u64,
    next_periodic: Option<Ticks>,
    /// The calendar while the guest sets it.
    editing: Option<DateTime>,
}

impl RealTimeClock {
    /// A clock that shows `epoch_seconds` (since 1970, UTC) at machine time zero.
    #[must_use]
    pub fn new(base: TimeBase, epoch_seconds: i64) -> Self {
        let mut clock = Self {
            base,
            epoch_seconds: epoch_seconds.clamp(0, LATEST_SECONDS),
            index: 0,
            memory: [[0; 32]; CMOS_BYTES / 32],
            flags: 0,
            seen_seconds: 0,
            next_periodic: None,
            editing: None,
        };
        clock.set_memory(REGISTER_A, 0x26);
        clock.set_memory(REGISTER_B, B_24_HOURS);
        clock
    }

    /// Sets a byte of CMOS memory, as firmware does for the operating system.
    pub fn set_memory(&mut self, index: u8, value: u8) {
        self.memory[usize::from(index / 32) % 4][usize::from(index % 32)] = value;
    }

    fn memory(&self, index: u8) -> u8 {
        self.memory[usize::from(index / 32) % 4][usize::from(index % 32)]
    }

    /// Writes port 0x70. Bit 7, the NMI mask, has no meaning here.
    pub fn select(&mut self, value: u8) {
        self.index = value & 0x7f;
    }

    /// Reads port 0x71.
    pub fn read(&mut self, now: Ticks) -> u8 {
        self.advance(now);
        match self.index {
            0 | 2 | 4 | 6..=9 | CENTURY => self.read_calendar(now),
            REGISTER_A => {
                let busy = if self.update_in_progress(now) {
                    0x80
                } else {
                    0
                };
                self.memory(REGISTER_A) | busy
            }
            REGISTER_C => {
                let flags = core::mem::take(&mut self.flags);
                flags | self.request_bit(flags)
            }
            // The battery is good.
            REGISTER_D => 0x80,
            index => self.memory(index),
        }
    }

    /// Writes port 0x71.
    pub fn write(&mut self, value: u8, now: Ticks) {
        self.advance(now);
        match self.index {
            0 | 2 | 4 | 6..=9 | CENTURY => self.write_calendar(value, now),
            REGISTER_A => {
                self.set_memory(REGISTER_A, value & 0x7f);
                self.schedule_periodic(now);
            }
            REGISTER_B => self.write_register_b(value, now),
            REGISTER_C | REGISTER_D => {}
            index => self.set_memory(index, value),
        }
    }

    /// The interrupt line (IRQ 8).
    #[must_use]
    pub fn line(&self) -> Line {
        Line::asserted_if(|| self.request_bit(self.flags) != 0)
    }

    /// When [`RealTimeClock::advance`] has something to do next.
    #[must_use]
    pub fn deadline(&self, now: Ticks) -> Option<Ticks> {
        let wants_seconds = self.memory(REGISTER_B) & (B_UPDATE_INTERRUPT | B_ALARM_INTERRUPT) != 0;
        let next_second = wants_seconds.then(|| {
            let seconds = self.seconds(now) + 1;
            self.base
                .ticks_from_ns(seconds.saturating_mul(1_000_000_000))
                .after(Ticks(1))
        });
        earliest(next_second, self.next_periodic)
    }

    /// Notes what has happened until `now`.
    pub fn advance(&mut self, now: Ticks) {
        if self.next_periodic.is_some_and(|deadline| deadline <= now) {
            self.flags |= C_PERIODIC;
            self.schedule_periodic(now);
        }
        let seconds = self.seconds(now);
        let missed = seconds
            .saturating_sub(self.seen_seconds)
            .min(MAXIMUM_MISSED_SECONDS);
        self.seen_seconds = seconds;
        if missed == 0 || self.memory(REGISTER_B) & B_SET != 0 {
            return;
        }
        self.flags |= C_UPDATE;
        let newest = self.calendar_seconds(now);
        if (0..missed as i64).any(|back| self.alarm_matches(newest.saturating_sub(back))) {
            self.flags |= C_ALARM;
        }
    }

    fn seconds(&self, now: Ticks) -> u64 {
        self.base.ns_from_ticks(now) / 1_000_000_000
    }

    fn calendar_seconds(&self, now: Ticks) -> i64 {
        self.epoch_seconds.saturating_add(self.seconds(now) as i64)
    }

    fn update_in_progress(&self, now: Ticks) -> bool {
        let into_second = self.base.ns_from_ticks(now) % 1_000_000_000;
        self.memory(REGISTER_B) & B_SET == 0 && into_second >= 1_000_000_000 - UPDATE_NS
    }

    fn request_bit(&self, flags: u8) -> u8 {
        let enabled = B_UPDATE_INTERRUPT | B_ALARM_INTERRUPT | B_PERIODIC_INTERRUPT;
        if flags & self.memory(REGISTER_B) & enabled != 0 {
            C_REQUEST
        } else {
            0
        }
    }

    fn schedule_periodic(&mut self, now: Ticks) {
        let enabled = self.memory(REGISTER_B) & B_PERIODIC_INTERRUPT != 0;
        self.next_periodic = match self.memory(REGISTER_A) & 0xf {
            0 => None,
            _ if !enabled => None,
            rate => {
                // Rates 1 and 2 repeat 8 and 9.
                let rate = if rate < 3 { rate + 7 } else { rate };
                let frequency = (32768 >> (rate - 1)).min(FASTEST_PERIODIC_HZ);
                Some(now.after(self.base.ticks_from_ns(1_000_000_000 / frequency)))
            }
        };
    }

    fn write_register_b(&mut self, value: u8, now: Ticks) {
        let old = self.memory(REGISTER_B);
        if value & B_SET != 0 && old & B_SET == 0 {
            self.editing = Some(DateTime::from_seconds(self.calendar_seconds(now)));
        }
        self.set_memory(REGISTER_B, value);
        if value & B_SET == 0
            && let Some(edited) = self.editing.take()
        {
            self.set_calendar(edited, now);
        }
        if (old ^ value) & B_PERIODIC_INTERRUPT != 0 {
            self.schedule_periodic(now);
        }
    }

    fn set_calendar(&mut self, calendar: DateTime, now: Ticks) {
        self.epoch_seconds = calendar
            .to_seconds()
            .saturating_sub(self.seconds(now) as i64);
    }

    fn read_calendar(&self, now: Ticks) -> u8 {
        let calendar = self
            .editing
            .unwrap_or_else(|| DateTime::from_seconds(self.calendar_seconds(now)));
        self.encode_field(self.index, calendar.field(self.index))
    }

    fn write_calendar(&mut self, value: u8, now: Ticks) {
        let decoded = self.decode_field(self.index, value);
        let index = self.index;
        match &mut self.editing {
            Some(editing) => editing.set_field(index, decoded),
            None => {
                let mut calendar = DateTime::from_seconds(self.calendar_seconds(now));
                calendar.set_field(index, decoded);
                self.set_calendar(calendar, now);
            }
        }
    }

    /// A binary value as the format bits of register B want it.
    fn encode_field(&self, index: u8, value: u8) -> u8 {
        let format = self.memory(REGISTER_B);
        let mut value = value;
        let mut afternoon = 0;
        if index == 4 && format & B_24_HOURS == 0 {
            afternoon = if value >= 12 { 0x80 } else { 0 };
            value = match value % 12 {
                0 => 12,
                hour => hour,
            };
        }
        if format & B_BINARY == 0 {
            value = ((value / 10) << 4) | (value % 10);
        }
        value | afternoon
    }

    fn decode_field(&self, index: u8, value: u8) -> u8 {
        let format = self.memory(REGISTER_B);
        let twelve_hours = index == 4 && format & B_24_HOURS == 0;
        let digits = if twelve_hours { value & 0x7f } else { value };
        let mut decoded = if format & B_BINARY == 0 {
            (digits >> 4)
                .saturating_mul(10)
                .saturating_add(digits & 0xf)
        } else {
            digits
        };
        if twelve_hours {
            decoded = decoded % 12 + if value & 0x80 != 0 { 12 } else { 0 };
        }
        decoded
    }

    /// Alarm bytes with both top bits set match anything.
    fn alarm_matches(&self, seconds: i64) -> bool {
        let calendar = DateTime::from_seconds(seconds);
        [(1, 0), (3, 2), (5, 4)].iter().all(|&(alarm, field)| {
            let wanted = self.memory(alarm);
            wanted & 0xc0 == 0xc0 || wanted == self.encode_field(field, calendar.field(field))
        })
    }
}

#[cfg(test)]
mod tests;
