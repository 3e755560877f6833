//! Types of capabilities, as DebugCapIdentify and CNode.Identify answer them.
//!
//! seL4's numbers: even for the portable types, odd for those of the architecture. They are not the
//! object types of Untyped.Retype, which name what can be made.

use crate::numbered::numbered;

numbered! {
    /// What is in a slot.
    CapType {
        /// Nothing.
        Null = 0,
        /// A frame.
        Frame = 1,
        /// Untyped memory.
        Untyped = 2,
        /// A page table.
        PageTable = 3,
        /// An endpoint.
        Endpoint = 4,
        /// A page directory.
        PageDirectory = 5,
        /// A notification.
        Notification = 6,
        /// A page-directory-pointer table.
        Pdpt = 7,
        /// A reply object.
        Reply = 8,
        /// The root of an address space.
        VSpace = 9,
        /// A table of slots.
        CNode = 10,
        /// ASID control.
        AsidControl = 11,
        /// A thread.
        Thread = 12,
        /// An ASID pool.
        AsidPool = 13,
        /// Interrupt control.
        IrqControl = 14,
        /// A device's I/O space, or control of all.
        IoSpace = 15,
        /// One interrupt.
        IrqHandler = 16,
        /// IOMMU translation level.
        IoPageTable = 17,
        /// What is left of an object that is being deleted.
        Zombie = 18,
        /// A range of I/O ports.
        IoPort = 19,
        /// Domains.
        Domain = 20,
        /// A virtual CPU.
        Vcpu = 21,
        /// A scheduling context.
        SchedContext = 22,
        /// A guest's page table.
        GuestPageTable = 23,
        /// Scheduling of a CPU.
        SchedControl = 24,
        /// A guest's page directory.
        GuestPageDirectory = 25,
        /// A guest's page-directory-pointer table.
        GuestPdpt = 27,
        /// The root of a guest's memory.
        GuestRoot = 29,
        /// I/O port control.
        IoPortControl = 31,
        /// Tessera. A timer: seL4's types end at 31.
        Timer = 32,
    }
}
