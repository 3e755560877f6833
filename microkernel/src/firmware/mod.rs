//! What boot loaders and firmware leave in memory: pure parsers with every bound checked.
//!
//! `arch` says where the tables are and lends its view of physical memory ([`PhysicalMemory`]);
//! host tests lend an array. Separate from `boot`, which acts on the result, and from `arch`,
//! which acts on the hardware. Nothing that is read here is trusted: a wrong length ends a walk,
//! a wrong address is a missing table.

pub mod acpi;
pub mod memory_map;
pub mod multiboot2;
pub mod pvh;

#[cfg(test)]
mod test_memory;

use heapless::Vec;

use crate::boot::{
    Framebuffer, MAX_MEMORY_ENTRIES, MAX_MODULES, MemoryEntry, PhysicalRange, RSDP_BYTES,
};

/// Physical memory that can be read.
pub trait PhysicalMemory {
    /// Fills `bytes` from `address` on; `None` if any of it cannot be read.
    fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()>;

    /// The little-endian word of 8 bits at `base + offset`.
    fn u8_at(&self, base: u64, offset: u64) -> Option<u8> {
        let mut bytes = [0; 1];
        self.read(base.checked_add(offset)?, &mut bytes)?;
        Some(bytes[0])
    }

    /// The little-endian word of 16 bits at `base + offset`.
    fn u16_at(&self, base: u64, offset: u64) -> Option<u16> {
        let mut bytes = [0; 2];
        self.read(base.checked_add(offset)?, &mut bytes)?;
        Some(u16::from_le_bytes(bytes))
    }

    /// The little-endian word of 32 bits at `base + offset`.
    fn u32_at(&self, base: u64, offset: u64) -> Option<u32> {
        let mut bytes = [0; 4];
        self.read(base.checked_add(offset)?, &mut bytes)?;
        Some(u32::from_le_bytes(bytes))
    }

    /// The little-endian word of 64 bits at `base + offset`.
    fn u64_at(&self, base: u64, offset: u64) -> Option<u64> {
        let mut bytes = [0; 8];
        self.read(base.checked_add(offset)?, &mut bytes)?;
        Some(u64::from_le_bytes(bytes))
    }
}

/// What a boot loader hands over, whatever its protocol.
#[derive(Clone, Debug, Default)]
pub struct Handover {
    /// Its memory map; entries beyond the limit are dropped, so that their memory stays unused.
    pub memory_map: Vec<MemoryEntry, MAX_MEMORY_ENTRIES>,
    /// Its modules; those beyond the limit, and empty ones, are dropped.
    pub modules: Vec<PhysicalRange, MAX_MODULES>,
    /// The ACPI root pointer, if it passed one on.
    pub rsdp: Option<[u8; RSDP_BYTES]>,
    /// The framebuffer, if it set one up.
    pub framebuffer: Option<Framebuffer>,
}

impl Handover {
    fn add_memory(&mut self, entry: MemoryEntry) {
        // A full list drops the rest: memory that is not listed is memory that nobody uses.
        let _ = self.memory_map.push(entry);
    }

    fn add_module(&mut self, start: u64, end: u64) {
        let module = PhysicalRange { start, end };
        if !module.is_empty() {
            // As above; the root task comes first and always fits.
            let _ = self.modules.push(module);
        }
    }
}

/// Why a boot loader's information is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandoverError {
    /// The magic number is no known protocol's.
    UnknownProtocol,
    /// The information lies outside readable memory or contradicts itself.
    Malformed,
    /// There is no memory map.
    NoMemoryMap,
}
