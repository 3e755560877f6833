//! Kernel objects: their numbers for Untyped.Retype, and their sizes.

use crate::numbered::numbered;

numbered! {
    /// An object type as Untyped.Retype takes it.
    ObjectType {
        /// Untyped memory of a chosen size.
        Untyped = 0,
        /// Thread control block.
        Tcb = 1,
        /// Endpoint.
        Endpoint = 2,
        /// Notification.
        Notification = 3,
        /// Capability table (CNode) of a chosen radix.
        CapTable = 4,
        /// Scheduling context of a chosen size.
        SchedContext = 5,
        /// Reply object.
        Reply = 6,
        /// Second level of a virtual address space, one slot = 1 GiB.
        Pdpt = 7,
        /// Root of a virtual address space.
        Pml4 = 8,
        /// Frame of 1 GiB.
        HugePage = 9,
        /// Frame of 4 KiB.
        SmallPage = 10,
        /// Frame of 2 MiB.
        LargePage = 11,
        /// Fourth level, one slot = 4 KiB.
        PageTable = 12,
        /// Third level, one slot = 2 MiB.
        PageDirectory = 13,
        /// Tessera: one virtual CPU.
        Vcpu = 0x40,
        /// Tessera: root of a guest-physical address space.
        GuestPml4 = 0x41,
        /// Tessera: its second level, one slot = 1 GiB.
        GuestPdpt = 0x42,
        /// Tessera: its third level, one slot = 2 MiB.
        GuestPageDirectory = 0x43,
        /// Tessera: its fourth level, one slot = 4 KiB.
        GuestPageTable = 0x44,
        /// Tessera: IOMMU translation level.
        IoPageTable = 0x45,
        /// Tessera: one deadline that signals a notification.
        Timer = 0x46,
    }
}

/// log2 of the bytes of a capability slot.
pub const SLOT_BITS: u32 = 5;
/// log2 of the bytes of a thread control block.
pub const TCB_BITS: u32 = 11;
/// log2 of the bytes of an endpoint.
pub const ENDPOINT_BITS: u32 = 4;
/// log2 of the bytes of a notification.
pub const NOTIFICATION_BITS: u32 = 6;
/// log2 of the bytes of a reply object.
pub const REPLY_BITS: u32 = 5;
/// log2 of the bytes of every paging structure.
pub const TABLE_BITS: u32 = 12;
/// log2 of the bytes of a 4 KiB frame.
pub const SMALL_PAGE_BITS: u32 = 12;
/// log2 of the bytes of a 2 MiB frame.
pub const LARGE_PAGE_BITS: u32 = 21;
/// log2 of the bytes of a 1 GiB frame.
pub const HUGE_PAGE_BITS: u32 = 30;
/// log2 of the bytes of an ASID pool.
pub const ASID_POOL_BITS: u32 = 12;
/// log2 of the bytes of a VCPU.
pub const VCPU_BITS: u32 = 15;
/// log2 of the bytes of a timer.
pub const TIMER_BITS: u32 = 6;
/// log2 of the smallest untyped in bytes.
pub const UNTYPED_BITS_MIN: u32 = 4;
/// log2 of the largest untyped in bytes.
pub const UNTYPED_BITS_MAX: u32 = 47;
/// log2 of the smallest scheduling context in bytes.
pub const SCHED_CONTEXT_BITS_MIN: u32 = 7;
/// Bytes of a scheduling context before its extra refills; two refills are in them.
pub const SCHED_CONTEXT_CORE_BYTES: usize = 128;
/// Bytes of one extra refill.
pub const REFILL_BYTES: usize = 16;
/// The most objects that one Retype makes.
pub const RETYPE_OBJECTS_MAX: usize = 256;
/// Address spaces in one ASID pool.
pub const ASID_POOL_ENTRIES: usize = 512;
/// ASID pools in the system.
pub const ASID_POOLS: usize = 8;
/// First address that no user mapping may reach.
pub const USER_TOP: u64 = 0x0000_7fff_ffff_f000;

/// The least budget and period of a scheduling context, in microseconds.
pub const BUDGET_MIN_US: u64 = 20;
/// Highest thread priority; 0 is the lowest.
pub const PRIORITY_MAX: u64 = 255;
/// Number of scheduling domains.
pub const DOMAINS: u64 = 16;

impl ObjectType {
    /// log2 of the object's bytes, where the type alone decides it. `None` for untyped memory,
    /// capability tables and scheduling contexts, whose size is chosen at Retype.
    #[must_use]
    pub const fn fixed_size_bits(self) -> Option<u32> {
        match self {
            Self::Untyped | Self::CapTable | Self::SchedContext => None,
            Self::Tcb => Some(TCB_BITS),
            Self::Endpoint => Some(ENDPOINT_BITS),
            Self::Notification => Some(NOTIFICATION_BITS),
            Self::Reply => Some(REPLY_BITS),
            Self::HugePage => Some(HUGE_PAGE_BITS),
            Self::SmallPage => Some(SMALL_PAGE_BITS),
            Self::LargePage => Some(LARGE_PAGE_BITS),
            Self::Pdpt
            | Self::Pml4
            | Self::PageTable
            | Self::PageDirectory
            | Self::GuestPml4
            | Self::GuestPdpt
            | Self::GuestPageDirectory
            | Self::GuestPageTable
            | Self::IoPageTable => Some(TABLE_BITS),
            Self::Vcpu => Some(VCPU_BITS),
            Self::Timer => Some(TIMER_BITS),
        }
    }

    /// log2 of the bytes that one object takes from an untyped, given Retype's `size_bits`
    /// argument. Bounds of that argument are the kernel's to check.
    #[must_use]
    pub const fn size_bits(self, user_size_bits: u32) -> u32 {
        match self.fixed_size_bits() {
            Some(bits) => bits,
            None => match self {
                Self::CapTable => user_size_bits.saturating_add(SLOT_BITS),
                _ => user_size_bits,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_capability_table_takes_its_radix_in_slots() {
        assert_eq!(ObjectType::CapTable.size_bits(12), 17);
        assert_eq!(ObjectType::Untyped.size_bits(12), 12);
        assert_eq!(ObjectType::Vcpu.size_bits(0), 15);
        assert_eq!(ObjectType::CapTable.size_bits(u32::MAX), u32::MAX);
    }
}
