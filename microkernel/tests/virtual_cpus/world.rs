//! One VCPU on a machine with either kind of virtualisation.

use std::cell::Cell;

use microkernel::arch::host::MACHINE;
use microkernel::boot::Virtualisation;
use microkernel::store::Ref;
use microkernel::vcpu::{self, Vcpu};

const BYTES: usize = 1 << Vcpu::SIZE_BITS;

/// Memory with a new VCPU in it.
pub struct World {
    _memory: Vec<Cell<u64>>,
    /// The VCPU.
    pub vcpu: Ref<Vcpu>,
}

impl World {
    /// On a machine of this kind, which the test thread has from now on.
    pub fn new(virtualisation: Virtualisation) -> Self {
        MACHINE.with(|machine| machine.virtualisation.set(virtualisation));
        let memory = vec![Cell::new(0); 2 * BYTES / size_of::<u64>()];
        let address = (memory.as_ptr() as usize).next_multiple_of(BYTES);
        let vcpu = Ref::<Vcpu>::from_address(address);
        vcpu::initialise(vcpu);
        Self {
            _memory: memory,
            vcpu,
        }
    }
}
