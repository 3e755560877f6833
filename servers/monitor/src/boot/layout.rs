//! Where things are in guest memory before the kernel runs.

use heapless::Vec;

use crate::memory::{GuestAddress, GuestMemory, HIGH_MEMORY_START};

/// Descriptor table of the boot state.
pub const DESCRIPTOR_TABLE: GuestAddress = GuestAddress(0x500);
/// PVH's start record, its module list and memory map.
pub const PVH_START: GuestAddress = GuestAddress(0x6000);
/// Linux's "zero page".
pub const ZERO_PAGE: GuestAddress = GuestAddress(0x7000);
/// Six page tables: one of each upper level, four of 2 MiB pages.
pub const PAGE_TABLES: GuestAddress = GuestAddress(0x9000);
/// Command line.
pub const COMMAND_LINE: GuestAddress = GuestAddress(0x2_0000);
/// Room for the command line; Linux takes 2048 bytes.
pub const COMMAND_LINE_BYTES: u64 = 0x1000;
/// Start of what firmware keeps below 640 KiB.
pub const LOW_RESERVED: u64 = 0x9_fc00;
/// ACPI tables, in the area where a kernel without a pointer looks for them.
pub const ACPI_TABLES: GuestAddress = GuestAddress(0xe_0000);
/// Room for ACPI tables.
pub const ACPI_BYTES: u64 = 0x2_0000;
/// Where memory for kernels begins.
pub const KERNEL_FLOOR: u64 = 0x10_0000;

const _: () = {
    assert!(PVH_START.0 + 0x1000 <= ZERO_PAGE.0);
    assert!(ZERO_PAGE.0 + 0x1000 <= PAGE_TABLES.0);
    assert!(PAGE_TABLES.0 + 6 * 0x1000 <= COMMAND_LINE.0);
    assert!(COMMAND_LINE.0 + COMMAND_LINE_BYTES <= LOW_RESERVED);
    assert!(ACPI_TABLES.0 + ACPI_BYTES <= KERNEL_FLOOR);
};

/// What a range of the memory map is; the numbers are those of E820 and of PVH.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RangeKind {
    /// RAM.
    Ram = 1,
    /// Not to be used.
    Reserved = 2,
}

/// One range of the memory map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub start: u64,
    /// Length in bytes.
    pub length: u64,
    /// What it is.
    pub kind: RangeKind,
}

/// Most ranges of the map.
pub const MAXIMUM_RANGES: usize = 5;

/// The memory map.
#[must_use]
pub fn memory_map(memory: &GuestMemory) -> Vec<Range, MAXIMUM_RANGES> {
    let range = |start: u64, end: u64, kind| Range {
        start,
        length: end - start,
        kind,
    };
    let low_end = memory.low_length().max(KERNEL_FLOOR);
    let high = memory.high_length();
    [
        range(0, LOW_RESERVED, RangeKind::Ram),
        range(LOW_RESERVED, 0xa_0000, RangeKind::Reserved),
        range(ACPI_TABLES.0, KERNEL_FLOOR, RangeKind::Reserved),
        range(KERNEL_FLOOR, low_end, RangeKind::Ram),
        range(HIGH_MEMORY_START, HIGH_MEMORY_START + high, RangeKind::Ram),
    ]
    .into_iter()
    .filter(|range| range.length != 0)
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::memory::tests::ram;

    #[test]
    fn ranges_are_in_order_and_do_not_overlap() {
        let words = ram(32 << 20);
        let map = memory_map(&GuestMemory::new(&words));
        for pair in map.windows(2) {
            assert!(pair[0].start + pair[0].length <= pair[1].start);
        }
        assert_eq!(
            map.last().unwrap().start + map.last().unwrap().length,
            32 << 20
        );
    }
}
