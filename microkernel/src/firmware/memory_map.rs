//! From a boot loader's memory map, which may overlap and be in any order, to usable memory.

use heapless::Vec;

use crate::boot::{MAX_RAM_RANGES, MemoryEntry, PhysicalRange};

/// Memory below this is the firmware's and the legacy devices'; it is never given out as RAM.
pub const LOWEST_RAM: u64 = 1 << 20;
/// First physical address that the kernel cannot name: the direct map is half the address space.
pub const HIGHEST_RAM: u64 = 1 << 46;

const PAGE: u64 = 4096;
/// The e820 type of usable memory.
const USABLE: u32 = 1;

/// The usable pages at or above 1 MiB by rising address, disjoint and not adjacent. A page that
/// any unusable entry touches is unusable. Ranges beyond [`MAX_RAM_RANGES`] are left out.
#[must_use]
pub fn usable_ram(map: &[MemoryEntry]) -> Vec<PhysicalRange, MAX_RAM_RANGES> {
    let mut ram: Vec<PhysicalRange, MAX_RAM_RANGES> = Vec::new();
    let mut from = LOWEST_RAM;
    while let Some(range) = next_range(map, from) {
        from = range.end;
        match ram.last_mut() {
            Some(last) if last.end == range.start => last.end = range.end,
            _ => {
                if ram.push(range).is_err() {
                    break;
                }
            }
        }
    }
    ram
}

/// The first stretch of usable pages at or above `from` that ends where some entry begins or ends.
fn next_range(map: &[MemoryEntry], from: u64) -> Option<PhysicalRange> {
    let mut from = from;
    loop {
        let start = map
            .iter()
            .filter(|e| e.kind == USABLE)
            .map(usable_pages)
            .filter(|r| !r.is_empty() && r.end > from)
            .map(|r| r.start.max(from))
            .min()?;
        if let Some(hole) = unusable(map).find(|h| h.start <= start && start < h.end) {
            from = hole.end;
            continue;
        }
        let end = map
            .iter()
            .filter(|e| e.kind == USABLE)
            .map(usable_pages)
            .filter(|r| r.start <= start && start < r.end)
            .map(|r| r.end)
            .max()?;
        let end = unusable(map)
            .map(|h| h.start)
            .filter(|&hole| hole > start)
            .fold(end, u64::min);
        return Some(PhysicalRange { start, end });
    }
}

/// The whole pages inside a usable entry.
fn usable_pages(entry: &MemoryEntry) -> PhysicalRange {
    let end = entry.base.saturating_add(entry.length).min(HIGHEST_RAM);
    PhysicalRange {
        start: entry.base.min(HIGHEST_RAM).next_multiple_of(PAGE),
        end: end & !(PAGE - 1),
    }
}

/// The pages that unusable entries touch.
fn unusable(map: &[MemoryEntry]) -> impl Iterator<Item = PhysicalRange> {
    map.iter()
        .filter(|e| e.kind != USABLE && e.length != 0)
        .map(|entry| {
            let end = entry.base.saturating_add(entry.length).min(HIGHEST_RAM);
            PhysicalRange {
                start: entry.base & !(PAGE - 1),
                end: end.next_multiple_of(PAGE),
            }
        })
        .filter(|hole| !hole.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::vec::Vec as StdVec;

    fn entry(base: u64, length: u64, kind: u32) -> MemoryEntry {
        MemoryEntry { base, length, kind }
    }

    fn ranges(map: &[MemoryEntry]) -> StdVec<(u64, u64)> {
        usable_ram(map).iter().map(|r| (r.start, r.end)).collect()
    }

    #[test]
    fn a_pc_map_gives_memory_above_one_mebibyte() {
        let map = [
            entry(0, 0x9_fc00, 1),
            entry(0x9_fc00, 0x400, 2),
            entry(0xf_0000, 0x1_0000, 2),
            entry(0x10_0000, 0x7ed_f000, 1),
            entry(0x7fd_f000, 0x2_1000, 2),
            entry(1 << 32, 1 << 30, 1),
        ];
        assert_eq!(
            ranges(&map),
            [(0x10_0000, 0x7fd_f000), (1 << 32, (1 << 32) + (1 << 30))]
        );
    }

    #[test]
    fn usable_entries_are_cut_inward_and_holes_outward_to_pages() {
        assert_eq!(
            ranges(&[entry(0x20_0001, 0x3000, 1)]),
            [(0x20_1000, 0x20_3000)]
        );
        let map = [entry(0x20_0000, 0x5000, 1), entry(0x20_1fff, 2, 2)];
        assert_eq!(
            ranges(&map),
            [(0x20_0000, 0x20_1000), (0x20_3000, 0x20_5000)]
        );
    }

    #[test]
    fn adjacent_entries_in_any_order_become_one_range() {
        let map = [
            entry(0x30_0000, 0x1000, 1),
            entry(0x20_0000, 0x10_0000, 1),
            entry(0x20_0000, 0x1000, 1),
        ];
        assert_eq!(ranges(&map), [(0x20_0000, 0x30_1000)]);
    }

    #[test]
    fn entries_at_the_end_of_the_address_space_do_not_wrap() {
        let map = [
            entry(u64::MAX - 1, u64::MAX, 1),
            entry(0x20_0000, u64::MAX, 1),
            entry(u64::MAX - 0xfff, 0x1000, 2),
        ];
        assert_eq!(ranges(&map), [(0x20_0000, HIGHEST_RAM)]);
    }

    proptest! {
        #[test]
        fn a_page_is_usable_exactly_if_one_entry_covers_it_and_no_hole_touches_it(
            map in prop::collection::vec((0u64..64 * 4096, 0u64..16 * 4096, 1u32..4), 0..12)
        ) {
            let map: StdVec<_> =
                map.iter().map(|&(b, l, k)| entry(LOWEST_RAM + b, l, k)).collect();
            let found = usable_ram(&map);
            for (a, b) in found.iter().zip(found.iter().skip(1)) {
                prop_assert!(a.end < b.start);
            }
            for page in (LOWEST_RAM..LOWEST_RAM + 96 * PAGE).step_by(PAGE as usize) {
                let covered = map.iter().any(|e| {
                    e.kind == USABLE && e.base <= page && page + PAGE <= e.base + e.length
                });
                let touched = map.iter().any(|e| {
                    e.kind != USABLE && e.length > 0
                        && e.base < page + PAGE && page < e.base + e.length
                });
                let listed = found.iter().any(|r| r.start <= page && page < r.end);
                prop_assert_eq!(listed, covered && !touched);
            }
        }

        #[test]
        fn any_map_ends(map in prop::collection::vec((any::<u64>(), any::<u64>(), 0u32..3), 0..60)) {
            let map: StdVec<_> = map.iter().map(|&(b, l, k)| entry(b, l, k)).collect();
            for range in usable_ram(&map) {
                prop_assert!(range.start >= LOWEST_RAM && range.end <= HIGHEST_RAM);
                prop_assert!(!range.is_empty());
            }
        }
    }
}
