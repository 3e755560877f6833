//! Direct boot: puts a kernel and what it wants to know into guest memory, and says in which state
//! the first CPU starts.
//!
//! Two protocols: Linux's own ([`linux`]) for bzImages, and PVH ([`pvh`]) for ELF images with its
//! note. Both share the memory map ([`layout`]) and the ACPI tables. Images are untrusted: every
//! field is checked, and a bad one is a [`BootError`].

pub mod acpi;
pub mod cpu_state;
pub mod layout;
pub mod linux;
pub mod pvh;

use crate::memory::{GuestAddress, GuestMemory, NoRam};
use cpu_state::InitialState;

/// What to boot.
#[derive(Clone, Copy, Debug)]
pub struct BootFiles<'a> {
    /// A bzImage, or an ELF file with a PVH entry.
    pub kernel: &'a [u8],
    /// Initial RAM disk.
    pub initrd: Option<&'a [u8]>,
    /// Command line, without a terminating zero.
    pub command_line: &'a str,
}

/// Why nothing can be booted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootError {
    /// Neither a bzImage nor an ELF file.
    UnknownFormat,
    /// The image ends before what its headers promise.
    Truncated,
    /// A bzImage older than boot protocol 2.06.
    TooOld,
    /// The ELF file has no PVH entry.
    NoEntry,
    /// The image wants memory that is not RAM, or that is taken.
    KernelDoesNotFit,
    /// The initial RAM disk finds no place.
    InitrdDoesNotFit,
    /// The command line is longer than the kernel takes.
    CommandLineTooLong,
    /// The VM has less RAM than boot structures need.
    TooLittleRam,
}

impl From<NoRam> for BootError {
    fn from(_: NoRam) -> Self {
        BootError::TooLittleRam
    }
}

/// First bytes of an ELF file.
const ELF_MAGIC: &[u8; 4] = b"\x7fELF";

/// Loads everything, and returns the state of the first CPU.
///
/// # Errors
/// [`BootError`]; guest memory may then hold part of it.
pub fn load(
    memory: &GuestMemory,
    files: &BootFiles,
    vcpus: usize,
) -> Result<InitialState, BootError> {
    if memory.length() < crate::memory::MINIMUM_RAM {
        return Err(BootError::TooLittleRam);
    }
    let root_pointer = acpi::write_tables(memory, vcpus)?;
    if files.kernel.starts_with(ELF_MAGIC) {
        pvh::load(memory, files, root_pointer)
    } else {
        linux::load(memory, files, root_pointer)
    }
}

/// Puts the initial RAM disk as high as it may be in low memory, above `floor`.
fn place_initrd(
    memory: &GuestMemory,
    initrd: &[u8],
    floor: u64,
    highest: u64,
) -> Result<GuestAddress, BootError> {
    let end = memory.low_length().min(highest.saturating_add(1));
    let start = end
        .checked_sub(initrd.len() as u64)
        .map(|start| start & !0xfff)
        .filter(|start| *start >= floor)
        .ok_or(BootError::InitrdDoesNotFit)?;
    memory.write(GuestAddress(start), initrd)?;
    Ok(GuestAddress(start))
}

/// Writes the command line with its zero.
fn write_command_line(memory: &GuestMemory, text: &str, longest: u64) -> Result<(), BootError> {
    let length = text.len() as u64;
    if length > longest.min(layout::COMMAND_LINE_BYTES - 1) {
        return Err(BootError::CommandLineTooLong);
    }
    memory.write(layout::COMMAND_LINE, text.as_bytes())?;
    memory.write(layout::COMMAND_LINE.offset(length), &[0])?;
    Ok(())
}

#[cfg(test)]
mod tests;
