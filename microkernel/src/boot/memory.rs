//! Physical memory at boot: what is free, what the root task's objects take of it, and what is
//! left, as untyped.

use heapless::Vec;

use super::{BootError, Machine, PhysicalRange};
use crate::arch;
use crate::config::{CLEAR_CHUNK_BYTES, MAX_BOOTINFO_UNTYPEDS, MAX_UNTYPED_BITS};
use crate::store;

/// Ranges of a list. The memory map has at most 64; kernel, modules and allocations cut them.
const MAX_RANGES: usize = 128;
/// Smallest untyped that boot hands out: a page.
const PAGE_BITS: u8 = 12;
/// End of the physical addresses that become untyped.
const PHYSICAL_TOP: u64 = 1 << MAX_UNTYPED_BITS;

/// Disjoint ranges by rising address.
#[derive(Clone, Debug, Default)]
pub struct RangeList(Vec<PhysicalRange, MAX_RANGES>);

impl RangeList {
    /// The ranges of `ranges`, sorted.
    ///
    /// # Errors
    /// `TooManyRanges`.
    pub fn new(ranges: &[PhysicalRange]) -> Result<Self, BootError> {
        let mut list = Self::default();
        for range in ranges {
            list.add(*range)?;
        }
        Ok(list)
    }

    /// The ranges.
    pub fn iter(&self) -> impl Iterator<Item = PhysicalRange> + '_ {
        self.0.iter().copied()
    }

    /// Puts a range, which overlaps none, in its place.
    ///
    /// # Errors
    /// `TooManyRanges`.
    pub fn add(&mut self, range: PhysicalRange) -> Result<(), BootError> {
        if range.is_empty() {
            return Ok(());
        }
        let place = self
            .0
            .iter()
            .position(|r| r.start > range.start)
            .unwrap_or(self.0.len());
        self.0
            .insert(place, range)
            .map_err(|_| BootError::TooManyRanges)
    }

    /// Takes `hole` out of every range.
    ///
    /// # Errors
    /// `TooManyRanges` if a range is cut in two and the list is full.
    pub fn remove(&mut self, hole: PhysicalRange) -> Result<(), BootError> {
        let old = core::mem::take(&mut self.0);
        for range in old {
            if range.overlaps(hole) {
                self.add(PhysicalRange {
                    start: range.start,
                    end: hole.start.min(range.end),
                })?;
                self.add(PhysicalRange {
                    start: hole.end.max(range.start),
                    end: range.end,
                })?;
            } else {
                self.add(range)?;
            }
        }
        Ok(())
    }

    /// What is not in the list, up to the end of physical addresses.
    ///
    /// # Errors
    /// `TooManyRanges`.
    pub fn complement(&self) -> Result<Self, BootError> {
        let mut rest = Self::new(&[PhysicalRange {
            start: 0,
            end: PHYSICAL_TOP,
        }])?;
        for range in self.iter() {
            rest.remove(range)?;
        }
        Ok(rest)
    }

    /// The ranges cut into aligned powers of two, as (address, size bits), by rising address.
    pub fn blocks(&self) -> impl Iterator<Item = (u64, u8)> + '_ {
        self.iter().flat_map(|range| Blocks {
            at: range.start,
            end: range.end,
        })
    }
}

/// Aligned power-of-two blocks of one range.
struct Blocks {
    at: u64,
    end: u64,
}

impl Iterator for Blocks {
    type Item = (u64, u8);
    fn next(&mut self) -> Option<(u64, u8)> {
        let left = self
            .end
            .checked_sub(self.at)
            .filter(|left| *left >= 1 << PAGE_BITS)?;
        let bits = left
            .ilog2()
            .min(self.at.trailing_zeros())
            .min(u32::from(MAX_UNTYPED_BITS));
        let block = (self.at, bits as u8);
        self.at += 1 << bits;
        Some(block)
    }
}

/// Memory that boot hands out.
pub struct FreeMemory {
    free: RangeList,
    used: RangeList,
}

impl FreeMemory {
    /// RAM without the kernel and the modules.
    ///
    /// # Errors
    /// `TooManyRanges`.
    pub fn new(machine: &Machine) -> Result<Self, BootError> {
        let mut free = RangeList::new(&machine.ram)?;
        free.remove(machine.kernel)?;
        for module in &machine.modules {
            free.remove(page_aligned(*module))?;
        }
        Ok(Self {
            free,
            used: RangeList::default(),
        })
    }

    /// Cleared memory of 2^`bits` bytes, aligned to its size; its kernel address.
    ///
    /// # Errors
    /// `NotEnoughMemory`.
    pub fn allocate(&mut self, bits: u8) -> Result<usize, BootError> {
        let size = 1u64 << bits;
        let range = self
            .free
            .iter()
            .map(|range| range.start.next_multiple_of(size))
            .zip(self.free.iter())
            .find(|(start, range)| start.checked_add(size).is_some_and(|end| end <= range.end))
            .map(|(start, _)| PhysicalRange {
                start,
                end: start + size,
            })
            .ok_or(BootError::NotEnoughMemory)?;
        self.free.remove(range)?;
        self.used.add(range)?;
        self.used.merge();
        let address = arch::kernel_address(range.start);
        let chunk = CLEAR_CHUNK_BYTES.min(size as usize);
        for offset in (0..size as usize).step_by(chunk) {
            store::clear(address + offset, chunk);
        }
        Ok(address)
    }

    /// Gives a module's memory back: it was loaded.
    ///
    /// # Errors
    /// `TooManyRanges`.
    pub fn reclaim(&mut self, module: PhysicalRange) -> Result<(), BootError> {
        self.free.add(page_aligned(module))
    }

    /// The untypeds of the machine: devices first, then memory; `is_device` with each. At most as
    /// many as BootInfo lists; the largest blocks come first when a choice must be made.
    ///
    /// # Errors
    /// `TooManyRanges`.
    pub fn untypeds(&self, machine: &Machine) -> Result<Untypeds, BootError> {
        let mut ram = self.free.clone();
        for used in self.used.iter() {
            ram.add(used)?;
        }
        ram.add(machine.kernel)?;
        ram.merge();
        let mut devices = ram.complement()?;
        for page in &machine.withheld {
            devices.remove(*page)?;
        }
        let mut list = Untypeds::new();
        let devices = devices.blocks().map(|block| (block, true));
        let memory = self.free.blocks().map(|block| (block, false));
        for ((paddr, size_bits), is_device) in devices.chain(memory) {
            // A full list loses the smallest kind of block: what comes last, single pages.
            let _ = list.push(UntypedRegion {
                paddr,
                size_bits,
                is_device,
            });
        }
        Ok(list)
    }
}

impl RangeList {
    /// Joins ranges that touch.
    fn merge(&mut self) {
        let old = core::mem::take(&mut self.0);
        for range in old {
            match self.0.last_mut() {
                Some(last) if last.end == range.start => last.end = range.end,
                // There are no more ranges than before.
                _ => drop(self.0.push(range)),
            }
        }
    }
}

/// One untyped capability to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UntypedRegion {
    /// Physical address.
    pub paddr: u64,
    /// Size.
    pub size_bits: u8,
    /// Device memory.
    pub is_device: bool,
}

/// All untypeds of the machine.
pub type Untypeds = Vec<UntypedRegion, MAX_BOOTINFO_UNTYPEDS>;

/// The whole pages that a module's file covers.
#[must_use]
pub fn page_aligned(module: PhysicalRange) -> PhysicalRange {
    PhysicalRange {
        start: module.start & !((1 << PAGE_BITS) - 1),
        end: module.end.next_multiple_of(1 << PAGE_BITS),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn range(start: u64, end: u64) -> PhysicalRange {
        PhysicalRange { start, end }
    }

    #[test]
    fn a_hole_cuts_a_range_in_two() {
        let mut list = RangeList::new(&[range(0x1000, 0x9000)]).unwrap();
        list.remove(range(0x3000, 0x4000)).unwrap();
        let found: std::vec::Vec<_> = list.iter().collect();
        assert_eq!(found, [range(0x1000, 0x3000), range(0x4000, 0x9000)]);
    }

    #[test]
    fn blocks_are_aligned_powers_of_two_that_fill_the_range() {
        let list = RangeList::new(&[range(0x3000, 0x9000)]).unwrap();
        let found: std::vec::Vec<_> = list.blocks().collect();
        assert_eq!(found, [(0x3000, 12), (0x4000, 14), (0x8000, 12)]);
    }

    #[test]
    fn the_address_zero_begins_the_largest_block() {
        let list = RangeList::new(&[range(0, PHYSICAL_TOP)]).unwrap();
        assert_eq!(list.blocks().next(), Some((0, MAX_UNTYPED_BITS)));
    }

    proptest! {
        #[test]
        fn list_and_complement_cover_everything_once(
            cuts in proptest::collection::btree_set(1u64..1 << 20, 2..40)
        ) {
            let pages: std::vec::Vec<u64> = cuts.into_iter().map(|c| c << 12).collect();
            let ranges: std::vec::Vec<_> =
                pages.chunks_exact(2).map(|c| range(c[0], c[1])).collect();
            let list = RangeList::new(&ranges).unwrap();
            let rest = list.complement().unwrap();
            let sum: u64 = list.blocks().chain(rest.blocks()).map(|(_, bits)| 1u64 << bits).sum();
            prop_assert_eq!(sum, PHYSICAL_TOP);
            for (address, bits) in list.blocks() {
                prop_assert!(address.trailing_zeros() >= u32::from(bits));
                prop_assert!(ranges.iter().any(|r| r.start <= address && address < r.end));
            }
        }
    }
}
