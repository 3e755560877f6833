//! Tessera's virtual CPUs: VMEnter, its exit record, the events that are injected (docs/abi.md).
//!
//! The state that is read and written between entries is in [`crate::vcpu_field`].

use crate::numbered::numbered;

/// Flags of VMEnter (MR0 in).
pub mod enter_flags {
    /// Take RIP (MR2) and the sixteen general registers (MR16..) from the message.
    pub const SET_REGISTERS: u64 = 1 << 0;
    /// Inject the event in MR1.
    pub const INJECT: u64 = 1 << 1;
    /// Exit with InterruptWindow as soon as the guest can take an interrupt.
    pub const INTERRUPT_WINDOW: u64 = 1 << 2;
    /// With `SET_REGISTERS`: take RFLAGS from MR4.
    pub const SET_RFLAGS: u64 = 1 << 3;
    /// Clear the guest's interrupt shadow: an instruction was emulated.
    pub const CLEAR_SHADOW: u64 = 1 << 4;
    /// Every flag that means something.
    pub const ALL: u64 = SET_REGISTERS | INJECT | INTERRUPT_WINDOW | SET_RFLAGS | CLEAR_SHADOW;
}

/// Message registers of VMEnter, on the way in.
pub mod enter {
    /// Flags ([`super::enter_flags`]).
    pub const FLAGS: usize = 0;
    /// The event to inject ([`super::Event`]).
    pub const EVENT: usize = 1;
    /// RIP.
    pub const RIP: usize = 2;
    /// RFLAGS.
    pub const RFLAGS: usize = 4;
    /// First of the sixteen general registers, in the CPU's order: RAX RCX RDX RBX RSP RBP RSI
    /// RDI R8..R15.
    pub const REGISTERS: usize = 16;
}

/// Labels of what VMEnter answers (MessageInfo in RSI).
pub mod enter_result {
    /// A notification arrived, its badge in RDI; length 0.
    pub const NOTIFICATION: u64 = 0;
    /// The guest exited; the record ([`super::exit`]) is in the message.
    pub const EXIT: u64 = 1;
    /// Refused: MR0 = a [`super::EnterRefusal`] number, MR1 = the offending field id or 0.
    pub const REFUSED: u64 = 2;
}

numbered! {
    /// Why VMEnter was refused.
    EnterRefusal {
        /// The VCPU has no guest root.
        NoGuestRoot = 1,
        /// The guest's state or the event is invalid.
        InvalidState = 2,
        /// This machine cannot run guests.
        NoVirtualisation = 3,
    }
}

/// Message registers of the exit record.
pub mod exit {
    /// An [`super::ExitReason`] number.
    pub const REASON: usize = 0;
    /// What it means depends on the reason.
    pub const QUALIFICATION: usize = 1;
    /// RIP of the instruction that exited.
    pub const RIP: usize = 2;
    /// Its length; 0 = not known, decode it.
    pub const INSTRUCTION_LENGTH: usize = 3;
    /// RFLAGS.
    pub const RFLAGS: usize = 4;
    /// Guest-physical address of a MemoryFault; raw exit code of an InvalidState.
    pub const GUEST_PHYSICAL: usize = 5;
    /// CR0 as the guest sees it.
    pub const CR0: usize = 6;
    /// CR3.
    pub const CR3: usize = 7;
    /// CR4 as the guest sees it.
    pub const CR4: usize = 8;
    /// EFER as the guest sees it.
    pub const EFER: usize = 9;
    /// Mode bits ([`super::exit_mode`]).
    pub const MODE: usize = 10;
    /// Base of CS.
    pub const CS_BASE: usize = 11;
    /// Event whose delivery the exit broke off or that is still pending.
    pub const PENDING_EVENT: usize = 12;
    /// First eight instruction bytes.
    pub const INSTRUCTION_LOW: usize = 13;
    /// The next eight.
    pub const INSTRUCTION_HIGH: usize = 14;
    /// How many of them are valid.
    pub const INSTRUCTION_VALID: usize = 15;
    /// First of the sixteen general registers.
    pub const REGISTERS: usize = 16;
    /// Words of the record.
    pub const LENGTH: usize = 32;
}

/// Bits of the exit record's mode word.
pub mod exit_mode {
    /// Mask of the current privilege level.
    pub const CPL_MASK: u64 = 3;
    /// CS.L: 64-bit code.
    pub const CS_LONG: u64 = 1 << 2;
    /// CS.D: 32-bit code.
    pub const CS_DEFAULT_32: u64 = 1 << 3;
    /// In an interrupt shadow.
    pub const INTERRUPT_SHADOW: u64 = 1 << 4;
    /// NMIs are blocked.
    pub const NMI_BLOCKED: u64 = 1 << 5;
    /// RFLAGS.IF.
    pub const INTERRUPTS_ENABLED: u64 = 1 << 6;
}

numbered! {
    /// Why a guest exited.
    ExitReason {
        /// CPUID.
        Cpuid = 1,
        /// HLT.
        Hlt = 2,
        /// Port I/O; qualification as [`IoQualification`].
        Io = 3,
        /// RDMSR; qualification = MSR number.
        MsrRead = 4,
        /// WRMSR; qualification = MSR number, value in EDX:EAX.
        MsrWrite = 5,
        /// No or no sufficient guest-physical mapping; qualification as [`memory_fault`].
        MemoryFault = 6,
        /// The guest can take an interrupt now.
        InterruptWindow = 7,
        /// Triple fault.
        Shutdown = 8,
        /// 0 VMCALL, 1 VMMCALL.
        Hypercall = 9,
        /// An intercepted exception: vector, bits 32..63 error code.
        Exception = 10,
        /// Access to a control register, as [`RegisterAccess`].
        CrAccess = 11,
        /// Access to a debug register, likewise.
        DrAccess = 12,
        /// XSETBV.
        Xsetbv = 13,
        /// WBINVD or INVD.
        Wbinvd = 14,
        /// 0 MONITOR, 1 MWAIT.
        Monitor = 15,
        /// PAUSE in a spin loop.
        Pause = 16,
        /// RDPMC.
        Rdpmc = 17,
        /// A VMX or SVM instruction: answer with #UD.
        VirtualisationInstruction = 18,
        /// A hardware task switch.
        TaskSwitch = 19,
        /// The CPU refused the state; guest-physical word = raw exit code.
        InvalidState = 20,
        /// INIT.
        InitSignal = 21,
        /// SIPI; qualification = vector.
        StartupSignal = 22,
        /// Access to a descriptor table register.
        DescriptorTable = 23,
        /// The guest can take an NMI now.
        NmiWindow = 24,
        /// Something else; qualification = raw exit code.
        Unknown = 255,
    }
}

/// Qualification of an Io exit.
///
/// Bits 0..15 port, 16..18 size in bytes (1, 2 or 4), 20 in, 21 string, 22 REP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct IoQualification(pub u64);

impl IoQualification {
    /// Bit of the direction: set = IN.
    pub const IN: u64 = 1 << 20;
    /// Bit of INS and OUTS.
    pub const STRING: u64 = 1 << 21;
    /// Bit of a REP prefix.
    pub const REP: u64 = 1 << 22;

    /// Packs port and size in bytes with the bits of `flags` (`IN`, `STRING`, `REP`).
    #[must_use]
    pub const fn new(port: u16, size: u8, flags: u64) -> Self {
        Self(port as u64 | (size as u64 & 7) << 16 | flags)
    }

    /// The port.
    #[must_use]
    pub const fn port(self) -> u16 {
        self.0 as u16
    }

    /// Bytes moved by one access.
    #[must_use]
    pub const fn size(self) -> u8 {
        (self.0 >> 16 & 7) as u8
    }

    /// True for IN and INS.
    #[must_use]
    pub const fn is_in(self) -> bool {
        self.0 & Self::IN != 0
    }

    /// True for INS and OUTS.
    #[must_use]
    pub const fn is_string(self) -> bool {
        self.0 & Self::STRING != 0
    }

    /// True with a REP prefix.
    #[must_use]
    pub const fn is_repeated(self) -> bool {
        self.0 & Self::REP != 0
    }
}

/// Bits of a MemoryFault's qualification.
pub mod memory_fault {
    /// A read.
    pub const READ: u64 = 1 << 0;
    /// A write.
    pub const WRITE: u64 = 1 << 1;
    /// An instruction fetch.
    pub const FETCH: u64 = 1 << 2;
    /// The guest's own page-table walk.
    pub const WALK: u64 = 1 << 3;
    /// A mapping is there but forbids it.
    pub const PRESENT: u64 = 1 << 4;
}

/// Qualification of CrAccess and DrAccess: bits 0..3 register, 4 write, 8..11 general register
/// ([`RegisterAccess::UNKNOWN`] = decode the instruction).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct RegisterAccess(pub u64);

impl RegisterAccess {
    /// Bit of a write.
    pub const WRITE: u64 = 1 << 4;
    /// The general register is not known.
    pub const UNKNOWN: u8 = 15;

    /// Number of the control or debug register.
    #[must_use]
    pub const fn register(self) -> u8 {
        (self.0 & 0xf) as u8
    }

    /// True if it is written.
    #[must_use]
    pub const fn is_write(self) -> bool {
        self.0 & Self::WRITE != 0
    }

    /// Number of the general register in the CPU's order, or [`Self::UNKNOWN`].
    #[must_use]
    pub const fn general_register(self) -> u8 {
        (self.0 >> 8 & 0xf) as u8
    }
}

/// An event to inject, or one that is pending.
///
/// Bits 0..7 vector, 8..10 type, 11 push error code, 31 valid, 32..63 error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(transparent)]
pub struct Event(u64);

numbered! {
    /// Type of an [`Event`].
    EventType {
        /// A hardware interrupt.
        ExternalInterrupt = 0,
        /// A non-maskable interrupt.
        Nmi = 2,
        /// A CPU exception.
        Exception = 3,
        /// INT n.
        SoftwareInterrupt = 4,
    }
}

impl Event {
    const PUSH_ERROR_CODE: u64 = 1 << 11;
    const VALID: u64 = 1 << 31;
    const DEFINED: u64 = 0xffff_ffff_8000_0fff;
    /// No event.
    pub const NONE: Self = Self(0);

    /// An external interrupt.
    #[must_use]
    pub const fn interrupt(vector: u8) -> Self {
        Self(Self::VALID | EventType::ExternalInterrupt.number() << 8 | vector as u64)
    }

    /// A non-maskable interrupt.
    #[must_use]
    pub const fn nmi() -> Self {
        Self(Self::VALID | EventType::Nmi.number() << 8 | 2)
    }

    /// An exception, with the error code that it pushes, if it pushes one.
    #[must_use]
    pub const fn exception(vector: u8, error_code: Option<u32>) -> Self {
        let base = Self::VALID | EventType::Exception.number() << 8 | vector as u64;
        match error_code {
            Some(code) => Self(base | Self::PUSH_ERROR_CODE | (code as u64) << 32),
            None => Self(base),
        }
    }

    /// A word of a message.
    #[must_use]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word for a message.
    #[must_use]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// True if there is an event at all.
    #[must_use]
    pub const fn is_valid(self) -> bool {
        self.0 & Self::VALID != 0
    }

    /// True if no bit without a meaning is set.
    #[must_use]
    pub const fn is_well_formed(self) -> bool {
        self.0 & !Self::DEFINED == 0
    }

    /// The vector.
    #[must_use]
    pub const fn vector(self) -> u8 {
        self.0 as u8
    }

    /// The type.
    ///
    /// # Errors
    /// The number, if no type has it.
    pub fn kind(self) -> Result<EventType, crate::UnknownNumber> {
        EventType::try_from(self.0 >> 8 & 7)
    }

    /// The error code that is pushed, if one is.
    #[must_use]
    pub const fn error_code(self) -> Option<u32> {
        if self.0 & Self::PUSH_ERROR_CODE != 0 {
            Some((self.0 >> 32) as u32)
        } else {
            None
        }
    }
}

const _: () = {
    assert!(exit::REGISTERS + 16 == exit::LENGTH);
    assert!(exit::LENGTH <= crate::message::MESSAGE_WORDS);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_carry_vector_type_and_error_code() {
        let fault = Event::exception(14, Some(0x8000_0007));
        assert_eq!(
            (fault.vector(), fault.error_code()),
            (14, Some(0x8000_0007))
        );
        assert_eq!(fault.kind(), Ok(EventType::Exception));
        assert!(fault.is_valid() && fault.is_well_formed());
        assert_eq!(Event::interrupt(0x31).word(), 0x8000_0031);
        assert!(!Event::from_word(1 << 12).is_well_formed());
        assert!(!Event::NONE.is_valid());
    }

    #[test]
    fn io_qualification_round_trips() {
        let io = IoQualification::new(0xcf8, 4, IoQualification::IN | IoQualification::REP);
        assert_eq!((io.port(), io.size()), (0xcf8, 4));
        assert!(io.is_in() && io.is_repeated() && !io.is_string());
    }
}
