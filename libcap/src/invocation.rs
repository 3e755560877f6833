//! Invocations: what is asked of a kernel object, and why it is refused.
//!
//! Owns the one function through which every method of [`crate::capability`] goes, and the error
//! with the details that the kernel gives.

use sel4_sys::{CPtr, ErrorCode, InvocationLabel, LookupFailureKind, MessageInfo, Syscall};

use crate::kernel::{self, Delivery, Request};

/// Why the kernel refused an invocation. A refused one changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KernelError {
    /// An argument has no meaning.
    InvalidArgument {
        /// Which one, from 0.
        argument: u64,
    },
    /// A capability is of the wrong kind or lacks rights.
    InvalidCapability {
        /// Which one; 0 is the invoked one.
        capability: u64,
    },
    /// The object cannot do this, or not in its present state.
    IllegalOperation,
    /// A number is out of range.
    Range {
        /// Least that would do.
        minimum: u64,
        /// Most that would do.
        maximum: u64,
    },
    /// An address or size is not aligned.
    Alignment,
    /// A capability pointer in the message led nowhere.
    FailedLookup {
        /// Which side it was on.
        side: LookupSide,
        /// How it failed.
        failure: LookupFailure,
    },
    /// Words or capabilities are missing from the message.
    TruncatedMessage,
    /// Something is in the way and has to be deleted or unmapped first.
    DeleteFirst,
    /// Capabilities were derived and have to be revoked first.
    RevokeFirst,
    /// The untyped memory is used up.
    NotEnoughMemory {
        /// Bytes that it has left.
        bytes_left: u64,
    },
}

/// Which lookup failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupSide {
    /// The one of the slot to read, or of a paging structure.
    Source,
    /// The one of the slot to write.
    Destination,
}

/// How a capability pointer led nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LookupFailure {
    /// The root is no CNode.
    InvalidRoot,
    /// The slot is empty. Mapping calls report the missing level of paging structures here
    /// ([`sel4_sys::error::missing_level`]).
    MissingCapability {
        /// Bits that were still to be resolved.
        bits_left: u64,
    },
    /// The depth ends inside a CNode.
    DepthMismatch {
        /// Bits that were still to be resolved.
        bits_left: u64,
        /// Bits that the CNode resolves.
        bits_found: u64,
    },
    /// A guard differs.
    GuardMismatch {
        /// Bits that were still to be resolved.
        bits_left: u64,
        /// The guard.
        guard_found: u64,
        /// Its bits.
        guard_bits: u64,
    },
}

impl KernelError {
    /// The refusal in an invocation's answer.
    ///
    /// # Panics
    /// If the answer is no refusal that the ABI knows: whoever answered is not the kernel, so
    /// the capability is not what its type says.
    fn from_answer(answer: &Delivery) -> Self {
        let code = ErrorCode::try_from(answer.info.label());
        let word = |index| answer.word(index);
        match code {
            Ok(ErrorCode::InvalidArgument) => Self::InvalidArgument { argument: word(0) },
            Ok(ErrorCode::InvalidCapability) => Self::InvalidCapability {
                capability: word(0),
            },
            Ok(ErrorCode::IllegalOperation) => Self::IllegalOperation,
            Ok(ErrorCode::RangeError) => Self::Range {
                minimum: word(0),
                maximum: word(1),
            },
            Ok(ErrorCode::AlignmentError) => Self::Alignment,
            Ok(ErrorCode::FailedLookup) => Self::FailedLookup {
                side: if word(0) == 0 {
                    LookupSide::Destination
                } else {
                    LookupSide::Source
                },
                failure: LookupFailure::from_words(word(1), word(2), word(3), word(4)),
            },
            Ok(ErrorCode::TruncatedMessage) => Self::TruncatedMessage,
            Ok(ErrorCode::DeleteFirst) => Self::DeleteFirst,
            Ok(ErrorCode::RevokeFirst) => Self::RevokeFirst,
            Ok(ErrorCode::NotEnoughMemory) => Self::NotEnoughMemory {
                bytes_left: word(0),
            },
            Ok(ErrorCode::NoError) | Err(_) => {
                panic!("label {} is no refusal of the kernel", answer.info.label())
            }
        }
    }
}

impl LookupFailure {
    /// A failure from its kind and details, as errors and capability faults carry them.
    ///
    /// # Panics
    /// If the ABI has no such kind.
    #[must_use]
    pub fn from_words(kind: u64, detail_0: u64, detail_1: u64, detail_2: u64) -> Self {
        match LookupFailureKind::try_from(kind) {
            Ok(LookupFailureKind::InvalidRoot) => Self::InvalidRoot,
            Ok(LookupFailureKind::MissingCapability) => Self::MissingCapability {
                bits_left: detail_0,
            },
            Ok(LookupFailureKind::DepthMismatch) => Self::DepthMismatch {
                bits_left: detail_0,
                bits_found: detail_1,
            },
            Ok(LookupFailureKind::GuardMismatch) => Self::GuardMismatch {
                bits_left: detail_0,
                guard_found: detail_1,
                guard_bits: detail_2,
            },
            Ok(LookupFailureKind::NoFailure) | Err(_) => panic!("{kind} is no lookup failure"),
        }
    }
}

/// Invokes the object behind `target`: `words` are the message, `caps` go with it.
///
/// The answer's words from the fifth on are valid until the thread's next system call.
pub(crate) fn invoke(
    target: CPtr,
    label: InvocationLabel,
    words: &[u64],
    caps: &[CPtr],
) -> Result<Delivery, KernelError> {
    let (registers, length) = kernel::place(words.iter().copied());
    for (index, cap) in caps.iter().enumerate() {
        kernel::set_extra_cap(index, *cap);
    }
    let answer = kernel::system_call(Request {
        syscall: Syscall::Call,
        target,
        info: MessageInfo::new(label.number(), length, caps.len()),
        registers,
        reply: CPtr::NULL,
    });
    if answer.info.label() == ErrorCode::NoError.number() {
        Ok(answer)
    } else {
        Err(KernelError::from_answer(&answer))
    }
}

/// [`invoke`] for invocations that answer nothing.
pub(crate) fn perform(
    target: CPtr,
    label: InvocationLabel,
    words: &[u64],
    caps: &[CPtr],
) -> Result<(), KernelError> {
    invoke(target, label, words, caps).map(|_| ())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::recorder::{Answer, prepare, take};

    fn refused(label: u64, words: &[u64]) -> KernelError {
        prepare(Answer {
            label,
            words: words.to_vec(),
            ..Answer::default()
        });
        invoke(CPtr(5), InvocationLabel::TcbResume, &[], &[]).unwrap_err()
    }

    #[test]
    fn a_message_has_label_words_and_capabilities() {
        let words: Vec<u64> = (10..16).collect();
        perform(CPtr(5), InvocationLabel::UntypedRetype, &words, &[CPtr(2)]).unwrap();
        let [recorded] = &take()[..] else {
            panic!("one call")
        };
        assert_eq!(recorded.request.syscall, Syscall::Call);
        assert_eq!(recorded.request.target, CPtr(5));
        assert_eq!(recorded.request.info.label(), 1);
        assert_eq!(recorded.words, words);
        assert_eq!(recorded.caps, [CPtr(2)]);
    }

    #[test]
    fn a_refusal_comes_with_its_details() {
        assert_eq!(
            refused(1, &[3]),
            KernelError::InvalidArgument { argument: 3 }
        );
        assert_eq!(
            refused(4, &[1, 9]),
            KernelError::Range {
                minimum: 1,
                maximum: 9
            }
        );
        assert_eq!(
            refused(10, &[64]),
            KernelError::NotEnoughMemory { bytes_left: 64 }
        );
        assert_eq!(refused(8, &[]), KernelError::DeleteFirst);
        assert_eq!(
            refused(6, &[1, 4, 12, 7, 3]),
            KernelError::FailedLookup {
                side: LookupSide::Source,
                failure: LookupFailure::GuardMismatch {
                    bits_left: 12,
                    guard_found: 7,
                    guard_bits: 3
                }
            }
        );
    }

    #[test]
    #[should_panic(expected = "no refusal of the kernel")]
    fn an_answer_that_no_kernel_gives_is_a_broken_contract() {
        refused(0x7dead, &[]);
    }
}
