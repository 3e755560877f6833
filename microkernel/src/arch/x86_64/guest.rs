//! Guests: what a CPU does while a thread is inside VMEnter.
//!
//! The guest runs with the big lock given up, like user code. An interrupt of the host ends it and
//! is taken as if it had come in the idle loop; the guest goes on when its thread is chosen again.
//! Any other exit becomes a record for the thread, which goes on in user mode.

use core::arch::asm;

use crate::boot::Virtualisation;
use crate::object::{Tcb, ThreadState};
use crate::store::Ref;
use crate::vcpu::exit::{self, Cause};
use crate::vcpu::{self, Vcpu};

use super::cpu::Cpu;
use super::global::kernel;
use super::{paging, svm, thread_state};

/// Finds out what this machine offers. For the first CPU.
pub fn find() {
    svm::find();
}

/// Switches it on, on CPU `index`.
pub fn enable(index: usize) {
    svm::enable(index);
}

/// What BootInfo says.
pub fn virtualisation() -> Virtualisation {
    if svm::is_available() { Virtualisation::Svm } else { Virtualisation::None }
}

/// Whether guests can run here.
#[must_use]
pub fn can_run_guests() -> bool {
    svm::is_available()
}

/// A VCPU goes: no CPU may hold anything of it. Under SVM none does.
pub fn forget_vcpu(_vcpu: Ref<Vcpu>) {}

/// Runs the guest of `tcb`, which this CPU chose, until its thread goes on in user mode.
pub fn run(cpu: &Cpu, tcb: Ref<Tcb>) {
    cpu.current.set(tcb.address());
    while tcb.state.get() == ThreadState::RunningVm {
        let Some(vcpu) = tcb.vcpu.get() else { return };
        // Whoever takes the address space away does so first and then waits until this CPU has
        // answered an interrupt, which ends the guest before its first instruction.
        let Some((root, asid)) = vcpu.guest_space(kernel()) else {
            return vcpu::lose_guest_space(tcb);
        };
        thread_state::lend_fpu(cpu);
        svm::run(cpu, vcpu, paging::physical_address(root.address()), asid);
        match exit::decode(vcpu) {
            Cause::HostInterrupt => take_interrupts(cpu),
            Cause::Monitor(exit) => exit::report(vcpu, tcb, exit),
        }
    }
    thread_state::switch_thread_state(None, tcb);
}

/// Takes what is pending. A real interrupt does not come back here: it goes through the kernel
/// and starts again at the top of the stack.
fn take_interrupts(_cpu: &Cpu) {
    // SAFETY: interrupts in the kernel are entered as from the idle loop: nothing on this stack is
    // needed, all state is in the TCB and the VCPU.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}
