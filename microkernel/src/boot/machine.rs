//! The machine as a plain value.

use heapless::Vec;

/// Entries of the boot loader's memory map that are kept: what seL4's BootInfo record has room
/// for. Firmware maps have 10 to 40.
pub const MAX_MEMORY_ENTRIES: usize = 50;
/// Ranges of usable memory after sorting and merging: one for each entry of the map, and one more
/// where an unusable entry lies inside a usable one.
pub const MAX_RAM_RANGES: usize = 64;
/// Boot modules: the root task and the archive, with room for experiments.
pub const MAX_MODULES: usize = 8;
/// Pages of devices that only the kernel may touch: a local APIC, [`MAX_IOAPICS`] and IOMMUs.
///
/// [`MAX_IOAPICS`]: crate::firmware::acpi::MAX_IOAPICS
pub const MAX_WITHHELD: usize = 32;
/// Bytes of an ACPI 2 root pointer, the form that BootInfo passes on.
pub const RSDP_BYTES: usize = 36;

/// Physical addresses from `start` up to, not including, `end`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct PhysicalRange {
    /// First byte.
    pub start: u64,
    /// Byte after the last.
    pub end: u64,
}

impl PhysicalRange {
    /// Length in bytes; 0 for a range that ends before it starts.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.length() == 0
    }

    /// Whether the two share a byte.
    #[must_use]
    pub const fn overlaps(self, other: Self) -> bool {
        self.start < other.end && other.start < self.end
    }
}

/// An entry of the boot loader's memory map, as it stood there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct MemoryEntry {
    /// First byte.
    pub base: u64,
    /// Bytes.
    pub length: u64,
    /// The e820 type: 1 usable, 2 reserved, 3 ACPI tables, 4 ACPI non-volatile, 5 bad.
    pub kind: u32,
}

/// A linear framebuffer, with the fields of seL4's BootInfo record 4.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Framebuffer {
    /// Physical address of the first pixel.
    pub address: u64,
    /// Bytes of a line.
    pub pitch: u32,
    /// Pixels of a line.
    pub width: u32,
    /// Lines.
    pub height: u32,
    /// Bits of a pixel.
    pub bits_per_pixel: u8,
    /// Multiboot 2's type: 0 indexed, 1 RGB, 2 text.
    pub kind: u8,
}

/// What the CPU offers to run guests with; the numbers are those of the BootInfo record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(u64)]
pub enum Virtualisation {
    /// Nothing, or not enough.
    #[default]
    None = 0,
    /// AMD SVM with nested paging.
    Svm = 1,
    /// Intel VMX with extended page tables.
    Vmx = 2,
}

/// All that boot needs to know of the machine.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    /// Usable memory that the kernel has mapped: whole pages at or above 1 MiB, by rising address,
    /// disjoint, no two adjacent. It still contains the kernel and the modules.
    pub ram: Vec<PhysicalRange, MAX_RAM_RANGES>,
    /// The kernel's image with its static data, whole pages.
    pub kernel: PhysicalRange,
    /// Boot modules in the boot loader's order: the root task's ELF file first. Each begins on a
    /// page; its end is that of the file.
    pub modules: Vec<PhysicalRange, MAX_MODULES>,
    /// Pages that no capability may cover: interrupt controllers, IOMMUs.
    pub withheld: Vec<PhysicalRange, MAX_WITHHELD>,
    /// The boot loader's memory map, for BootInfo.
    pub memory_map: Vec<MemoryEntry, MAX_MEMORY_ENTRIES>,
    /// The ACPI root pointer, an ACPI 1 one padded with zeros.
    pub rsdp: Option<[u8; RSDP_BYTES]>,
    /// The framebuffer that the boot loader set up.
    pub framebuffer: Option<Framebuffer>,
    /// Frequency of the time-stamp counter.
    pub tsc_khz: u64,
    /// CPUs that run, at least 1.
    pub nodes: usize,
    /// Help for guests.
    pub virtualisation: Virtualisation,
    /// Extended state components that threads have (XCR0); 3 where there is only FXSAVE.
    pub xcr0: u64,
}
