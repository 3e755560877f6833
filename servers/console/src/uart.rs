//! The 16550 on COM1: 115200 8N1, FIFOs on, driven by interrupts.
//!
//! Owns the device's registers and nothing else; what is sent and where received bytes go is its
//! caller's. Neighbours: [`crate::ports`] below, [`crate::switchboard`] above. Register names and bits
//! are those of the PC16550D data sheet.

use crate::ports::Ports;

/// First port of COM1.
pub const COM1: u16 = 0x3f8;
/// The interrupt line of COM1.
pub const COM1_IRQ: u8 = 4;

/// Bytes the transmit FIFO of a 16550A takes once it is empty.
const FIFO_BYTES: usize = 16;
/// 1.8432 MHz / 16 / 115200 baud.
const DIVISOR_115200: u16 = 1;
/// Causes served in one call: a device that never goes quiet must not hold the server forever. Each
/// cause is one FIFO of bytes, so this is far more than arrives between two looks.
const MAX_CAUSES: usize = 64;
/// Bytes taken for one receive cause: several times the FIFO, for bytes that arrive meanwhile.
const MAX_RECEIVE: usize = 64;

// Register offsets.
const DATA: u16 = 0;
const INTERRUPT_ENABLE: u16 = 1;
const INTERRUPT_IDENTITY: u16 = 2;
const FIFO_CONTROL: u16 = 2;
const LINE_CONTROL: u16 = 3;
const MODEM_CONTROL: u16 = 4;
const LINE_STATUS: u16 = 5;
const MODEM_STATUS: u16 = 6;
const SCRATCH: u16 = 7;

const ENABLE_RECEIVED: u8 = 0x01;
const ENABLE_TRANSMIT_EMPTY: u8 = 0x02;
const ENABLE_LINE_STATUS: u8 = 0x04;
const FIFO_ON: u8 = 0x01;
const FIFO_CLEAR_BOTH: u8 = 0x06;
const FIFO_TRIGGER_8: u8 = 0x80;
const LINE_8N1: u8 = 0x03;
const LINE_DIVISOR_LATCH: u8 = 0x80;
/// DTR, RTS and OUT2, which gates the interrupt line on a PC.
const MODEM_READY: u8 = 0x0b;
const STATUS_DATA_READY: u8 = 0x01;
const STATUS_TRANSMIT_EMPTY: u8 = 0x20;
const IDENTITY_NONE: u8 = 0x01;
const IDENTITY_CAUSE: u8 = 0x0e;
const CAUSE_MODEM_STATUS: u8 = 0x00;
const CAUSE_TRANSMIT_EMPTY: u8 = 0x02;
const CAUSE_RECEIVED: u8 = 0x04;
const CAUSE_LINE_STATUS: u8 = 0x06;
const CAUSE_RECEIVE_TIMEOUT: u8 = 0x0c;

/// The UART did not answer at its address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UartAbsent;

/// A 16550 that is set up.
#[derive(Debug)]
pub struct Uart {
    base: u16,
}

impl Uart {
    /// Sets the device at `base` up and turns its interrupts on.
    ///
    /// # Errors
    /// [`UartAbsent`] if the scratch register does not hold what is written to it; nothing else of the
    /// device was touched then.
    pub fn new(ports: &mut impl Ports, base: u16) -> Result<Self, UartAbsent> {
        for probe in [0x5a, 0xa5] {
            ports.write(base + SCRATCH, probe);
            if ports.read(base + SCRATCH) != probe {
                return Err(UartAbsent);
            }
        }
        ports.write(base + INTERRUPT_ENABLE, 0);
        ports.write(base + LINE_CONTROL, LINE_DIVISOR_LATCH | LINE_8N1);
        let [low, high] = DIVISOR_115200.to_le_bytes();
        ports.write(base + DATA, low);
        ports.write(base + INTERRUPT_ENABLE, high);
        ports.write(base + LINE_CONTROL, LINE_8N1);
        ports.write(
            base + FIFO_CONTROL,
            FIFO_ON | FIFO_CLEAR_BOTH | FIFO_TRIGGER_8,
        );
        ports.write(base + MODEM_CONTROL, MODEM_READY);
        ports.write(
            base + INTERRUPT_ENABLE,
            ENABLE_RECEIVED | ENABLE_TRANSMIT_EMPTY | ENABLE_LINE_STATUS,
        );
        Ok(Self { base })
    }

    /// Serves every cause the device names, until it names none: its line is edge-triggered, and a cause
    /// left behind would keep the line high and never make another edge. For the same reason the
    /// interrupt must be acknowledged (unmasked) *before* this call: an edge on a masked line is lost.
    pub fn interrupt(&mut self, ports: &mut impl Ports, mut received: impl FnMut(u8)) {
        for _ in 0..MAX_CAUSES {
            let identity = ports.read(self.base + INTERRUPT_IDENTITY);
            if identity & IDENTITY_NONE != 0 {
                return;
            }
            match identity & IDENTITY_CAUSE {
                CAUSE_RECEIVED | CAUSE_RECEIVE_TIMEOUT => self.receive(ports, &mut received),
                CAUSE_LINE_STATUS => {
                    ports.read(self.base + LINE_STATUS);
                }
                CAUSE_MODEM_STATUS => {
                    ports.read(self.base + MODEM_STATUS);
                }
                // Reading the identity was the acknowledgement; the caller sends next.
                CAUSE_TRANSMIT_EMPTY => {}
                _ => return,
            }
        }
    }

    fn receive(&self, ports: &mut impl Ports, received: &mut impl FnMut(u8)) {
        for _ in 0..MAX_RECEIVE {
            if ports.read(self.base + LINE_STATUS) & STATUS_DATA_READY == 0 {
                return;
            }
            received(ports.read(self.base + DATA));
        }
    }

    /// Sends one FIFO of bytes from `next` if the FIFO is empty. The device interrupts when it is empty
    /// again, so this is called after every [`Uart::interrupt`] and whenever there is something new.
    pub fn send(&mut self, ports: &mut impl Ports, mut next: impl FnMut() -> Option<u8>) {
        if ports.read(self.base + LINE_STATUS) & STATUS_TRANSMIT_EMPTY == 0 {
            return;
        }
        for _ in 0..FIFO_BYTES {
            let Some(byte) = next() else { return };
            ports.write(self.base + DATA, byte);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::VecDeque;

    /// As much of a 16550 as the driver can tell from a real one.
    #[derive(Default)]
    struct Device {
        scratch: u8,
        enable: u8,
        line_control: u8,
        divisor: [u8; 2],
        modem_control: u8,
        fifo_control: u8,
        input: VecDeque<u8>,
        fifo: Vec<u8>,
        sent: Vec<u8>,
        empty_pending: bool,
        absent: bool,
    }

    impl Device {
        fn drain(&mut self) {
            self.sent.append(&mut self.fifo);
            self.empty_pending = true;
        }
        fn interrupting(&self) -> bool {
            !self.input.is_empty() && self.enable & 1 != 0
                || self.empty_pending && self.enable & 2 != 0
        }
    }

    impl Ports for Device {
        fn read(&mut self, port: u16) -> u8 {
            if self.absent {
                return 0xff;
            }
            match port - COM1 {
                DATA => self.input.pop_front().unwrap_or(0),
                INTERRUPT_IDENTITY if !self.input.is_empty() => 0xc0 | CAUSE_RECEIVED,
                INTERRUPT_IDENTITY if self.empty_pending => {
                    self.empty_pending = false;
                    0xc0 | CAUSE_TRANSMIT_EMPTY
                }
                INTERRUPT_IDENTITY => 0xc1,
                LINE_STATUS => {
                    u8::from(!self.input.is_empty()) | if self.fifo.is_empty() { 0x60 } else { 0 }
                }
                SCRATCH => self.scratch,
                _ => 0,
            }
        }
        fn write(&mut self, port: u16, value: u8) {
            let latch = self.line_control & LINE_DIVISOR_LATCH != 0;
            match port - COM1 {
                DATA if latch => self.divisor[0] = value,
                INTERRUPT_ENABLE if latch => self.divisor[1] = value,
                DATA => {
                    assert!(self.fifo.len() < FIFO_BYTES, "transmit FIFO overrun");
                    self.fifo.push(value);
                }
                INTERRUPT_ENABLE => self.enable = value,
                FIFO_CONTROL => self.fifo_control = value,
                LINE_CONTROL => self.line_control = value,
                MODEM_CONTROL => self.modem_control = value,
                SCRATCH => self.scratch = value,
                _ => {}
            }
        }
    }

    #[test]
    fn is_set_up_as_115200_8n1_with_fifos_and_interrupts() {
        let mut device = Device::default();
        Uart::new(&mut device, COM1).unwrap();
        assert_eq!(device.divisor, [1, 0]);
        assert_eq!(device.line_control, LINE_8N1);
        assert_eq!(device.fifo_control & FIFO_ON, FIFO_ON);
        assert_eq!(device.enable, 0x07);
        assert_eq!(device.modem_control & 0x08, 0x08, "OUT2 gates the line");
    }

    #[test]
    fn a_missing_device_is_refused() {
        let mut device = Device {
            absent: true,
            ..Device::default()
        };
        assert_eq!(Uart::new(&mut device, COM1).err(), Some(UartAbsent));
        assert_eq!(device.enable, 0);
    }

    #[test]
    fn a_long_text_goes_out_one_fifo_per_interrupt_in_order() {
        let mut device = Device::default();
        let mut uart = Uart::new(&mut device, COM1).unwrap();
        let text: Vec<u8> = (0..100).collect();
        let mut rest = text.iter().copied();
        uart.send(&mut device, || rest.next());
        assert_eq!(device.fifo.len(), FIFO_BYTES);
        uart.send(&mut device, || rest.next());
        assert_eq!(device.fifo.len(), FIFO_BYTES, "a full FIFO takes no more");
        for _ in 0..7 {
            device.drain();
            uart.interrupt(&mut device, |_| ());
            uart.send(&mut device, || rest.next());
        }
        device.drain();
        assert_eq!(device.sent, text);
    }

    #[test]
    fn every_received_byte_is_taken_and_the_line_goes_quiet() {
        let mut device = Device::default();
        let mut uart = Uart::new(&mut device, COM1).unwrap();
        device.input = (0..200).collect();
        device.empty_pending = true;
        let mut got = Vec::new();
        uart.interrupt(&mut device, |byte| got.push(byte));
        assert_eq!(got, (0..200).collect::<Vec<u8>>());
        assert!(!device.interrupting());
    }

    #[test]
    fn a_device_that_always_interrupts_does_not_hold_the_driver() {
        struct Storm;
        impl Ports for Storm {
            fn read(&mut self, port: u16) -> u8 {
                match port - COM1 {
                    INTERRUPT_IDENTITY => CAUSE_RECEIVED,
                    _ => 0xff,
                }
            }
            fn write(&mut self, _: u16, _: u8) {}
        }
        let mut count = 0;
        Uart { base: COM1 }.interrupt(&mut Storm, |_| count += 1);
        assert_eq!(count, MAX_CAUSES * MAX_RECEIVE);
    }
}
