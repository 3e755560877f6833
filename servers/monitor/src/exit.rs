//! The exit record of docs/abi.md, and its checked form.
//!
//! The kernel is trusted, but the record is decoded as if it were not: what a monitor cannot
//! understand ends its VM with a reason, never with a panic.

use crate::event::Event;
use crate::vcpu::Registers;

/// Words of an exit record.
pub const EXIT_WORDS: usize = 32;

/// The 32 words as the kernel gave them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExitRecord {
    /// MR0 first.
    pub words: [u64; EXIT_WORDS],
}

impl Default for ExitRecord {
    fn default() -> Self {
        Self {
            words: [0; EXIT_WORDS],
        }
    }
}

/// Exit reason numbers (MR0).
pub mod reason {
    #![expect(missing_docs, reason = "the names of the table in docs/abi.md")]
    pub const CPUID: u64 = 1;
    pub const HLT: u64 = 2;
    pub const IO: u64 = 3;
    pub const MSR_READ: u64 = 4;
    pub const MSR_WRITE: u64 = 5;
    pub const MEMORY_FAULT: u64 = 6;
    pub const INTERRUPT_WINDOW: u64 = 7;
    pub const SHUTDOWN: u64 = 8;
    pub const HYPERCALL: u64 = 9;
    pub const EXCEPTION: u64 = 10;
    pub const CR_ACCESS: u64 = 11;
    pub const DR_ACCESS: u64 = 12;
    pub const XSETBV: u64 = 13;
    pub const WBINVD: u64 = 14;
    pub const MONITOR: u64 = 15;
    pub const PAUSE: u64 = 16;
    pub const RDPMC: u64 = 17;
    pub const VIRTUALISATION_INSTRUCTION: u64 = 18;
    pub const TASK_SWITCH: u64 = 19;
    pub const INVALID_STATE: u64 = 20;
    pub const INIT_SIGNAL: u64 = 21;
    pub const STARTUP_SIGNAL: u64 = 22;
    pub const DESCRIPTOR_TABLE: u64 = 23;
    pub const NMI_WINDOW: u64 = 24;
}

/// Width of a port or memory access.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum AccessSize {
    /// 1 byte.
    Byte,
    /// 2 bytes.
    Word,
    /// 4 bytes.
    Dword,
    /// 8 bytes.
    Qword,
}

impl AccessSize {
    /// The size of `bytes` bytes, if an access can have it.
    #[must_use]
    pub fn from_bytes(bytes: usize) -> Option<Self> {
        match bytes {
            1 => Some(AccessSize::Byte),
            2 => Some(AccessSize::Word),
            4 => Some(AccessSize::Dword),
            8 => Some(AccessSize::Qword),
            _ => None,
        }
    }

    /// In bytes.
    #[must_use]
    pub const fn bytes(self) -> usize {
        match self {
            AccessSize::Byte => 1,
            AccessSize::Word => 2,
            AccessSize::Dword => 4,
            AccessSize::Qword => 8,
        }
    }

    /// In bits.
    #[must_use]
    pub const fn bits(self) -> u32 {
        self.bytes() as u32 * 8
    }

    /// All ones in this width: also what an access that nobody claims reads.
    #[must_use]
    pub const fn mask(self) -> u64 {
        u64::MAX >> (64 - self.bits())
    }

    /// The bit that holds the sign in this width.
    #[must_use]
    pub const fn sign_bit(self) -> u64 {
        1 << (self.bits() - 1)
    }
}

/// Direction of a port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// The guest reads.
    In,
    /// The guest writes.
    Out,
}

/// A port access.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortAccess {
    /// Port number.
    pub port: u16,
    /// Width; never [`AccessSize::Qword`].
    pub size: AccessSize,
    /// Direction.
    pub direction: Direction,
    /// INS or OUTS: the other side is memory, and the instruction must be decoded.
    pub string: bool,
}

/// What kind of guest-physical access faulted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MemoryAccess {
    /// Data read.
    Read,
    /// Data write, or read and write.
    Write,
    /// Instruction fetch.
    Fetch,
    /// The CPU's walk of the guest's own page tables.
    TableWalk,
}

/// A checked exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// CPUID.
    Cpuid,
    /// HLT.
    Halt,
    /// IN, OUT, INS or OUTS.
    Port(PortAccess),
    /// RDMSR of this register.
    MsrRead(u32),
    /// WRMSR to this register; the value is in EDX:EAX.
    MsrWrite(u32),
    /// Guest-physical access that nothing is mapped for (or not for this access).
    MemoryFault {
        /// Kind of access.
        access: MemoryAccess,
        /// Guest-physical address.
        address: u64,
    },
    /// The guest can take an interrupt now.
    InterruptWindow,
    /// The guest can take an NMI now.
    NmiWindow,
    /// Triple fault.
    Shutdown,
    /// VMCALL or VMMCALL.
    Hypercall,
    /// MOV to or from a control register, CLTS, LMSW or SMSW: decode.
    ControlRegister,
    /// MOV to or from a debug register: decode.
    DebugRegister,
    /// XSETBV; the value is in EDX:EAX.
    Xsetbv,
    /// WBINVD or INVD.
    CacheFlush,
    /// MONITOR or MWAIT.
    MonitorWait,
    /// PAUSE.
    Pause,
    /// RDPMC.
    Rdpmc,
    /// An instruction of VMX or SVM.
    VirtualisationInstruction,
    /// The kernel was asked for nothing of the kind: INIT and SIPI come from our own LAPIC.
    Unrequested(u64),
    /// The CPU refused the guest's state; the raw exit code.
    InvalidState(u64),
    /// Something else; the raw reason.
    Unknown(u64),
}

/// A record that does not follow docs/abi.md.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MalformedExit {
    /// Reason word.
    pub reason: u64,
    /// Qualification word.
    pub qualification: u64,
}

impl ExitRecord {
    /// Reason number.
    #[must_use]
    pub fn reason(&self) -> u64 {
        self.words[0]
    }

    /// Length of the instruction, if the CPU told it.
    #[must_use]
    pub fn instruction_length(&self) -> Option<u64> {
        match self.words[3] {
            length @ 1..=15 => Some(length),
            _ => None,
        }
    }

    /// General registers, RIP and RFLAGS.
    #[must_use]
    pub fn registers(&self) -> Registers {
        let mut general = [0; 16];
        general.copy_from_slice(&self.words[16..]);
        Registers {
            general,
            rip: self.words[2],
            rflags: self.words[4],
        }
    }

    /// CR0 as the guest sees it.
    #[must_use]
    pub fn cr0(&self) -> u64 {
        self.words[6]
    }

    /// CR3.
    #[must_use]
    pub fn cr3(&self) -> u64 {
        self.words[7]
    }

    /// CR4 as the guest sees it.
    #[must_use]
    pub fn cr4(&self) -> u64 {
        self.words[8]
    }

    /// EFER as the guest sees it.
    #[must_use]
    pub fn efer(&self) -> u64 {
        self.words[9]
    }

    /// Current privilege level.
    #[must_use]
    pub fn privilege_level(&self) -> u8 {
        (self.words[10] & 3) as u8
    }

    /// CS.L: a 64-bit code segment (with EFER.LMA).
    #[must_use]
    pub fn code_is_long(&self) -> bool {
        self.words[10] & 1 << 2 != 0
    }

    /// CS.D: a 32-bit code segment.
    #[must_use]
    pub fn code_is_32_bit(&self) -> bool {
        self.words[10] & 1 << 3 != 0
    }

    /// The last instruction was STI or MOV SS: no interrupt before the next one.
    #[must_use]
    pub fn in_interrupt_shadow(&self) -> bool {
        self.words[10] & 1 << 4 != 0
    }

    /// An NMI is being handled.
    #[must_use]
    pub fn nmi_blocked(&self) -> bool {
        self.words[10] & 1 << 5 != 0
    }

    /// RFLAGS.IF.
    #[must_use]
    pub fn interrupts_enabled(&self) -> bool {
        self.words[10] & 1 << 6 != 0
    }

    /// Base of CS.
    #[must_use]
    pub fn code_base(&self) -> u64 {
        self.words[11]
    }

    /// The event whose delivery the exit broke off. The kernel delivers it again.
    #[must_use]
    pub fn broken_off_event(&self) -> Option<Event> {
        Event::decode(self.words[12])
    }

    /// Instruction bytes that the CPU gave, and how many of them are valid.
    #[must_use]
    pub fn instruction_bytes(&self) -> ([u8; 16], usize) {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.words[13].to_le_bytes());
        bytes[8..].copy_from_slice(&self.words[14].to_le_bytes());
        (bytes, self.words[15].min(15) as usize)
    }

    /// Checks and decodes reason and qualification.
    ///
    /// # Errors
    /// [`MalformedExit`] when the qualification has a value that its reason does not allow.
    pub fn decode(&self) -> Result<Exit, MalformedExit> {
        let qualification = self.words[1];
        Ok(match self.reason() {
            reason::CPUID => Exit::Cpuid,
            reason::HLT => Exit::Halt,
            reason::IO => Exit::Port(self.port_access()?),
            reason::MSR_READ => Exit::MsrRead(self.msr()?),
            reason::MSR_WRITE => Exit::MsrWrite(self.msr()?),
            reason::MEMORY_FAULT => Exit::MemoryFault {
                access: memory_access(qualification),
                address: self.words[5],
            },
            reason::INTERRUPT_WINDOW => Exit::InterruptWindow,
            reason::NMI_WINDOW => Exit::NmiWindow,
            reason::SHUTDOWN => Exit::Shutdown,
            reason::HYPERCALL => Exit::Hypercall,
            reason::CR_ACCESS => Exit::ControlRegister,
            reason::DR_ACCESS => Exit::DebugRegister,
            reason::XSETBV => Exit::Xsetbv,
            reason::WBINVD => Exit::CacheFlush,
            reason::MONITOR => Exit::MonitorWait,
            reason::PAUSE => Exit::Pause,
            reason::RDPMC => Exit::Rdpmc,
            reason::VIRTUALISATION_INSTRUCTION => Exit::VirtualisationInstruction,
            reason::INVALID_STATE => Exit::InvalidState(self.words[5]),
            reason::EXCEPTION
            | reason::TASK_SWITCH
            | reason::INIT_SIGNAL
            | reason::STARTUP_SIGNAL
            | reason::DESCRIPTOR_TABLE => Exit::Unrequested(self.reason()),
            _ => Exit::Unknown(qualification),
        })
    }

    /// Decodes the qualification of a port access.
    fn port_access(&self) -> Result<PortAccess, MalformedExit> {
        let qualification = self.words[1];
        let size = match qualification >> 16 & 7 {
            1 => AccessSize::Byte,
            2 => AccessSize::Word,
            4 => AccessSize::Dword,
            _ => return Err(self.malformed()),
        };
        Ok(PortAccess {
            port: qualification as u16,
            size,
            direction: if qualification & 1 << 20 != 0 {
                Direction::In
            } else {
                Direction::Out
            },
            string: qualification & 1 << 21 != 0,
        })
    }

    fn msr(&self) -> Result<u32, MalformedExit> {
        u32::try_from(self.words[1]).map_err(|_| self.malformed())
    }

    fn malformed(&self) -> MalformedExit {
        MalformedExit {
            reason: self.words[0],
            qualification: self.words[1],
        }
    }
}

/// The strongest of the access bits: a walk is told apart first, for its address is not the
/// instruction's operand.
fn memory_access(qualification: u64) -> MemoryAccess {
    if qualification & 1 << 3 != 0 {
        MemoryAccess::TableWalk
    } else if qualification & 1 << 2 != 0 {
        MemoryAccess::Fetch
    } else if qualification & 1 << 1 != 0 {
        MemoryAccess::Write
    } else {
        MemoryAccess::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(reason: u64, qualification: u64) -> ExitRecord {
        let mut record = ExitRecord::default();
        record.words[0] = reason;
        record.words[1] = qualification;
        record
    }

    #[test]
    fn a_port_read_names_port_size_and_direction() {
        let exit = record(reason::IO, 0x3fd | 1 << 16 | 1 << 20).decode();
        assert_eq!(
            exit,
            Ok(Exit::Port(PortAccess {
                port: 0x3fd,
                size: AccessSize::Byte,
                direction: Direction::In,
                string: false,
            }))
        );
    }

    #[test]
    fn a_port_access_of_three_bytes_is_malformed() {
        assert!(record(reason::IO, 0x80 | 3 << 16).decode().is_err());
    }

    #[test]
    fn a_table_walk_is_told_from_a_write() {
        let mut walk = record(reason::MEMORY_FAULT, 0b1010);
        walk.words[5] = 0xd000_0000;
        assert_eq!(
            walk.decode(),
            Ok(Exit::MemoryFault {
                access: MemoryAccess::TableWalk,
                address: 0xd000_0000
            })
        );
    }

    #[test]
    fn an_impossible_length_counts_as_unknown() {
        let mut exit = record(reason::CPUID, 0);
        exit.words[3] = 2;
        assert_eq!(exit.instruction_length(), Some(2));
        exit.words[3] = 16;
        assert_eq!(exit.instruction_length(), None);
    }

    proptest! {
        #[test]
        fn no_record_panics(words in proptest::array::uniform32(any::<u64>()), reason in 0u64..30) {
            let mut record = ExitRecord { words };
            let _ = record.decode();
            record.words[0] = reason;
            let _ = record.decode();
            let _ = record.registers();
            let _ = record.instruction_bytes();
            let _ = record.broken_off_event();
        }
    }
}
