//! AMD SVM: switching it on, and entering a guest.
//!
//! The control block is read and written as memory by `crate::vcpu`; here are only the
//! instructions, the host's own pages, and what must be forgotten or switched around them.

use core::arch::{asm, global_asm};
use core::cell::{Cell, UnsafeCell};

use x86::controlregs::{Xcr0, xcr0, xcr0_write};
use x86::cpuid::cpuid;
use x86::msr::{IA32_EFER, rdmsr, wrmsr};

use crate::config::MAX_NODES;
use crate::store::Ref;
use crate::vcpu::vmcb::{self, control};
use crate::vcpu::{Vcpu, exit};

use super::cpu::Cpu;
use super::features::features;
use super::global::SetAtBoot;
use super::{paging, tlb};

global_asm!(include_str!("svm.s"));

unsafe extern "C" {
    fn svm_run(registers: *const Cell<u64>, guest: u64, host: u64);
}

/// Physical address of the page where VMRUN saves the host.
const VM_HSAVE_PA: u32 = 0xc001_0117;
/// Says whether the firmware disabled SVM.
const VM_CR: u32 = 0xc001_0114;
const VM_CR_DISABLED: u64 = 1 << 4;
const EFER_SVME: u64 = 1 << 12;

/// TLB_CONTROL: forget everything, or nothing.
const FLUSH_ALL: u64 = 1;
const FLUSH_NOTHING: u64 = 0;

/// Pages that one CPU needs to run guests.
#[repr(C, align(4096))]
struct HostPages {
    save: UnsafeCell<[u8; 4096]>,
    vmcb: UnsafeCell<[u8; 4096]>,
}

// SAFETY: the CPU alone, by its instructions, uses them; Rust never reads them.
unsafe impl Sync for HostPages {}

static HOST_PAGES: [HostPages; MAX_NODES] = [const {
    HostPages {
        save: UnsafeCell::new([0; 4096]),
        vmcb: UnsafeCell::new([0; 4096]),
    }
}; MAX_NODES];

/// Address-space identifiers of the CPU; 0 where guests cannot run.
static IDENTIFIERS: SetAtBoot<u64> = SetAtBoot::new(0);

/// Finds out whether this machine has SVM with nested paging. For the first CPU.
pub fn find() {
    const LEAF: u32 = 0x8000_000a;
    const SVM_BIT: u32 = 1 << 2;
    const NESTED_PAGING_BIT: u32 = 1;
    let has_leaf = cpuid!(0x8000_0000).eax >= LEAF;
    if !has_leaf || cpuid!(0x8000_0001).ecx & SVM_BIT == 0 {
        return;
    }
    let leaf = cpuid!(LEAF);
    // SAFETY: CPUs with SVM have this MSR.
    let is_disabled = unsafe { rdmsr(VM_CR) } & VM_CR_DISABLED != 0;
    if leaf.edx & NESTED_PAGING_BIT != 0 && !is_disabled {
        // SAFETY: boot, one CPU.
        unsafe { IDENTIFIERS.set(u64::from(leaf.ebx)) };
    }
}

/// Whether guests can run.
pub fn is_available() -> bool {
    *IDENTIFIERS.get() > 1
}

/// Switches SVM on, on CPU `index`.
pub fn enable(index: usize) {
    if is_available() {
        let save = paging::image_physical(HOST_PAGES[index].save.get() as usize);
        // SAFETY: the CPU has SVM; the page is its own.
        unsafe {
            wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SVME);
            wrmsr(VM_HSAVE_PA, save);
        }
    }
}

/// Prepares what depends on this CPU: identifier, stale translations.
fn prepare(cpu: &Cpu, vcpu: Ref<Vcpu>, asid: u16) {
    let v = &vcpu.control;
    let identifiers = *IDENTIFIERS.get();
    let own = u64::from(asid) < identifiers;
    v.set_part(control::ASID, 32, if own { u64::from(asid) } else { 1 });
    let node = cpu.index.get() as u64 + 1;
    let generation = tlb::guest_generation();
    let moved = vcpu.last_node.replace(node) != node;
    let stale = cpu.guest_generation.replace(generation) != generation;
    let flush = if moved || stale || !own { FLUSH_ALL } else { FLUSH_NOTHING };
    v.set_part(control::TLB_CONTROL, 8, flush);
}

/// Runs the guest of `vcpu` until it exits. `root` is the physical address of its tables.
#[inline]
pub fn run(cpu: &Cpu, vcpu: Ref<Vcpu>, root: u64, asid: u16) {
    prepare(cpu, vcpu, asid);
    vmcb::attach(vcpu, root, |address| paging::physical_address(address));
    let v = &vcpu.control;
    v.set_word(control::EVENT_INJECTION, vcpu.pending_event.get());
    exit::load_registers(vcpu);
    load_extended(vcpu);
    let guest = paging::physical_address(core::ptr::from_ref(v) as usize);
    let host = paging::image_physical(HOST_PAGES[cpu.index.get()].vmcb.get() as usize);
    // SAFETY: the control block was checked, its maps and tables are the VCPU's own, and every
    // register that the guest changes is saved and restored around it.
    unsafe { svm_run(vcpu.registers.as_ptr(), guest, host) };
    store_extended(vcpu);
    exit::store_registers(vcpu);
}

/// Puts the guest's extended state into the registers. The thread's own was saved.
fn load_extended(vcpu: Ref<Vcpu>) {
    let mask = features().xcr0;
    let area = vcpu.fpu.0.as_ptr();
    // SAFETY: the area is the guest's, aligned and large enough for what XCR0 enables here, and
    // was written by `reset` or `store_extended`. XCR0 values were checked when they were set, or
    // were read from the register.
    unsafe {
        if mask == 0 {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack, readonly));
        } else {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") 0,
                options(nostack, readonly));
            if vcpu.xcr0.get() != mask {
                xcr0_write(Xcr0::from_bits_truncate(vcpu.xcr0.get()));
            }
        }
    }
}

/// Saves the guest's extended state. Some CPUs let a guest write XCR0 without an exit.
fn store_extended(vcpu: Ref<Vcpu>) {
    let mask = features().xcr0;
    let area = vcpu.fpu.0.as_ptr();
    // SAFETY: as in `load_extended`.
    unsafe {
        if mask == 0 {
            asm!("fxsave64 [{}]", in(reg) area, options(nostack));
        } else {
            let guest = xcr0().bits();
            vcpu.xcr0.set(guest);
            if guest != mask {
                xcr0_write(Xcr0::from_bits_truncate(mask));
            }
            asm!("xsave64 [{}]", in(reg) area, in("eax") mask as u32, in("edx") 0,
                options(nostack));
        }
    }
}
