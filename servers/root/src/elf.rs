//! The segments of a program's ELF file.
//!
//! Files come from the boot archive, whose checksums say that they are as they were built; still
//! every field is checked, because root must not fail on a bad one. Format: System V ABI, ELF-64.

use alloc::vec::Vec;
use proto::start::IMAGE_FIRST;
use sel4_sys::object::USER_TOP;

const PAGE: u64 = 4096;
/// Most loadable segments; Tessera's linker script makes three.
const SEGMENTS_MAX: usize = 16;
/// Images lie between [`IMAGE_FIRST`] and this; above are the regions of [`crate::layout`].
const IMAGE_END: u64 = crate::layout::START_INFO;
const FILE_HEADER_BYTES: usize = 64;
const PROGRAM_HEADER_BYTES: usize = 56;
const LOADABLE: u32 = 1;

/// Why a file is no program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ElfError {
    /// Not a static ELF64 file for x86-64.
    NotAProgram,
    /// A header or segment lies outside of the file.
    Truncated,
    /// Too many segments.
    TooManySegments,
    /// A segment lies outside of the image's address range, or on a page of another.
    BadAddress,
    /// A segment is writable and executable.
    WritableCode,
}

/// What may be done with a segment's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Read only.
    Read,
    /// Read and execute.
    Execute,
    /// Read and write.
    Write,
}

/// A loadable segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment<'a> {
    /// First address.
    pub vaddr: u64,
    /// Bytes in memory; those behind `bytes` are zero.
    pub length: u64,
    /// Its bytes in the file.
    pub bytes: &'a [u8],
    /// What may be done with it.
    pub access: Access,
}

impl<'a> Segment<'a> {
    /// The pages of the segment: address of each, offset in it, and the bytes to put there.
    pub fn pages(&self) -> impl Iterator<Item = (u64, usize, &'a [u8])> {
        let (vaddr, bytes) = (self.vaddr, self.bytes);
        let first = vaddr & !(PAGE - 1);
        let end = vaddr + self.length;
        (first..end).step_by(PAGE as usize).map(move |page| {
            let start = page.max(vaddr);
            let from = ((start - vaddr) as usize).min(bytes.len());
            let to = ((page + PAGE - vaddr) as usize).min(bytes.len());
            (page, (start - page) as usize, &bytes[from..to])
        })
    }
}

/// A program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Program<'a> {
    /// Address of the first instruction.
    pub entry: u64,
    /// Its segments, by rising address, no two on one page.
    pub segments: Vec<Segment<'a>>,
}

/// Reads the program in `file`.
///
/// # Errors
/// Any [`ElfError`].
pub fn read(file: &[u8]) -> Result<Program<'_>, ElfError> {
    let header = file.get(..FILE_HEADER_BYTES).ok_or(ElfError::NotAProgram)?;
    // Magic, 64-bit, little endian; type EXEC; machine x86-64.
    let static_program = half(header, 16) == 2 && half(header, 18) == 62;
    if header[..6] != *b"\x7fELF\x02\x01" || !static_program {
        return Err(ElfError::NotAProgram);
    }
    let table = usize::try_from(word(header, 32)).map_err(|_| ElfError::Truncated)?;
    let mut segments: Vec<Segment<'_>> = Vec::new();
    for index in 0..usize::from(half(header, 56)) {
        let start = table
            .checked_add(index * PROGRAM_HEADER_BYTES)
            .ok_or(ElfError::Truncated)?;
        let end = start
            .checked_add(PROGRAM_HEADER_BYTES)
            .ok_or(ElfError::Truncated)?;
        let header = file.get(start..end).ok_or(ElfError::Truncated)?;
        if u32::from(half(header, 0)) == LOADABLE && half(header, 2) == 0 && word(header, 40) != 0 {
            let previous = segments.last().map_or(IMAGE_FIRST, |s| s.vaddr + s.length);
            segments.push(segment(file, header, previous.next_multiple_of(PAGE))?);
        }
        if segments.len() > SEGMENTS_MAX {
            return Err(ElfError::TooManySegments);
        }
    }
    if segments.is_empty() {
        return Err(ElfError::NotAProgram);
    }
    Ok(Program {
        entry: word(header, 24).min(USER_TOP),
        segments,
    })
}

/// The segment that a program header describes, which must not start below `free`.
fn segment<'a>(file: &'a [u8], header: &[u8], free: u64) -> Result<Segment<'a>, ElfError> {
    let access = match half(header, 4) & 7 {
        flags if flags & 3 == 3 => return Err(ElfError::WritableCode),
        flags if flags & 1 != 0 => Access::Execute,
        flags if flags & 2 != 0 => Access::Write,
        _ => Access::Read,
    };
    let offset = usize::try_from(word(header, 8)).map_err(|_| ElfError::Truncated)?;
    let file_bytes = usize::try_from(word(header, 32)).map_err(|_| ElfError::Truncated)?;
    let end = offset.checked_add(file_bytes).ok_or(ElfError::Truncated)?;
    let bytes = file.get(offset..end).ok_or(ElfError::Truncated)?;
    let (vaddr, length) = (word(header, 16), word(header, 40));
    let last = vaddr.checked_add(length).ok_or(ElfError::BadAddress)?;
    if vaddr & !(PAGE - 1) < free || last > IMAGE_END || (bytes.len() as u64) > length {
        return Err(ElfError::BadAddress);
    }
    Ok(Segment {
        vaddr,
        length,
        bytes,
        access,
    })
}

/// The 16-bit field at `at` of a header whose length was checked.
fn half(header: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([header[at], header[at + 1]])
}

/// The 64-bit field at `at` of a header whose length was checked.
fn word(header: &[u8], at: usize) -> u64 {
    let bytes = core::array::from_fn(|index| header[at + index]);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Segment headers for [`file`]: flags, address, file bytes, memory bytes.
    pub type Header = (u32, u64, u64, u64);

    /// A program file whose segments' bytes all start at offset 0x1000 of the file.
    pub fn file(headers: &[Header]) -> Vec<u8> {
        let mut file = vec![0; 0x3000];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[16] = 2;
        file[18] = 62;
        file[24..32].copy_from_slice(&0x40_0010_u64.to_le_bytes());
        file[32] = 64;
        file[56] = headers.len() as u8;
        for (index, (flags, vaddr, file_bytes, memory_bytes)) in headers.iter().enumerate() {
            let at = 64 + index * PROGRAM_HEADER_BYTES;
            file[at] = 1;
            file[at + 4..at + 8].copy_from_slice(&flags.to_le_bytes());
            for (field, value) in [
                (8, 0x1000),
                (16, *vaddr),
                (32, *file_bytes),
                (40, *memory_bytes),
            ] {
                file[at + field..at + field + 8].copy_from_slice(&value.to_le_bytes());
            }
        }
        for (index, byte) in file[0x1000..].iter_mut().enumerate() {
            *byte = index as u8;
        }
        file
    }

    #[test]
    fn segments_come_with_their_access_and_pages() {
        let file = file(&[(5, 0x40_0000, 0x1800, 0x1800), (6, 0x40_2010, 8, 0x2000)]);
        let program = read(&file).unwrap();
        assert_eq!(program.entry, 0x40_0010);
        assert_eq!(program.segments[0].access, Access::Execute);
        let pages: Vec<_> = program.segments[0]
            .pages()
            .map(|(a, o, b)| (a, o, b.len()))
            .collect();
        assert_eq!(pages, [(0x40_0000, 0, 0x1000), (0x40_1000, 0, 0x800)]);
        let pages: Vec<_> = program.segments[1]
            .pages()
            .map(|(a, o, b)| (a, o, b.len()))
            .collect();
        assert_eq!(
            pages,
            [(0x40_2000, 0x10, 8), (0x40_3000, 0, 0), (0x40_4000, 0, 0)]
        );
    }

    #[test]
    fn what_cannot_be_a_program_is_refused() {
        let refused = |headers: &[Header]| read(&file(headers)).unwrap_err();
        assert_eq!(refused(&[]), ElfError::NotAProgram);
        assert_eq!(refused(&[(7, 0x40_0000, 1, 1)]), ElfError::WritableCode);
        assert_eq!(refused(&[(5, 0x1000, 1, 1)]), ElfError::BadAddress);
        assert_eq!(
            refused(&[(5, 0x40_0000, 0x2001, 0x3000)]),
            ElfError::Truncated
        );
        assert_eq!(refused(&[(5, 0x40_0000, 2, 1)]), ElfError::BadAddress);
        assert_eq!(refused(&[(5, u64::MAX - 1, 1, 9)]), ElfError::BadAddress);
        let one_page = [(5, 0x40_0000, 1, 1), (6, 0x40_0800, 1, 1)];
        assert_eq!(refused(&one_page), ElfError::BadAddress);
        assert_eq!(read(b"#!/bin/sh"), Err(ElfError::NotAProgram));
    }

    proptest! {
        #[test]
        fn mutated_files_are_read_or_refused(at in 0usize..200, value in any::<u8>()) {
            let mut file = file(&[(5, 0x40_0000, 0x1800, 0x1800), (6, 0x40_2010, 8, 0x2000)]);
            file[at] = value;
            if let Ok(program) = read(&file) {
                for segment in &program.segments {
                    let bytes: usize = segment.pages().map(|(_, _, bytes)| bytes.len()).sum();
                    prop_assert_eq!(bytes, segment.bytes.len());
                }
            }
        }
    }
}
