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
        let code = match error {
            SyscallError::InvalidArgument(_) => ErrorCode::InvalidArgument,
            SyscallError::InvalidCapability(_) => ErrorCode::InvalidCapability,
            SyscallError::IllegalOperation => ErrorCode::IllegalOperation,
            SyscallError::RangeError { .. } => ErrorCode::RangeError,
            SyscallError::AlignmentError => ErrorCode::AlignmentError,
            SyscallError::FailedLookup { .. } => ErrorCode::FailedLookup,
            SyscallError::TruncatedMessage => ErrorCode::TruncatedMessage,
            SyscallError::DeleteFirst => ErrorCode::DeleteFirst,
            SyscallError::RevokeFirst => ErrorCode::RevokeFirst,
            SyscallError::NotEnoughMemory { .. } => ErrorCode::NotEnoughMemory,
        };
        let label = code.number();
        match error {
            SyscallError::InvalidArgument(n) | SyscallError::InvalidCapability(n) => {
                write_message(tcb, label, &[n]);
            }
            SyscallError::RangeError { min, max } => write_message(tcb, label, &[min, max]),
            SyscallError::NotEnoughMemory { bytes_left } => {
                write_message(tcb, label, &[bytes_left]);
            }
            SyscallError::FailedLookup {
                was_source,
                failure,
            } => {
                let ([a, b, c, d], length) = failure_words(failure);
                let words = [u64::from(was_source), a, b, c, d];
                write_message(tcb, label, &words[..1 + length]);
            }
            _ => write_message(tcb, label, &[]),
        }
    }
}

fn write_message(tcb: Ref<Tcb>, label: u64, words: &[u64]) {
    let length = write_words(tcb, words);
    let info = MessageInfo::new(label, length, 0);
    tcb.registers.rdi.set(0);
    tcb.registers.rsi.set(info.word());
}
