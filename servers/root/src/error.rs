//! Why a program could not be built.

use crate::cspace::OutOfSlots;
use crate::elf::ElfError;
use libcap::KernelError;
use proto::boot::ArchiveError;

/// Why a program could not be built. What was built of it is taken back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BuildError {
    /// There is no free block of that size.
    OutOfMemory,
    /// Root's capability space is full.
    OutOfSlots,
    /// The physical memory asked for is not there, or taken.
    NoSuchMemory,
    /// The manifest names something that it does not hold: the boot medium is damaged.
    BadManifest,
    /// The program's file is missing or damaged.
    Archive(ArchiveError),
    /// The program's file is no program.
    Elf(ElfError),
    /// The start record does not fit its pages.
    StartInfo,
    /// The kernel refused an invocation.
    Kernel(KernelError),
}

impl From<KernelError> for BuildError {
    fn from(error: KernelError) -> Self {
        Self::Kernel(error)
    }
}

impl From<OutOfSlots> for BuildError {
    fn from(OutOfSlots: OutOfSlots) -> Self {
        Self::OutOfSlots
    }
}

impl From<ArchiveError> for BuildError {
    fn from(error: ArchiveError) -> Self {
        Self::Archive(error)
    }
}

impl From<ElfError> for BuildError {
    fn from(error: ElfError) -> Self {
        Self::Elf(error)
    }
}
