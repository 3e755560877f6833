//! The debug console: COM1, and the debug port of emulators. Boot, panics and debug system calls
//! print here; a system in use has a console server.

use core::fmt::{self, Write};

use x86::io::{inb, outb};

const COM1: u16 = 0x3f8;
const INTERRUPT_ENABLE: u16 = COM1 + 1;
const FIFO_CONTROL: u16 = COM1 + 2;
const LINE_CONTROL: u16 = COM1 + 3;
const MODEM_CONTROL: u16 = COM1 + 4;
const LINE_STATUS: u16 = COM1 + 5;
const DEBUG_PORT: u16 = 0xe9;

const DIVISOR_ACCESS: u8 = 0x80;
const EIGHT_BITS: u8 = 3;
const ENABLE_AND_CLEAR_FIFOS: u8 = 7;
const READY_LINES: u8 = 3;
const TRANSMITTER_EMPTY: u8 = 0x20;
/// Looks at the line status before a byte is sent anyway: more than a byte takes at 115,200 baud,
/// so only a UART that does not work costs that much.
const PATIENCE: u32 = 100_000;

/// Sets COM1 to 115,200 baud, 8 bits, no parity, without interrupts.
pub fn initialise() {
    // SAFETY: the standard registers of COM1; harmless where there is no UART.
    unsafe {
        outb(INTERRUPT_ENABLE, 0);
        outb(LINE_CONTROL, DIVISOR_ACCESS);
        outb(COM1, 1);
        outb(INTERRUPT_ENABLE, 0);
        outb(LINE_CONTROL, EIGHT_BITS);
        outb(FIFO_CONTROL, ENABLE_AND_CLEAR_FIFOS);
        outb(MODEM_CONTROL, READY_LINES);
    }
}

/// Prints a byte on the debug console.
pub fn debug_put_char(byte: u8) {
    // SAFETY: as above; nobody but emulators has anything at the debug port.
    unsafe {
        outb(DEBUG_PORT, byte);
        for _ in 0..PATIENCE {
            if inb(LINE_STATUS) & TRANSMITTER_EMPTY != 0 {
                break;
            }
        }
        outb(COM1, byte);
    }
}

/// The console as a text writer; a line feed gets the carriage return that terminals want.
pub struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            if byte == b'\n' {
                debug_put_char(b'\r');
            }
            debug_put_char(byte);
        }
        Ok(())
    }
}

/// Prints a line of the kernel's own.
macro_rules! print_line {
    ($($argument:tt)*) => {{
        use core::fmt::Write;
        // The console never fails.
        let _ = writeln!($crate::arch::x86_64::console::Console, $($argument)*);
    }};
}
pub(super) use print_line;
