//! Faults and errors as plain values: what a thread did that its handler, or its caller, must hear of.

/// Why a capability address did not resolve.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LookupFailure {
    /// The root is not a CNode.
    InvalidRoot,
    /// A slot on the way, or the last one, is empty.
    MissingCapability {
        /// Address bits not yet resolved.
        bits_left: u8,
    },
    /// More bits were resolved than asked for, or bits remain at a leaf.
    DepthMismatch {
        /// Address bits not yet resolved.
        bits_left: u8,
        /// Bits that the CNode would resolve.
        bits_found: u8,
    },
    /// A CNode's guard differs from the address.
    GuardMismatch {
        /// Address bits not yet resolved.
        bits_left: u8,
        /// The guard.
        guard_found: u64,
        /// Its size.
        guard_bits: u8,
    },
}

/// A fault that a thread waits to have handled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Fault {
    /// None.
    Null = 0,
    /// A capability address that did not resolve.
    Capability {
        /// The address.
        address: u64,
        /// 1 if the receive phase failed.
        in_receive_phase: u64,
        /// Why.
        failure: LookupFailure,
    },
    /// A system call the kernel does not have.
    UnknownSyscall {
        /// The number.
        number: u64,
    },
    /// A processor exception.
    UserException {
        /// Vector.
        number: u64,
        /// Error code, 0 if the vector has none.
        code: u64,
    },
    /// The scheduling context ran out of budget.
    Timeout {
        /// Badge of the scheduling context.
        badge: u64,
    },
    /// A page fault.
    VirtualMemory {
        /// Address that faulted.
        address: u64,
        /// Page-fault error code.
        code: u64,
        /// 1 for an instruction fetch.
        is_fetch: u64,
    },
}

/// Why an invocation was refused. A refused invocation changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallError {
    /// A data word is wrong.
    InvalidArgument(u64),
    /// A capability argument is wrong: 0 is the invoked one.
    InvalidCapability(u64),
    /// The object cannot do that, or not now.
    IllegalOperation,
    /// A value lies outside the range.
    RangeError {
        /// Smallest good value.
        min: u64,
        /// Largest good value.
        max: u64,
    },
    /// An address is not aligned.
    AlignmentError,
    /// A capability address did not resolve, or a paging level is missing.
    FailedLookup {
        /// Whether the source argument's lookup failed.
        was_source: bool,
        /// Why.
        failure: LookupFailure,
    },
    /// Message or capabilities missing.
    TruncatedMessage,
    /// The destination must be emptied first.
    DeleteFirst,
    /// The capability has children.
    RevokeFirst,
    /// The untyped has too little room.
    NotEnoughMemory {
        /// Bytes left.
        bytes_left: u64,
    },
}

/// The work was broken off for an interrupt; the system call starts again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preempted;
