//! COM1, and `say!`.

use core::fmt::{self, Write};

use crate::apic;
use crate::cpu::{self, Width};

/// COM1.
pub const COM1: u16 = 0x3f8;
const LINE_CONTROL: u16 = COM1 + 3;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;
const RECEIVED: u32 = 1 << 0;
const READY: u32 = 1 << 5;
const ENTER: u32 = b'\r' as u32;
/// How often one that waits for a key looks.
const POLL_MS: u32 = 20;
/// How often the transmitter is asked before a byte is sent anyway: a guest whose console nobody
/// reads goes on.
const PATIENCE: u32 = 20_000;

/// Prints a line.
macro_rules! say {
    ($($words:tt)*) => {
        $crate::serial::print(format_args!($($words)*))
    };
}
pub(crate) use say;

/// Puts the port into order: eight bits, no interrupts, nothing received.
pub fn reset() {
    for (port, value) in [
        (LINE_CONTROL, 0x03),
        (COM1 + 1, 0),
        (COM1 + 2, 0x07),
        (MODEM_CONTROL, 0x03),
    ] {
        cpu::output(port, Width::Byte, value);
    }
}

/// Sleeps until somebody types Enter.
pub fn await_enter() {
    loop {
        while cpu::input(LINE_STATUS, Width::Byte) & RECEIVED != 0 {
            if cpu::input(COM1, Width::Byte) == ENTER {
                return;
            }
        }
        apic::nap(POLL_MS);
    }
}

/// Prints `words` and ends the line.
pub fn print(words: fmt::Arguments<'_>) {
    // Sending does not fail.
    let _ = Port.write_fmt(words);
    let _ = Port.write_str("\r\n");
}

struct Port;

impl Write for Port {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            let mut turns = 0;
            while cpu::input(LINE_STATUS, Width::Byte) & READY == 0 && turns < PATIENCE {
                turns += 1;
            }
            cpu::output(COM1, Width::Byte, u32::from(byte));
        }
        Ok(())
    }
}
