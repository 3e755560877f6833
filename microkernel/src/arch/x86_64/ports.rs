//! I/O ports on behalf of user code, which holds a capability to them.

use x86::io::{inb, inl, inw, outb, outl, outw};

use crate::arch::PortWidth;

/// Reads an I/O port.
#[must_use]
pub fn port_in(port: u16, width: PortWidth) -> u32 {
    // SAFETY: the port is the capability holder's; the kernel uses none that it gives out, except
    // COM1 and the debug port to print.
    unsafe {
        match width {
            PortWidth::Byte => u32::from(inb(port)),
            PortWidth::Word => u32::from(inw(port)),
            PortWidth::Long => inl(port),
        }
    }
}

/// Writes an I/O port.
pub fn port_out(port: u16, width: PortWidth, value: u32) {
    // SAFETY: as for `port_in`.
    unsafe {
        match width {
            PortWidth::Byte => outb(port, value as u8),
            PortWidth::Word => outw(port, value as u16),
            PortWidth::Long => outl(port, value),
        }
    }
}
