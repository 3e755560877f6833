//! What goes into `VMEnter`: the entry message of docs/abi.md, built from typed parts.

use crate::event::Event;
use crate::vcpu::Registers;

/// Words of the entry message.
pub const ENTRY_WORDS: usize = 32;

const FLAG_REGISTERS: u64 = 1 << 0;
const FLAG_INJECT: u64 = 1 << 1;
const FLAG_INTERRUPT_WINDOW: u64 = 1 << 2;
const FLAG_RFLAGS: u64 = 1 << 3;
const FLAG_CLEAR_SHADOW: u64 = 1 << 4;

/// An entry message. Starts as "continue unchanged"; each method adds one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    words: [u64; ENTRY_WORDS],
}

impl Default for Entry {
    fn default() -> Self {
        Self::resume()
    }
}

impl Entry {
    /// Continue the guest as it is.
    #[must_use]
    pub fn resume() -> Self {
        Self {
            words: [0; ENTRY_WORDS],
        }
    }

    /// Takes the general registers and RIP from `registers`.
    pub fn set_registers(&mut self, registers: &Registers) {
        self.words[0] |= FLAG_REGISTERS;
        self.words[2] = registers.rip;
        self.words[16..].copy_from_slice(&registers.general);
    }

    /// Takes RFLAGS too. Only valid together with [`Entry::set_registers`].
    pub fn set_rflags(&mut self, rflags: u64) {
        self.words[0] |= FLAG_RFLAGS;
        self.words[4] = rflags;
    }

    /// An instruction was emulated: the shadow that an STI or MOV SS left is over.
    pub fn clear_shadow(&mut self) {
        self.words[0] |= FLAG_CLEAR_SHADOW;
    }

    /// Delivers `event` before the first instruction.
    pub fn inject(&mut self, event: Event) {
        self.words[0] |= FLAG_INJECT;
        self.words[1] = event.encode();
    }

    /// Exits as soon as the guest can take an interrupt.
    pub fn request_window(&mut self) {
        self.words[0] |= FLAG_INTERRUPT_WINDOW;
    }

    /// Back to "continue unchanged", without touching the payload words.
    pub fn reset(&mut self) {
        self.words[0] = 0;
    }

    /// The event to be injected, if any.
    #[must_use]
    pub fn event(&self) -> Option<Event> {
        (self.words[0] & FLAG_INJECT != 0)
            .then(|| Event::decode(self.words[1]))
            .flatten()
    }

    /// Whether the entry carries registers.
    #[must_use]
    pub fn has_registers(&self) -> bool {
        self.words[0] & FLAG_REGISTERS != 0
    }

    /// Whether the entry asks for an interrupt window.
    #[must_use]
    pub fn wants_window(&self) -> bool {
        self.words[0] & FLAG_INTERRUPT_WINDOW != 0
    }

    /// The message words, MR0 first.
    #[must_use]
    pub fn words(&self) -> &[u64; ENTRY_WORDS] {
        &self.words
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plain_entry_asks_for_nothing() {
        assert_eq!(Entry::resume().words(), &[0; ENTRY_WORDS]);
    }

    #[test]
    fn every_request_has_its_flag_and_words() {
        let mut registers = Registers {
            rip: 0x1234,
            ..Registers::default()
        };
        registers.general[0] = 0xaa;
        registers.general[15] = 0xbb;
        let mut entry = Entry::resume();
        entry.set_registers(&registers);
        entry.set_rflags(0x202);
        entry.clear_shadow();
        entry.inject(Event::external_interrupt(0x30));
        entry.request_window();
        let words = entry.words();
        assert_eq!(words[0], 0b11111);
        assert_eq!(words[1], 0x8000_0030);
        assert_eq!((words[2], words[4]), (0x1234, 0x202));
        assert_eq!((words[16], words[31]), (0xaa, 0xbb));
        entry.reset();
        assert_eq!(entry.words()[0], 0);
    }
}
