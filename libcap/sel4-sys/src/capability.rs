//! Capability words: pointers, rights, CNode data, mapping attributes, the slots of the root task.

use crate::numbered::numbered;

/// A capability pointer: an address in a capability space, resolved with all 64 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(transparent)]
pub struct CPtr(pub u64);

impl CPtr {
    /// The pointer to the slot that is always empty.
    pub const NULL: Self = Self(0);
    /// Depth with which the pointers of system calls are resolved.
    pub const DEPTH: u64 = 64;
}

/// Access rights of an endpoint, reply, notification or frame capability.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct CapRights(u64);

impl CapRights {
    /// Send, or write.
    pub const WRITE: Self = Self(1 << 0);
    /// Receive, or read.
    pub const READ: Self = Self(1 << 1);
    /// Pass capabilities on.
    pub const GRANT: Self = Self(1 << 2);
    /// Let the receiver reply.
    pub const GRANT_REPLY: Self = Self(1 << 3);
    /// None.
    pub const NONE: Self = Self(0);
    /// Read and write.
    pub const READ_WRITE: Self = Self(Self::READ.0 | Self::WRITE.0);
    /// What a client needs of a server's endpoint: send, and be replied to.
    pub const CALL: Self = Self(Self::WRITE.0 | Self::GRANT_REPLY.0);
    /// All.
    pub const ALL: Self = Self(0xf);

    /// A word of a message; bits above the four rights are dropped, as the kernel drops them.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word & Self::ALL.0)
    }

    /// The word for a message.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The rights of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The rights of both.
    #[must_use]
    pub const fn intersection(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// True if every right of `other` is held.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Guard of a CNode capability, as Mint, Mutate, SetSpace and Configure take it: bits 0..5 its
/// size, bits 6..63 the guard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct CNodeData(u64);

impl CNodeData {
    const SIZE_BITS: u32 = 6;

    /// Leave the guard alone (SetSpace, Configure), or set an empty one (Mint, Mutate).
    pub const NONE: Self = Self(0);

    /// Packs a guard of `size_bits` (0..=63) bits; excess bits of either are cut off.
    #[must_use]
    pub const fn new(guard: u64, size_bits: u32) -> Self {
        Self(guard << Self::SIZE_BITS | size_bits as u64 & ((1 << Self::SIZE_BITS) - 1))
    }

    /// A word of a message.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word for a message.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Bits of the guard.
    #[must_use]
    pub const fn guard_size(self) -> u32 {
        (self.0 & ((1 << Self::SIZE_BITS) - 1)) as u32
    }

    /// The guard.
    #[must_use]
    pub const fn guard(self) -> u64 {
        self.0 >> Self::SIZE_BITS
    }
}

/// Attributes of a mapping: the memory type, and Tessera's execute-never.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct VmAttributes(u64);

impl VmAttributes {
    /// Write-back: ordinary memory.
    pub const WRITE_BACK: Self = Self(0);
    /// Write-through.
    pub const WRITE_THROUGH: Self = Self(1);
    /// Uncached unless the MTRRs say write-combining (UC-).
    pub const CACHE_DISABLED: Self = Self(2);
    /// Uncached: device registers.
    pub const UNCACHED: Self = Self(3);
    /// Write-combining: framebuffers.
    pub const WRITE_COMBINING: Self = Self(4);
    /// Tessera: no instruction fetch.
    pub const EXECUTE_NEVER: Self = Self(1 << 8);
    /// Guest mappings (Page.MapGuest) have their own memory types: this is uncached there.
    pub const GUEST_UNCACHED: Self = Self(1);

    /// A word of a message.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word for a message.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// Both.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Bits 0..2.
    #[must_use]
    pub const fn memory_type(self) -> u64 {
        self.0 & 7
    }

    /// True if every bit of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Highest `vector` argument of IRQControl.GetIOAPIC and GetMSI.
pub const IRQ_VECTOR_MAX: u64 = 107;
/// IRQ number = vector argument + this.
pub const IRQ_NUMBER_OFFSET: u64 = 16;
/// Hardware IDT vector = vector argument + this; a device's MSI data register takes it.
pub const IRQ_HARDWARE_VECTOR_OFFSET: u64 = 0x30;

numbered! {
    /// Slots of the root task's CNode at its start.
    InitialSlot {
        /// Always empty.
        Null = 0,
        /// Its own TCB.
        Tcb = 1,
        /// Its own CNode.
        CNode = 2,
        /// Its own address space.
        VSpace = 3,
        /// Interrupt control.
        IrqControl = 4,
        /// ASID control.
        AsidControl = 5,
        /// The pool that its own address space is in.
        AsidPool = 6,
        /// I/O port control.
        IoPortControl = 7,
        /// The master I/O space.
        IoSpace = 8,
        /// Frame of the BootInfo.
        BootInfoFrame = 9,
        /// Frame of its IPC buffer.
        IpcBufferFrame = 10,
        /// Domain control.
        Domain = 11,
        /// Empty on x86.
        SmmuSidControl = 12,
        /// Empty on x86.
        SmmuCbControl = 13,
        /// Its scheduling context.
        SchedContext = 14,
        /// Empty on x86.
        Smc = 15,
    }
}

impl InitialSlot {
    /// The pointer to it: the root task's pointers are plain slot numbers.
    #[must_use]
    pub const fn cptr(self) -> CPtr {
        CPtr(self.number())
    }
}

/// First slot after the fixed ones.
pub const INITIAL_SLOTS: u64 = 16;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn guard_and_size_share_a_word() {
        let data = CNodeData::new(5, 52);
        assert_eq!((data.guard(), data.guard_size()), (5, 52));
        assert_eq!(data.word(), 5 << 6 | 52);
        assert_eq!(CNodeData::NONE.guard_size(), 0);
    }

    #[test]
    fn rights_beyond_the_four_are_dropped() {
        assert_eq!(CapRights::from_word(u64::MAX), CapRights::ALL);
        assert_eq!(CapRights::CALL.word(), 0b1001);
    }
}
