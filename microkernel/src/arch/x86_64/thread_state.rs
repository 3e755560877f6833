//! Thread state that is not in the general registers: the x87, SSE and AVX registers, and the FS
//! and GS bases.
//!
//! Extended state is saved whenever a CPU goes from one thread to another, so what is not running
//! is in memory. It is loaded only if the registers do not hold it still: a CPU that went idle, or
//! to a thread without extended state, and back, loads nothing.
//!
//! The bases are changed by the kernel alone (CR4.FSGSBASE is off), except that a user's load of
//! the FS or GS selector makes a base 0. So a base is written at every switch, unless both
//! threads have 0.

use core::arch::asm;
use core::cell::Cell;

use x86::controlregs::{Cr0, cr0, cr0_write};
use x86::msr::{IA32_FS_BASE, IA32_KERNEL_GSBASE};

use crate::arch::SpaceWord;
use crate::object::{Tcb, TcbFlags, ThreadState};
use crate::store::Ref;

use super::cpu::{CPUS, Cpu, this_cpu};
use super::features::{SaveInstruction, features};
use super::paging::switch_address_space;
use super::remote;

/// Whose extended state is in a CPU's registers.
pub struct FpuUse {
    /// The thread whose state it is.
    owner: Cell<Option<Ref<Tcb>>>,
    phase: Cell<Phase>,
}

/// What the CPU may do with the registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody uses them; they equal the owner's memory.
    Unused,
    /// The owner runs and may be changing them: its memory is behind.
    Live,
    /// As `Unused`, and any use is an exception (CR0.TS): a thread without extended state runs.
    Withheld,
}

/// The segment bases that a CPU has loaded.
pub struct Bases {
    /// Address of the thread that they were loaded for.
    thread: Cell<usize>,
    fs: Cell<u64>,
    gs: Cell<u64>,
}

impl FpuUse {
    pub const fn new() -> Self {
        Self {
            owner: Cell::new(None),
            phase: Cell::new(Phase::Unused),
        }
    }

    /// The thread whose memory is behind the registers.
    fn live(&self) -> Option<Ref<Tcb>> {
        self.owner.get().filter(|_| self.phase.get() == Phase::Live)
    }
}

impl Bases {
    pub const fn new() -> Self {
        Self {
            thread: Cell::new(0),
            fs: Cell::new(0),
            gs: Cell::new(0),
        }
    }

    /// The FS base, as it was loaded.
    pub fn fs(&self) -> u64 {
        self.fs.get()
    }

    /// The user's GS base, as it was loaded.
    pub fn gs(&self) -> u64 {
        self.gs.get()
    }
}

/// Makes this CPU's registers hold what `to` needs beside its general registers. Does nothing if
/// they do already.
#[inline(always)]
pub fn switch_thread_state(cpu: &Cpu, to: Ref<Tcb>) {
    switch_fpu(cpu, to);
    switch_bases(&cpu.bases, to);
}

/// Whether [`hop`] can switch to `to`: a user's GS base, which few threads have, takes the ordinary
/// way.
#[inline(always)]
pub fn can_hop(to: Ref<Tcb>) -> bool {
    to.registers.gs_base.get() | this_cpu().bases.gs.get() == 0
}

/// Makes this CPU's registers and address space those of `to`, another thread than the one that
/// they belong to.
#[inline(always)]
pub fn hop(to: Ref<Tcb>, space: SpaceWord) {
    let cpu = this_cpu();
    switch_address_space(Some(space));
    switch_fpu(cpu, to);
    cpu.bases.thread.set(to.address());
    load_fs_base(to);
}

/// Makes `tcb`, which this CPU runs, have its FS base at once.
#[inline(always)]
pub fn load_fs_base(tcb: Ref<Tcb>) {
    let fs = tcb.registers.fs_base.get();
    this_cpu().bases.fs.set(fs);
    // SAFETY: a canonical address, as everyone who sets it sees to; the kernel does not use FS.
    unsafe { write_msr(IA32_FS_BASE, fs) };
}

/// Writes an MSR, in no more instructions than it takes.
///
/// # Safety
/// As the MSR demands.
#[inline(always)]
unsafe fn write_msr(number: u32, value: u64) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("wrmsr", in("ecx") number, in("eax") value as u32, in("edx") (value >> 32) as u32,
            options(nostack, preserves_flags));
    }
}

#[inline(always)]
fn is_withheld_from(tcb: Ref<Tcb>) -> bool {
    tcb.flags.get().0 & TcbFlags::FPU_DISABLED != 0
}

#[inline(always)]
fn switch_fpu(cpu: &Cpu, to: Ref<Tcb>) {
    let fpu = &cpu.fpu;
    let phase = fpu.phase.get();
    if phase == Phase::Live
        && let Some(owner) = fpu.owner.get()
    {
        if owner == to {
            return;
        }
        save_area(owner);
        if !is_withheld_from(to) {
            restore_area(to);
            fpu.owner.set(Some(to));
            return;
        }
        fpu.phase.set(Phase::Unused);
    } else if phase == Phase::Withheld && is_withheld_from(to) {
        return;
    }
    begin_use(cpu, to);
}

/// Gives the registers, which nobody uses, to `to`, or withholds them from it. An idle thread
/// uses none anyway.
#[inline(never)]
fn begin_use(cpu: &Cpu, to: Ref<Tcb>) {
    let fpu = &cpu.fpu;
    if to.state.get() == ThreadState::Idle {
        return;
    }
    if is_withheld_from(to) {
        if fpu.phase.replace(Phase::Withheld) != Phase::Withheld {
            // SAFETY: TS only makes extended instructions fault; the kernel uses none.
            unsafe { cr0_write(cr0() | Cr0::CR0_TASK_SWITCHED) };
        }
        return;
    }
    release(fpu);
    if fpu.owner.get() != Some(to) {
        restore_area(to);
        fpu.owner.set(Some(to));
    }
    fpu.phase.set(Phase::Live);
}

fn release(fpu: &FpuUse) {
    if fpu.phase.replace(Phase::Unused) == Phase::Withheld {
        // SAFETY: clears TS and nothing else.
        unsafe { asm!("clts", options(nomem, nostack, preserves_flags)) };
    }
}

/// Brings the memory of the thread that runs on this CPU up to date. Called on that CPU, with the
/// lock or while another CPU, which has it, waits for the answer.
pub fn save(cpu: &Cpu) {
    if let Some(tcb) = cpu.fpu.live() {
        save_area(tcb);
        cpu.fpu.phase.set(Phase::Unused);
    }
}

#[inline(always)]
fn save_area(tcb: Ref<Tcb>) {
    let area = tcb.fpu.0.as_ptr();
    let features = features();
    let components = features.xcr0 as u32;
    // SAFETY: the area is the thread's own, 64-byte aligned and as large as the components that
    // XCR0 enables, all below bit 32; TS is clear, because the thread is live.
    unsafe {
        match features.save {
            SaveInstruction::Xsaveopt => {
                asm!("xsaveopt64 [{}]", in(reg) area, in("eax") components, in("edx") 0,
                    options(nostack, preserves_flags));
            }
            SaveInstruction::Xsave => {
                asm!("xsave64 [{}]", in(reg) area, in("eax") components, in("edx") 0,
                    options(nostack, preserves_flags));
            }
            SaveInstruction::Fxsave => {
                asm!("fxsave64 [{}]", in(reg) area, options(nostack, preserves_flags));
            }
        }
    }
}

#[inline(always)]
fn restore_area(tcb: Ref<Tcb>) {
    let area = tcb.fpu.0.as_ptr();
    let components = features().xcr0 as u32;
    // SAFETY: as above; the area was written by `initialise_thread_state` or by `save_area`, and
    // nobody else writes it, so its header and MXCSR are valid.
    unsafe {
        if components != 0 {
            asm!("xrstor64 [{}]", in(reg) area, in("eax") components, in("edx") 0,
                options(nostack, preserves_flags, readonly));
        } else {
            asm!("fxrstor64 [{}]", in(reg) area, options(nostack, preserves_flags, readonly));
        }
    }
}

#[inline(always)]
fn switch_bases(loaded: &Bases, to: Ref<Tcb>) {
    let (fs, gs) = (to.registers.fs_base.get(), to.registers.gs_base.get());
    let same_thread = loaded.thread.replace(to.address()) == to.address();
    let old_fs = loaded.fs.replace(fs);
    if fs != old_fs || (fs != 0 && !same_thread) {
        // SAFETY: a canonical address; the kernel does not use FS.
        unsafe { write_msr(IA32_FS_BASE, fs) };
    }
    let old_gs = loaded.gs.replace(gs);
    if gs != old_gs || (gs != 0 && !same_thread) {
        // SAFETY: a canonical address; the user's base becomes active at `swapgs` only.
        unsafe { write_msr(IA32_KERNEL_GSBASE, gs) };
    }
}

/// Brings the memory image of `tcb`'s extended state up to date, wherever it runs, and makes every
/// CPU load it from there the next time.
pub fn flush_thread_state(tcb: Ref<Tcb>) {
    let me = this_cpu();
    for cpu in &CPUS {
        if cpu.fpu.live() == Some(tcb) {
            if core::ptr::eq(cpu, me) {
                save(cpu);
            } else {
                remote::stall(cpu.index.get());
            }
        }
        forget(cpu, tcb);
    }
}

/// Sets `tcb`'s extended state to that of a fresh thread.
pub fn initialise_thread_state(tcb: Ref<Tcb>) {
    tcb.fpu.reset();
    // An earlier thread may have had this address.
    CPUS.iter().for_each(|cpu| forget(cpu, tcb));
}

/// The registers are about to hold a guest's extended state: the thread's is saved, and nobody's is
/// loaded.
#[inline(always)]
pub fn lend_fpu(cpu: &Cpu) {
    save(cpu);
    release(&cpu.fpu);
    cpu.fpu.owner.set(None);
}

fn forget(cpu: &Cpu, tcb: Ref<Tcb>) {
    if cpu.fpu.owner.get() == Some(tcb) {
        cpu.fpu.owner.set(None);
    }
    if cpu.bases.thread.get() == tcb.address() {
        cpu.bases.thread.set(0);
    }
}
