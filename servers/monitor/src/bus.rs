//! What an emulated instruction can reach beside RAM: ports and device memory.

use crate::exit::AccessSize;
use crate::memory::GuestAddress;

/// Ports and device memory. Never fails: what nobody claims reads all ones and swallows writes,
/// as on a PC.
pub trait Bus {
    /// Reads device memory.
    fn read_memory(&mut self, address: GuestAddress, size: AccessSize) -> u64;
    /// Writes device memory.
    fn write_memory(&mut self, address: GuestAddress, size: AccessSize, value: u64);
    /// Reads a port.
    fn read_port(&mut self, port: u16, size: AccessSize) -> u64;
    /// Writes a port.
    fn write_port(&mut self, port: u16, size: AccessSize, value: u64);
}
