//! Errors of invocations: the label of the reply, and what its message registers say.

use crate::numbered::numbered;

numbered! {
    /// Why an invocation was refused (label of the reply message). A refused one changed nothing.
    ErrorCode {
        /// Not refused.
        NoError = 0,
        /// MR0 = which argument (from 0).
        InvalidArgument = 1,
        /// MR0 = which capability (0 = the invoked one).
        InvalidCapability = 2,
        /// The operation does not exist for this capability or not in its state.
        IllegalOperation = 3,
        /// MR0 = smallest, MR1 = largest value that would have been accepted.
        RangeError = 4,
        /// An address or size is not aligned.
        AlignmentError = 5,
        /// MR0 = 1 if the source lookup failed; then as [`LookupFailureKind`] says from MR1.
        FailedLookup = 6,
        /// Fewer words or capabilities than the operation takes.
        TruncatedMessage = 7,
        /// A destination slot is occupied, or a mapping exists.
        DeleteFirst = 8,
        /// The object still has derived capabilities.
        RevokeFirst = 9,
        /// MR0 = bytes that the untyped has left.
        NotEnoughMemory = 10,
    }
}

numbered! {
    /// How a capability lookup failed.
    ///
    /// In an error reply the kind is MR1 and its details start at MR2; in a capability fault the
    /// kind is word 3 and its details start at word 4.
    LookupFailureKind {
        /// It did not.
        NoFailure = 0,
        /// The root is not a CNode.
        InvalidRoot = 1,
        /// An empty slot. Detail 0 = bits left. Map calls report the missing level here
        /// ([`missing_level`]).
        MissingCapability = 2,
        /// The depth ends inside a CNode. Detail 0 = bits left, 1 = bits found.
        DepthMismatch = 3,
        /// A guard differs. Detail 0 = bits left, 1 = guard found, 2 = its size in bits.
        GuardMismatch = 4,
    }
}

/// `bits left` of the FailedLookup that a map call answers when a paging structure is missing.
pub mod missing_level {
    /// No page table.
    pub const PAGE_TABLE: u64 = 21;
    /// No page directory.
    pub const PAGE_DIRECTORY: u64 = 30;
    /// No page-directory-pointer table.
    pub const PDPT: u64 = 39;
}
