//! The checked form of an exit record.
//!
//! The kernel is trusted, but its record is decoded as if it were not: what a monitor cannot
//! understand ends its VM with a reason, never with a panic.

use libcap::vcpu::ExitRecord;
use sel4_sys::ExitReason;
use sel4_sys::vcpu::{IoQualification, memory_fault};

use crate::memory::GuestAddress;

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
    /// Width.
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
        address: GuestAddress,
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
    Unrequested(ExitReason),
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

impl Exit {
    /// Checks and decodes reason and qualification.
    ///
    /// # Errors
    /// [`MalformedExit`] for a reason that the ABI does not know, or a qualification that its
    /// reason does not allow.
    pub fn decode(record: &ExitRecord) -> Result<Self, MalformedExit> {
        let qualification = record.qualification();
        let reason = record.reason().map_err(|unknown| MalformedExit {
            reason: unknown.0,
            qualification,
        })?;
        let malformed = MalformedExit {
            reason: reason.number(),
            qualification,
        };
        let msr = || u32::try_from(qualification).map_err(|_| malformed);
        Ok(match reason {
            ExitReason::Cpuid => Exit::Cpuid,
            ExitReason::Hlt => Exit::Halt,
            ExitReason::Io => {
                Exit::Port(PortAccess::decode(IoQualification(qualification)).ok_or(malformed)?)
            }
            ExitReason::MsrRead => Exit::MsrRead(msr()?),
            ExitReason::MsrWrite => Exit::MsrWrite(msr()?),
            ExitReason::MemoryFault => Exit::MemoryFault {
                access: memory_access(qualification),
                address: GuestAddress(record.guest_physical()),
            },
            ExitReason::InterruptWindow => Exit::InterruptWindow,
            ExitReason::NmiWindow => Exit::NmiWindow,
            ExitReason::Shutdown => Exit::Shutdown,
            ExitReason::Hypercall => Exit::Hypercall,
            ExitReason::CrAccess => Exit::ControlRegister,
            ExitReason::DrAccess => Exit::DebugRegister,
            ExitReason::Xsetbv => Exit::Xsetbv,
            ExitReason::Wbinvd => Exit::CacheFlush,
            ExitReason::Monitor => Exit::MonitorWait,
            ExitReason::Pause => Exit::Pause,
            ExitReason::Rdpmc => Exit::Rdpmc,
            ExitReason::VirtualisationInstruction => Exit::VirtualisationInstruction,
            ExitReason::InvalidState => Exit::InvalidState(record.guest_physical()),
            ExitReason::Exception
            | ExitReason::TaskSwitch
            | ExitReason::InitSignal
            | ExitReason::StartupSignal
            | ExitReason::DescriptorTable => Exit::Unrequested(reason),
            ExitReason::Unknown => Exit::Unknown(qualification),
        })
    }
}

impl PortAccess {
    fn decode(qualification: IoQualification) -> Option<Self> {
        let size = AccessSize::from_bytes(usize::from(qualification.size()))?;
        Some(Self {
            port: qualification.port(),
            size,
            direction: if qualification.is_in() {
                Direction::In
            } else {
                Direction::Out
            },
            string: qualification.is_string(),
        })
    }
}

/// The strongest of the access bits: a walk is told apart first, for its address is not the
/// instruction's operand.
fn memory_access(qualification: u64) -> MemoryAccess {
    if qualification & memory_fault::WALK != 0 {
        MemoryAccess::TableWalk
    } else if qualification & memory_fault::FETCH != 0 {
        MemoryAccess::Fetch
    } else if qualification & memory_fault::WRITE != 0 {
        MemoryAccess::Write
    } else {
        MemoryAccess::Read
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sel4_sys::vcpu::exit;

    fn decode(reason: ExitReason, qualification: u64) -> Result<Exit, MalformedExit> {
        let mut words = [0; exit::LENGTH];
        words[exit::REASON] = reason.number();
        words[exit::QUALIFICATION] = qualification;
        words[exit::GUEST_PHYSICAL] = 0xd000_0000;
        Exit::decode(&ExitRecord::from_words(words))
    }

    #[test]
    fn a_port_read_names_port_size_and_direction() {
        let qualification = IoQualification::new(0x3fd, 1, IoQualification::IN);
        assert_eq!(
            decode(ExitReason::Io, qualification.0),
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
        let qualification = IoQualification::new(0x80, 3, 0);
        assert!(decode(ExitReason::Io, qualification.0).is_err());
    }

    #[test]
    fn a_table_walk_is_told_from_a_write() {
        let walk = memory_fault::WALK | memory_fault::WRITE;
        assert_eq!(
            decode(ExitReason::MemoryFault, walk),
            Ok(Exit::MemoryFault {
                access: MemoryAccess::TableWalk,
                address: GuestAddress(0xd000_0000)
            })
        );
    }

    #[test]
    fn an_msr_number_beyond_32_bits_is_malformed() {
        assert!(decode(ExitReason::MsrRead, 1 << 32).is_err());
        assert_eq!(decode(ExitReason::MsrWrite, 0x1b), Ok(Exit::MsrWrite(0x1b)));
    }

    proptest! {
        #[test]
        fn no_record_panics(words in proptest::array::uniform32(any::<u64>()), reason in 0u64..30) {
            let _ = Exit::decode(&ExitRecord::from_words(words));
            let mut words = words;
            words[exit::REASON] = reason;
            let _ = Exit::decode(&ExitRecord::from_words(words));
        }
    }
}
