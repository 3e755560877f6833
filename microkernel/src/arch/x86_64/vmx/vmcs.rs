//! VMCSs and the CPUs that hold them.
//!
//! A CPU may cache a VMCS that was loaded on it until it is cleared there, so a VCPU that comes from
//! another CPU is first cleared on that one (`remote`). The holder of the big lock moves them; a
//! CPU that runs a guest without the lock is stalled first.

use core::arch::asm;

use x86::controlregs::{Cr0, cr0, cr4};
use x86::msr::{IA32_EFER, IA32_GS_BASE, IA32_PAT, rdmsr};
use x86::vmx::vmcs::{control, host};

use crate::store::Ref;
use crate::vcpu::Vcpu;
use crate::vcpu::vmx::LISTED_MSRS;

use super::super::cpu::{CPUS, Cpu, this_cpu};
use super::super::remote::{self, Question};
use super::super::tlb::Stale;
use super::super::{descriptors, paging};
use super::{HOST_PAGES, capabilities, vmx_exit};

fn physical(vcpu: Ref<Vcpu>) -> u64 {
    paging::physical_address(core::ptr::from_ref(&vcpu.control) as usize)
}

/// A field of the current VMCS; 0 if the CPU does not know it.
#[inline(always)]
#[must_use]
pub fn vmcs_read(field: u32) -> u64 {
    let value: u64;
    // SAFETY: reading has no effect. Without a current VMCS it fails, and the value stays.
    unsafe {
        asm!("vmread {}, {}", inlateout(reg) 0_u64 => value, in(reg) u64::from(field),
            options(nostack));
    }
    value
}

/// Writes a field of the current VMCS. A field that the CPU does not know stays unwritten.
#[inline(always)]
pub fn vmcs_write(field: u32, value: u64) {
    // SAFETY: the callers are this module, for the host's fields, and `crate::vcpu::vmx`, which
    // writes the guest's and the controls.
    unsafe { asm!("vmwrite {}, {}", in(reg) u64::from(field), in(reg) value, options(nostack)) };
}

/// Makes the memory of a new VCPU's control block a VMCS that no CPU holds.
pub fn prepare_vmcs(vcpu: Ref<Vcpu>) {
    vcpu.control.set_word(0, u64::from(capabilities().revision));
    clear(physical(vcpu));
}

fn clear(physical: u64) {
    // SAFETY: the page is a VMCS's, or about to be one; clearing writes it back to the page.
    unsafe { asm!("vmclear [{}]", in(reg) &physical, options(nostack)) };
}

/// Makes the VMCS of `vcpu`, which does not run, this CPU's current one. If another CPU holds it,
/// only for the holder of the big lock.
#[inline(always)]
pub fn claim_vmcs(vcpu: Ref<Vcpu>) {
    let cpu = this_cpu();
    if cpu.vmcs.get() != Some(vcpu) {
        load(cpu, vcpu);
    }
}

fn load(cpu: &Cpu, vcpu: Ref<Vcpu>) {
    let here = cpu.index.get() as u64 + 1;
    let from = vcpu.vmx.holder.get();
    if from != here {
        release(vcpu);
    }
    let address = physical(vcpu);
    // SAFETY: the page holds a VMCS that no other CPU has.
    unsafe { asm!("vmptrld [{}]", in(reg) &address, options(nostack)) };
    cpu.vmcs.set(Some(vcpu));
    if from != here {
        vcpu.vmx.holder.set(here);
        vcpu.vmx.is_launched.set(false);
        write_host_fields(cpu, vcpu);
    }
}

/// Makes whichever CPU holds the VMCS of `vcpu` forget it.
fn release(vcpu: Ref<Vcpu>) {
    let Some(holder) = vcpu.vmx.holder.replace(0).checked_sub(1) else {
        return;
    };
    let address = physical(vcpu);
    let cpu = &CPUS[holder as usize];
    if core::ptr::eq(cpu, this_cpu()) {
        clear_if_held(cpu, address);
    } else {
        let stale = Stale { cr3: 0, address };
        remote::ask_others(Question::ReleaseGuest, stale, |other| {
            core::ptr::eq(other, cpu)
        });
    }
}

/// Clears the VMCS at a physical address on this CPU.
pub fn clear_if_held(cpu: &Cpu, address: u64) {
    if cpu.vmcs.get().is_some_and(|vcpu| physical(vcpu) == address) {
        cpu.vmcs.set(None);
    }
    clear(address);
}

/// A VCPU goes: no CPU may write to its memory any more.
pub fn forget(vcpu: Ref<Vcpu>) {
    release(vcpu);
}

/// The state that exits load, as far as it belongs to the CPU.
fn write_host_fields(cpu: &Cpu, vcpu: Ref<Vcpu>) {
    let tables = descriptors::host_tables(cpu);
    // SAFETY: registers of every CPU with VMX; reading has no effect.
    let (efer, pat, gs_base, cr0, cr4) = unsafe {
        (
            rdmsr(IA32_EFER),
            rdmsr(IA32_PAT),
            rdmsr(IA32_GS_BASE),
            // Whoever claims a VMCS may have no extended state; guests do.
            (cr0() - Cr0::CR0_TASK_SWITCHED).bits() as u64,
            cr4().bits() as u64,
        )
    };
    let list = &raw const HOST_PAGES[cpu.index.get()].msr_list;
    let fields = [
        (host::CR0, cr0),
        (host::CR3, cpu.cr3.get()),
        (host::CR4, cr4),
        (host::ES_SELECTOR, 0),
        (host::CS_SELECTOR, u64::from(descriptors::KERNEL_CODE)),
        (host::SS_SELECTOR, u64::from(descriptors::KERNEL_DATA)),
        (host::DS_SELECTOR, 0),
        (host::FS_SELECTOR, 0),
        (host::GS_SELECTOR, 0),
        (host::TR_SELECTOR, u64::from(descriptors::TASK)),
        (host::FS_BASE, cpu.bases.fs()),
        (host::GS_BASE, gs_base),
        (host::TR_BASE, tables.task_state),
        (host::GDTR_BASE, tables.gdt),
        (host::IDTR_BASE, tables.idt),
        (host::IA32_SYSENTER_CS, 0),
        (host::IA32_SYSENTER_ESP, 0),
        (host::IA32_SYSENTER_EIP, 0),
        (host::IA32_EFER_FULL, efer),
        (host::IA32_PAT_FULL, pat),
        (host::RIP, vmx_exit as *const () as u64),
        (
            control::VMEXIT_MSR_LOAD_ADDR_FULL,
            paging::image_physical(list as usize),
        ),
        (control::VMEXIT_MSR_LOAD_COUNT, LISTED_MSRS.len() as u64),
    ];
    for (field, value) in fields {
        vmcs_write(field, value);
    }
    vcpu.vmx.host_cr3.set(cpu.cr3.get());
    vcpu.vmx.host_fs_base.set(cpu.bases.fs());
}
