//! PVH start information (Xen's `hvm_start_info`, version 0 or 1), as `qemu -kernel` passes it.

use super::{Handover, HandoverError, PhysicalMemory, acpi};
use crate::boot::MemoryEntry;

/// What the structure begins with. The protocol has no magic register, so the entry code puts
/// this number where Multiboot has its own.
pub const MAGIC: u32 = 0x336e_c578;

mod offset {
    pub const VERSION: u64 = 4;
    pub const MODULE_COUNT: u64 = 12;
    pub const MODULE_LIST: u64 = 16;
    pub const RSDP: u64 = 32;
    pub const MEMORY_MAP: u64 = 40;
    pub const MEMORY_MAP_ENTRIES: u64 = 48;
}

/// Bytes of a module list entry: address, size, command line, reserved.
const MODULE_BYTES: u64 = 32;
/// Bytes of a memory map entry: address, size, type, reserved.
const MEMORY_ENTRY_BYTES: u64 = 24;
/// Entries that are looked at; loaders have at most a few dozen.
const MAX_ENTRIES: u32 = 256;

/// Reads the information at `info`.
///
/// # Errors
/// `Malformed` if the structure cannot be read, `NoMemoryMap` if it has no memory map (version 0).
pub fn parse(memory: &impl PhysicalMemory, info: u64) -> Result<Handover, HandoverError> {
    if memory.u32_at(info, 0) != Some(MAGIC) {
        return Err(HandoverError::Malformed);
    }
    if memory.u32_at(info, offset::VERSION) == Some(0) {
        return Err(HandoverError::NoMemoryMap);
    }
    let mut handover = Handover::default();
    parse_fields(memory, info, &mut handover).ok_or(HandoverError::Malformed)?;
    if handover.memory_map.is_empty() {
        return Err(HandoverError::NoMemoryMap);
    }
    Ok(handover)
}

fn parse_fields(memory: &impl PhysicalMemory, info: u64, handover: &mut Handover) -> Option<()> {
    let modules = memory.u64_at(info, offset::MODULE_LIST)?;
    let count = memory.u32_at(info, offset::MODULE_COUNT)?.min(MAX_ENTRIES);
    for index in 0..u64::from(count) {
        let start = memory.u64_at(modules, index * MODULE_BYTES)?;
        let size = memory.u64_at(modules, index * MODULE_BYTES + 8)?;
        handover.add_module(start, start.checked_add(size)?);
    }
    let map = memory.u64_at(info, offset::MEMORY_MAP)?;
    let count = memory
        .u32_at(info, offset::MEMORY_MAP_ENTRIES)?
        .min(MAX_ENTRIES);
    for index in 0..u64::from(count) {
        let entry = index * MEMORY_ENTRY_BYTES;
        handover.add_memory(MemoryEntry {
            base: memory.u64_at(map, entry)?,
            length: memory.u64_at(map, entry + 8)?,
            kind: memory.u32_at(map, entry + 16)?,
        });
    }
    let rsdp = memory.u64_at(info, offset::RSDP)?;
    if rsdp != 0 {
        handover.rsdp = acpi::read_rsdp(memory, rsdp);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::PhysicalRange;
    use crate::firmware::test_memory::TestMemory;
    use proptest::prelude::*;

    const BASE: u64 = 0x1000;

    fn start_info() -> TestMemory {
        let mut memory = TestMemory::zeroed(BASE, 0x400);
        memory.put(BASE, &MAGIC.to_le_bytes());
        memory.put(BASE + offset::VERSION, &1u32.to_le_bytes());
        memory.put(BASE + offset::MODULE_COUNT, &1u32.to_le_bytes());
        memory.put(BASE + offset::MODULE_LIST, &(BASE + 0x100).to_le_bytes());
        memory.put(BASE + 0x100, &0x80_0000u64.to_le_bytes());
        memory.put(BASE + 0x108, &0x1234u64.to_le_bytes());
        memory.put(BASE + offset::MEMORY_MAP, &(BASE + 0x200).to_le_bytes());
        memory.put(BASE + offset::MEMORY_MAP_ENTRIES, &2u32.to_le_bytes());
        memory.put(BASE + 0x208, &0xa_0000u64.to_le_bytes());
        memory.put(BASE + 0x210, &1u32.to_le_bytes());
        memory.put(BASE + 0x218, &0x10_0000u64.to_le_bytes());
        memory.put(BASE + 0x220, &0x700_0000u64.to_le_bytes());
        memory.put(BASE + 0x228, &2u32.to_le_bytes());
        memory
    }

    #[test]
    fn modules_and_memory_are_read() {
        let found = parse(&start_info(), BASE).unwrap();
        let module = PhysicalRange {
            start: 0x80_0000,
            end: 0x80_1234,
        };
        assert_eq!(found.modules, [module]);
        let entries = [
            MemoryEntry {
                base: 0,
                length: 0xa_0000,
                kind: 1,
            },
            MemoryEntry {
                base: 0x10_0000,
                length: 0x700_0000,
                kind: 2,
            },
        ];
        assert_eq!(found.memory_map, entries);
        assert_eq!(found.rsdp, None);
    }

    #[test]
    fn version_0_has_no_memory_map() {
        let mut memory = start_info();
        memory.put(BASE + offset::VERSION, &[0]);
        assert_eq!(
            parse(&memory, BASE).unwrap_err(),
            HandoverError::NoMemoryMap
        );
    }

    #[test]
    fn a_wrong_magic_or_pointer_is_refused() {
        let mut memory = start_info();
        memory.put(BASE, &[0]);
        assert_eq!(parse(&memory, BASE).unwrap_err(), HandoverError::Malformed);
        let mut memory = start_info();
        memory.put(BASE + offset::MODULE_LIST, &u64::MAX.to_le_bytes());
        assert_eq!(parse(&memory, BASE).unwrap_err(), HandoverError::Malformed);
    }

    proptest! {
        #[test]
        fn damaged_information_never_panics(
            damage in prop::collection::vec((0usize..0x240, any::<u8>()), 1..8)
        ) {
            let mut memory = start_info();
            for (at, value) in damage {
                memory.bytes[at] = value;
            }
            let _ = parse(&memory, BASE);
        }
    }
}
