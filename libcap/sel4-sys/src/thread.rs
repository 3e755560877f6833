//! Thread registers and flags as messages carry them.

/// Flags of a thread control block (TCB.SetFlags).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct TcbFlags(u64);

impl TcbFlags {
    /// seL4: the thread has no FPU state; using it is an exception.
    pub const FPU_DISABLED: Self = Self(1 << 0);
    /// Tessera: every `syscall` of the thread is an UnknownSyscall fault, whatever RDX holds.
    pub const FOREIGN_SYSCALLS: Self = Self(1 << 16);
    /// Every flag that means something.
    pub const ALL: Self = Self(Self::FPU_DISABLED.0 | Self::FOREIGN_SYSCALLS.0);

    /// A word of a message; bits that mean nothing are dropped, as seL4 drops them.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word & Self::ALL.0)
    }

    /// The word for a message.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The flags of either.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The flags of `self` that `other` has not.
    #[must_use]
    pub const fn difference(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// True if every flag of `other` is set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Words of a register set in TCB.ReadRegisters and TCB.WriteRegisters.
pub const REGISTERS: usize = 20;

/// A thread's registers in the order of TCB.ReadRegisters and TCB.WriteRegisters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
#[expect(missing_docs, reason = "each field is the CPU register of that name")]
pub struct UserContext {
    pub rip: u64,
    pub rsp: u64,
    pub rflags: u64,
    pub rax: u64,
    pub rbx: u64,
    pub rcx: u64,
    pub rdx: u64,
    pub rsi: u64,
    pub rdi: u64,
    pub rbp: u64,
    pub r8: u64,
    pub r9: u64,
    pub r10: u64,
    pub r11: u64,
    pub r12: u64,
    pub r13: u64,
    pub r14: u64,
    pub r15: u64,
    pub fs_base: u64,
    pub gs_base: u64,
}

const _: () = assert!(core::mem::size_of::<UserContext>() == REGISTERS * 8);

impl UserContext {
    /// The registers as message words.
    #[must_use]
    pub const fn to_words(&self) -> [u64; REGISTERS] {
        [
            self.rip,
            self.rsp,
            self.rflags,
            self.rax,
            self.rbx,
            self.rcx,
            self.rdx,
            self.rsi,
            self.rdi,
            self.rbp,
            self.r8,
            self.r9,
            self.r10,
            self.r11,
            self.r12,
            self.r13,
            self.r14,
            self.r15,
            self.fs_base,
            self.gs_base,
        ]
    }

    /// Registers from message words.
    #[must_use]
    pub const fn from_words(words: &[u64; REGISTERS]) -> Self {
        let [
            rip,
            rsp,
            rflags,
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            fs_base,
            gs_base,
        ] = *words;
        Self {
            rip,
            rsp,
            rflags,
            rax,
            rbx,
            rcx,
            rdx,
            rsi,
            rdi,
            rbp,
            r8,
            r9,
            r10,
            r11,
            r12,
            r13,
            r14,
            r15,
            fs_base,
            gs_base,
        }
    }
}

/// Flag of TCB.ReadRegisters: suspend the thread first.
pub const READ_REGISTERS_SUSPEND: u64 = 1;
/// Flag of TCB.WriteRegisters: resume the thread afterwards.
pub const WRITE_REGISTERS_RESUME: u64 = 1;

/// Flags of TCB.CopyRegisters.
pub mod copy_registers {
    /// Suspend the source first.
    pub const SUSPEND_SOURCE: u64 = 1;
    /// Resume the target afterwards.
    pub const RESUME_TARGET: u64 = 2;
    /// Copy RIP, RSP, RFLAGS and the registers that a call carries.
    pub const TRANSFER_FRAME: u64 = 4;
    /// Copy the other integer registers.
    pub const TRANSFER_INTEGER: u64 = 8;
}

/// Flag of SchedControl.ConfigureFlags: a sporadic task; without it a full budget each period.
pub const SCHED_CONTEXT_SPORADIC: u64 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registers_survive_the_message_order() {
        let words = core::array::from_fn(|index| index as u64 + 1);
        let context = UserContext::from_words(&words);
        assert_eq!((context.rip, context.rflags, context.gs_base), (1, 3, 20));
        assert_eq!(context.to_words(), words);
    }

    #[test]
    fn flags_that_mean_nothing_are_dropped() {
        assert_eq!(TcbFlags::from_word(u64::MAX), TcbFlags::ALL);
        assert!(TcbFlags::from_word(1 << 16).contains(TcbFlags::FOREIGN_SYSCALLS));
    }
}
