//! From a hardware exit to the exit record of docs/abi.md.
//!
//! What the exits of each vendor mean is decided in `svm::exit` and `vmx::exit`.

use sel4_sys::vcpu::{enter_result, exit};
use sel4_sys::{ExitReason, MessageInfo};

use super::Vcpu;
use super::control::State;
use crate::object::{BufferUse, Tcb, ThreadState};
use crate::store::Ref;

/// What an exit means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exit {
    /// The record's reason.
    pub reason: ExitReason,
    /// What belongs to it.
    pub qualification: u64,
    /// Guest-physical address of a memory fault, raw code of a refused state.
    pub address: u64,
    /// Length of the instruction, 0 if the CPU did not tell.
    pub length: u64,
}

/// What the kernel does after a hardware exit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// An interrupt of the host, still pending: the kernel's.
    HostInterrupt,
    /// A non-maskable interrupt of the host, which the exit took.
    HostNmi,
    /// It was dealt with: the guest goes on.
    Again,
    /// The monitor's.
    Monitor(Exit),
}

impl Exit {
    /// Just a reason.
    #[must_use]
    pub const fn plain(reason: ExitReason) -> Self {
        Self::with(reason, 0)
    }

    /// A reason with its qualification.
    #[must_use]
    pub const fn with(reason: ExitReason, qualification: u64) -> Self {
        Self {
            reason,
            qualification,
            address: 0,
            length: 0,
        }
    }
}

/// Writes the exit record to the thread that runs `vcpu`, which goes on in user mode.
#[inline(always)]
pub fn report(vcpu: Ref<Vcpu>, tcb: Ref<Tcb>, exit: Exit, state: &State) {
    let message = tcb.registers.message();
    message[exit::REASON].set(exit.reason.number());
    message[exit::QUALIFICATION].set(exit.qualification);
    message[exit::RIP].set(state.rip);
    message[exit::INSTRUCTION_LENGTH].set(exit.length);
    if let Some(buffer) = tcb.ipc_buffer(BufferUse::Receive) {
        let put = |index: usize, value: u64| buffer.word(1 + index).set(value);
        put(exit::RFLAGS, state.rflags);
        put(exit::GUEST_PHYSICAL, exit.address);
        put(exit::CR0, state.cr0);
        put(exit::CR3, state.cr3);
        put(exit::CR4, state.cr4);
        put(exit::EFER, state.efer);
        put(exit::MODE, state.mode);
        put(exit::CS_BASE, state.cs_base);
        put(exit::PENDING_EVENT, vcpu.pending_event.get());
        put(exit::INSTRUCTION_LOW, 0);
        put(exit::INSTRUCTION_HIGH, 0);
        put(exit::INSTRUCTION_VALID, 0);
        for (index, register) in vcpu.registers.iter().enumerate() {
            put(exit::REGISTERS + index, register.get());
        }
    }
    let info = MessageInfo::new(enter_result::EXIT, exit::LENGTH, 0);
    tcb.registers.rsi.set(info.word());
    tcb.registers.rdi.set(0);
    tcb.state.set(ThreadState::Running);
}
