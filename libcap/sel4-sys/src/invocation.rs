//! Invocation labels: what is asked of an object.
//!
//! seL4's numbers depend on its configuration; these are configuration A's. Message registers and
//! extra capabilities of each are in seL4's object reference; those of Tessera's additions in
//! docs/abi.md.

use crate::numbered::numbered;

numbered! {
    /// Label of a message to a capability that is not an endpoint or notification.
    InvocationLabel {
        /// No invocation.
        InvalidInvocation = 0,
        /// type, size bits, node index, node depth, node offset, number; cap: root CNode.
        UntypedRetype = 1,
        /// flags, count; answer: registers.
        TcbReadRegisters = 2,
        /// flags, count, registers.
        TcbWriteRegisters = 3,
        /// flags; cap: source TCB.
        TcbCopyRegisters = 4,
        /// CSpace data, VSpace data, buffer address; caps: CSpace, VSpace, buffer frame.
        TcbConfigure = 5,
        /// priority; cap: authority TCB.
        TcbSetPriority = 6,
        /// maximum controlled priority; cap: authority TCB.
        TcbSetMcPriority = 7,
        /// MCP, priority; caps: authority TCB, scheduling context, fault endpoint.
        TcbSetSchedParams = 8,
        /// cap: endpoint.
        TcbSetTimeoutEndpoint = 9,
        /// address; cap: frame.
        TcbSetIpcBuffer = 10,
        /// CSpace data, VSpace data; caps: fault endpoint, CSpace, VSpace.
        TcbSetSpace = 11,
        /// Stop the thread.
        TcbSuspend = 12,
        /// Let it run.
        TcbResume = 13,
        /// cap: notification.
        TcbBindNotification = 14,
        /// Undo it.
        TcbUnbindNotification = 15,
        /// base.
        TcbSetTlsBase = 16,
        /// bits to clear, bits to set; answer: flags after.
        TcbSetFlags = 17,
        /// index, depth.
        CNodeRevoke = 18,
        /// index, depth.
        CNodeDelete = 19,
        /// index, depth.
        CNodeCancelBadgedSends = 20,
        /// destination index and depth, source index and depth, rights; cap: source root.
        CNodeCopy = 21,
        /// as Copy, then badge or data.
        CNodeMint = 22,
        /// destination index and depth, source index and depth; cap: source root.
        CNodeMove = 23,
        /// as Move, then badge or data.
        CNodeMutate = 24,
        /// destination, pivot (index, depth, badge each), source (index, depth); caps: pivot root,
        /// source root.
        CNodeRotate = 25,
        /// irq, index, depth; cap: root. PIC only.
        IrqIssueIrqHandler = 26,
        /// Acknowledge.
        IrqAckIrq = 27,
        /// cap: notification.
        IrqSetIrqHandler = 28,
        /// Undo it.
        IrqClearIrqHandler = 29,
        /// domain; cap: TCB.
        DomainSetSet = 30,
        /// index, domain, duration.
        DomainScheduleConfigure = 31,
        /// index.
        DomainScheduleSetStart = 32,
        /// budget, period (µs), extra refills, badge, flags; cap: scheduling context.
        SchedControlConfigureFlags = 33,
        /// cap: TCB or notification.
        SchedContextBind = 34,
        /// Undo every binding.
        SchedContextUnbind = 35,
        /// cap: TCB or notification.
        SchedContextUnbindObject = 36,
        /// answer: µs consumed.
        SchedContextConsumed = 37,
        /// answer: µs consumed.
        SchedContextYieldTo = 38,
        /// address, attributes; cap: PML4.
        X86PdptMap = 39,
        /// Undo it.
        X86PdptUnmap = 40,
        /// address, attributes; cap: PML4.
        X86PageDirectoryMap = 41,
        /// Undo it.
        X86PageDirectoryUnmap = 42,
        /// address, attributes; cap: PML4.
        X86PageTableMap = 43,
        /// Undo it.
        X86PageTableUnmap = 44,
        /// address, rights, attributes; cap: PML4.
        X86PageMap = 45,
        /// Undo it.
        X86PageUnmap = 46,
        /// answer: physical address.
        X86PageGetAddress = 47,
        /// index, depth; caps: untyped, root.
        X86AsidControlMakePool = 48,
        /// cap: PML4 or GuestPML4.
        X86AsidPoolAssign = 49,
        /// first, last, index, depth; cap: root.
        X86IoPortControlIssue = 50,
        /// port; answer: value.
        X86IoPortIn8 = 51,
        /// port; answer: value.
        X86IoPortIn16 = 52,
        /// port; answer: value.
        X86IoPortIn32 = 53,
        /// port, value.
        X86IoPortOut8 = 54,
        /// port, value.
        X86IoPortOut16 = 55,
        /// port, value.
        X86IoPortOut32 = 56,
        /// index, depth, ioapic, pin, level, polarity, vector; cap: root.
        X86IrqIssueIrqHandlerIoApic = 57,
        /// index, depth, bus, device, function, handle, vector; cap: root.
        X86IrqIssueIrqHandlerMsi = 58,

        /// Tessera. cap: TCB.
        VcpuSetTcb = 0x1000,
        /// Tessera. cap: GuestPML4.
        VcpuSetGuestRoot = 0x1001,
        /// Tessera. n, field ids; answer: n values.
        VcpuReadFields = 0x1002,
        /// Tessera. n, then n × (field id, value).
        VcpuWriteFields = 0x1003,
        /// Tessera. first, last; cap: I/O port.
        VcpuEnableIoPort = 0x1004,
        /// Tessera. first, last.
        VcpuDisableIoPort = 0x1005,
        /// Tessera. guest-physical address; cap: GuestPML4. PDPT, PD and PT alike.
        GuestTableMap = 0x1010,
        /// Tessera. Undo it.
        GuestTableUnmap = 0x1011,
        /// Tessera. guest-physical address, rights, attributes; cap: GuestPML4.
        X86PageMapGuest = 0x1012,
        /// Tessera. I/O address; cap: I/O space.
        IoPageTableMap = 0x1020,
        /// Tessera. Undo it.
        IoPageTableUnmap = 0x1021,
        /// Tessera. rights, I/O address; cap: I/O space.
        X86PageMapIo = 0x1022,
        /// Tessera. cap: notification.
        TimerBind = 0x1030,
        /// Tessera. absolute deadline in TSC ticks.
        TimerArm = 0x1031,
        /// Tessera. answer: 1 if it was armed.
        TimerCancel = 0x1032,
        /// Tessera. index, depth; answer: the [`CapType`](crate::CapType) of what is in the slot.
        CNodeIdentify = 0x1040,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sel4_labels_are_dense_and_ours_are_above() {
        for (index, label) in InvocationLabel::ALL.iter().enumerate() {
            if index <= 58 {
                assert_eq!(label.number(), index as u64);
            } else {
                assert!(label.number() >= 0x1000);
            }
        }
    }
}
