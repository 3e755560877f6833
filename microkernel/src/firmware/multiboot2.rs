//! Multiboot 2 boot information (Multiboot2 Specification 2.0, section 3.6).

use super::{Handover, HandoverError, PhysicalMemory};
use crate::boot::{Framebuffer, MemoryEntry, RSDP_BYTES};

/// What EAX holds at entry.
pub const MAGIC: u32 = 0x36d7_6289;

/// Largest boot information that is read: GRUB's is a few KiB, an EFI memory map 10 KiB more.
const MAX_INFO_BYTES: u64 = 1 << 20;

mod tag {
    pub const END: u32 = 0;
    pub const MODULE: u32 = 3;
    pub const MEMORY_MAP: u32 = 6;
    pub const FRAMEBUFFER: u32 = 8;
    pub const ACPI_OLD: u32 = 14;
    pub const ACPI_NEW: u32 = 15;
}

/// Reads the information at `info`.
///
/// # Errors
/// `Malformed` if the structure cannot be read or a tag reaches behind its end, `NoMemoryMap` if
/// there is no memory map.
pub fn parse(memory: &impl PhysicalMemory, info: u64) -> Result<Handover, HandoverError> {
    let mut handover = Handover::default();
    let total = u64::from(memory.u32_at(info, 0).ok_or(HandoverError::Malformed)?);
    if total > MAX_INFO_BYTES {
        return Err(HandoverError::Malformed);
    }
    let mut offset = 8;
    while offset + 8 <= total {
        let (kind, size) = header(memory, info + offset).ok_or(HandoverError::Malformed)?;
        if kind == tag::END {
            break;
        }
        if size < 8 || offset + size > total {
            return Err(HandoverError::Malformed);
        }
        parse_tag(memory, info + offset, kind, size, &mut handover)
            .ok_or(HandoverError::Malformed)?;
        offset += size.next_multiple_of(8);
    }
    if handover.memory_map.is_empty() {
        return Err(HandoverError::NoMemoryMap);
    }
    Ok(handover)
}

/// Type and size of the tag at `at`.
fn header(memory: &impl PhysicalMemory, at: u64) -> Option<(u32, u64)> {
    Some((memory.u32_at(at, 0)?, u64::from(memory.u32_at(at, 4)?)))
}

fn parse_tag(
    memory: &impl PhysicalMemory,
    at: u64,
    kind: u32,
    size: u64,
    handover: &mut Handover,
) -> Option<()> {
    match kind {
        tag::MODULE if size >= 16 => {
            let start = memory.u32_at(at, 8)?;
            let end = memory.u32_at(at, 12)?;
            handover.add_module(u64::from(start), u64::from(end));
        }
        tag::MEMORY_MAP if size >= 16 => memory_map(memory, at, size, handover)?,
        tag::FRAMEBUFFER if size >= 31 => {
            handover.framebuffer = Some(Framebuffer {
                address: memory.u64_at(at, 8)?,
                pitch: memory.u32_at(at, 16)?,
                width: memory.u32_at(at, 20)?,
                height: memory.u32_at(at, 24)?,
                bits_per_pixel: memory.u8_at(at, 28)?,
                kind: memory.u8_at(at, 29)?,
            });
        }
        // The newer pointer wins, whichever comes first.
        tag::ACPI_OLD if handover.rsdp.is_none() => handover.rsdp = rsdp(memory, at, size),
        tag::ACPI_NEW => handover.rsdp = rsdp(memory, at, size).or(handover.rsdp),
        _ => {}
    }
    Some(())
}

fn memory_map(
    memory: &impl PhysicalMemory,
    at: u64,
    size: u64,
    handover: &mut Handover,
) -> Option<()> {
    let entry_size = u64::from(memory.u32_at(at, 8)?);
    if entry_size < 24 {
        return None;
    }
    let mut offset = 16;
    while offset + entry_size <= size {
        handover.add_memory(MemoryEntry {
            base: memory.u64_at(at, offset)?,
            length: memory.u64_at(at, offset + 8)?,
            kind: memory.u32_at(at, offset + 16)?,
        });
        offset += entry_size;
    }
    Some(())
}

/// The copy of the root pointer in a tag; a short one is padded with zeros.
fn rsdp(memory: &impl PhysicalMemory, at: u64, size: u64) -> Option<[u8; RSDP_BYTES]> {
    let mut bytes = [0; RSDP_BYTES];
    let length = usize::try_from(size - 8).ok()?.min(RSDP_BYTES);
    memory.read(at + 8, &mut bytes[..length])?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot::PhysicalRange;
    use crate::firmware::test_memory::TestMemory;
    use proptest::prelude::*;
    use std::vec::Vec;

    const BASE: u64 = 0x9000;

    fn tag(kind: u32, body: &[u8]) -> Vec<u8> {
        let mut bytes = kind.to_le_bytes().to_vec();
        bytes.extend((8 + body.len() as u32).to_le_bytes());
        bytes.extend(body);
        bytes.resize(bytes.len().next_multiple_of(8), 0);
        bytes
    }

    fn info(tags: &[Vec<u8>]) -> TestMemory {
        let body = [tags.concat(), tag(tag::END, &[])].concat();
        let mut bytes = (8 + body.len() as u32).to_le_bytes().to_vec();
        bytes.extend([0; 4]);
        bytes.extend(body);
        TestMemory { base: BASE, bytes }
    }

    fn map_tag(entries: &[(u64, u64, u32)]) -> Vec<u8> {
        let mut body = 24u32.to_le_bytes().to_vec();
        body.extend(0u32.to_le_bytes());
        for (base, length, kind) in entries {
            body.extend(base.to_le_bytes());
            body.extend(length.to_le_bytes());
            body.extend(kind.to_le_bytes());
            body.extend([0; 4]);
        }
        tag(tag::MEMORY_MAP, &body)
    }

    fn module_tag(start: u32, end: u32) -> Vec<u8> {
        tag(
            tag::MODULE,
            &[&start.to_le_bytes()[..], &end.to_le_bytes(), b"name\0"].concat(),
        )
    }

    #[test]
    fn memory_and_modules_come_in_the_loaders_order() {
        let memory = info(&[
            module_tag(0x20_0000, 0x20_1234),
            map_tag(&[(0, 0x9_fc00, 1), (0x10_0000, 0x700_0000, 1)]),
            module_tag(0x30_0000, 0x30_0000),
            module_tag(0x40_0000, 0x40_0001),
        ]);
        let found = parse(&memory, BASE).unwrap();
        let range = |start, end| PhysicalRange { start, end };
        assert_eq!(
            found.modules,
            [range(0x20_0000, 0x20_1234), range(0x40_0000, 0x40_0001)]
        );
        let second = MemoryEntry {
            base: 0x10_0000,
            length: 0x700_0000,
            kind: 1,
        };
        assert_eq!(found.memory_map[1], second);
    }

    #[test]
    fn the_new_root_pointer_wins_over_the_old_in_either_order() {
        let (old, new) = (tag(tag::ACPI_OLD, &[1; 20]), tag(tag::ACPI_NEW, &[2; 36]));
        for tags in [[old.clone(), new.clone()], [new, old.clone()]] {
            let memory = info(&[&tags[..], &[map_tag(&[(0, 1, 1)])]].concat());
            assert_eq!(parse(&memory, BASE).unwrap().rsdp, Some([2; 36]));
        }
        let memory = info(&[old, map_tag(&[(0, 1, 1)])]);
        let padded = parse(&memory, BASE).unwrap().rsdp.unwrap();
        assert_eq!((&padded[..20], &padded[20..]), (&[1; 20][..], &[0; 16][..]));
    }

    #[test]
    fn the_framebuffer_is_read_field_by_field() {
        let mut body = 0xfd00_0000u64.to_le_bytes().to_vec();
        for word in [4096u32, 1024, 768] {
            body.extend(word.to_le_bytes());
        }
        body.extend([32, 1, 0, 0]);
        let memory = info(&[tag(tag::FRAMEBUFFER, &body), map_tag(&[(0, 1, 1)])]);
        let expected = Framebuffer {
            address: 0xfd00_0000,
            pitch: 4096,
            width: 1024,
            height: 768,
            bits_per_pixel: 32,
            kind: 1,
        };
        // The tag is one byte longer than its fixed part in GRUB's encoding.
        assert_eq!(parse(&memory, BASE).unwrap().framebuffer, Some(expected));
    }

    #[test]
    fn lengths_that_contradict_each_other_are_refused() {
        assert_eq!(
            parse(&info(&[]), BASE).unwrap_err(),
            HandoverError::NoMemoryMap
        );
        let mut long_tag = info(&[module_tag(1, 2)]);
        long_tag.put(BASE + 12, &u32::MAX.to_le_bytes());
        assert_eq!(
            parse(&long_tag, BASE).unwrap_err(),
            HandoverError::Malformed
        );
        let mut short_tag = info(&[module_tag(1, 2)]);
        short_tag.put(BASE + 12, &7u32.to_le_bytes());
        assert_eq!(
            parse(&short_tag, BASE).unwrap_err(),
            HandoverError::Malformed
        );
        let mut long = info(&[]);
        long.put(BASE, &u32::MAX.to_le_bytes());
        assert_eq!(parse(&long, BASE).unwrap_err(), HandoverError::Malformed);
    }

    proptest! {
        #[test]
        fn random_information_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            let memory = TestMemory { base: BASE, bytes };
            let _ = parse(&memory, BASE);
        }

        #[test]
        fn damaged_information_never_panics(at in 0usize..120, value: u8) {
            let mut memory = info(&[module_tag(1, 2), map_tag(&[(0, 1, 1), (1, 2, 3)])]);
            let length = memory.bytes.len();
            memory.bytes[at % length] = value;
            let _ = parse(&memory, BASE);
        }
    }
}
