//! The four page-directory pointers of a guest with PAE paging.
//!
//! The CPU reads them from memory when the guest loads CR3 and keeps them. A monitor that sets
//! such a state by fields has loaded nothing, so the kernel reads them in its place.

use sel4_sys::VcpuField as F;
use x86::vmx::vmcs::guest;

use super::Vmx;
use crate::store::{Ref, Table};
use crate::vcpu::control::Control;
use crate::vcpu::field::{CR0_PG, CR4_PAE, EFER_LMA};
use crate::vspace;

/// Bits of CR3 that are the address of the pointers.
const ADDRESS: u64 = 0xffff_ffe0;
/// Bits that a pointer can have beside its address: present, write-through, uncached, and
/// three that are ignored.
const POINTER_ALLOWED: u64 = 0x000f_ffff_ffff_fe19;
const PRESENT: u64 = 1;

/// Loads the pointers if the state of the guest has them. What is not there, or is none, becomes a
/// pointer to nothing, so the guest sees a page fault.
pub fn load_pointers(v: Vmx, root: Ref<Table>) {
    let [cr0, cr4, efer] = [F::Cr0, F::Cr4, F::Efer].map(|field| v.read(field));
    if cr0 & CR0_PG == 0 || cr4 & CR4_PAE == 0 || efer & EFER_LMA != 0 {
        return;
    }
    let table = v.read(F::Cr3) & ADDRESS;
    for index in 0..4 {
        let pointer = vspace::read_guest_word(root, table + index * 8).unwrap_or(0);
        let is_sound = pointer & PRESENT != 0 && pointer & !POINTER_ALLOWED == 0;
        let pointer = if is_sound { pointer } else { 0 };
        v.set_field(guest::PDPTE0_FULL + index as u32 * 2, pointer);
    }
}
