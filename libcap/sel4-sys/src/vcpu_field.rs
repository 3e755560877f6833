//! The state of a virtual CPU as VCPU.ReadFields and WriteFields name it (docs/abi.md).

use crate::numbered::numbered;

/// Most fields that one ReadFields or WriteFields carries.
pub const FIELDS_PER_CALL: usize = 32;

numbered! {
    /// State of a VCPU that can be read and written.
    VcpuField {
        /// Selector of ES.
        EsSelector = 0,
        /// Selector of CS.
        CsSelector = 1,
        /// Selector of SS.
        SsSelector = 2,
        /// Selector of DS.
        DsSelector = 3,
        /// Selector of FS.
        FsSelector = 4,
        /// Selector of GS.
        GsSelector = 5,
        /// Selector of the local descriptor table.
        LdtrSelector = 6,
        /// Selector of the task.
        TrSelector = 7,
        /// Base of ES.
        EsBase = 8,
        /// Base of CS.
        CsBase = 9,
        /// Base of SS.
        SsBase = 10,
        /// Base of DS.
        DsBase = 11,
        /// Base of FS.
        FsBase = 12,
        /// Base of GS.
        GsBase = 13,
        /// Base of the local descriptor table.
        LdtrBase = 14,
        /// Base of the task state.
        TrBase = 15,
        /// Limit of ES in bytes.
        EsLimit = 16,
        /// Limit of CS in bytes.
        CsLimit = 17,
        /// Limit of SS in bytes.
        SsLimit = 18,
        /// Limit of DS in bytes.
        DsLimit = 19,
        /// Limit of FS in bytes.
        FsLimit = 20,
        /// Limit of GS in bytes.
        GsLimit = 21,
        /// Limit of the local descriptor table in bytes.
        LdtrLimit = 22,
        /// Limit of the task state in bytes.
        TrLimit = 23,
        /// Attributes of ES ([`segment_attributes`]).
        EsAttributes = 24,
        /// Attributes of CS.
        CsAttributes = 25,
        /// Attributes of SS.
        SsAttributes = 26,
        /// Attributes of DS.
        DsAttributes = 27,
        /// Attributes of FS.
        FsAttributes = 28,
        /// Attributes of GS.
        GsAttributes = 29,
        /// Attributes of the local descriptor table.
        LdtrAttributes = 30,
        /// Attributes of the task state.
        TrAttributes = 31,
        /// Base of the global descriptor table.
        GdtrBase = 32,
        /// Limit of it.
        GdtrLimit = 33,
        /// Base of the interrupt descriptor table.
        IdtrBase = 34,
        /// Limit of it.
        IdtrLimit = 35,
        /// CR0 as the guest sees it.
        Cr0 = 36,
        /// CR2.
        Cr2 = 37,
        /// CR3.
        Cr3 = 38,
        /// CR4 as the guest sees it.
        Cr4 = 39,
        /// EFER as the guest sees it.
        Efer = 40,
        /// DR6.
        Dr6 = 41,
        /// DR7.
        Dr7 = 42,
        /// Page attribute table.
        Pat = 43,
        /// SYSENTER_CS.
        SysenterCs = 44,
        /// SYSENTER_ESP.
        SysenterEsp = 45,
        /// SYSENTER_EIP.
        SysenterEip = 46,
        /// STAR.
        Star = 47,
        /// LSTAR.
        Lstar = 48,
        /// CSTAR.
        Cstar = 49,
        /// FMASK.
        Fmask = 50,
        /// KERNEL_GS_BASE.
        KernelGsBase = 51,
        /// RIP.
        Rip = 52,
        /// RFLAGS.
        Rflags = 53,
        /// RAX.
        Rax = 54,
        /// RCX.
        Rcx = 55,
        /// RDX.
        Rdx = 56,
        /// RBX.
        Rbx = 57,
        /// RSP.
        Rsp = 58,
        /// RBP.
        Rbp = 59,
        /// RSI.
        Rsi = 60,
        /// RDI.
        Rdi = 61,
        /// R8.
        R8 = 62,
        /// R9.
        R9 = 63,
        /// R10.
        R10 = 64,
        /// R11.
        R11 = 65,
        /// R12.
        R12 = 66,
        /// R13.
        R13 = 67,
        /// R14.
        R14 = 68,
        /// R15.
        R15 = 69,
        /// Added to the host's TSC.
        TscOffset = 70,
        /// XCR0.
        Xcr0 = 71,
        /// Bit 0 interrupt shadow, bit 1 NMI blocked.
        Interruptibility = 72,
        /// Bitmap of the exception vectors that exit.
        ExceptionIntercepts = 73,
        /// The pending [`Event`](crate::Event).
        PendingEvent = 74,
        /// DR0.
        Dr0 = 75,
        /// DR1.
        Dr1 = 76,
        /// DR2.
        Dr2 = 77,
        /// DR3.
        Dr3 = 78,
        /// TSC_AUX.
        TscAux = 79,
    }
}

/// Number of VCPU fields; their ids are dense.
pub const VCPU_FIELDS: usize = 80;

/// Segment attributes, in the format of VMX access rights.
pub mod segment_attributes {
    /// Mask of the descriptor type.
    pub const TYPE_MASK: u64 = 0xf;
    /// S: a code or data segment.
    pub const CODE_OR_DATA: u64 = 1 << 4;
    /// Shift of the descriptor privilege level (2 bits).
    pub const DPL_SHIFT: u32 = 5;
    /// P.
    pub const PRESENT: u64 = 1 << 7;
    /// AVL.
    pub const AVAILABLE: u64 = 1 << 12;
    /// L: 64-bit code.
    pub const LONG: u64 = 1 << 13;
    /// D/B: 32-bit default.
    pub const DEFAULT_32: u64 = 1 << 14;
    /// G: the limit counts pages.
    pub const GRANULARITY: u64 = 1 << 15;
    /// The segment is unusable.
    pub const UNUSABLE: u64 = 1 << 16;
}

/// Bits of [`VcpuField::Interruptibility`].
pub mod interruptibility {
    /// In an interrupt shadow.
    pub const SHADOW: u64 = 1 << 0;
    /// NMIs are blocked.
    pub const NMI_BLOCKED: u64 = 1 << 1;
}

const _: () = {
    // A write carries the count, then a pair for each field.
    assert!(2 * FIELDS_PER_CALL < crate::message::MESSAGE_WORDS);
    assert!(VcpuField::ALL.len() == VCPU_FIELDS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_ids_are_dense() {
        for (index, field) in VcpuField::ALL.iter().enumerate() {
            assert_eq!(field.number(), index as u64);
        }
    }
}
