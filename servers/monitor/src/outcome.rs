//! How a virtual machine ends: because the guest wanted it, or because the monitor could not go
//! on. Nothing of this reaches another VM.

use core::fmt;

use serde::{Deserialize, Serialize};

use crate::exit::MalformedExit;
use crate::memory::GuestAddress;

/// Why the guest's machine was reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ResetCause {
    /// Through a reset register.
    Requested,
    /// A CPU met a fault while it handled a double fault.
    TripleFault,
}

/// What the monitor could not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// An instruction on device memory or ports that the monitor does not know.
    UnsupportedInstruction {
        /// Its first bytes.
        bytes: [u8; 8],
    },
    /// Code, or the page tables on the way to it, are not in RAM.
    OutsideRam(GuestAddress),
    /// The guest fetched instructions from an address without RAM.
    FetchOutsideRam(GuestAddress),
    /// The CPU walked page tables outside RAM.
    TablesOutsideRam(GuestAddress),
    /// RAM was not mapped for the guest: the machine was built wrong.
    RamNotMapped(GuestAddress),
    /// Delivering an interrupt or exception touched device memory.
    DeliveryToDevice(GuestAddress),
    /// The exit record does not follow the ABI.
    MalformedExit {
        /// Reason word.
        reason: u64,
        /// Qualification word.
        qualification: u64,
    },
    /// The CPU refused the guest's state; the raw exit code.
    InvalidState(u64),
    /// The kernel refused to enter the guest; the offending field.
    EntryRefused(u64),
    /// This machine cannot run guests.
    NoVirtualisation,
    /// The kernel refused a value for a field of the VCPU.
    FieldRefused,
    /// An exit that the monitor has no use for; the raw reason.
    UnexpectedExit(u64),
}

impl From<MalformedExit> for FailureKind {
    fn from(exit: MalformedExit) -> Self {
        FailureKind::MalformedExit {
            reason: exit.reason,
            qualification: exit.qualification,
        }
    }
}

/// A failure, and where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct VmFailure {
    /// Which VCPU.
    pub vcpu: usize,
    /// Its instruction pointer.
    pub rip: u64,
    /// What could not be done.
    pub kind: FailureKind,
}

/// How the VM ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum VmEvent {
    /// Reset: start it anew.
    Reset(ResetCause),
    /// The guest switched its machine off.
    PowerOff,
    /// The guest wrote this to the debug-exit port.
    DebugExit(u32),
    /// The monitor could not go on.
    Failed(VmFailure),
}

impl fmt::Display for VmEvent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            VmEvent::Reset(ResetCause::Requested) => formatter.write_str("the guest reset itself"),
            VmEvent::Reset(ResetCause::TripleFault) => {
                formatter.write_str("the guest reset itself by a triple fault")
            }
            VmEvent::PowerOff => formatter.write_str("the guest switched itself off"),
            VmEvent::DebugExit(value) => {
                write!(formatter, "the guest ended itself with {value:#x}")
            }
            VmEvent::Failed(failure) => write!(
                formatter,
                "VCPU {} cannot go on at {:#x}: {:x?}",
                failure.vcpu, failure.rip, failure.kind
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_says_where_and_what() {
        let failure = VmEvent::Failed(VmFailure {
            vcpu: 1,
            rip: 0x1000,
            kind: FailureKind::OutsideRam(GuestAddress(0xd000_0000)),
        });
        let text = std::format!("{failure}");
        assert_eq!(
            text,
            "VCPU 1 cannot go on at 0x1000: OutsideRam(GuestAddress(d0000000))"
        );
    }
}
