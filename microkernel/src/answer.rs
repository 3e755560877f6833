//! The kernel's own answers to a caller: words, or an error with its details.

use sel4_sys::{ErrorCode, MessageInfo};

use crate::fault::SyscallError;
use crate::fault_delivery::{failure_words, write_words};
use crate::invocation::Answer;
use crate::kernel::Kernel;
use crate::object::Tcb;
use crate::store::Ref;

impl Kernel {
    /// Writes what an invocation answers into the registers of its caller.
    pub fn write_answer(&self, tcb: Ref<Tcb>, answer: &Answer) {
        if let Answer::Words(words) = answer {
            write_message(tcb, 0, words);
        }
    }

    /// Writes why an invocation was refused.
    pub fn write_error(&self, tcb: Ref<Tcb>, error: SyscallError) {
        let lookup_words;
        let (code, words): (_, &[u64]) = match error {
            SyscallError::InvalidArgument(n) => (ErrorCode::InvalidArgument, &[n]),
            SyscallError::InvalidCapability(n) => (ErrorCode::InvalidCapability, &[n]),
            SyscallError::IllegalOperation => (ErrorCode::IllegalOperation, &[]),
            SyscallError::RangeError { min, max } => (ErrorCode::RangeError, &[min, max]),
            SyscallError::AlignmentError => (ErrorCode::AlignmentError, &[]),
            SyscallError::FailedLookup {
                was_source,
                failure,
            } => {
                let ([a, b, c, d], length) = failure_words(failure);
                lookup_words = [u64::from(was_source), a, b, c, d];
                (ErrorCode::FailedLookup, &lookup_words[..1 + length])
            }
            SyscallError::TruncatedMessage => (ErrorCode::TruncatedMessage, &[]),
            SyscallError::DeleteFirst => (ErrorCode::DeleteFirst, &[]),
            SyscallError::RevokeFirst => (ErrorCode::RevokeFirst, &[]),
            SyscallError::NotEnoughMemory { bytes_left } => {
                (ErrorCode::NotEnoughMemory, &[bytes_left])
            }
        };
        write_message(tcb, code.number(), words);
    }
}

fn write_message(tcb: Ref<Tcb>, label: u64, words: &[u64]) {
    let length = write_words(tcb, words);
    let info = MessageInfo::new(label, length, 0);
    tcb.registers.rdi.set(0);
    tcb.registers.rsi.set(info.word());
}
