//! The i8042 keyboard controller, without a keyboard: its self-test, its command byte, the A20
//! gate, and the reset line, which is what operating systems still use it for.

use heapless::Deque;
use serde::{Deserialize, Serialize};

/// Bytes that wait to be read; the longest answer has one, so a few are plenty.
const OUTPUT_BYTES: usize = 4;

const STATUS_OUTPUT_FULL: u8 = 1 << 0;
const STATUS_SYSTEM: u8 = 1 << 2;
const STATUS_COMMAND: u8 = 1 << 3;
/// The keyboard lock is open.
const STATUS_UNLOCKED: u8 = 1 << 4;

/// Reset line high, A20 open.
const OUTPUT_PORT: u8 = 0x03;

/// Whether a write pulled the reset line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ResetLine {
    /// Nothing happened.
    Idle,
    /// The machine is to be reset.
    Pulled,
}

/// The command that waits for its data byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Pending {
    CommandByte,
    OutputPort,
    /// Data for a device that is not there.
    Discard,
}

/// The controller.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct KeyboardController {
    command_byte: u8,
    output: Deque<u8, OUTPUT_BYTES>,
    pending: Option<Pending>,
    last_was_command: bool,
}

impl Default for KeyboardController {
    fn default() -> Self {
        Self {
            // Translation on, both ports off: what a BIOS leaves when it found no keyboard.
            command_byte: 0x70,
            output: Deque::new(),
            pending: None,
            last_was_command: false,
        }
    }
}

impl KeyboardController {
    /// Reads port 0x60.
    pub fn read_data(&mut self) -> u8 {
        self.output.pop_front().unwrap_or(0)
    }

    /// Reads port 0x64.
    #[must_use]
    pub fn read_status(&self) -> u8 {
        let mut status = STATUS_SYSTEM | STATUS_UNLOCKED;
        if !self.output.is_empty() {
            status |= STATUS_OUTPUT_FULL;
        }
        if self.last_was_command {
            status |= STATUS_COMMAND;
        }
        status
    }

    /// Writes port 0x60.
    pub fn write_data(&mut self, value: u8) -> ResetLine {
        self.last_was_command = false;
        match self.pending.take() {
            Some(Pending::CommandByte) => self.command_byte = value,
            Some(Pending::OutputPort) if value & 1 == 0 => return ResetLine::Pulled,
            Some(Pending::OutputPort | Pending::Discard) | None => {}
        }
        ResetLine::Idle
    }

    /// Writes port 0x64.
    pub fn write_command(&mut self, value: u8) -> ResetLine {
        self.last_was_command = true;
        self.pending = None;
        match value {
            0x20 => self.answer(self.command_byte),
            0x60 => self.pending = Some(Pending::CommandByte),
            0xa7 => self.command_byte |= 0x20,
            0xa8 => self.command_byte &= !0x20,
            // No second port: its test reports a clock line that is stuck low.
            0xa9 => self.answer(0x01),
            0xaa => self.answer(0x55),
            0xab => self.answer(0x00),
            0xad => self.command_byte |= 0x10,
            0xae => self.command_byte &= !0x10,
            0xd0 => self.answer(OUTPUT_PORT),
            0xd1 => self.pending = Some(Pending::OutputPort),
            0xd2..=0xd4 => self.pending = Some(Pending::Discard),
            // Pulses the lines whose bits are clear; bit 0 is reset.
            0xf0..=0xff if value & 1 == 0 => return ResetLine::Pulled,
            _ => {}
        }
        ResetLine::Idle
    }

    fn answer(&mut self, value: u8) {
        // A guest that never reads loses the newest answers, as on the chip.
        let _ = self.output.push_back(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_self_test_passes() {
        let mut controller = KeyboardController::default();
        assert_eq!(controller.read_status() & STATUS_OUTPUT_FULL, 0);
        controller.write_command(0xaa);
        assert_eq!(
            controller.read_status() & STATUS_OUTPUT_FULL,
            STATUS_OUTPUT_FULL
        );
        assert_eq!(controller.read_data(), 0x55);
        assert_eq!(controller.read_status() & STATUS_OUTPUT_FULL, 0);
    }

    #[test]
    fn the_command_byte_is_remembered() {
        let mut controller = KeyboardController::default();
        controller.write_command(0x60);
        controller.write_data(0x45);
        controller.write_command(0x20);
        assert_eq!(controller.read_data(), 0x45);
    }

    #[test]
    fn pulse_and_output_port_pull_the_reset_line() {
        let mut controller = KeyboardController::default();
        assert_eq!(controller.write_command(0xfe), ResetLine::Pulled);
        assert_eq!(controller.write_command(0xff), ResetLine::Idle);
        controller.write_command(0xd1);
        assert_eq!(controller.write_data(0x03), ResetLine::Idle);
        controller.write_command(0xd1);
        assert_eq!(controller.write_data(0x02), ResetLine::Pulled);
    }

    #[test]
    fn unread_answers_do_not_pile_up() {
        let mut controller = KeyboardController::default();
        for value in 0..=u8::MAX {
            controller.write_command(0xaa);
            controller.write_command(value);
            controller.write_data(value | 1);
        }
        assert!((0..=OUTPUT_BYTES).any(|_| {
            controller.read_data();
            controller.read_status() & STATUS_OUTPUT_FULL == 0
        }));
    }
}
