//! Fault messages: the label, and where each word stands.
//!
//! A reply with label 0 resumes the thread, any other leaves it suspended. The words of the reply
//! are written back to the thread as each module's `REPLY_LENGTH` says.

use crate::numbered::numbered;

numbered! {
    /// Label of a fault message.
    FaultLabel {
        /// No fault.
        NullFault = 0,
        /// A capability lookup failed ([`cap_fault`]).
        CapFault = 1,
        /// No such system call ([`unknown_syscall`]).
        UnknownSyscall = 2,
        /// A CPU exception ([`user_exception`]).
        UserException = 3,
        /// A debug exception; only in kernels with the hardware debug API.
        DebugException = 4,
        /// The budget is used up ([`timeout`]).
        Timeout = 5,
        /// A page fault ([`vm_fault`]).
        VmFault = 6,
    }
}

/// Words of a capability fault.
pub mod cap_fault {
    /// Instruction pointer.
    pub const IP: usize = 0;
    /// The capability pointer that did not resolve.
    pub const ADDRESS: usize = 1;
    /// 1 if it was the receive phase of the call.
    pub const IN_RECEIVE_PHASE: usize = 2;
    /// A [`crate::LookupFailureKind`].
    pub const LOOKUP_FAILURE: usize = 3;
    /// Detail 0 of the failure.
    pub const BITS_LEFT: usize = 4;
    /// Detail 1: bits found, or the guard found.
    pub const BITS_OR_GUARD_FOUND: usize = 5;
    /// Detail 2: bits of that guard.
    pub const GUARD_BITS: usize = 6;
    /// Words before the details.
    pub const DETAILS: usize = BITS_LEFT;
}

/// Words of an unknown system call: the caller's registers. The reply writes back the first 18.
pub mod unknown_syscall {
    /// RAX.
    pub const RAX: usize = 0;
    /// RBX.
    pub const RBX: usize = 1;
    /// RCX.
    pub const RCX: usize = 2;
    /// RDX.
    pub const RDX: usize = 3;
    /// RSI.
    pub const RSI: usize = 4;
    /// RDI.
    pub const RDI: usize = 5;
    /// RBP.
    pub const RBP: usize = 6;
    /// R8; R9 to R15 follow in order.
    pub const R8: usize = 7;
    /// R9.
    pub const R9: usize = 8;
    /// R10.
    pub const R10: usize = 9;
    /// R11.
    pub const R11: usize = 10;
    /// R12.
    pub const R12: usize = 11;
    /// R13.
    pub const R13: usize = 12;
    /// R14.
    pub const R14: usize = 13;
    /// R15.
    pub const R15: usize = 14;
    /// Instruction pointer: of the `syscall` in the fault, where to resume in the reply.
    pub const FAULT_IP: usize = 15;
    /// Stack pointer.
    pub const RSP: usize = 16;
    /// RFLAGS.
    pub const FLAGS: usize = 17;
    /// The number that was not known.
    pub const SYSCALL: usize = 18;
    /// Words of the fault.
    pub const LENGTH: usize = 19;
    /// Words that a reply may write back.
    pub const REPLY_LENGTH: usize = 18;
}

/// Words of a CPU exception. The reply writes back the first three.
pub mod user_exception {
    /// Instruction pointer.
    pub const FAULT_IP: usize = 0;
    /// Stack pointer.
    pub const RSP: usize = 1;
    /// RFLAGS.
    pub const FLAGS: usize = 2;
    /// Vector.
    pub const NUMBER: usize = 3;
    /// Error code.
    pub const CODE: usize = 4;
    /// Words of the fault.
    pub const LENGTH: usize = 5;
    /// Words that a reply may write back.
    pub const REPLY_LENGTH: usize = 3;
}

/// Words of a timeout fault, and of the reply, which writes the whole register set.
pub mod timeout {
    /// Badge of the scheduling context.
    pub const DATA: usize = 0;
    /// Microseconds that it consumed.
    pub const CONSUMED_US: usize = 1;
    /// Words of the fault (1 if the thread has no scheduling context).
    pub const LENGTH: usize = 2;
    /// Words that a reply may write back: FaultIP RSP FLAGS RAX RBX RCX RDX RSI RDI RBP R8..R15
    /// and the FS base.
    pub const REPLY_LENGTH: usize = 19;
}

/// Words of a page fault. A reply only restarts the thread.
pub mod vm_fault {
    /// Instruction pointer.
    pub const IP: usize = 0;
    /// The address (CR2).
    pub const ADDRESS: usize = 1;
    /// 1 if it was an instruction fetch.
    pub const PREFETCH: usize = 2;
    /// The CPU's page-fault error code.
    pub const FSR: usize = 3;
    /// Words of the fault.
    pub const LENGTH: usize = 4;
}
