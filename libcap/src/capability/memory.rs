//! Untyped memory and frames.

use sel4_sys::{CapRights, InvocationLabel, ObjectType, VmAttributes};

use super::{CNode, GuestRoot, IoSpace, Slot, VSpace, capabilities};
use crate::invocation::{KernelError, invoke, perform};

capabilities! {
    /// Memory without a type; every object is made from it.
    Untyped,
    /// Memory that can be mapped: 4 KiB, 2 MiB or 1 GiB.
    Frame,
}

impl Untyped {
    /// Makes `count` objects and puts their capabilities into `node` from slot `first` on.
    ///
    /// `size_bits` counts only for objects whose size is chosen
    /// ([`ObjectType::fixed_size_bits`] is `None`); for a CNode it is the radix.
    ///
    /// # Errors
    /// `NotEnoughMemory`, `DeleteFirst` if a slot is taken, `Range` if the slots or the count
    /// do not fit, `InvalidArgument` for device memory that may not become this type.
    pub fn retype(
        self,
        object: ObjectType,
        size_bits: u32,
        node: CNode,
        first: u64,
        count: u64,
    ) -> Result<(), KernelError> {
        // Depth 0 says that the root itself is the node.
        let words = [object.number(), u64::from(size_bits), 0, 0, first, count];
        perform(
            self.cptr(),
            InvocationLabel::UntypedRetype,
            &words,
            &[node.cptr()],
        )
    }

    /// [`Untyped::retype`] into the CNode whose capability is in slot `node`.
    ///
    /// # Errors
    /// As there, and `FailedLookup`.
    pub fn retype_into(
        self,
        object: ObjectType,
        size_bits: u32,
        node: Slot,
        first: u64,
        count: u64,
    ) -> Result<(), KernelError> {
        let size_bits = u64::from(size_bits);
        let words = [
            object.number(),
            size_bits,
            node.index,
            u64::from(node.depth),
            first,
            count,
        ];
        perform(
            self.cptr(),
            InvocationLabel::UntypedRetype,
            &words,
            &[node.root.cptr()],
        )
    }
}

impl Frame {
    /// Maps the frame, or changes the rights of its mapping at the same address.
    ///
    /// # Errors
    /// `FailedLookup` with the missing level if paging structures are missing, `DeleteFirst` if
    /// the address is taken, `InvalidArgument` if it is mapped elsewhere, `Alignment`.
    pub fn map(
        self,
        space: VSpace,
        vaddr: u64,
        rights: CapRights,
        attributes: VmAttributes,
    ) -> Result<(), KernelError> {
        let words = [vaddr, rights.word(), attributes.word()];
        perform(
            self.cptr(),
            InvocationLabel::X86PageMap,
            &words,
            &[space.cptr()],
        )
    }

    /// Maps the frame into a guest's memory. Attributes: [`VmAttributes::GUEST_UNCACHED`],
    /// [`VmAttributes::EXECUTE_NEVER`].
    ///
    /// # Errors
    /// As [`Frame::map`].
    pub fn map_guest(
        self,
        root: GuestRoot,
        guest_physical: u64,
        rights: CapRights,
        attributes: VmAttributes,
    ) -> Result<(), KernelError> {
        let words = [guest_physical, rights.word(), attributes.word()];
        perform(
            self.cptr(),
            InvocationLabel::X86PageMapGuest,
            &words,
            &[root.cptr()],
        )
    }

    /// Maps the frame for a device at `io_address` in its I/O space.
    ///
    /// # Errors
    /// As [`Frame::map`].
    pub fn map_io(
        self,
        io_space: IoSpace,
        rights: CapRights,
        io_address: u64,
    ) -> Result<(), KernelError> {
        let words = [rights.word(), io_address];
        perform(
            self.cptr(),
            InvocationLabel::X86PageMapIo,
            &words,
            &[io_space.cptr()],
        )
    }

    /// Takes the mapping back, wherever it is. Not being mapped is fine.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no frame.
    pub fn unmap(self) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::X86PageUnmap, &[], &[])
    }

    /// The physical address.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no frame.
    pub fn physical_address(self) -> Result<u64, KernelError> {
        Ok(invoke(self.cptr(), InvocationLabel::X86PageGetAddress, &[], &[])?.word(0))
    }
}
