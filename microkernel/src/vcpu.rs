//! The VCPU object.

use core::cell::Cell;

use crate::kernel::Kernel;
use crate::object::Tcb;
use crate::store::{Object, Ref};

/// One virtual CPU.
#[repr(C, align(4096))]
pub struct Vcpu {
    /// The thread that runs it.
    pub tcb: Cell<Option<Ref<Tcb>>>,
    reserved: Cell<[u8; 32760]>,
}

#[expect(unsafe_code, reason = "only the marker: zero is an unused VCPU, all fields are cells")]
// SAFETY: as the reason says.
unsafe impl Object for Vcpu {}

impl Vcpu {
    /// Size as a power of two: part of the ABI.
    pub const SIZE_BITS: u8 = 15;
}

/// VMEnter by `tcb`, which has a VCPU.
pub fn enter(kernel: &Kernel, tcb: Ref<Tcb>) {
    let _ = (kernel, tcb);
}

/// Ends the VMEnter of `tcb` because its bound notification was signalled with `badge`.
pub fn leave_for_notification(tcb: Ref<Tcb>, badge: u64) {
    tcb.registers.rdi.set(badge);
    tcb.registers.rsi.set(0);
}

/// `tcb` goes away, or its VCPU does: neither knows the other any more.
pub fn detach(tcb: Ref<Tcb>) {
    if let Some(vcpu) = tcb.vcpu.take() {
        vcpu.tcb.set(None);
    }
}

/// A new VCPU: a CPU after reset.
pub fn initialise(_vcpu: Ref<Vcpu>) {}

impl Kernel {
    /// The last capability to `vcpu` goes.
    pub fn finalise_vcpu(&self, vcpu: Ref<Vcpu>) {
        if let Some(tcb) = vcpu.tcb.get() {
            self.stall(tcb);
            detach(tcb);
        }
    }
}
