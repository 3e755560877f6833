//! The PVH boot protocol: an ELF file whose note names a 32-bit entry.
//! Source: Xen docs/misc/pvh.pandoc and public/arch-x86/hvm/start_info.h (version 1).

use elf::ElfBytes;
use elf::abi::{PT_LOAD, PT_NOTE};
use elf::endian::LittleEndian;
use elf::note::Note;

use super::cpu_state::{self, InitialState};
use super::{BootError, BootFiles, layout, place_initrd, write_command_line};
use crate::memory::{GuestAddress, GuestMemory};

/// Type of the note with the physical address of the 32-bit entry.
const NOTE_ENTRY: u64 = 18;
const NOTE_NAME: &[u8] = b"Xen";
/// First word of the start record.
const MAGIC: u32 = 0x336e_c578;
const VERSION: u32 = 1;
const START_BYTES: u64 = 56;
const MODULE_BYTES: u64 = 32;
const MAP_ENTRY_BYTES: u64 = 24;
/// Any address that a 32-bit kernel reaches.
const HIGHEST_INITRD: u64 = 0xffff_ffff;

const _: () =
    assert!(START_BYTES + MODULE_BYTES + MAP_ENTRY_BYTES * layout::MAXIMUM_RANGES as u64 <= 0x1000);

/// Loads an ELF file.
///
/// # Errors
/// [`BootError`].
pub fn load(
    memory: &GuestMemory,
    files: &BootFiles,
    acpi: GuestAddress,
) -> Result<InitialState, BootError> {
    let image = ElfBytes::<LittleEndian>::minimal_parse(files.kernel)
        .map_err(|_| BootError::UnknownFormat)?;
    let entry = entry(&image)?;
    let kernel_end = load_segments(memory, &image)?;
    write_command_line(memory, files.command_line, u64::MAX)?;
    let module = match files.initrd {
        Some(initrd) => {
            let start = place_initrd(memory, initrd, kernel_end, HIGHEST_INITRD)?;
            Some((start.0, initrd.len() as u64))
        }
        None => None,
    };
    write_start_record(memory, module, acpi)?;
    Ok(cpu_state::protected_mode(
        memory,
        entry,
        layout::PVH_START.0,
        0,
    )?)
}

/// Copies the segments; returns the end of the highest one.
fn load_segments(memory: &GuestMemory, image: &ElfBytes<LittleEndian>) -> Result<u64, BootError> {
    let segments = image.segments().ok_or(BootError::Truncated)?;
    let mut highest = 0;
    for segment in segments.iter().filter(|segment| segment.p_type == PT_LOAD) {
        let bytes = image
            .segment_data(&segment)
            .map_err(|_| BootError::Truncated)?;
        let size = segment.p_memsz.max(bytes.len() as u64);
        let start = segment.p_paddr;
        let end = start.checked_add(size).ok_or(BootError::KernelDoesNotFit)?;
        if start < layout::KERNEL_FLOOR || end > memory.low_length() {
            return Err(BootError::KernelDoesNotFit);
        }
        memory.write(GuestAddress(start), bytes)?;
        let rest = start + bytes.len() as u64;
        memory.clear(GuestAddress(rest), end - rest)?;
        highest = highest.max(end);
    }
    if highest == 0 {
        return Err(BootError::Truncated);
    }
    Ok(highest)
}

/// The entry that the note names.
fn entry(image: &ElfBytes<LittleEndian>) -> Result<u64, BootError> {
    let segments = image.segments().ok_or(BootError::Truncated)?;
    for segment in segments.iter().filter(|segment| segment.p_type == PT_NOTE) {
        let Ok(notes) = image.segment_data_as_notes(&segment) else {
            continue;
        };
        for note in notes {
            if let Note::Unknown(note) = note
                && note.n_type == NOTE_ENTRY
                && note.name.strip_suffix(b"\0").unwrap_or(note.name) == NOTE_NAME
            {
                return entry_address(note.desc);
            }
        }
    }
    Err(BootError::NoEntry)
}

/// The note holds 4 or 8 bytes, depending on the file's class.
fn entry_address(description: &[u8]) -> Result<u64, BootError> {
    let mut bytes = [0; 8];
    let length = description.len().min(8);
    if length < 4 {
        return Err(BootError::NoEntry);
    }
    bytes[..length].copy_from_slice(&description[..length]);
    Ok(u64::from_le_bytes(bytes) & 0xffff_ffff)
}

/// Writes the start record, the module list and the memory map behind it.
fn write_start_record(
    memory: &GuestMemory,
    module: Option<(u64, u64)>,
    acpi: GuestAddress,
) -> Result<(), BootError> {
    let start = layout::PVH_START;
    let module_list = start.offset(START_BYTES);
    let map_start = module_list.offset(MODULE_BYTES);
    let map = layout::memory_map(memory);
    memory.clear(start, 0x1000)?;
    let mut at = start;
    let mut put = |bytes: &[u8]| -> Result<(), BootError> {
        memory.write(at, bytes)?;
        at = at.offset(bytes.len() as u64);
        Ok(())
    };
    put(&MAGIC.to_le_bytes())?;
    put(&VERSION.to_le_bytes())?;
    put(&0u32.to_le_bytes())?;
    put(&u32::from(module.is_some()).to_le_bytes())?;
    put(&module_list.0.to_le_bytes())?;
    put(&layout::COMMAND_LINE.0.to_le_bytes())?;
    put(&acpi.0.to_le_bytes())?;
    put(&map_start.0.to_le_bytes())?;
    put(&(map.len() as u32).to_le_bytes())?;
    put(&0u32.to_le_bytes())?;
    let (address, size) = module.unwrap_or_default();
    for word in [address, size, 0, 0] {
        put(&word.to_le_bytes())?;
    }
    for range in &map {
        put(&range.start.to_le_bytes())?;
        put(&range.length.to_le_bytes())?;
        put(&(range.kind as u64).to_le_bytes())?;
    }
    Ok(())
}
