//! Where the figures go: lines on COM1, through its ports, because a release kernel prints nothing
//! for its programs. The kernel has set the line up.

use core::fmt::{self, Write};

use libcap::capability::IoPort;
use libcap::kernel;

use crate::figure::Figure;
use crate::workshop::Workshop;

/// Ports of COM1.
const COM1: u16 = 0x3f8;
/// Offset of the line status register, and its bit that says there is room for a byte.
const LINE_STATUS: u16 = 5;
const ROOM: u8 = 1 << 5;
/// Port that ends QEMU: writing `n` makes its exit code `2n + 1`.
const EXIT_PORT: u16 = 0xf4;

/// The way to COM1.
pub struct Report {
    ports: IoPort,
}

impl Report {
    /// Takes COM1's ports.
    pub fn new(workshop: &mut Workshop) -> Self {
        Self {
            ports: workshop.ports(COM1, COM1 + 7),
        }
    }

    /// Prints a line.
    pub fn line(&mut self, text: fmt::Arguments<'_>) {
        // Writing to the ports does not fail.
        let _ = writeln!(self, "bench: {text}");
    }

    /// Prints a figure.
    pub fn figure(&mut self, name: &str, figure: Figure) {
        self.line(format_args!("{name} = {figure}"));
    }

    /// Prints a figure of an operation in some setting.
    pub fn figure_of(&mut self, operation: &str, setting: &str, figure: Figure) {
        self.line(format_args!("{operation} {setting} = {figure}"));
    }

    /// Ends QEMU; on another machine the thread idles.
    pub fn end_emulator(&mut self, workshop: &mut Workshop) -> ! {
        let port = workshop.ports(EXIT_PORT, EXIT_PORT + 3);
        // Nothing is there on other machines.
        let _ = port.write_u32(EXIT_PORT, 0);
        loop {
            kernel::yield_now();
        }
    }
}

impl Write for Report {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            while self
                .ports
                .read_u8(COM1 + LINE_STATUS)
                .map_err(|_| fmt::Error)?
                & ROOM
                == 0
            {}
            self.ports.write_u8(COM1, byte).map_err(|_| fmt::Error)?;
        }
        Ok(())
    }
}
