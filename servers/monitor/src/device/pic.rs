//! The two cascaded 8259A interrupt controllers of a PC, with their edge/level registers.
//! Source: Intel 8259A data sheet; the ELCR from the 82371SB (PIIX3) data sheet.

use serde::{Deserialize, Serialize};

use super::Line;

/// Input of the first controller that the second one is wired to.
const CASCADE: u8 = 2;
/// What an acknowledge cycle without a request answers.
const SPURIOUS: u8 = 7;
/// IRQ 0, 1 and 2 of the first controller are always edge-triggered.
const FIRST_LEVEL_CAPABLE: u8 = 0xf8;
/// IRQ 8 and 13 of the second one are.
const SECOND_LEVEL_CAPABLE: u8 = 0xde;

/// Where in the initialisation sequence a controller is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
enum Sequence {
    Ready,
    WantsVector,
    WantsCascade,
    WantsMode,
}

/// One 8259A.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Controller {
    lines: u8,
    requested: u8,
    in_service: u8,
    mask: u8,
    level: u8,
    level_capable: u8,
    vector_base: u8,
    sequence: Sequence,
    wants_mode: bool,
    single: bool,
    automatic_end: bool,
    rotates: bool,
    special_mask: bool,
    reads_service: bool,
    polls: bool,
    /// Input with the highest priority.
    first: u8,
}

impl Controller {
    fn new(level_capable: u8) -> Self {
        Self {
            lines: 0,
            requested: 0,
            in_service: 0,
            mask: 0xff,
            level: 0,
            level_capable,
            vector_base: 0,
            sequence: Sequence::Ready,
            wants_mode: false,
            single: false,
            automatic_end: false,
            rotates: false,
            special_mask: false,
            reads_service: false,
            polls: false,
            first: 0,
        }
    }

    fn set_line(&mut self, input: u8, line: Line) {
        let bit = 1u8 << input;
        let was_high = self.lines & bit != 0;
        match line {
            Line::High => {
                self.lines |= bit;
                if !was_high || self.level & bit != 0 {
                    self.requested |= bit;
                }
            }
            Line::Low => {
                self.lines &= !bit;
                // An edge that was latched survives; a level that went away does not.
                if self.level & bit != 0 {
                    self.requested &= !bit;
                }
            }
        }
    }

    /// The input with the highest priority among `inputs`.
    fn highest(&self, inputs: u8) -> Option<u8> {
        if inputs == 0 {
            return None;
        }
        let rotated = inputs.rotate_right(u32::from(self.first));
        Some((rotated.trailing_zeros() as u8 + self.first) & 7)
    }

    fn priority(&self, input: u8) -> u8 {
        input.wrapping_sub(self.first) & 7
    }

    /// The input that would be acknowledged now.
    fn pending(&self) -> Option<u8> {
        let candidate = self.highest(self.requested & !self.mask)?;
        let mut serving = self.in_service;
        if self.special_mask {
            serving &= !self.mask;
        }
        match self.highest(serving) {
            Some(current) if self.priority(current) <= self.priority(candidate) => None,
            _ => Some(candidate),
        }
    }

    fn acknowledge(&mut self) -> Option<u8> {
        let input = self.pending()?;
        let bit = 1u8 << input;
        if self.level & bit == 0 {
            self.requested &= !bit;
        }
        if self.automatic_end {
            if self.rotates {
                self.first = (input + 1) & 7;
            }
        } else {
            self.in_service |= bit;
        }
        Some(input)
    }

    fn initialise(&mut self, word: u8) {
        self.requested = self.lines & self.level;
        self.in_service = 0;
        self.mask = 0;
        self.first = 0;
        self.special_mask = false;
        self.reads_service = false;
        self.polls = false;
        self.automatic_end = false;
        self.rotates = false;
        self.wants_mode = word & 1 != 0;
        self.single = word & 2 != 0;
        self.sequence = Sequence::WantsVector;
    }

    fn write_command(&mut self, value: u8) {
        if value & 0x10 != 0 {
            self.initialise(value);
        } else if value & 0x08 != 0 {
            self.polls = value & 0x04 != 0;
            if value & 0x02 != 0 {
                self.reads_service = value & 0x01 != 0;
            }
            if value & 0x40 != 0 {
                self.special_mask = value & 0x20 != 0;
            }
        } else {
            self.end_of_interrupt(value);
        }
    }

    fn end_of_interrupt(&mut self, value: u8) {
        let named = value & 7;
        match value >> 5 {
            // Non-specific, without and with rotation.
            1 | 5 => {
                if let Some(input) = self.highest(self.in_service) {
                    self.in_service &= !(1 << input);
                    if value >> 5 == 5 {
                        self.first = (input + 1) & 7;
                    }
                }
            }
            3 => self.in_service &= !(1 << named),
            7 => {
                self.in_service &= !(1 << named);
                self.first = (named + 1) & 7;
            }
            6 => self.first = (named + 1) & 7,
            0 => self.rotates = false,
            4 => self.rotates = true,
            _ => {}
        }
    }

    fn write_data(&mut self, value: u8) {
        self.sequence = match self.sequence {
            Sequence::Ready => {
                self.mask = value;
                Sequence::Ready
            }
            Sequence::WantsVector => {
                self.vector_base = value & 0xf8;
                if !self.single {
                    Sequence::WantsCascade
                } else if self.wants_mode {
                    Sequence::WantsMode
                } else {
                    Sequence::Ready
                }
            }
            Sequence::WantsCascade if self.wants_mode => Sequence::WantsMode,
            Sequence::WantsCascade => Sequence::Ready,
            Sequence::WantsMode => {
                self.automatic_end = value & 0x02 != 0;
                Sequence::Ready
            }
        };
    }

    fn read_command(&mut self) -> u8 {
        if core::mem::take(&mut self.polls) {
            return match self.acknowledge() {
                Some(input) => 0x80 | input,
                None => 0,
            };
        }
        if self.reads_service {
            self.in_service
        } else {
            self.requested
        }
    }

    fn set_level_mode(&mut self, value: u8) {
        self.level = value & self.level_capable;
        self.requested = self.requested & !self.level | self.lines & self.level;
    }
}

/// A register of the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PicPort {
    /// 0x20.
    FirstCommand,
    /// 0x21.
    FirstData,
    /// 0xa0.
    SecondCommand,
    /// 0xa1.
    SecondData,
    /// 0x4d0.
    FirstLevel,
    /// 0x4d1.
    SecondLevel,
}

/// Both controllers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PicPair {
    first: Controller,
    second: Controller,
}

impl Default for PicPair {
    fn default() -> Self {
        Self {
            first: Controller::new(FIRST_LEVEL_CAPABLE),
            second: Controller::new(SECOND_LEVEL_CAPABLE),
        }
    }
}

impl PicPair {
    /// Sets interrupt request `irq` (0..15; 2 is the cascade and has no line).
    pub fn set_irq(&mut self, irq: u8, line: Line) {
        match irq {
            0 | 1 | 3..=7 => self.first.set_line(irq, line),
            8..=15 => self.second.set_line(irq - 8, line),
            _ => {}
        }
        self.cascade();
    }

    /// Whether the pair interrupts the CPU.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::asserted_if(|| self.first.pending().is_some())
    }

    /// The CPU's acknowledge cycle: the vector.
    pub fn acknowledge(&mut self) -> u8 {
        let vector = match self.first.acknowledge() {
            Some(CASCADE) => {
                let input = self.second.acknowledge().unwrap_or(SPURIOUS);
                self.second.vector_base | input
            }
            Some(input) => self.first.vector_base | input,
            None => self.first.vector_base | SPURIOUS,
        };
        self.cascade();
        vector
    }

    /// Reads a register.
    pub fn read(&mut self, port: PicPort) -> u8 {
        let value = match port {
            PicPort::FirstCommand => self.first.read_command(),
            PicPort::FirstData => self.first.mask,
            PicPort::SecondCommand => self.second.read_command(),
            PicPort::SecondData => self.second.mask,
            PicPort::FirstLevel => self.first.level,
            PicPort::SecondLevel => self.second.level,
        };
        self.cascade();
        value
    }

    /// Writes a register.
    pub fn write(&mut self, port: PicPort, value: u8) {
        match port {
            PicPort::FirstCommand => self.first.write_command(value),
            PicPort::FirstData => self.first.write_data(value),
            PicPort::SecondCommand => self.second.write_command(value),
            PicPort::SecondData => self.second.write_data(value),
            PicPort::FirstLevel => self.first.set_level_mode(value),
            PicPort::SecondLevel => self.second.set_level_mode(value),
        }
        self.cascade();
    }

    /// The second controller's output is the first one's input 2. The wire is followed as a
    /// level, because a new request behind an acknowledged one must be seen without an edge.
    fn cascade(&mut self) {
        let bit = 1 << CASCADE;
        if self.second.pending().is_some() {
            self.first.requested |= bit;
            self.first.lines |= bit;
        } else {
            self.first.requested &= !bit;
            self.first.lines &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As every PC kernel sets them up: vectors 0x30 and 0x38, everything unmasked.
    fn initialised() -> PicPair {
        let mut pair = PicPair::default();
        for (command, data, base, cascade) in [
            (PicPort::FirstCommand, PicPort::FirstData, 0x30, 4),
            (PicPort::SecondCommand, PicPort::SecondData, 0x38, 2),
        ] {
            pair.write(command, 0x11);
            pair.write(data, base);
            pair.write(data, cascade);
            pair.write(data, 1);
            pair.write(data, 0);
        }
        pair
    }

    #[test]
    fn an_edge_is_delivered_once() {
        let mut pair = initialised();
        pair.set_irq(4, Line::High);
        assert_eq!(pair.line(), Line::High);
        assert_eq!(pair.acknowledge(), 0x34);
        assert_eq!(pair.line(), Line::Low);
        pair.write(PicPort::FirstCommand, 0x20);
        assert_eq!(
            pair.line(),
            Line::Low,
            "the line is still high, but there was no new edge"
        );
        pair.set_irq(4, Line::Low);
        pair.set_irq(4, Line::High);
        assert_eq!(pair.acknowledge(), 0x34);
    }

    #[test]
    fn a_level_is_delivered_as_long_as_it_lasts() {
        let mut pair = initialised();
        pair.write(PicPort::FirstLevel, 0x20);
        pair.set_irq(5, Line::High);
        assert_eq!(pair.acknowledge(), 0x35);
        pair.write(PicPort::FirstCommand, 0x20);
        assert_eq!(pair.acknowledge(), 0x35);
        pair.write(PicPort::FirstCommand, 0x20);
        pair.set_irq(5, Line::Low);
        assert_eq!(pair.line(), Line::Low);
    }

    #[test]
    fn the_second_controller_comes_through_the_cascade() {
        let mut pair = initialised();
        pair.set_irq(9, Line::High);
        pair.set_irq(12, Line::High);
        assert_eq!(pair.acknowledge(), 0x39);
        // Until both are told, the lower one waits.
        assert_eq!(pair.line(), Line::Low);
        pair.write(PicPort::SecondCommand, 0x20);
        pair.write(PicPort::FirstCommand, 0x20);
        assert_eq!(pair.acknowledge(), 0x3c);
    }

    #[test]
    fn a_higher_request_interrupts_a_lower_one_in_service() {
        let mut pair = initialised();
        pair.set_irq(4, Line::High);
        assert_eq!(pair.acknowledge(), 0x34);
        pair.set_irq(6, Line::High);
        assert_eq!(pair.line(), Line::Low);
        pair.set_irq(1, Line::High);
        assert_eq!(pair.acknowledge(), 0x31);
        pair.write(PicPort::FirstCommand, 0x0b);
        assert_eq!(pair.read(PicPort::FirstCommand), 0x12);
    }

    #[test]
    fn a_request_that_vanished_is_spurious() {
        let mut pair = initialised();
        assert_eq!(pair.acknowledge(), 0x37);
        pair.write(PicPort::FirstCommand, 0x0b);
        assert_eq!(pair.read(PicPort::FirstCommand), 0, "nothing is in service");
    }

    #[test]
    fn masked_requests_wait() {
        let mut pair = initialised();
        pair.write(PicPort::FirstData, 0xff);
        pair.set_irq(0, Line::High);
        assert_eq!(pair.line(), Line::Low);
        pair.write(PicPort::FirstData, 0xfe);
        assert_eq!(pair.acknowledge(), 0x30);
        assert_eq!(pair.read(PicPort::FirstData), 0xfe);
    }

    #[test]
    fn automatic_end_leaves_nothing_in_service() {
        let mut pair = PicPair::default();
        pair.write(PicPort::FirstCommand, 0x11);
        for value in [0x08, 0x04, 0x03, 0x00] {
            pair.write(PicPort::FirstData, value);
        }
        pair.set_irq(0, Line::High);
        assert_eq!(pair.acknowledge(), 0x08);
        pair.write(PicPort::FirstCommand, 0x0b);
        assert_eq!(pair.read(PicPort::FirstCommand), 0);
    }

    #[test]
    fn the_timer_and_the_cascade_cannot_be_made_level_triggered() {
        let mut pair = initialised();
        pair.write(PicPort::FirstLevel, 0xff);
        pair.write(PicPort::SecondLevel, 0xff);
        assert_eq!(pair.read(PicPort::FirstLevel), 0xf8);
        assert_eq!(pair.read(PicPort::SecondLevel), 0xde);
    }

    #[test]
    fn a_poll_acknowledges() {
        let mut pair = initialised();
        pair.set_irq(3, Line::High);
        pair.write(PicPort::FirstCommand, 0x0c);
        assert_eq!(pair.read(PicPort::FirstCommand), 0x83);
        pair.write(PicPort::FirstCommand, 0x0c);
        assert_eq!(pair.read(PicPort::FirstCommand), 0);
    }

    proptest! {
        #[test]
        fn no_sequence_panics_and_a_raised_line_always_has_a_vector(
            steps in proptest::collection::vec((0u8..4, 0u8..6, any::<u8>()), 0..300),
        ) {
            let mut pair = PicPair::default();
            let ports = [
                PicPort::FirstCommand, PicPort::FirstData, PicPort::SecondCommand,
                PicPort::SecondData, PicPort::FirstLevel, PicPort::SecondLevel,
            ];
            for (kind, port, value) in steps {
                match kind {
                    0 => { pair.read(ports[usize::from(port)]); }
                    1 => pair.write(ports[usize::from(port)], value),
                    2 => pair.set_irq(value, if port & 1 == 0 { Line::Low } else { Line::High }),
                    _ => if pair.line().is_high() {
                        let base = (pair.first.vector_base, pair.second.vector_base);
                        let vector = pair.acknowledge();
                        prop_assert!(vector & 0xf8 == base.0 || vector & 0xf8 == base.1);
                    },
                }
            }
        }
    }
}
