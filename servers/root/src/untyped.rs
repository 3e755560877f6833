//! Untyped memory in blocks of powers of two, split and joined as they are needed.
//!
//! A block is an untyped capability. A larger one is split by retyping it into two halves; halves
//! are joined by deleting both, which makes the kernel forget that the larger one was used. They
//! are joined only when an allocation finds nothing, because the kernel clears a joined block
//! from its start when it is used again. Device memory is split the same way, towards an address.

use crate::cspace::CSpace;
use crate::error::BuildError;
use crate::kernel::Kernel;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use libcap::capability::Untyped;
use sel4_sys::ObjectType;
use sel4_sys::object::UNTYPED_BITS_MAX;

/// A block of untyped memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Block {
    /// Its physical address, aligned to its size.
    pub paddr: u64,
    /// log2 of its bytes.
    pub bits: u8,
    /// Where its capability is.
    pub slot: u64,
}

impl Block {
    /// Its bytes.
    #[must_use]
    pub const fn bytes(self) -> u64 {
        1 << self.bits
    }
}

/// Free blocks, and how those that are not original were split off.
#[derive(Debug, Default)]
pub struct UntypedPool {
    /// Free blocks by size and address.
    free: BTreeMap<(u8, u64), u64>,
    /// Slots of blocks that were split, by size and address.
    split: BTreeMap<(u8, u64), u64>,
    total: u64,
}

impl UntypedPool {
    /// Adds a block that the kernel gave.
    pub fn add(&mut self, block: Block) {
        self.total += block.bytes();
        self.free.insert((block.bits, block.paddr), block.slot);
    }

    /// Bytes of all blocks ever added.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.total
    }

    /// Free bytes.
    #[must_use]
    pub fn free(&self) -> u64 {
        self.free.keys().map(|(bits, _)| 1 << bits).sum()
    }

    /// Bytes of the largest block that could be had, halves joined.
    #[must_use]
    pub fn largest(&self) -> u64 {
        let mut free: Vec<(u8, u64)> = self.free.keys().copied().collect();
        let mut largest = 0;
        let mut next = 0;
        // Sorted by size: the parent of two free halves is looked at after them.
        while let Some(&(bits, paddr)) = free.get(next) {
            next += 1;
            largest = largest.max(1 << bits);
            let buddy = (bits, paddr ^ 1 << bits);
            let parent = (bits + 1, paddr & !(1 << bits));
            if paddr < buddy.1 && self.split.contains_key(&parent) && free.contains(&buddy) {
                let place = free.partition_point(|block| *block < parent);
                free.insert(place, parent);
            }
        }
        largest
    }

    /// Takes a block of 2^`bits` bytes.
    ///
    /// # Errors
    /// `OutOfMemory`, `OutOfSlots`, or the kernel's refusal.
    pub fn take(
        &mut self,
        bits: u8,
        kernel: &mut impl Kernel,
        cspace: &mut CSpace,
    ) -> Result<Block, BuildError> {
        if self.smallest(bits).is_none() {
            self.join(kernel, cspace)?;
        }
        let mut block = self.smallest(bits).ok_or(BuildError::OutOfMemory)?;
        while block.bits > bits {
            block = self.halve(block, block.paddr, kernel, cspace)?;
        }
        self.free.remove(&(block.bits, block.paddr));
        Ok(block)
    }

    /// Takes the block of 2^`bits` bytes at the address `paddr`.
    ///
    /// # Errors
    /// `NoSuchMemory` if it is not free as a whole, `OutOfSlots`, or the kernel's refusal.
    pub fn take_at(
        &mut self,
        paddr: u64,
        bits: u8,
        kernel: &mut impl Kernel,
        cspace: &mut CSpace,
    ) -> Result<Block, BuildError> {
        let around = |size: u8| {
            let start = paddr & !((1 << size) - 1);
            let slot = self.free.get(&(size, start))?;
            Some(Block {
                paddr: start,
                bits: size,
                slot: *slot,
            })
        };
        let largest = UNTYPED_BITS_MAX as u8;
        let mut block = (bits..=largest)
            .find_map(around)
            .ok_or(BuildError::NoSuchMemory)?;
        while block.bits > bits {
            block = self.halve(block, paddr, kernel, cspace)?;
        }
        self.free.remove(&(block.bits, block.paddr));
        Ok(block)
    }

    /// The size of the largest free block that starts at `paddr` and has at most `bytes` bytes:
    /// the next piece of a range that is to be taken.
    #[must_use]
    pub fn piece_at(paddr: u64, bytes: u64) -> u8 {
        let aligned = if paddr == 0 {
            63
        } else {
            paddr.trailing_zeros()
        };
        aligned.min(bytes.ilog2()).min(UNTYPED_BITS_MAX) as u8
    }

    /// Gives a block back. Nothing may be left that was made from it.
    pub fn give_back(&mut self, block: Block) {
        self.free.insert((block.bits, block.paddr), block.slot);
    }

    /// The smallest free block of at least 2^`bits` bytes, the lowest of its size.
    fn smallest(&self, bits: u8) -> Option<Block> {
        let (&(bits, paddr), &slot) = self.free.range((bits, 0)..).next()?;
        Some(Block { paddr, bits, slot })
    }

    /// Splits a free block and returns the half that holds the address `towards`.
    fn halve(
        &mut self,
        block: Block,
        towards: u64,
        kernel: &mut impl Kernel,
        cspace: &mut CSpace,
    ) -> Result<Block, BuildError> {
        let first = cspace.take(2)?;
        let bits = block.bits - 1;
        let untyped = Untyped::from_cptr(cspace.cptr(block.slot));
        let node = cspace.node();
        let made = kernel.retype(
            untyped,
            ObjectType::Untyped,
            u32::from(bits),
            node,
            first,
            2,
        );
        if let Err(error) = made {
            cspace.give_back(first, 2);
            return Err(error.into());
        }
        self.free.remove(&(block.bits, block.paddr));
        self.split.insert((block.bits, block.paddr), block.slot);
        let upper = block.paddr + (1 << bits);
        self.free.insert((bits, block.paddr), first);
        self.free.insert((bits, upper), first + 1);
        let half = if towards < upper {
            (block.paddr, first)
        } else {
            (upper, first + 1)
        };
        Ok(Block {
            paddr: half.0,
            bits,
            slot: half.1,
        })
    }

    /// Joins free halves for as long as there are any.
    fn join(&mut self, kernel: &mut impl Kernel, cspace: &mut CSpace) -> Result<(), BuildError> {
        while let Some((bits, paddr)) = self.halves() {
            for half in [(bits, paddr), (bits, paddr | 1 << bits)] {
                if let Some(slot) = self.free.remove(&half) {
                    kernel.delete(cspace.slot(slot))?;
                    cspace.give_back(slot, 1);
                }
            }
            if let Some(slot) = self.split.remove(&(bits + 1, paddr)) {
                self.free.insert((bits + 1, paddr), slot);
            }
        }
        Ok(())
    }

    /// The lower of two free halves of one block.
    fn halves(&self) -> Option<(u8, u64)> {
        let both = |&&(bits, paddr): &&(u8, u64)| {
            paddr & 1 << bits == 0
                && self.split.contains_key(&(bits + 1, paddr))
                && self.free.contains_key(&(bits, paddr | 1 << bits))
        };
        self.free.keys().find(both).copied()
    }
}
