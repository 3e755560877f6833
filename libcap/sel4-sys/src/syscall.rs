//! System calls: the number in RDX, a negative word.
//!
//! Registers of every call (seL4 MCS, x86_64): RDI capability pointer in and badge out, RSI
//! MessageInfo in and out, R10 R8 R9 R15 = MR0..MR3 both ways, R12 reply object (or the send
//! destination of NBSendWait), R13 the send destination of NBSendRecv. RCX and R11 are lost to
//! the instruction; everything else is preserved.

use crate::numbered::numbered;

/// The word that carries system call `-n`.
const fn negative(n: u64) -> u64 {
    n.wrapping_neg()
}

numbered! {
    /// A system call by its number (the word in RDX).
    Syscall {
        /// Send, and block for the reply on the caller's own reply stack.
        Call = negative(1),
        /// Send through the reply object in R12, then receive on RDI with R12 as reply object.
        ReplyRecv = negative(2),
        /// Non-blocking send to R13, then receive on RDI with reply object R12.
        NBSendRecv = negative(3),
        /// Non-blocking send to R12, then wait on RDI.
        NBSendWait = negative(4),
        /// Blocking send.
        Send = negative(5),
        /// Send that drops the message when nobody waits.
        NBSend = negative(6),
        /// Receive with reply object R12.
        Recv = negative(7),
        /// Receive that returns badge 0 when nothing is pending.
        NBRecv = negative(8),
        /// Receive without a reply object: notifications.
        Wait = negative(9),
        /// `Wait` that returns badge 0 when nothing is pending.
        NBWait = negative(10),
        /// Give up what is left of the current budget.
        Yield = negative(11),
        /// One byte (RDI) to the kernel's debug serial port. Debug kernels only.
        DebugPutChar = negative(12),
        /// Print the scheduler's state. Debug kernels only.
        DebugDumpScheduler = negative(13),
        /// Stop the machine. Debug kernels only.
        DebugHalt = negative(14),
        /// The type of capability RDI, 0 if the slot is empty. Debug kernels only.
        DebugCapIdentify = negative(15),
        /// Print the capability state. Debug kernels only.
        DebugSnapshot = negative(16),
        /// Name the thread RDI; the name is in the IPC buffer. Debug kernels only.
        DebugNameThread = negative(17),
        /// Send an inter-processor interrupt. Debug SMP kernels only.
        DebugSendIpi = negative(18),
        /// The CPU of thread RDI. Debug SMP kernels only.
        DebugGetThreadAffinity = negative(19),
        /// Run a function in ring 0. Tessera never offers it.
        DebugRun = negative(20),
        /// Benchmark kernels: write back and invalidate the caches.
        BenchmarkFlushCaches = negative(21),
        /// Benchmark kernels: start a log.
        BenchmarkResetLog = negative(22),
        /// Benchmark kernels: end a log.
        BenchmarkFinalizeLog = negative(23),
        /// Benchmark kernels: give the log a frame.
        BenchmarkSetLogBuffer = negative(24),
        /// Benchmark kernels: do nothing.
        BenchmarkNullSyscall = negative(25),
        /// Benchmark kernels: utilisation of a thread.
        BenchmarkGetThreadUtilisation = negative(26),
        /// Benchmark kernels: zero the utilisation of a thread.
        BenchmarkResetThreadUtilisation = negative(27),
        /// Benchmark debug kernels: print every thread's utilisation.
        BenchmarkDumpAllThreadsUtilisation = negative(28),
        /// Benchmark debug kernels: zero every thread's utilisation.
        BenchmarkResetAllThreadsUtilisation = negative(29),
        /// Write a model-specific register. Tessera never offers it.
        X86DangerousWrmsr = negative(30),
        /// Read a model-specific register. Tessera never offers it.
        X86DangerousRdmsr = negative(31),
        /// seL4's VMEnter, in terms of VMCS fields. Not in configuration A; see `VMEnter`.
        Sel4VMEnter = negative(32),
        /// Set the FS base of the caller to RDI.
        SetTlsBase = negative(33),
        /// Tessera: run the VCPU that is bound to the caller until it exits (see [`crate::vcpu`]).
        VMEnter = negative(64),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_negative_words() {
        assert_eq!(Syscall::Call.number() as i64, -1);
        assert_eq!(Syscall::Yield.number() as i64, -11);
        assert_eq!(Syscall::SetTlsBase.number() as i64, -33);
        assert_eq!(Syscall::VMEnter.number() as i64, -64);
        assert!(Syscall::try_from(1).is_err());
    }
}
