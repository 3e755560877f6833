//! A 16550A serial port. Source: National Semiconductor PC16550D data sheet.
//!
//! Characters take no time: what is written appears in [`Uart::take_output`] at once. Flow
//! control is real in both directions: when the reader of the output is slow, the transmitter
//! reports itself busy; when the guest does not read, [`Uart::receive`] refuses.

use heapless::Deque;
use serde::{Deserialize, Serialize};

use super::Line;

/// Depth of the receive FIFO of the real chip.
const RECEIVE_FIFO: usize = 16;
/// Output that waits for its reader: a screen's worth of lines would not help, a few FIFO loads do.
const OUTPUT_QUEUE: usize = 256;
/// A driver that saw "transmitter empty" may write a whole FIFO.
const TRANSMIT_BURST: usize = 16;

const INTERRUPT_RECEIVED: u8 = 1 << 0;
const INTERRUPT_EMPTY: u8 = 1 << 1;
const INTERRUPT_LINE: u8 = 1 << 2;
const INTERRUPT_MODEM: u8 = 1 << 3;

const LINE_DLAB: u8 = 1 << 7;

const MODEM_LOOPBACK: u8 = 1 << 4;
const MODEM_OUT2: u8 = 1 << 3;

const STATUS_READY: u8 = 1 << 0;
const STATUS_OVERRUN: u8 = 1 << 1;
const STATUS_EMPTY: u8 = 1 << 5 | 1 << 6;

/// DCD, DSR and CTS: a terminal that is always there.
const CONNECTED: u8 = 0xb0;

/// The serial port.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Uart {
    received: Deque<u8, RECEIVE_FIFO>,
    output: Deque<u8, OUTPUT_QUEUE>,
    interrupt_enable: u8,
    fifo_control: u8,
    line_control: u8,
    modem_control: u8,
    modem_changes: u8,
    scratch: u8,
    divisor: u16,
    overrun: bool,
    empty_pending: bool,
}

impl Default for Uart {
    fn default() -> Self {
        Self {
            received: Deque::new(),
            output: Deque::new(),
            interrupt_enable: 0,
            fifo_control: 0,
            line_control: 0,
            modem_control: 0,
            modem_changes: 0,
            scratch: 0,
            // 9600 baud, as firmware leaves it.
            divisor: 12,
            overrun: false,
            empty_pending: false,
        }
    }
}

impl Uart {
    /// Reads register `offset` (0..7).
    pub fn read(&mut self, offset: u8) -> u8 {
        match offset & 7 {
            0 if self.divisor_visible() => self.divisor as u8,
            1 if self.divisor_visible() => (self.divisor >> 8) as u8,
            0 => self.received.pop_front().unwrap_or(0),
            1 => self.interrupt_enable,
            2 => self.identify_interrupt(),
            3 => self.line_control,
            4 => self.modem_control,
            5 => self.line_status(),
            6 => self.modem_status(),
            _ => self.scratch,
        }
    }

    /// Writes register `offset` (0..7).
    pub fn write(&mut self, offset: u8, value: u8) {
        match offset & 7 {
            0 if self.divisor_visible() => self.divisor = self.divisor & 0xff00 | u16::from(value),
            1 if self.divisor_visible() => {
                self.divisor = self.divisor & 0x00ff | u16::from(value) << 8;
            }
            0 => self.transmit(value),
            1 => self.enable_interrupts(value & 0xf),
            2 => self.control_fifo(value),
            3 => self.line_control = value,
            4 => self.control_modem(value & 0x1f),
            5 | 6 => {}
            _ => self.scratch = value,
        }
    }

    /// The interrupt line. A PC gates it with OUT2.
    #[must_use]
    pub fn line(&self) -> Line {
        Line::asserted_if(|| {
            self.modem_control & MODEM_OUT2 != 0 && self.interrupt_cause().is_some()
        })
    }

    /// Whether [`Uart::receive`] would take a byte.
    #[must_use]
    pub fn can_receive(&self) -> bool {
        self.modem_control & MODEM_LOOPBACK == 0 && self.received.len() < self.receive_depth()
    }

    /// A byte from outside; given back if there is no room.
    ///
    /// # Errors
    /// The byte itself: offer it again after the guest has read.
    pub fn receive(&mut self, byte: u8) -> Result<(), u8> {
        if !self.can_receive() {
            return Err(byte);
        }
        self.received.push_back(byte)
    }

    /// The oldest byte that was sent and not taken yet.
    #[must_use]
    pub fn peek_output(&self) -> Option<u8> {
        self.output.front().copied()
    }

    /// Takes the oldest byte that was sent. The transmitter may become empty by it.
    pub fn take_output(&mut self) -> Option<u8> {
        let was_busy = !self.can_transmit();
        let byte = self.output.pop_front();
        if was_busy && self.can_transmit() {
            self.empty_pending = true;
        }
        byte
    }

    fn divisor_visible(&self) -> bool {
        self.line_control & LINE_DLAB != 0
    }

    fn fifo_enabled(&self) -> bool {
        self.fifo_control & 1 != 0
    }

    fn receive_depth(&self) -> usize {
        if self.fifo_enabled() { RECEIVE_FIFO } else { 1 }
    }

    fn can_transmit(&self) -> bool {
        self.output.len() + TRANSMIT_BURST <= OUTPUT_QUEUE
    }

    fn transmit(&mut self, byte: u8) {
        self.empty_pending = false;
        if self.modem_control & MODEM_LOOPBACK != 0 {
            if self.received.len() >= self.receive_depth() || self.received.push_back(byte).is_err()
            {
                self.overrun = true;
            }
            self.empty_pending = true;
            return;
        }
        // A driver that writes although the transmitter is busy loses the byte, as on the chip.
        let _ = self.output.push_back(byte);
        self.empty_pending = self.can_transmit();
    }

    fn enable_interrupts(&mut self, value: u8) {
        let newly = value & !self.interrupt_enable;
        self.interrupt_enable = value;
        if newly & INTERRUPT_EMPTY != 0 && self.can_transmit() {
            self.empty_pending = true;
        }
    }

    fn control_fifo(&mut self, value: u8) {
        let changed = (value ^ self.fifo_control) & 1 != 0;
        if changed || value & 1 << 1 != 0 {
            self.received.clear();
            self.overrun = false;
        }
        // The transmit FIFO holds nothing that was not sent yet: a reset has nothing to drop.
        self.fifo_control = if value & 1 != 0 { value & 0xc9 } else { 0 };
    }

    fn control_modem(&mut self, value: u8) {
        let before = self.modem_lines();
        self.modem_control = value;
        let after = self.modem_lines();
        let mut changes = (before ^ after) >> 4;
        // The ring indicator reports only its falling edge.
        if after & 0x40 != 0 {
            changes &= !0x04;
        }
        self.modem_changes |= changes;
    }

    /// CTS, DSR, RI and DCD in bits 4..7; in loopback they are the outputs.
    fn modem_lines(&self) -> u8 {
        if self.modem_control & MODEM_LOOPBACK == 0 {
            return CONNECTED;
        }
        let control = self.modem_control;
        (control & 0b10) << 3
            | (control & 0b01) << 5
            | (control & 0b100) << 4
            | (control & 0b1000) << 4
    }

    fn modem_status(&mut self) -> u8 {
        self.modem_lines() | core::mem::take(&mut self.modem_changes)
    }

    fn line_status(&mut self) -> u8 {
        let mut status = 0;
        if !self.received.is_empty() {
            status |= STATUS_READY;
        }
        if core::mem::take(&mut self.overrun) {
            status |= STATUS_OVERRUN;
        }
        if self.can_transmit() {
            status |= STATUS_EMPTY;
        }
        status
    }

    /// Identification bits of the most urgent enabled cause.
    fn interrupt_cause(&self) -> Option<u8> {
        let enabled = |bit: u8| self.interrupt_enable & bit != 0;
        if enabled(INTERRUPT_LINE) && self.overrun {
            Some(0x06)
        } else if enabled(INTERRUPT_RECEIVED) && !self.received.is_empty() {
            // Below its threshold the FIFO reports a time-out, which here comes at once.
            let reached = self.received.len() >= self.receive_threshold();
            Some(if reached { 0x04 } else { 0x0c })
        } else if enabled(INTERRUPT_EMPTY) && self.empty_pending {
            Some(0x02)
        } else if enabled(INTERRUPT_MODEM) && self.modem_changes != 0 {
            Some(0x00)
        } else {
            None
        }
    }

    fn receive_threshold(&self) -> usize {
        match (self.fifo_enabled(), self.fifo_control >> 6) {
            (false, _) | (true, 0) => 1,
            (true, 1) => 4,
            (true, 2) => 8,
            (true, _) => 14,
        }
    }

    fn identify_interrupt(&mut self) -> u8 {
        let cause = self.interrupt_cause();
        if cause == Some(0x02) {
            self.empty_pending = false;
        }
        let fifo = if self.fifo_enabled() { 0xc0 } else { 0 };
        cause.unwrap_or(0x01) | fifo
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ready() -> Uart {
        let mut uart = Uart::default();
        uart.write(2, 0x01);
        uart.write(4, MODEM_OUT2);
        uart
    }

    #[test]
    fn what_is_sent_comes_out_in_order() {
        let mut uart = ready();
        for byte in *b"ok" {
            uart.write(0, byte);
        }
        assert_eq!(uart.take_output(), Some(b'o'));
        assert_eq!(uart.take_output(), Some(b'k'));
        assert_eq!(uart.take_output(), None);
    }

    #[test]
    fn a_received_byte_interrupts_until_it_is_read() {
        let mut uart = ready();
        uart.write(1, INTERRUPT_RECEIVED);
        assert_eq!(uart.line(), Line::Low);
        uart.receive(b'x').unwrap();
        assert_eq!(uart.line(), Line::High);
        assert_eq!(uart.read(2) & 0x0f, 0x04);
        assert_eq!(uart.read(5) & STATUS_READY, STATUS_READY);
        assert_eq!(uart.read(0), b'x');
        assert_eq!(uart.line(), Line::Low);
        assert_eq!(uart.read(2) & 0x0f, 0x01);
    }

    #[test]
    fn enabling_the_empty_interrupt_raises_it_and_identifying_clears_it() {
        let mut uart = ready();
        uart.write(1, INTERRUPT_EMPTY);
        assert_eq!(uart.line(), Line::High);
        assert_eq!(uart.read(2) & 0x0f, 0x02);
        assert_eq!(uart.line(), Line::Low);
        uart.write(0, b'a');
        assert_eq!(uart.line(), Line::High);
    }

    #[test]
    fn without_out2_nothing_reaches_the_interrupt_line() {
        let mut uart = ready();
        uart.write(1, INTERRUPT_EMPTY);
        uart.write(4, 0);
        assert_eq!(uart.line(), Line::Low);
    }

    #[test]
    fn a_slow_reader_makes_the_transmitter_busy() {
        let mut uart = ready();
        uart.write(1, INTERRUPT_EMPTY);
        while uart.read(5) & STATUS_EMPTY != 0 {
            uart.write(0, b'.');
        }
        assert_eq!(uart.line(), Line::Low, "no interrupt while busy");
        uart.take_output();
        assert_eq!(uart.read(5) & STATUS_EMPTY, STATUS_EMPTY);
        assert_eq!(uart.line(), Line::High);
    }

    #[test]
    fn a_full_receiver_gives_the_byte_back() {
        let mut uart = ready();
        let taken = (0..100)
            .take_while(|&byte| uart.receive(byte).is_ok())
            .count();
        assert_eq!(taken, RECEIVE_FIFO);
        assert_eq!(uart.receive(7), Err(7));
        assert_eq!(uart.read(5) & STATUS_OVERRUN, 0, "nothing was lost");
    }

    #[test]
    fn loopback_returns_bytes_and_modem_lines() {
        let mut uart = ready();
        uart.write(4, MODEM_LOOPBACK | 0x0a);
        assert_eq!(uart.read(6) & 0xf0, 0x90, "RTS is CTS, OUT2 is DCD");
        uart.write(0, 0x5a);
        assert_eq!(uart.read(0), 0x5a);
        assert_eq!(uart.take_output(), None);
    }

    #[test]
    fn the_divisor_hides_data_and_enable_registers() {
        let mut uart = ready();
        uart.write(3, LINE_DLAB);
        uart.write(0, 1);
        uart.write(1, 0);
        assert_eq!((uart.read(0), uart.read(1)), (1, 0));
        uart.write(3, 3);
        assert_eq!(uart.read(1), 0);
        assert_eq!(uart.take_output(), None);
    }

    proptest! {
        #[test]
        fn no_register_access_panics(accesses in proptest::collection::vec((0u8..16, any::<u8>(), 0u8..4), 0..500)) {
            let mut uart = Uart::default();
            for (offset, value, kind) in accesses {
                match kind {
                    0 => { uart.read(offset); }
                    1 => uart.write(offset, value),
                    2 => { let _ = uart.receive(value); }
                    _ => { uart.take_output(); }
                }
                let _ = uart.line();
            }
        }
    }
}
