//! Intel VMX: switching it on, and entering a guest (Intel SDM volume 3, part 3).
//!
//! What the fields of a VMCS mean for a guest is `crate::vcpu::vmx`'s matter; here are the
//! instructions, the capability registers, and all that the host needs to come back.

mod capability;
mod vmcs;

use core::arch::{asm, global_asm};
use core::cell::{Cell, UnsafeCell};

use x86::controlregs::{Cr4, cr2, cr2_write, cr4, cr4_write};
use x86::msr::{
    IA32_CSTAR, IA32_FEATURE_CONTROL, IA32_FMASK, IA32_KERNEL_GSBASE, IA32_LSTAR, IA32_STAR,
    IA32_TSC_AUX, rdmsr, wrmsr,
};
use x86::vmx::vmcs::{control, host};

use crate::config::MAX_NODES;
use crate::store::Ref;
use crate::vcpu::vmx::exit::{self, Entered};
use crate::vcpu::vmx::{LISTED_MSRS, Vmx};
use crate::vcpu::{RSP, Vcpu};

use super::cpu::Cpu;
use super::global::SetAtBoot;
use super::guest::{Flush, TagUse};
use super::{descriptors, paging};
use capability::Capabilities;

pub use vmcs::{claim_vmcs, clear_if_held, forget, prepare_vmcs, vmcs_read, vmcs_write};

global_asm!(include_str!("vmx.s"), HOST_RSP = const host::RSP);

unsafe extern "C" {
    /// Enters the guest of the current VMCS; 0 = it exited, 1 = the instruction failed.
    fn vmx_run(registers: *const Cell<u64>, is_launched: u64) -> u64;
    fn vmx_exit();
}

/// What one CPU needs to run guests.
#[repr(C, align(4096))]
struct HostPages {
    /// The CPU's own, while it is in VMX operation.
    region: UnsafeCell<[u32; 1024]>,
    /// Registers that exits load: number and value.
    msr_list: [[Cell<u64>; 2]; LISTED_MSRS.len()],
}

// SAFETY: each CPU uses its own pages only.
unsafe impl Sync for HostPages {}

static HOST_PAGES: [HostPages; MAX_NODES] = [const {
    HostPages {
        region: UnsafeCell::new([0; 1024]),
        msr_list: [const { [Cell::new(0), Cell::new(0)] }; LISTED_MSRS.len()],
    }
}; MAX_NODES];

/// Index of KERNEL_GS_BASE in the list: the only one that changes with the thread.
const KERNEL_GS_BASE: usize = 4;
const _: () = assert!(LISTED_MSRS[KERNEL_GS_BASE] == IA32_KERNEL_GSBASE);
const _: () = assert!(LISTED_MSRS[0] == IA32_STAR && LISTED_MSRS[1] == IA32_LSTAR);
const _: () = assert!(LISTED_MSRS[2] == IA32_CSTAR && LISTED_MSRS[3] == IA32_FMASK);
const _: () = assert!(LISTED_MSRS[5] == IA32_TSC_AUX);

/// Kinds of INVEPT and INVVPID: for every guest.
const ALL_CONTEXTS: u64 = 2;
/// Value of DR6 when nothing happened.
const DR6_RESET: u64 = 0xffff_0ff0;

static CAPABILITIES: SetAtBoot<Option<Capabilities>> = SetAtBoot::new(None);

/// Finds out whether this machine has VMX with all that guests need. For the first CPU.
pub fn find() {
    let found = capability::find();
    // SAFETY: boot, one CPU.
    unsafe { CAPABILITIES.set(found) };
}

/// Whether the machine has VMX.
pub fn is_available() -> bool {
    CAPABILITIES.get().is_some()
}

fn capabilities() -> &'static Capabilities {
    match CAPABILITIES.get() {
        Some(capabilities) => capabilities,
        None => panic!("no VMX on this machine"),
    }
}

/// The execution controls that VMCSs begin with.
pub fn guest_controls() -> crate::vcpu::vmx::vmcs::Controls {
    capabilities().guest_controls()
}

/// Tags that a CPU can tell apart: VPIDs, of which 0 is the host's.
pub fn tag_limit() -> u32 {
    if capabilities().has_tags { 1 << 16 } else { 2 }
}

/// Switches VMX on, on CPU `index`. Whether that worked.
pub fn enable(index: usize) -> bool {
    let pages = &HOST_PAGES[index];
    if !unlock() {
        return false;
    }
    for (entry, msr) in pages.msr_list.iter().zip(LISTED_MSRS) {
        entry[0].set(u64::from(msr));
        // SAFETY: a CPU with unrestricted guests has these registers; reading has no effect.
        entry[1].set(unsafe { rdmsr(msr) });
    }
    let region = pages.region.get();
    let physical = paging::image_physical(region as usize);
    let failed: u8;
    // SAFETY: the CPU has VMX and its firmware allows it; the region is this CPU's own, and from
    // now on nobody else's.
    unsafe {
        (*region)[0] = capabilities().revision;
        cr4_write(cr4() | Cr4::CR4_ENABLE_VMX);
        asm!("vmxon [{}]", "setbe {}", in(reg) &physical, out(reg_byte) failed, options(nostack));
    }
    failed == 0
}

/// Allows VMX outside SMX, unless the firmware has decided already.
fn unlock() -> bool {
    const LOCKED: u64 = 1;
    const OUTSIDE_SMX: u64 = 1 << 2;
    // SAFETY: CPUs with VMX have this register; it is written only while it is not locked.
    unsafe {
        let value = rdmsr(IA32_FEATURE_CONTROL);
        if value & LOCKED != 0 {
            return value & OUTSIDE_SMX != 0;
        }
        wrmsr(IA32_FEATURE_CONTROL, value | LOCKED | OUTSIDE_SMX);
    }
    true
}

/// Runs the guest of `vcpu`, whose VMCS this CPU holds, until it exits. `root` is the physical
/// address of its tables.
#[inline]
pub fn run(cpu: &Cpu, vcpu: Ref<Vcpu>, root: u64, tag: TagUse) -> Entered {
    let v = Vmx::claim(vcpu);
    prepare_host(cpu, v);
    prepare_memory(v, root, tag);
    v.set_field(x86::vmx::vmcs::guest::RSP, vcpu.registers[RSP].get());
    let event = vcpu.pending_event.get();
    if event != 0 {
        exit::inject(v, event);
    }
    load_registers(vcpu);
    let is_launched = u64::from(vcpu.vmx.is_launched.get());
    // SAFETY: the VMCS is complete: host fields lead back behind this call with all that it needs,
    // guest fields and controls give the guest nothing but its own memory.
    let failed = unsafe { vmx_run(vcpu.registers.as_ptr(), is_launched) };
    store_registers(vcpu);
    descriptors::restore_limit(cpu);
    vcpu.registers[RSP].set(v.field(x86::vmx::vmcs::guest::RSP));
    if failed == 0 {
        Entered::Exited
    } else {
        Entered::Failed
    }
}

/// Host state that changes with the thread.
#[inline(always)]
fn prepare_host(cpu: &Cpu, v: Vmx) {
    let beside = &v.0.vmx;
    let cr3 = cpu.cr3.get();
    if beside.host_cr3.replace(cr3) != cr3 {
        v.set_field(host::CR3, cr3);
    }
    let fs_base = cpu.bases.fs();
    if beside.host_fs_base.replace(fs_base) != fs_base {
        v.set_field(host::FS_BASE, fs_base);
    }
    HOST_PAGES[cpu.index.get()].msr_list[KERNEL_GS_BASE][1].set(cpu.bases.gs());
}

/// Tables, and what is cached of them.
#[inline(always)]
fn prepare_memory(v: Vmx, root: u64, tag: TagUse) {
    /// Write-back, four levels.
    const POINTER: u64 = 6 | 3 << 3;
    v.set_field(control::EPTP_FULL, root | POINTER);
    let has_tags = capabilities().has_tags;
    if has_tags {
        v.set_field(control::VPID, u64::from(tag.number));
    }
    if tag.flush == Flush::Everything {
        let descriptor = [0_u64; 2];
        // SAFETY: kinds that the CPU offers; forgetting translations changes no memory.
        unsafe {
            asm!("invept {}, [{}]", in(reg) ALL_CONTEXTS, in(reg) &descriptor,
                options(nostack, readonly));
            if has_tags {
                asm!("invvpid {}, [{}]", in(reg) ALL_CONTEXTS, in(reg) &descriptor,
                    options(nostack, readonly));
            }
        }
    }
}

/// Registers that neither the VMCS nor a list holds.
#[inline(always)]
fn load_registers(vcpu: Ref<Vcpu>) {
    let (address, status) = (vcpu.vmx.cr2.get(), vcpu.vmx.dr6.get());
    // SAFETY: the kernel uses neither, nor reads one before it has changed again.
    unsafe {
        if cr2() as u64 != address {
            cr2_write(address);
        }
        if status != DR6_RESET {
            asm!("mov dr6, {}", in(reg) status, options(nomem, nostack));
        }
    }
}

#[inline(always)]
fn store_registers(vcpu: Ref<Vcpu>) {
    let status: u64;
    // SAFETY: as above.
    unsafe {
        vcpu.vmx.cr2.set(cr2() as u64);
        asm!("mov {}, dr6", out(reg) status, options(nomem, nostack));
        if status != DR6_RESET {
            asm!("mov dr6, {}", in(reg) DR6_RESET, options(nomem, nostack));
        }
    }
    vcpu.vmx.dr6.set(status);
}
