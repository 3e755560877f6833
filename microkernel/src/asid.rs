//! Address-space identifiers: from a number to the root table that has it.
//!
//! An identifier is `pool << 9 | index`. A pool is a table of 512 words: the kernel address of
//! the root with bit 0 set for a guest-physical space, 0 if free. Index 0 of pool 0 is never used.
//! A mapping remembers the identifier; when the root is gone the lookup fails and there is
//! nothing to unmap.

use crate::arch::{self, SpaceWord};
use crate::cap::{Asid, MapSpace, RootCap};
use crate::config::ASIDS_PER_POOL;
use crate::kernel::Kernel;
use crate::object::{AsidPool, Tcb, TcbSlot};
use crate::store::{Ref, Table};

/// Bit of a pool's entry for a guest-physical space.
const GUEST: u64 = 1;

/// Bits of an identifier that are the index in its pool.
const INDEX_BITS: u32 = ASIDS_PER_POOL.trailing_zeros();

const fn split(asid: Asid) -> (usize, usize) {
    let number = asid.number() as usize;
    (number >> INDEX_BITS, number & (ASIDS_PER_POOL - 1))
}

fn entry_of(root: &RootCap) -> u64 {
    let flag = if root.space == MapSpace::Guest {
        GUEST
    } else {
        0
    };
    root.table.address() as u64 | flag
}

impl Kernel {
    /// The address space that `tcb` can run in, if there is one. It is looked up once and remembered
    /// in the TCB until a capability goes that may have had a part in it.
    #[inline(always)]
    #[must_use]
    pub fn space_of(&self, tcb: Ref<Tcb>) -> Option<SpaceWord> {
        let known = self.known_space_of(tcb);
        if known.is_some() {
            known
        } else {
            self.find_space_of(tcb)
        }
    }

    /// As [`Kernel::space_of`], if it is remembered.
    #[inline(always)]
    #[must_use]
    pub fn known_space_of(&self, tcb: Ref<Tcb>) -> Option<SpaceWord> {
        (tcb.space_epoch.get() == self.space_epoch.get()).then(|| tcb.space.get())
    }

    fn find_space_of(&self, tcb: Ref<Tcb>) -> Option<SpaceWord> {
        let root = tcb.slot(TcbSlot::VSpace).raw().root()?;
        if root.space != MapSpace::Virtual || !self.is_current_root(&root) {
            return None;
        }
        let space = arch::space_word(root.table, root.asid?.number());
        tcb.space.set(space);
        tcb.space_epoch.set(self.space_epoch.get());
        Some(space)
    }

    /// What TCBs remember no longer counts: a capability of an address space, a thread's own too, or
    /// of a pool is about to go. A thread gets another address space only after its old one went.
    pub fn forget_spaces(&self) {
        self.space_epoch.set(self.space_epoch.get() + 1);
    }

    /// The root of the address space `asid`, if it is a `space`.
    #[must_use]
    pub fn find_root(&self, asid: Asid, space: MapSpace) -> Option<Ref<Table>> {
        let (pool, index) = split(asid);
        let pool = self.asid_pools.get(pool)?.get()?;
        let entry = pool.entry(index).get();
        if entry == 0 {
            return None;
        }
        let (table, its_space) = root_of(entry);
        (its_space == space).then_some(table)
    }

    /// Whether `root` still is the address space that its identifier names.
    #[must_use]
    pub fn is_current_root(&self, root: &RootCap) -> bool {
        root.asid
            .and_then(|asid| self.find_root(asid, root.space))
            .is_some_and(|table| table == root.table)
    }

    /// The first free identifier of the pool that begins at `base`.
    #[must_use]
    pub fn free_asid(&self, pool: Ref<AsidPool>, base: u16) -> Option<Asid> {
        (0..ASIDS_PER_POOL)
            .filter(|index| pool.entry(*index).get() == 0)
            .find_map(|index| Asid::new(base + index as u16))
    }

    /// Gives `root` the identifier `asid`, which is free.
    pub fn assign_asid(&self, pool: Ref<AsidPool>, asid: Asid, root: &RootCap) {
        pool.entry(split(asid).1).set(entry_of(root));
    }

    /// The address space of `root` goes: its identifier is free again.
    pub fn delete_asid(&self, root: RootCap) {
        let Some(asid) = root.asid else { return };
        if !self.is_current_root(&root) {
            return;
        }
        let (pool, index) = split(asid);
        if let Some(pool) = self.asid_pools[pool].get() {
            // First the identifier: a CPU that looks it up again after it answered must not find it.
            pool.entry(index).set(0);
            forget_translations(root.table, root.space, asid);
        }
        self.leave_address_space();
    }

    /// A pool goes, and with it the identifiers of all its address spaces.
    pub fn delete_asid_pool(&self, base: u16, pool: Ref<AsidPool>) {
        let number = usize::from(base) >> INDEX_BITS;
        if self.asid_pools[number].get() != Some(pool) {
            return;
        }
        self.asid_pools[number].set(None);
        for index in 0..ASIDS_PER_POOL {
            let entry = pool.entry(index).get();
            if let (Some(asid), true) = (Asid::new(base + index as u16), entry != 0) {
                let (table, space) = root_of(entry);
                forget_translations(table, space, asid);
            }
        }
        self.leave_address_space();
    }

    /// The address space that this CPU uses may be gone: load that of the current thread again.
    fn leave_address_space(&self) {
        if let Some(current) = self.node().current.get() {
            arch::switch_address_space(self.space_of(current));
        }
    }
}

/// The root that a pool's entry, which is not 0, names.
#[inline(always)]
fn root_of(entry: u64) -> (Ref<Table>, MapSpace) {
    let space = if entry & GUEST != 0 {
        MapSpace::Guest
    } else {
        MapSpace::Virtual
    };
    (Ref::from_address((entry & !GUEST) as usize), space)
}

/// Makes every CPU forget what it knows of a space.
pub fn forget_translations(table: Ref<Table>, space: MapSpace, asid: Asid) {
    if space == MapSpace::Guest {
        arch::invalidate_guest_space(table, asid.number());
    } else {
        arch::invalidate_address_space(table, asid.number());
    }
}
