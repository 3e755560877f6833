//! The fields of a VMCS as a new VCPU has them (Intel SDM volume 3, chapter 25).

use x86::vmx::vmcs::{control, guest};

use super::{CR0_HIDDEN, CR4_HIDDEN, LISTED_MSRS, Vmx};
use crate::arch;
use crate::store::Ref;
use crate::vcpu::control::{Control, Window};
use crate::vcpu::{GUEST_MSRS, Vcpu, reset};

/// The execution controls of this machine, which its capability registers accept.
#[derive(Clone, Copy, Debug, Default)]
pub struct Controls {
    /// Pin-based.
    pub pin: u64,
    /// Primary processor-based.
    pub primary: u64,
    /// Secondary processor-based.
    pub secondary: u64,
    /// Of exits.
    pub exit: u64,
    /// Of entries, for a guest that is not in long mode.
    pub entry: u64,
    /// How long a guest runs without an exit, in units of the preemption timer.
    pub longest_stay: u64,
}

/// Pin-based control that switches the preemption timer on, and with it its field.
const PREEMPTION_TIMER: u64 = 1 << 6;

/// Quarter of the MSR bitmap for reads of registers from 0xc000_0000 on, in bits; the quarters for
/// writes are half a map further.
const HIGH_READS: usize = 0x400 * 8;
const WRITES: usize = 0x800 * 8;
/// VMCS link pointer of a VMCS without a shadow.
const NO_LINK: u64 = u64::MAX;

/// Bit of the MSR bitmap for reads of `msr`, which is in one of its two ranges.
const fn msr_map_bit(msr: u32) -> usize {
    let offset = if msr >= 0xc000_0000 { HIGH_READS } else { 0 };
    offset + (msr & 0x1fff) as usize
}

/// Puts a VCPU into the state after reset, with every exit that can be asked for.
pub fn reset(vcpu: Ref<Vcpu>) {
    arch::prepare_vmcs(vcpu);
    let v = Vmx::claim(vcpu);
    for msr in GUEST_MSRS {
        vcpu.msr_map.clear_bit(msr_map_bit(msr));
        vcpu.msr_map.clear_bit(msr_map_bit(msr) + WRITES);
    }
    for (index, msr) in LISTED_MSRS.into_iter().enumerate() {
        vcpu.msr_list.0[index][0].set(u64::from(msr));
    }
    reset_controls(v);
    let state = [
        (guest::LINK_PTR_FULL, NO_LINK),
        (guest::IA32_DEBUGCTL_FULL, 0),
        (guest::ACTIVITY_STATE, 0),
        (guest::PENDING_DBG_EXCEPTIONS, 0),
    ];
    for (field, value) in state {
        v.set_field(field, value);
    }
    reset::reset(v);
}

fn reset_controls(v: Vmx) {
    let vcpu = v.0;
    let controls = arch::guest_controls();
    let physical = |address: usize| arch::physical_address(address);
    let io_map = physical(&raw const vcpu.io_map as usize);
    let msr_list = physical(&raw const vcpu.msr_list as usize);
    let fields = [
        (control::PINBASED_EXEC_CONTROLS, controls.pin),
        (control::PRIMARY_PROCBASED_EXEC_CONTROLS, controls.primary),
        (
            control::SECONDARY_PROCBASED_EXEC_CONTROLS,
            controls.secondary,
        ),
        (control::VMEXIT_CONTROLS, controls.exit),
        (control::VMENTRY_CONTROLS, controls.entry),
        (control::EXCEPTION_BITMAP, 0),
        (control::PAGE_FAULT_ERR_CODE_MASK, 0),
        (control::PAGE_FAULT_ERR_CODE_MATCH, 0),
        (control::CR3_TARGET_COUNT, 0),
        (control::TSC_OFFSET_FULL, 0),
        (control::IO_BITMAP_A_ADDR_FULL, io_map),
        (control::IO_BITMAP_B_ADDR_FULL, io_map + 0x1000),
        (
            control::MSR_BITMAPS_ADDR_FULL,
            physical(&raw const vcpu.msr_map as usize),
        ),
        (control::VMENTRY_MSR_LOAD_ADDR_FULL, msr_list),
        (control::VMENTRY_MSR_LOAD_COUNT, LISTED_MSRS.len() as u64),
        (control::VMEXIT_MSR_STORE_ADDR_FULL, msr_list),
        (control::VMEXIT_MSR_STORE_COUNT, LISTED_MSRS.len() as u64),
        (control::VMENTRY_INTERRUPTION_INFO_FIELD, 0),
        (control::CR0_GUEST_HOST_MASK, CR0_HIDDEN),
        (control::CR4_GUEST_HOST_MASK, CR4_HIDDEN),
        (control::CR4_READ_SHADOW, 0),
    ];
    for (field, value) in fields {
        v.set_field(field, value);
    }
    if controls.pin & PREEMPTION_TIMER != 0 {
        v.set_field(guest::VMX_PREEMPTION_TIMER_VALUE, controls.longest_stay);
    }
    vcpu.vmx.primary.set(controls.primary);
    v.request_window(Window::NotWanted);
}
