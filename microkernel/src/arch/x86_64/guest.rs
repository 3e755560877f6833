//! Guests: what a CPU does while a thread is inside VMEnter.
//!
//! The guest runs with the big lock given up, like user code. An interrupt of the host ends it and
//! is taken as if it had come in the idle loop; the guest goes on when its thread is chosen again.
//! Any other exit becomes a record for the thread, which goes on in user mode.

use core::arch::asm;
use core::cell::Cell;
use core::sync::atomic::{AtomicU64, Ordering};

use x86::controlregs::{Xcr0, xcr0, xcr0_write};

use crate::boot::Virtualisation;
use crate::object::{Tcb, ThreadState};
use crate::store::Ref;
use crate::time::Entry;
use crate::vcpu::control::Control;
use crate::vcpu::exit::{self, Cause, Exit};
use crate::vcpu::svm::Svm;
use crate::vcpu::vmx::Vmx;
use crate::vcpu::{self, Vcpu};

use super::cpu::Cpu;
use super::features::features;
use super::global::{SetAtBoot, kernel};
use super::lock::{self, Acquired};
use super::remote::{self, Question};
use super::tlb::Stale;
use super::{paging, svm, thread_state, tlb, trap, vmx};

/// Tags that one CPU gives its guests.
pub struct Tags {
    /// How often it began anew; a VCPU's tag is good in its own epoch only.
    epoch: Cell<u64>,
    /// The next tag of this epoch.
    next: Cell<u32>,
    /// The stale-translation count that it saw at its last entry.
    generation: Cell<u64>,
    /// The tag of the latest entry; 0 if that was in an older epoch.
    latest: Cell<u32>,
}

impl Tags {
    pub const fn new() -> Self {
        Self {
            epoch: Cell::new(1),
            next: Cell::new(1),
            generation: Cell::new(0),
            latest: Cell::new(0),
        }
    }
}

/// What must be forgotten before an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flush {
    /// Nothing.
    Nothing,
    /// All translations of all guests.
    Everything,
}

/// The tag of one entry.
#[derive(Clone, Copy, Debug)]
pub struct TagUse {
    /// The tag, at least 1.
    pub number: u32,
    /// What to do first.
    pub flush: Flush,
}

static VIRTUALISATION: SetAtBoot<Virtualisation> = SetAtBoot::new(Virtualisation::None);
/// Tags are below this.
static TAG_LIMIT: SetAtBoot<u32> = SetAtBoot::new(2);

/// Finds out what this machine offers. For the first CPU.
pub fn find() {
    svm::find();
    vmx::find();
    let (found, limit) = if svm::is_available() {
        (Virtualisation::Svm, svm::tag_limit())
    } else if vmx::is_available() {
        (Virtualisation::Vmx, vmx::tag_limit())
    } else {
        (Virtualisation::None, 2)
    };
    // SAFETY: boot, one CPU.
    unsafe {
        VIRTUALISATION.set(found);
        TAG_LIMIT.set(limit);
    }
}

/// Switches it on, on this CPU.
pub fn enable(cpu: &Cpu) {
    let index = cpu.index.get();
    cpu.runs_guests.set(match virtualisation() {
        Virtualisation::None => false,
        Virtualisation::Svm => svm::enable(index),
        Virtualisation::Vmx => vmx::enable(index),
    });
}

/// What runs guests here.
#[inline(always)]
#[must_use]
pub fn virtualisation() -> Virtualisation {
    *VIRTUALISATION.get()
}

/// What BootInfo says: what the first CPU could be made to run.
pub fn offered() -> Virtualisation {
    if can_run_guests() {
        virtualisation()
    } else {
        Virtualisation::None
    }
}

/// Whether guests can run on this CPU.
#[inline(always)]
#[must_use]
pub fn can_run_guests() -> bool {
    super::cpu::this_cpu().runs_guests.get()
}

/// Port capabilities removed since boot, plus one.
static REMOVED_PORTS: AtomicU64 = AtomicU64::new(1);

/// Port capabilities that were removed since boot, plus one.
#[inline(always)]
#[must_use]
pub fn removed_ports() -> u64 {
    REMOVED_PORTS.load(Ordering::Acquire)
}

/// A port capability was removed: guests that may have used it are stopped and find out.
pub fn note_removed_port() {
    REMOVED_PORTS.fetch_add(1, Ordering::AcqRel);
    if virtualisation() != Virtualisation::None {
        remote::ask_others(Question::LeaveGuest, Stale::default(), |_| true);
    }
}

/// A VCPU goes: no CPU may hold anything of it.
pub fn forget_vcpu(vcpu: Ref<Vcpu>) {
    if virtualisation() == Virtualisation::Vmx {
        vmx::forget(vcpu);
    }
}

/// The thread that this CPU has chosen is in a guest: brings the guest here while the lock is held.
#[inline(always)]
pub fn bring(cpu: &Cpu, tcb: Ref<Tcb>) {
    if tcb.state.get() == ThreadState::RunningVm
        && let Some(vcpu) = tcb.vcpu.get()
    {
        if !cpu.runs_guests.get() {
            return vcpu::lose_guest_space(tcb);
        }
        vcpu.refresh_ports();
        if virtualisation() == Virtualisation::Vmx {
            vmx::claim_vmcs(vcpu);
        }
    }
}

/// Runs the guest of `tcb`, which this CPU chose, until a thread goes on in user mode: `tcb`, or
/// another one that the kernel had to choose. Returns the latter.
pub fn run(cpu: &Cpu, tcb: Ref<Tcb>) -> Option<Ref<Tcb>> {
    cpu.current.set(tcb.address());
    while tcb.state.get() == ThreadState::RunningVm {
        let Some(vcpu) = tcb.vcpu.get() else { break };
        // Whoever takes the address space away does so first and then waits until this CPU has
        // answered an interrupt, which ends the guest before its first instruction.
        let Some(root) = vcpu.guest_space(kernel()) else {
            vcpu::lose_guest_space(tcb);
            break;
        };
        let root = paging::physical_address(root.address());
        thread_state::lend_fpu(cpu);
        let next = match virtualisation() {
            Virtualisation::Vmx => run_vmx(cpu, tcb, vcpu, root),
            _ => run_svm(cpu, tcb, vcpu, root),
        };
        if next.is_some() {
            return next;
        }
    }
    thread_state::switch_thread_state(cpu, tcb);
    None
}

#[inline(always)]
fn run_svm(cpu: &Cpu, tcb: Ref<Tcb>, vcpu: Ref<Vcpu>, root: u64) -> Option<Ref<Tcb>> {
    let tag = take_tag(&cpu.tags, cpu.index.get() as u32, vcpu);
    if cpu.tags.latest.replace(tag.number) != tag.number {
        clear_unsaved_components();
    }
    load_extended(vcpu);
    svm::run(cpu, vcpu, root, tag);
    store_extended(vcpu);
    handle(cpu, tcb, Svm(vcpu), vcpu, vcpu::svm::exit::decode(vcpu))
}

#[inline(always)]
fn run_vmx(cpu: &Cpu, tcb: Ref<Tcb>, vcpu: Ref<Vcpu>, root: u64) -> Option<Ref<Tcb>> {
    let tag = take_tag(&cpu.tags, cpu.index.get() as u32, vcpu);
    if cpu.tags.latest.replace(tag.number) != tag.number {
        clear_unsaved_components();
    }
    load_extended(vcpu);
    let entered = vmx::run(cpu, vcpu, root, tag);
    store_extended(vcpu);
    let control = Vmx(vcpu);
    let cause = vcpu::vmx::exit::decode(control, entered);
    handle(cpu, tcb, control, vcpu, cause)
}

/// Deals with an exit. Returns the thread to go on with, if the kernel had to choose.
#[inline(always)]
fn handle(
    cpu: &Cpu,
    tcb: Ref<Tcb>,
    control: impl Control,
    vcpu: Ref<Vcpu>,
    cause: Cause,
) -> Option<Ref<Tcb>> {
    match cause {
        Cause::HostInterrupt => take_interrupts(),
        Cause::HostNmi => take_nmi(),
        Cause::Again => {}
        Cause::Monitor(exit) => return report(cpu, tcb, control, vcpu, exit),
    }
    None
}

/// Writes the record. That touches memory which other CPUs may be about to take away, so it needs
/// the lock; if we had to wait, the thread may not be ours any more, and if it is stopped its guest
/// exits once more when it goes on.
#[inline(always)]
fn report(
    cpu: &Cpu,
    tcb: Ref<Tcb>,
    control: impl Control,
    vcpu: Ref<Vcpu>,
    exit: Exit,
) -> Option<Ref<Tcb>> {
    let state = control.state();
    if lock::acquire(cpu) == Acquired::AtOnce {
        exit::report(vcpu, tcb, exit, &state);
        lock::release();
        return None;
    }
    let kernel = kernel();
    if kernel.enter() == Entry::Proceed && tcb.state.get() == ThreadState::RunningVm {
        exit::report(vcpu, tcb, exit, &state);
    }
    Some(trap::choose(cpu, kernel))
}

/// Takes what is pending. A real interrupt does not come back here: it goes through the kernel
/// and starts again at the top of the stack.
fn take_interrupts() {
    // SAFETY: interrupts in the kernel are entered as from the idle loop: nothing on this stack is
    // needed, all state is in the TCB and the VCPU.
    unsafe { asm!("sti", "nop", "cli", options(nostack)) };
}

/// The exit took an interrupt that its handler has not seen. Its return lets the next one come.
#[cold]
fn take_nmi() {
    // SAFETY: the handler has a stack of its own and returns.
    unsafe { asm!("int 2", options(nostack)) };
}

/// The tag of `vcpu` on this CPU. A VCPU without one gets a new one, under which nothing can be
/// cached; when there are none left, or guest memory was taken away somewhere, all begins anew.
#[inline(always)]
fn take_tag(tags: &Tags, here: u32, vcpu: Ref<Vcpu>) -> TagUse {
    let generation = tlb::guest_generation();
    let tag = &vcpu.tag;
    let is_stale = tags.generation.get() != generation;
    if !is_stale && tag.cpu.get() == here && tag.epoch.get() == tags.epoch.get() {
        return TagUse {
            number: tag.number.get(),
            flush: Flush::Nothing,
        };
    }
    let mut flush = Flush::Nothing;
    if is_stale || tags.next.get() >= *TAG_LIMIT.get() {
        tags.generation.set(generation);
        tags.epoch.set(tags.epoch.get() + 1);
        tags.next.set(1);
        tags.latest.set(0);
        flush = Flush::Everything;
    }
    let number = tags.next.get();
    tags.next.set(number + 1);
    tag.number.set(number);
    tag.cpu.set(here);
    tag.epoch.set(tags.epoch.get());
    TagUse { number, flush }
}

/// An XSAVE area that says that all is in its initial state.
#[repr(align(64))]
struct InitialArea([u8; 576]);

static INITIAL_AREA: InitialArea = InitialArea([0; 576]);

/// Another guest than the latest one runs now: it shall not find that one's registers of components
/// that are not saved. No guest is offered those, but some CPUs let it use them without an exit.
#[cold]
fn clear_unsaved_components() {
    let (saved, unsaved) = (features().xcr0, features().unsaved_components);
    if unsaved == 0 {
        return;
    }
    // SAFETY: CPUID offers all these components; the area is aligned, and for components in their
    // initial state only its header is read. XCR0 is again what `load_extended` expects.
    unsafe {
        xcr0_write(Xcr0::from_bits_unchecked(saved | unsaved));
        asm!("xrstor64 [{}]", in(reg) &raw const INITIAL_AREA.0, in("eax") unsaved as u32,
            in("edx") (unsaved >> 32) as u32, options(nostack, readonly));
        xcr0_write(Xcr0::from_bits_truncate(saved));
    }
}

/// Puts the guest's extended state into the registers. The thread's own was saved.
#[inline(always)]
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
    if vcpu.has_breakpoints.get() {
        load_breakpoints(vcpu);
    }
}

/// Saves the guest's extended state. Some CPUs let a guest write XCR0 without an exit.
#[inline(always)]
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

/// Puts the addresses of the guest's breakpoints into the registers. Exits switch them off (DR7),
/// so whose addresses are there afterwards is nothing that anybody sees.
#[cold]
fn load_breakpoints(vcpu: Ref<Vcpu>) {
    let [a, b, c, d] = [0, 1, 2, 3].map(|index| vcpu.debug_registers[index].get());
    // SAFETY: addresses without a breakpoint switched on mean nothing.
    unsafe {
        asm!("mov dr0, {}", "mov dr1, {}", "mov dr2, {}", "mov dr3, {}",
            in(reg) a, in(reg) b, in(reg) c, in(reg) d, options(nomem, nostack));
    }
}
