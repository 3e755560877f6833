//! AMD SVM: switching it on, and entering a guest.
//!
//! The control block is read and written as memory by `crate::vcpu`; here are only the
//! instructions, the host's own pages, and what must be forgotten or switched around them.

use core::arch::global_asm;
use core::cell::{Cell, UnsafeCell};

use sel4_sys::Event;
use sel4_sys::vcpu::EventType;
use x86::cpuid::cpuid;
use x86::msr::{IA32_EFER, IA32_TSC_AUX, rdmsr, wrmsr};

use crate::config::MAX_NODES;
use crate::store::Ref;
use crate::vcpu::Vcpu;
use crate::vcpu::svm::exit;
use crate::vcpu::svm::vmcb::{Visit, Vmcb, control, save};

use super::cpu::Cpu;
use super::global::SetAtBoot;
use super::guest::{Flush, TagUse};
use super::{paging, remote};

global_asm!(include_str!("svm.s"));

unsafe extern "C" {
    fn svm_run(registers: *const Cell<u64>, guest: u64, host: u64);
    /// The VMRUN instruction in it; only the address is used.
    safe static svm_entry: u8;
}

/// Where the kernel enters guests.
pub fn svm_entry_address() -> u64 {
    (&raw const svm_entry).addr() as u64
}

/// Physical address of the page where VMRUN saves the host.
const VM_HSAVE_PA: u32 = 0xc001_0117;
/// Says whether the firmware disabled SVM.
const VM_CR: u32 = 0xc001_0114;
const VM_CR_DISABLED: u64 = 1 << 4;
const EFER_SVME: u64 = 1 << 12;

/// TLB control: forget everything, or nothing.
const FLUSH_ALL: u64 = 1 << 32;
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

/// What the machine offers. All its CPUs are taken to be alike.
#[derive(Clone, Copy, Debug)]
struct Features {
    /// Address-space identifiers.
    identifiers: u32,
    /// Exits tell the next instruction, and software interrupts return to it.
    next_rip: bool,
    /// Guests can read TSC_AUX.
    tsc_aux: bool,
}

static FEATURES: SetAtBoot<Option<Features>> = SetAtBoot::new(None);

/// Finds out whether this machine has SVM with nested paging. For the first CPU.
pub fn find() {
    const LEAF: u32 = 0x8000_000a;
    const SVM_BIT: u32 = 1 << 2;
    const READ_TSC_AUX_BIT: u32 = 1 << 27;
    const NESTED_PAGING_BIT: u32 = 1;
    const NEXT_RIP_BIT: u32 = 1 << 3;
    let has_leaf = cpuid!(0x8000_0000).eax >= LEAF;
    let general = cpuid!(0x8000_0001);
    if !has_leaf || general.ecx & SVM_BIT == 0 {
        return;
    }
    let leaf = cpuid!(LEAF);
    // SAFETY: CPUs with SVM have this MSR.
    let is_disabled = unsafe { rdmsr(VM_CR) } & VM_CR_DISABLED != 0;
    // Guests need one identifier, the host has number 0.
    if leaf.edx & NESTED_PAGING_BIT != 0 && !is_disabled && leaf.ebx > 1 {
        let found = Features {
            identifiers: leaf.ebx,
            next_rip: leaf.edx & NEXT_RIP_BIT != 0,
            tsc_aux: general.edx & READ_TSC_AUX_BIT != 0,
        };
        // SAFETY: boot, one CPU.
        unsafe { FEATURES.set(Some(found)) };
    }
}

fn features() -> &'static Features {
    match FEATURES.get() {
        Some(features) => features,
        None => panic!("no SVM on this machine"),
    }
}

/// Whether the machine has SVM.
pub fn is_available() -> bool {
    FEATURES.get().is_some()
}

/// Switches SVM on, on CPU `index`. Whether that worked.
pub fn enable(index: usize) -> bool {
    let save = paging::image_physical(HOST_PAGES[index].save.get() as usize);
    // SAFETY: the CPU has SVM; the page is its own.
    unsafe {
        wrmsr(IA32_EFER, rdmsr(IA32_EFER) | EFER_SVME);
        wrmsr(VM_HSAVE_PA, save);
    }
    true
}

/// Tags that a CPU can tell apart: ASIDs, of which 0 is the host's.
pub fn tag_limit() -> u32 {
    features().identifiers
}

/// Runs the guest of `vcpu` until it exits. `root` is the physical address of its tables.
#[inline(always)]
pub fn run(cpu: &Cpu, vcpu: Ref<Vcpu>, root: u64, tag: TagUse) {
    let v = &vcpu.control;
    let flush = match tag.flush {
        Flush::Nothing => FLUSH_NOTHING,
        Flush::Everything => FLUSH_ALL,
    };
    v.set_word(control::ASID, u64::from(tag.number) | flush);
    v.set_word(control::NESTED_CR3, root);
    let event = vcpu.pending_event.get();
    if v.deliver(event) == Visit::Short {
        // It waits until the guest is entered, and ends that.
        remote::kick(cpu.index.get());
    }
    if event != 0 {
        set_return_address(v, Event::from_word(event));
    }
    exit::load_registers(vcpu);
    vcpu.entered[0].set(v.word(save::RIP));
    vcpu.entered[1].set(v.word(save::RAX));
    let guest = paging::physical_address(core::ptr::from_ref(v) as usize);
    let host = paging::image_physical(HOST_PAGES[cpu.index.get()].vmcb.get() as usize);
    let tsc_aux = vcpu.tsc_aux.get();
    if tsc_aux != 0 {
        set_tsc_aux(tsc_aux);
    }
    // SAFETY: the control block was checked, its maps and tables are the VCPU's own, and every
    // register that the guest changes is saved and restored around it.
    unsafe { svm_run(vcpu.registers.as_ptr(), guest, host) };
    if tsc_aux != 0 {
        set_tsc_aux(0);
    }
    exit::store_registers(vcpu);
}

/// A software interrupt returns to RIP. CPUs that tell the next instruction want it there.
#[cold]
fn set_return_address(v: &Vmcb, event: Event) {
    if features().next_rip && event.kind() == Ok(EventType::SoftwareInterrupt) {
        v.set_word(control::NEXT_RIP, v.word(save::RIP));
    }
}

/// Sets what RDTSCP reads: the guest's, or 0 for everybody else.
#[cold]
fn set_tsc_aux(value: u64) {
    if features().tsc_aux {
        // SAFETY: the CPU has the register, and the value has 32 bits.
        unsafe { wrmsr(IA32_TSC_AUX, value) };
    }
}
