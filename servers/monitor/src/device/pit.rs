//! The 8254 interval timer with its three channels, and port 0x61, which gates the third.
//! Source: Intel 82C54 data sheet.
//!
//! Nothing counts here: a channel remembers when it was started, and every count, output and
//! deadline is computed from that.

use serde::{Deserialize, Serialize};

use super::Line;
use crate::time::{ClockRatio, Ticks, TimeBase};

/// Input clock.
pub const FREQUENCY_HZ: u64 = 1_193_182;

/// A guest may ask for an interrupt every 0.8 µs; it gets them no more often than this.
const MINIMUM_INTERVAL_NS: u64 = 100_000;

/// Half a period of the memory refresh signal that port 0x61 shows: a real one takes 15 µs.
const REFRESH_TOGGLE_COUNTS: u64 = 18;

/// Which bytes of a count an access moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Access {
    Low,
    High,
    LowThenHigh,
}

/// One channel.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Channel {
    mode: u8,
    access: Access,
    bcd: bool,
    /// 1..=0x10000; `None` until a count was written.
    reload: Option<u32>,
    /// When the current count began.
    start: Ticks,
    gate: bool,
    /// Clocks that had passed when the gate closed.
    paused_at: Option<u64>,
    write_low: Option<u8>,
    read_high_next: bool,
    latched: Option<u16>,
    latched_status: Option<u8>,
}

impl Channel {
    fn new(gate: bool) -> Self {
        Self {
            mode: 3,
            access: Access::LowThenHigh,
            bcd: false,
            reload: None,
            start: Ticks(0),
            gate,
            paused_at: None,
            write_low: None,
            read_high_next: false,
            latched: None,
            latched_status: None,
        }
    }

    fn elapsed(&self, ratio: ClockRatio, now: Ticks) -> u64 {
        self.paused_at
            .unwrap_or_else(|| ratio.count(now.since(self.start)))
    }

    fn is_periodic(&self) -> bool {
        matches!(self.mode, 2 | 3)
    }

    /// The counting element.
    fn count(&self, ratio: ClockRatio, now: Ticks) -> u16 {
        let Some(reload) = self.reload.map(u64::from) else {
            return 0;
        };
        let elapsed = self.elapsed(ratio, now);
        let modulus = if self.bcd { 10_000 } else { 0x1_0000 };
        let count = match self.mode {
            2 => reload - elapsed % reload,
            3 => {
                let doubled = elapsed % reload * 2;
                (reload - doubled % reload) & !1
            }
            _ => (reload + modulus - elapsed % modulus) % modulus,
        };
        let count = (count % modulus) as u16;
        if self.bcd { to_bcd(count) } else { count }
    }

    fn output(&self, ratio: ClockRatio, now: Ticks) -> Line {
        let Some(reload) = self.reload.map(u64::from) else {
            // After a control word: low in mode 0, high in the others.
            return Line::asserted_if(|| self.mode != 0);
        };
        let elapsed = self.elapsed(ratio, now);
        Line::asserted_if(|| match self.mode {
            0 | 1 => elapsed >= reload,
            2 => elapsed % reload != reload - 1,
            3 => elapsed % reload < reload.div_ceil(2),
            _ => elapsed != reload,
        })
    }

    /// The first moment after `after` at which the output rises.
    fn next_rise(&self, ratio: ClockRatio, after: Ticks) -> Option<Ticks> {
        let reload = u64::from(self.reload?);
        if self.paused_at.is_some() {
            return None;
        }
        let elapsed = ratio.count(after.since(self.start));
        let count = match self.mode {
            2 | 3 => (elapsed / reload + 1).checked_mul(reload)?,
            0 | 1 if elapsed < reload => reload,
            4 | 5 if elapsed <= reload => reload + 1,
            _ => return None,
        };
        Some(self.start.after(ratio.span(count)))
    }

    fn set_mode(&mut self, control: u8, now: Ticks) {
        self.access = match control >> 4 & 3 {
            1 => Access::Low,
            2 => Access::High,
            _ => Access::LowThenHigh,
        };
        self.mode = match control >> 1 & 7 {
            mode @ 0..=5 => mode,
            mode => mode - 4,
        };
        self.bcd = control & 1 != 0;
        self.reload = None;
        self.start = now;
        self.paused_at = None;
        self.write_low = None;
        self.read_high_next = false;
        self.latched = None;
        self.latched_status = None;
    }

    fn write(&mut self, value: u8, now: Ticks) {
        let raw = match self.access {
            Access::Low => u16::from(value),
            Access::High => u16::from(value) << 8,
            Access::LowThenHigh => match self.write_low.take() {
                None => {
                    self.write_low = Some(value);
                    return;
                }
                Some(low) => u16::from_le_bytes([low, value]),
            },
        };
        let count = if self.bcd {
            from_bcd(raw)
        } else {
            u32::from(raw)
        };
        let zero_means = if self.bcd { 10_000 } else { 0x1_0000 };
        let reload = if count == 0 { zero_means } else { count };
        // In the periodic modes a new count takes effect with the next period; starting it now
        // differs only within one period.
        let waits_for_gate = matches!(self.mode, 1 | 5);
        self.reload = Some(if self.is_periodic() {
            reload.max(2)
        } else {
            reload
        });
        self.start = now;
        self.paused_at = (!self.gate || waits_for_gate).then_some(0);
    }

    fn latch_count(&mut self, ratio: ClockRatio, now: Ticks) {
        if self.latched.is_none() {
            self.latched = Some(self.count(ratio, now));
        }
    }

    fn latch_status(&mut self, ratio: ClockRatio, now: Ticks) {
        let access = match self.access {
            Access::Low => 0x10,
            Access::High => 0x20,
            Access::LowThenHigh => 0x30,
        };
        let mut status = access | self.mode << 1 | u8::from(self.bcd);
        if self.output(ratio, now).is_high() {
            status |= 0x80;
        }
        if self.reload.is_none() {
            status |= 0x40;
        }
        self.latched_status.get_or_insert(status);
    }

    fn read(&mut self, ratio: ClockRatio, now: Ticks) -> u8 {
        if let Some(status) = self.latched_status.take() {
            return status;
        }
        let value = self.latched.unwrap_or_else(|| self.count(ratio, now));
        let [low, high] = value.to_le_bytes();
        let (byte, is_last) = match self.access {
            Access::Low => (low, true),
            Access::High => (high, true),
            Access::LowThenHigh => {
                self.read_high_next = !self.read_high_next;
                if self.read_high_next {
                    (low, false)
                } else {
                    (high, true)
                }
            }
        };
        if is_last {
            self.latched = None;
        }
        byte
    }

    fn set_gate(&mut self, open: bool, ratio: ClockRatio, now: Ticks) {
        if open == self.gate {
            return;
        }
        self.gate = open;
        let retriggers = !matches!(self.mode, 0 | 4);
        match (open, retriggers) {
            // A rising gate starts these modes from the top.
            (true, true) => {
                self.start = now;
                self.paused_at = None;
            }
            (true, false) => {
                if let Some(passed) = self.paused_at.take() {
                    self.start = Ticks(now.0.saturating_sub(ratio.span(passed).0));
                }
            }
            (false, _) if matches!(self.mode, 1 | 5) => {}
            (false, _) => self.paused_at = Some(self.elapsed(ratio, now)),
        }
    }
}

fn to_bcd(value: u16) -> u16 {
    let digit = |unit: u16| value / unit % 10;
    (digit(1000) << 12) | (digit(100) << 8) | (digit(10) << 4) | digit(1)
}

fn from_bcd(value: u16) -> u32 {
    (0..4).rev().fold(0, |sum, digit| {
        sum * 10 + u32::from(value >> (digit * 4) & 0xf).min(9)
    })
}

/// The timer and the system control port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Pit {
    channels: [Channel; 3],
    ratio: ClockRatio,
    minimum_interval: Ticks,
    /// When channel 0 raises its line next.
    next_rise: Option<Ticks>,
    /// Bits 1..3 of port 0x61, which only remember.
    control: u8,
}

impl Pit {
    /// A timer that counts in `base`'s time.
    #[must_use]
    pub fn new(base: TimeBase) -> Self {
        Self {
            channels: [Channel::new(true), Channel::new(true), Channel::new(false)],
            ratio: base.ratio(FREQUENCY_HZ),
            minimum_interval: base.ticks_from_ns(MINIMUM_INTERVAL_NS),
            next_rise: None,
            control: 0,
        }
    }

    /// Reads channel `index` (0..2).
    pub fn read_channel(&mut self, index: usize, now: Ticks) -> u8 {
        match self.channels.get_mut(index) {
            Some(channel) => channel.read(self.ratio, now),
            None => 0xff,
        }
    }

    /// Writes channel `index` (0..2).
    pub fn write_channel(&mut self, index: usize, value: u8, now: Ticks) {
        if let Some(channel) = self.channels.get_mut(index) {
            channel.write(value, now);
        }
        // Only channel 0 interrupts, and a rise that is due must not be lost by the others.
        if index == 0 {
            self.schedule(now);
        }
    }

    /// Writes the control word register.
    pub fn write_control(&mut self, value: u8, now: Ticks) {
        let ratio = self.ratio;
        let selected = usize::from(value >> 6);
        if let Some(channel) = self.channels.get_mut(selected) {
            if value & 0x30 == 0 {
                channel.latch_count(ratio, now);
            } else {
                channel.set_mode(value, now);
                if selected == 0 {
                    self.schedule(now);
                }
            }
        } else {
            // Read-back command: bits 1..3 choose channels, zero bits 4 and 5 what is latched.
            for (index, channel) in self.channels.iter_mut().enumerate() {
                if value & 2 << index == 0 {
                    continue;
                }
                if value & 0x20 == 0 {
                    channel.latch_count(ratio, now);
                }
                if value & 0x10 == 0 {
                    channel.latch_status(ratio, now);
                }
            }
        }
    }

    /// Reads port 0x61.
    #[must_use]
    pub fn read_system_control(&self, now: Ticks) -> u8 {
        let refresh = (self.ratio.count(now) / REFRESH_TOGGLE_COUNTS) & 1;
        let mut value = self.control | (refresh as u8) << 4;
        if self.channels[2].gate {
            value |= 0x01;
        }
        if self.channels[2].output(self.ratio, now).is_high() {
            value |= 0x20;
        }
        value
    }

    /// Writes port 0x61: bit 0 is the gate of channel 2.
    pub fn write_system_control(&mut self, value: u8, now: Ticks) {
        self.control = value & 0x0e;
        self.channels[2].set_gate(value & 1 != 0, self.ratio, now);
    }

    /// When [`Pit::advance`] has something to do next.
    #[must_use]
    pub fn deadline(&self) -> Option<Ticks> {
        self.next_rise
    }

    /// Whether channel 0's line has risen by `now`. Rises that were missed count once.
    pub fn advance(&mut self, now: Ticks) -> bool {
        match self.next_rise {
            Some(rise) if rise <= now => {
                self.schedule(now);
                true
            }
            _ => false,
        }
    }

    /// The level of channel 0's line.
    #[must_use]
    pub fn line(&self, now: Ticks) -> Line {
        self.channels[0].output(self.ratio, now)
    }

    fn schedule(&mut self, now: Ticks) {
        let rise = self.channels[0].next_rise(self.ratio, now);
        self.next_rise = rise.map(|rise| {
            if self.channels[0].is_periodic() {
                rise.max(now.after(self.minimum_interval))
            } else {
                rise
            }
        });
    }
}

#[cfg(test)]
mod tests;
