//! Messages between local APICs: what the command register sends, and whom a message is for.

use super::{ApicEffect, ApicMode, ERROR_SEND_VECTOR, FIRST_VECTOR, LocalApic};
use crate::device::interrupt_message::{Delivery, Destination, InterruptMessage, Trigger};

impl LocalApic {
    /// Turns the command register into a message.
    pub(super) fn send(&mut self, destination: u32) -> ApicEffect {
        let command = self.command;
        let delivery = Delivery::from_bits(command >> 8);
        let vector = command as u8;
        let is_deassert = command & 1 << 14 == 0 && command & 1 << 15 != 0;
        if delivery == Delivery::Unsupported
            || delivery == Delivery::External
            || delivery == Delivery::Init && is_deassert
        {
            return ApicEffect::None;
        }
        if matches!(delivery, Delivery::Fixed | Delivery::LowestPriority) && vector < FIRST_VECTOR {
            self.note_error(ERROR_SEND_VECTOR);
            return ApicEffect::None;
        }
        let destination = match command >> 18 & 3 {
            0 if command & 1 << 11 == 0 => Destination::Physical(destination),
            0 => Destination::Logical(destination),
            1 => Destination::Itself,
            2 => Destination::All,
            _ => Destination::Others,
        };
        ApicEffect::Send(InterruptMessage {
            destination,
            delivery,
            trigger: Trigger::Edge,
            vector,
        })
    }

    pub(super) fn logical_identifier(&self) -> u32 {
        match self.mode() {
            ApicMode::X2 => (self.id >> 4) << 16 | 1 << (self.id & 0xf),
            _ => self.logical,
        }
    }

    /// Whether a message to `destination` is for this APIC; `Itself` and `Others` are the sender's
    /// to resolve.
    #[must_use]
    pub fn matches(&self, destination: Destination) -> bool {
        let is_x2 = self.mode() == ApicMode::X2;
        match destination {
            Destination::Physical(id) => {
                let everybody = id == u32::MAX || id == 0xff;
                everybody || id == self.id
            }
            Destination::Logical(mask) if is_x2 => {
                let own = self.logical_identifier();
                mask == u32::MAX || mask >> 16 == own >> 16 && mask & own & 0xffff != 0
            }
            Destination::Logical(mask) => {
                let own = (self.logical >> 24) as u8;
                let mask = mask as u8;
                match self.format >> 28 {
                    0xf => mask & own != 0,
                    0x0 => mask == 0xff || mask >> 4 == own >> 4 && mask & own & 0xf != 0,
                    _ => false,
                }
            }
            Destination::All => true,
            Destination::Itself | Destination::Others => false,
        }
    }
}
