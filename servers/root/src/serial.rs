//! The serial port, while nobody drives it.
//!
//! Before console runs, and when it is down for good, root's own lines would be seen nowhere. Root
//! then prints them itself, by polling.

use libcap::capability::IoPort;

/// Ports of the first serial port.
pub const PORTS: (u16, u16) = (0x3f8, 0x3ff);
const DATA: u16 = 0x3f8;
const LINE_STATUS: u16 = 0x3fd;
/// Bit of the line status: a byte can be written.
const ROOM: u8 = 1 << 5;
/// How often the status is asked for before a byte is given up: at 115,200 baud a byte takes 87 µs.
const POLLS: u32 = 10_000;
/// Interrupts off; divisor 1 (115,200 baud) behind the divisor latch; 8N1; FIFO on.
const SET_UP: [(u16, u8); 6] = [
    (0x3f9, 0),
    (0x3fb, 0x80),
    (0x3f8, 1),
    (0x3f9, 0),
    (0x3fb, 3),
    (0x3fa, 0xc7),
];

/// The port.
#[derive(Debug, Clone, Copy)]
pub struct Serial(IoPort);

impl Serial {
    /// Sets the port up.
    #[must_use]
    pub fn new(ports: IoPort) -> Self {
        for (port, value) in SET_UP {
            // Without a port there, nothing is lost that could be said anywhere.
            let _ = ports.write_u8(port, value);
        }
        Self(ports)
    }

    fn write_byte(self, byte: u8) {
        let has_room = |_: &u32| {
            self.0
                .read_u8(LINE_STATUS)
                .is_ok_and(|status| status & ROOM != 0)
        };
        if (0..POLLS).any(|poll| has_room(&poll)) {
            let _ = self.0.write_u8(DATA, byte);
        }
    }
}

impl core::fmt::Write for Serial {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        text.bytes().for_each(|byte| self.write_byte(byte));
        Ok(())
    }
}
