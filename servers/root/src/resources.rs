//! What everything is built from, and the kernel that builds it.

use crate::cspace::CSpace;
use crate::error::BuildError;
use crate::kernel::Kernel;
use crate::untyped::{Block, UntypedPool};
use alloc::vec::Vec;
use libcap::capability::{Slot, Untyped};
use sel4_sys::object::{LARGE_PAGE_BITS, RETYPE_OBJECTS_MAX};
use sel4_sys::{CPtr, CapRights, ObjectType};

/// log2 of the block from which an arena makes small objects: a program's kernel objects, its
/// image and its stacks take a few of them.
const SMALL_BLOCK_BITS: u8 = 18;

/// Free slots, free memory, and the kernel.
#[derive(Debug)]
pub struct Resources<K> {
    /// The kernel.
    pub kernel: K,
    /// Root's slots.
    pub cspace: CSpace,
    /// Memory.
    pub memory: UntypedPool,
    /// Device memory: everything at a fixed address, the boot archive included.
    pub devices: UntypedPool,
}

/// The objects of one owner, all given back at once.
///
/// Small objects fill blocks in the order in which they are asked for; large ones get blocks of
/// their own. Giving back revokes the blocks, which destroys whatever was made from them, wherever
/// its capabilities are.
#[derive(Debug, Default)]
pub struct Arena {
    blocks: Vec<Block>,
    device_blocks: Vec<Block>,
    /// The last small block, and its bytes in use.
    open: Option<(Block, u64)>,
    /// Runs of slots with capabilities to objects of the blocks.
    slots: Vec<(u64, u64)>,
    /// Slots with copies of capabilities to somebody else's objects.
    copies: Vec<u64>,
}

impl Arena {
    /// Bytes of all blocks of ordinary memory.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.blocks.iter().map(|block| block.bytes()).sum()
    }

    /// Makes one object and returns its slot. `size_bits` as Retype takes it.
    ///
    /// # Errors
    /// `OutOfMemory`, `OutOfSlots`, or the kernel's refusal.
    pub fn make<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        object: ObjectType,
        size_bits: u32,
    ) -> Result<u64, BuildError> {
        self.make_run(resources, object, size_bits, 1)
    }

    /// Makes `count` 4 KiB frames and returns their slots.
    ///
    /// # Errors
    /// As [`Arena::make`].
    pub fn make_pages<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        count: u64,
    ) -> Result<Vec<u64>, BuildError> {
        (0..count)
            .map(|_| self.make(resources, ObjectType::SmallPage, 0))
            .collect()
    }

    /// Makes `count` 2 MiB frames and returns their slots. They come from as few blocks as the
    /// free memory allows.
    ///
    /// # Errors
    /// As [`Arena::make`].
    pub fn make_large_pages<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        mut count: u64,
    ) -> Result<Vec<u64>, BuildError> {
        let mut pages = Vec::new();
        while count > 0 {
            let most = count.min(RETYPE_OBJECTS_MAX as u64).ilog2();
            let block = self.take_up_to(resources, LARGE_PAGE_BITS + most)?;
            let made = 1 << (u32::from(block.bits) - LARGE_PAGE_BITS);
            let first = self.retype(resources, block, ObjectType::LargePage, 0, made)?;
            pages.extend(first..first + made);
            count -= made;
        }
        Ok(pages)
    }

    /// Makes frames of all of the device memory in a range of whole pages, as large as alignment
    /// allows. Returns size in bits and slot of each, by rising address.
    ///
    /// # Errors
    /// `NoSuchMemory` if it is not all free device memory; as [`Arena::make`].
    pub fn make_device_pages<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        paddr: u64,
        bytes: u64,
    ) -> Result<Vec<(u32, u64)>, BuildError> {
        let mut pages = Vec::new();
        let mut at = paddr;
        while at < paddr + bytes {
            // No larger than one Retype makes large pages of.
            let most = (paddr + bytes - at).min((RETYPE_OBJECTS_MAX as u64) << LARGE_PAGE_BITS);
            let mut bits = UntypedPool::piece_at(at, most);
            if u32::from(bits) < LARGE_PAGE_BITS {
                bits = bits.min(SMALL_BLOCK_BITS);
            }
            let Resources {
                kernel,
                cspace,
                devices,
                ..
            } = resources;
            let block = devices.take_at(at, bits, kernel, cspace)?;
            self.device_blocks.push(block);
            let (object, page_bits) = if u32::from(bits) < LARGE_PAGE_BITS {
                (ObjectType::SmallPage, 12)
            } else {
                (ObjectType::LargePage, LARGE_PAGE_BITS)
            };
            let count = 1 << (u32::from(bits) - page_bits);
            let first = self.retype(resources, block, object, 0, count)?;
            pages.extend((first..first + count).map(|slot| (page_bits, slot)));
            at += block.bytes();
        }
        Ok(pages)
    }

    /// Copies a capability, so that it can be used a second time (a frame is mapped once for each).
    ///
    /// # Errors
    /// `OutOfSlots`, or the kernel's refusal.
    pub fn copy<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        from: Slot,
        rights: CapRights,
    ) -> Result<u64, BuildError> {
        let slot = self.slot_for_copy(resources)?;
        resources
            .kernel
            .copy(resources.cspace.slot(slot), from, rights)?;
        Ok(slot)
    }

    /// Copies a capability with a badge.
    ///
    /// # Errors
    /// `OutOfSlots`, or the kernel's refusal.
    pub fn mint<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        from: Slot,
        rights: CapRights,
        badge: u64,
    ) -> Result<u64, BuildError> {
        let slot = self.slot_for_copy(resources)?;
        resources
            .kernel
            .mint(resources.cspace.slot(slot), from, rights, badge)?;
        Ok(slot)
    }

    /// A free slot for a capability that is not made of the arena's memory.
    ///
    /// # Errors
    /// `OutOfSlots`.
    pub fn slot_for_copy<K>(&mut self, resources: &mut Resources<K>) -> Result<u64, BuildError> {
        let slot = resources.cspace.take(1)?;
        self.copies.push(slot);
        Ok(slot)
    }

    /// Destroys everything and gives memory and slots back.
    ///
    /// # Errors
    /// The kernel's refusal, which only a broken kernel gives; what is left then stays taken.
    pub fn give_back<K: Kernel>(self, resources: &mut Resources<K>) -> Result<(), BuildError> {
        let Resources {
            kernel,
            cspace,
            memory,
            devices,
        } = resources;
        for slot in self.copies {
            kernel.delete(cspace.slot(slot))?;
            cspace.give_back(slot, 1);
        }
        for block in self.blocks.iter().chain(&self.device_blocks) {
            kernel.revoke(cspace.slot(block.slot))?;
        }
        for (first, count) in self.slots {
            cspace.give_back(first, count);
        }
        self.blocks
            .into_iter()
            .for_each(|block| memory.give_back(block));
        self.device_blocks
            .into_iter()
            .for_each(|block| devices.give_back(block));
        Ok(())
    }

    /// The pointer to the capability in a slot.
    #[must_use]
    pub fn cptr<K>(resources: &Resources<K>, slot: u64) -> CPtr {
        resources.cspace.cptr(slot)
    }

    fn make_run<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        object: ObjectType,
        size_bits: u32,
        count: u64,
    ) -> Result<u64, BuildError> {
        let bits = object.size_bits(size_bits);
        let bytes = count << bits;
        if bits >= u32::from(SMALL_BLOCK_BITS) {
            let block = self.take(resources, bits as u8)?;
            return self.retype(resources, block, object, size_bits, count);
        }
        let fits = self
            .open
            .filter(|(block, used)| used.next_multiple_of(1 << bits) + bytes <= block.bytes());
        let (block, used) = match fits {
            Some(open) => open,
            None => (self.take(resources, SMALL_BLOCK_BITS)?, 0),
        };
        self.open = Some((block, used.next_multiple_of(1 << bits) + bytes));
        self.retype(resources, block, object, size_bits, count)
    }

    fn retype<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        block: Block,
        object: ObjectType,
        size_bits: u32,
        count: u64,
    ) -> Result<u64, BuildError> {
        let Resources { kernel, cspace, .. } = resources;
        let first = cspace.take(count)?;
        self.slots.push((first, count));
        let untyped = Untyped::from_cptr(cspace.cptr(block.slot));
        kernel.retype(untyped, object, size_bits, cspace.node(), first, count)?;
        Ok(first)
    }

    fn take<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        bits: u8,
    ) -> Result<Block, BuildError> {
        let Resources {
            kernel,
            cspace,
            memory,
            ..
        } = resources;
        let block = memory.take(bits, kernel, cspace)?;
        self.blocks.push(block);
        Ok(block)
    }

    /// Takes the largest block there is of at most 2^`bits` bytes and at least one large page.
    fn take_up_to<K: Kernel>(
        &mut self,
        resources: &mut Resources<K>,
        bits: u32,
    ) -> Result<Block, BuildError> {
        let largest = resources.memory.largest().max(1).ilog2();
        let bits = bits.min(largest).max(LARGE_PAGE_BITS);
        self.take(resources, bits as u8)
    }
}
