//! What the image needs to know of an ELF file: that root can load it, and how to shorten it.
//!
//! Root refuses a bad program when it loads it; this module says so when the image is built, in
//! words, and cuts off what is never loaded (symbols and debug information).

use std::fmt;

/// Type of a segment that is loaded.
const PT_LOAD: u32 = 1;
/// Segments that a static program does not have, and what they would mean.
const FOREIGN: [(u32, &str); 3] = [(2, "DYNAMIC"), (3, "INTERP"), (7, "TLS")];
const WRITABLE: u32 = 2;
const EXECUTABLE: u32 = 1;
/// Bytes of an ELF64 file header and of one program header.
const FILE_HEADER: usize = 64;
const PROGRAM_HEADER: usize = 56;

/// Why a file cannot be a program of Tessera.
#[derive(Debug, PartialEq, Eq)]
pub enum Fault {
    /// Not an ELF64 file for x86-64.
    NotElf,
    /// Its type is not ET_EXEC, so it has no fixed address.
    NotStatic,
    /// A segment that only a dynamic loader or a libc could serve.
    Segment(&'static str),
    /// A segment that is writable and executable.
    WritableCode,
    /// A segment lies outside of the file.
    Truncated,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotElf => write!(f, "not an ELF64 file for x86-64"),
            Self::NotStatic => write!(f, "not ET_EXEC: link it with -Crelocation-model=static"),
            Self::Segment(name) => write!(f, "has a {name} segment, which nobody would serve"),
            Self::WritableCode => write!(f, "has a segment that is writable and executable"),
            Self::Truncated => write!(f, "has a segment that lies outside of the file"),
        }
    }
}

/// One program header.
struct Segment {
    kind: u32,
    flags: u32,
    offset: usize,
    address: usize,
    file_bytes: usize,
    memory_bytes: usize,
}

/// A program as it lies in memory.
#[derive(Debug, PartialEq, Eq)]
pub struct Image {
    /// Address of the first byte.
    pub start: usize,
    /// Where it begins to run.
    pub entry: usize,
    /// From there to the end of the highest segment.
    pub bytes: Vec<u8>,
}

/// The most memory that [`image`] lays out: what it is for needs a few pages.
const MAXIMUM_IMAGE_BYTES: usize = 16 << 20;

/// `file` without anything after its last segment and without section headers: what is loaded
/// stays as it is. For the kernel, which needs no check.
///
/// # Errors
/// `NotElf` or `Truncated`.
pub fn trim(file: &[u8]) -> Result<Vec<u8>, Fault> {
    let segments = segments(file)?;
    let end = |segment: &Segment| segment.offset.checked_add(segment.file_bytes);
    let ends = segments
        .iter()
        .map(end)
        .collect::<Option<Vec<_>>>()
        .ok_or(Fault::Truncated)?;
    let headers = FILE_HEADER + segments.len() * PROGRAM_HEADER;
    let end = ends.into_iter().max().unwrap_or(0).max(headers);
    let mut trimmed = file.get(..end).ok_or(Fault::Truncated)?.to_vec();
    trimmed[0x28..0x30].fill(0); // e_shoff
    trimmed[0x3c..0x40].fill(0); // e_shnum, e_shstrndx
    Ok(trimmed)
}

/// Checks that root can load `file`, and trims it.
///
/// # Errors
/// Any [`Fault`].
pub fn program(file: &[u8]) -> Result<Vec<u8>, Fault> {
    let segments = segments(file)?;
    if half(file, 0x10) != Some(2) {
        return Err(Fault::NotStatic);
    }
    for segment in &segments {
        if let Some((_, name)) = FOREIGN.iter().find(|(kind, _)| *kind == segment.kind) {
            return Err(Fault::Segment(name));
        }
        let both = WRITABLE | EXECUTABLE;
        if segment.kind == PT_LOAD && segment.flags & both == both {
            return Err(Fault::WritableCode);
        }
    }
    trim(file)
}

/// Lays `file` out as a loader would.
///
/// # Errors
/// `NotElf`; `Truncated` also if it has no segments, or more than this is made for.
pub fn image(file: &[u8]) -> Result<Image, Fault> {
    let mut segments = segments(file)?;
    segments.retain(|segment| segment.kind == PT_LOAD);
    let start = segments.iter().map(|segment| segment.address).min();
    let start = start.ok_or(Fault::Truncated)?;
    let mut bytes = Vec::new();
    for segment in &segments {
        let end = segment.offset.checked_add(segment.file_bytes);
        let source = end.and_then(|end| file.get(segment.offset..end));
        let source = source.ok_or(Fault::Truncated)?;
        let at = segment.address - start;
        let length = segment.memory_bytes.max(source.len());
        let end = at.checked_add(length).ok_or(Fault::Truncated)?;
        if end > MAXIMUM_IMAGE_BYTES {
            return Err(Fault::Truncated);
        }
        bytes.resize(end.max(bytes.len()), 0);
        bytes[at..at + source.len()].copy_from_slice(source);
    }
    let entry = word(file, 0x18).ok_or(Fault::NotElf)?;
    Ok(Image {
        start,
        entry,
        bytes,
    })
}

fn segments(file: &[u8]) -> Result<Vec<Segment>, Fault> {
    // Magic, 64-bit, little endian; machine 62 is x86-64.
    if file.get(..6) != Some(b"\x7fELF\x02\x01") || half(file, 0x12) != Some(62) {
        return Err(Fault::NotElf);
    }
    let table = word(file, 0x20).ok_or(Fault::NotElf)?;
    let count = usize::from(half(file, 0x38).ok_or(Fault::NotElf)?);
    (0..count)
        .map(|index| segment(file, table, index).ok_or(Fault::Truncated))
        .collect()
}

fn segment(file: &[u8], table: usize, index: usize) -> Option<Segment> {
    let start = table.checked_add(index * PROGRAM_HEADER)?;
    let header = file.get(start..start.checked_add(PROGRAM_HEADER)?)?;
    let double = |at: usize| header[at..at + 4].try_into().ok().map(u32::from_le_bytes);
    Some(Segment {
        kind: double(0)?,
        flags: double(4)?,
        offset: word(header, 8)?,
        address: word(header, 16)?,
        file_bytes: word(header, 32)?,
        memory_bytes: word(header, 40)?,
    })
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)?
        .try_into()
        .ok()
        .map(u16::from_le_bytes)
}

fn word(bytes: &[u8], at: usize) -> Option<usize> {
    let word = bytes
        .get(at..at + 8)?
        .try_into()
        .ok()
        .map(u64::from_le_bytes)?;
    usize::try_from(word).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// An ELF file with one segment of `kind` and `flags`, 16 bytes of it at 0x100, and a tail.
    fn sample(file_type: u16, kind: u32, flags: u32) -> Vec<u8> {
        let mut file = vec![0xcc; 0x200];
        file[..6].copy_from_slice(b"\x7fELF\x02\x01");
        file[0x10..0x12].copy_from_slice(&file_type.to_le_bytes());
        file[0x12..0x14].copy_from_slice(&62u16.to_le_bytes());
        file[0x20..0x28].copy_from_slice(&64u64.to_le_bytes());
        file[0x38..0x3a].copy_from_slice(&1u16.to_le_bytes());
        file[64..68].copy_from_slice(&kind.to_le_bytes());
        file[68..72].copy_from_slice(&flags.to_le_bytes());
        file[72..80].copy_from_slice(&0x100u64.to_le_bytes());
        file[80..88].copy_from_slice(&0x40_0000u64.to_le_bytes());
        file[96..104].copy_from_slice(&16u64.to_le_bytes());
        file[104..112].copy_from_slice(&24u64.to_le_bytes());
        file
    }

    #[test]
    fn a_program_keeps_its_segments_and_loses_the_rest() {
        let trimmed = program(&sample(2, PT_LOAD, 5)).expect("a program");
        assert_eq!(trimmed.len(), 0x110);
        assert_eq!(&trimmed[0x100..], &[0xcc; 16]);
        assert_eq!(half(&trimmed, 0x3c), Some(0));
    }

    #[test]
    fn what_root_could_not_load_is_refused() {
        assert_eq!(program(&sample(3, PT_LOAD, 5)), Err(Fault::NotStatic));
        assert_eq!(program(&sample(2, PT_LOAD, 7)), Err(Fault::WritableCode));
        assert_eq!(program(&sample(2, 7, 4)), Err(Fault::Segment("TLS")));
        assert_eq!(
            program(&sample(2, PT_LOAD, 5)[..0x108]),
            Err(Fault::Truncated)
        );
        assert_eq!(program(b"#!/bin/sh"), Err(Fault::NotElf));
    }

    #[test]
    fn an_image_is_what_memory_holds_with_zeros_where_the_file_ends() {
        let image = image(&sample(2, PT_LOAD, 5)).expect("a program");
        assert_eq!(image.start, 0x40_0000);
        assert_eq!(image.bytes[..16], [0xcc; 16]);
        assert_eq!(image.bytes[16..], [0; 8]);
    }

    proptest! {
        #[test]
        fn mutated_files_never_panic(at in 0usize..0x200, value in any::<u8>()) {
            let mut file = sample(2, PT_LOAD, 5);
            file[at] = value;
            let _ = program(&file);
            let _ = image(&file);
        }
    }
}
