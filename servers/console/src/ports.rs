//! Port access as an argument: the drivers of the UART and the keyboard own no capability and no
//! instruction, so that the host can test them against a model of the device.

/// Reads and writes 8-bit I/O ports. On Tessera each call is an invocation of an I/O port capability.
pub trait Ports {
    /// Reads one byte from `port`.
    fn read(&mut self, port: u16) -> u8;
    /// Writes `value` to `port`.
    fn write(&mut self, port: u16, value: u8);
}
