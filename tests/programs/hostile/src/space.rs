//! Address spaces of the threads: the code, and pages of this program that both sides see.

use core::sync::atomic::AtomicU64;

use libcap::capability::{AsidPool, Frame, PageDirectory, PageTable, Pdpt, VSpace};
use sel4_sys::{CapRights, InitialSlot, ObjectType, VmAttributes};

use crate::code;
use crate::memory::Memory;

/// Bytes of a page.
pub const PAGE: u64 = 4096;
/// Where the code is in every address space.
pub const CODE: u64 = 0x40_0000;
/// Where the other pages begin; the same page table has room for them.
pub const PAGES: u64 = 0x50_0000;
/// Word of a thread's page, behind its IPC buffer, where hostile.s counts.
pub const FIRST_COUNT: usize = 256;
/// The next word, likewise.
pub const SECOND_COUNT: usize = 257;

/// A page of this program that threads get mapped too.
#[repr(C, align(4096))]
pub struct SharedPage(pub [AtomicU64; 512]);

impl SharedPage {
    /// Of zeros.
    pub const fn new() -> Self {
        Self([const { AtomicU64::new(0) }; 512])
    }

    /// Maps it at `address` in `space`, writable.
    pub fn map(&'static self, memory: &mut Memory, space: VSpace, address: u64) -> Frame {
        let page = memory.own_page(self.0.as_ptr().addr() as u64);
        page.map(space, address, CapRights::ALL, VmAttributes::WRITE_BACK)
            .expect("an empty place");
        page
    }
}

/// An address space with the code.
pub fn make(memory: &mut Memory) -> VSpace {
    let space = VSpace::from_cptr(memory.make(ObjectType::Pml4, 0));
    let pool = AsidPool::from_cptr(InitialSlot::AsidPool.cptr());
    pool.assign(space.cptr()).expect("the pool has room");
    let attributes = VmAttributes::WRITE_BACK;
    Pdpt::from_cptr(memory.make(ObjectType::Pdpt, 0))
        .map(space, CODE, attributes)
        .expect("an empty space");
    PageDirectory::from_cptr(memory.make(ObjectType::PageDirectory, 0))
        .map(space, CODE, attributes)
        .expect("an empty space");
    PageTable::from_cptr(memory.make(ObjectType::PageTable, 0))
        .map(space, CODE, attributes)
        .expect("an empty space");
    let page = memory.own_page(code::address());
    page.map(space, CODE, CapRights::READ, attributes)
        .expect("an empty space");
    space
}
