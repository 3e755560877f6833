//! Virtual address spaces: their paging structures and identifiers.

use sel4_sys::{CPtr, InvocationLabel, VmAttributes};

use super::{Slot, Untyped, capabilities};
use crate::invocation::{KernelError, perform};

capabilities! {
    /// The root of an address space (PML4).
    VSpace,
    /// Second level: one slot is 1 GiB.
    Pdpt,
    /// Third level: one slot is 2 MiB.
    PageDirectory,
    /// Fourth level: one slot is 4 KiB.
    PageTable,
    /// What a device sees of memory, through the IOMMU.
    IoSpace,
    /// One level of its translation.
    IoPageTable,
    /// Gives address spaces their identifiers; one has room for 512.
    AsidPool,
    /// Makes pools.
    AsidControl,
}

/// Mapping methods of a paging structure.
macro_rules! paging_structure {
    ($( $name:ident: $map:ident, $unmap:ident; )+) => {
        $(
            impl $name {
                /// Puts the structure in place for the span that `vaddr` is in.
                ///
                /// # Errors
                /// `FailedLookup` with the level that is missing above it, `DeleteFirst` if the
                /// span has one, `InvalidCapability` if it is mapped already.
                pub fn map(
                    self,
                    space: VSpace,
                    vaddr: u64,
                    attributes: VmAttributes,
                ) -> Result<(), KernelError> {
                    let words = [vaddr, attributes.word()];
                    perform(self.cptr(), InvocationLabel::$map, &words, &[space.cptr()])
                }

                /// Takes it out with everything below it.
                ///
                /// # Errors
                /// `RevokeFirst` if it is not the only capability to it.
                pub fn unmap(self) -> Result<(), KernelError> {
                    perform(self.cptr(), InvocationLabel::$unmap, &[], &[])
                }
            }
        )+
    };
}

paging_structure! {
    Pdpt: X86PdptMap, X86PdptUnmap;
    PageDirectory: X86PageDirectoryMap, X86PageDirectoryUnmap;
    PageTable: X86PageTableMap, X86PageTableUnmap;
}

impl IoPageTable {
    /// Puts the next missing level in place for the span that `io_address` is in.
    ///
    /// # Errors
    /// `InvalidCapability` if it is mapped already, `FailedLookup` if no level is missing.
    pub fn map(self, space: IoSpace, io_address: u64) -> Result<(), KernelError> {
        let caps = [space.cptr()];
        perform(
            self.cptr(),
            InvocationLabel::IoPageTableMap,
            &[io_address],
            &caps,
        )
    }

    /// Takes it out with everything below it.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no such structure.
    pub fn unmap(self) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::IoPageTableUnmap, &[], &[])
    }
}

impl AsidControl {
    /// Makes a pool of a 4 KiB untyped and puts its capability into `destination`.
    ///
    /// # Errors
    /// `DeleteFirst` if there are no pools left or the slot is taken, `RevokeFirst` if the
    /// untyped is in use.
    pub fn make_pool(self, untyped: Untyped, destination: Slot) -> Result<(), KernelError> {
        let words = [destination.index, u64::from(destination.depth)];
        let caps = [untyped.cptr(), destination.root.cptr()];
        perform(
            self.cptr(),
            InvocationLabel::X86AsidControlMakePool,
            &words,
            &caps,
        )
    }
}

impl AsidPool {
    /// Gives a VSpace or a guest root its identifier, without which nothing can be mapped in it.
    ///
    /// # Errors
    /// `DeleteFirst` if the pool is full, `InvalidCapability` if it has one already.
    pub fn assign(self, root: CPtr) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::X86AsidPoolAssign,
            &[],
            &[root],
        )
    }
}
