//! The I/O APIC: 24 pins, each with a redirection entry. Source: Intel 82093AA data sheet.

use heapless::Vec;
use serde::{Deserialize, Serialize};

use super::Line;
use super::interrupt_message::{Delivery, Destination, InterruptMessage, Trigger};

/// Pins.
pub const PINS: usize = 24;

/// Version 0x11 (no EOI register), highest entry 23.
const VERSION: u32 = 0x11 | ((PINS as u32 - 1) << 16);

const REMOTE_REQUEST: u64 = 1 << 14;
const LEVEL: u64 = 1 << 15;
const MASKED: u64 = 1 << 16;
/// What software can write: everything but delivery status and remote IRR.
const WRITABLE: u64 = 0xff00_0000_0001_afff;

/// Messages that one access can cause: an end of interrupt may free every pin.
pub type Messages = Vec<InterruptMessage, PINS>;

/// The I/O APIC.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct IoApic {
    identifier: u8,
    select: u8,
    entries: [u64; PINS],
    lines: u32,
}

impl Default for IoApic {
    fn default() -> Self {
        Self {
            identifier: 0,
            select: 0,
            entries: [MASKED; PINS],
            lines: 0,
        }
    }
}

impl IoApic {
    /// Sets the level of a pin; the message if that triggers one. Pins out of range do nothing.
    pub fn set_pin(&mut self, pin: u8, line: Line) -> Option<InterruptMessage> {
        let index = usize::from(pin);
        if index >= PINS {
            return None;
        }
        let was_high = self.lines & 1 << index != 0;
        match line {
            Line::Low => {
                self.lines &= !(1 << index);
                None
            }
            Line::High => {
                self.lines |= 1 << index;
                if self.entries[index] & LEVEL == 0 && was_high {
                    return None;
                }
                self.trigger(index)
            }
        }
    }

    /// Sends the pin's message unless it is masked or still being handled.
    fn trigger(&mut self, index: usize) -> Option<InterruptMessage> {
        let entry = self.entries[index];
        if entry & MASKED != 0 {
            return None;
        }
        if entry & LEVEL != 0 {
            if entry & REMOTE_REQUEST != 0 {
                return None;
            }
            self.entries[index] |= REMOTE_REQUEST;
        }
        let destination = (entry >> 56) as u32;
        Some(InterruptMessage {
            destination: if entry & 1 << 11 == 0 {
                Destination::Physical(destination)
            } else {
                Destination::Logical(destination)
            },
            delivery: Delivery::from_bits(entry >> 8),
            trigger: if entry & LEVEL == 0 {
                Trigger::Edge
            } else {
                Trigger::Level
            },
            vector: entry as u8,
        })
    }

    /// A local APIC finished `vector`: level-triggered pins that are still asserted fire again.
    pub fn end_of_interrupt(&mut self, vector: u8) -> Messages {
        let mut messages = Messages::new();
        for index in 0..PINS {
            let entry = self.entries[index];
            if entry & LEVEL == 0 || entry as u8 != vector || entry & REMOTE_REQUEST == 0 {
                continue;
            }
            self.entries[index] &= !REMOTE_REQUEST;
            if let Some(message) = self.retrigger(index) {
                // One message per pin fits by construction.
                let _ = messages.push(message);
            }
        }
        messages
    }

    fn retrigger(&mut self, index: usize) -> Option<InterruptMessage> {
        let asserted = self.lines & 1 << index != 0;
        (asserted && self.entries[index] & LEVEL != 0)
            .then(|| self.trigger(index))
            .flatten()
    }

    /// Reads the register at `offset` of its page.
    #[must_use]
    pub fn read(&self, offset: u64) -> u32 {
        match offset {
            0x00 => u32::from(self.select),
            0x10 => self.read_selected(),
            _ => 0,
        }
    }

    /// Writes the register at `offset`; the message if a pin fires by it.
    pub fn write(&mut self, offset: u64, value: u32) -> Option<InterruptMessage> {
        match offset {
            0x00 => {
                self.select = value as u8;
                None
            }
            0x10 => self.write_selected(value),
            _ => None,
        }
    }

    /// Index of the entry that is selected, and whether it is its upper half.
    fn selected_entry(&self) -> Option<(usize, bool)> {
        let register = self.select.checked_sub(0x10)?;
        let index = usize::from(register / 2);
        (index < PINS).then_some((index, register % 2 == 1))
    }

    fn read_selected(&self) -> u32 {
        match self.select {
            0 | 2 => u32::from(self.identifier) << 24,
            1 => VERSION,
            _ => match self.selected_entry() {
                Some((index, true)) => (self.entries[index] >> 32) as u32,
                Some((index, false)) => self.entries[index] as u32,
                None => 0,
            },
        }
    }

    fn write_selected(&mut self, value: u32) -> Option<InterruptMessage> {
        if self.select == 0 {
            self.identifier = (value >> 24) as u8 & 0xf;
            return None;
        }
        let (index, upper) = self.selected_entry()?;
        let old = self.entries[index];
        let new = if upper {
            old & 0xffff_ffff | u64::from(value) << 32
        } else {
            old & !0xffff_ffff | u64::from(value)
        };
        let mut entry = new & WRITABLE | old & REMOTE_REQUEST;
        if entry & LEVEL == 0 {
            // Software clears a stuck remote IRR by switching to edge and back.
            entry &= !REMOTE_REQUEST;
        }
        self.entries[index] = entry;
        self.retrigger(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set_entry(apic: &mut IoApic, pin: u8, entry: u64) -> Option<InterruptMessage> {
        apic.write(0, u32::from(0x11 + pin * 2));
        apic.write(0x10, (entry >> 32) as u32);
        apic.write(0, u32::from(0x10 + pin * 2));
        apic.write(0x10, entry as u32)
    }

    #[test]
    fn an_edge_sends_one_message_to_its_destination() {
        let mut apic = IoApic::default();
        set_entry(&mut apic, 4, 0x0100_0000_0000_0034);
        let message = apic.set_pin(4, Line::High).unwrap();
        assert_eq!(message.destination, Destination::Physical(1));
        assert_eq!((message.vector, message.delivery), (0x34, Delivery::Fixed));
        assert_eq!(apic.set_pin(4, Line::High), None);
        apic.set_pin(4, Line::Low);
        assert!(apic.set_pin(4, Line::High).is_some());
    }

    #[test]
    fn a_masked_edge_is_lost() {
        let mut apic = IoApic::default();
        set_entry(&mut apic, 4, MASKED | 0x34);
        assert_eq!(apic.set_pin(4, Line::High), None);
        assert_eq!(set_entry(&mut apic, 4, 0x34), None);
    }

    #[test]
    fn a_level_waits_for_the_end_of_its_interrupt() {
        let mut apic = IoApic::default();
        set_entry(&mut apic, 9, LEVEL | 0x59);
        assert!(apic.set_pin(9, Line::High).is_some());
        assert_eq!(apic.set_pin(9, Line::High), None, "still being handled");
        assert_eq!(apic.end_of_interrupt(0x58).len(), 0, "another vector's end");
        assert_eq!(apic.end_of_interrupt(0x59).len(), 1, "still asserted");
        apic.set_pin(9, Line::Low);
        assert_eq!(apic.end_of_interrupt(0x59).len(), 0);
        assert!(apic.set_pin(9, Line::High).is_some());
    }

    #[test]
    fn unmasking_a_level_that_is_asserted_fires() {
        let mut apic = IoApic::default();
        set_entry(&mut apic, 9, LEVEL | MASKED | 0x59);
        assert_eq!(apic.set_pin(9, Line::High), None);
        assert!(set_entry(&mut apic, 9, LEVEL | 0x59).is_some());
    }

    #[test]
    fn registers_read_back_without_the_read_only_bits() {
        let mut apic = IoApic::default();
        set_entry(&mut apic, 23, 0xff00_ffff_ffff_ffff & !LEVEL);
        apic.write(0, 0x10 + 23 * 2);
        assert_eq!(apic.read(0x10), 0x0001_2fff);
        apic.write(0, 0x11 + 23 * 2);
        assert_eq!(apic.read(0x10), 0xff00_0000);
        apic.write(0, 1);
        assert_eq!(apic.read(0x10), 0x0017_0011);
        apic.write(0, 0xff);
        assert_eq!(apic.read(0x10), 0);
    }

    proptest! {
        #[test]
        fn no_access_panics(steps in proptest::collection::vec((0u8..4, any::<u8>(), any::<u32>()), 0..300)) {
            let mut apic = IoApic::default();
            for (kind, small, value) in steps {
                match kind {
                    0 => { let _ = apic.write(0, u32::from(small)); }
                    1 => { let _ = apic.write(0x10, value); }
                    2 => { let _ = apic.set_pin(small % 32, if value & 1 == 0 { Line::Low } else { Line::High }); }
                    _ => { let _ = apic.end_of_interrupt(small); }
                }
                let _ = apic.read(u64::from(small));
                let _ = apic.read(0x10);
            }
        }
    }
}
