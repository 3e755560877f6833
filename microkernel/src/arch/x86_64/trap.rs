//! Kernel entries: from the stubs in entry.s to the object model and back.
//!
//! Every entry takes the big lock, lets [`Kernel`] do its work and choose a thread, gives the lock
//! up and returns that thread, which the stub goes on with. What another CPU only asks is answered
//! without the lock.

use core::arch::{asm, global_asm};
use core::mem::offset_of;
use core::num::NonZeroUsize;

use sel4_sys::Syscall;

use crate::kernel::Kernel;
use crate::object::{Registers, Tcb, TcbFlags, ThreadState};
use crate::store::Ref;
use crate::time::Entry;
use crate::vcpu;

use super::cpu::{Cpu, this_cpu};
use super::global::kernel;
use super::lock::{self, Acquired};
use super::remote::{self, Question};
use super::{apic, clock, descriptors, guest, paging, panic, thread_state};

/// Interrupt vectors, numbered as seL4 does.
pub mod vector {
    /// Page fault.
    pub const PAGE_FAULT: u64 = 14;
    /// First interrupt; number 0 of the legacy controller.
    pub const FIRST_INTERRUPT: u64 = 0x20;
    /// Last device interrupt: user vector 107.
    pub const LAST_DEVICE: u64 = 155;
    /// Local APIC timer.
    pub const TIMER: u64 = 157;
    /// Another CPU asks something.
    pub const REMOTE: u64 = 158;
    /// Another CPU wants this one to schedule.
    pub const KICK: u64 = 159;
    /// From here on `int` is an unknown system call.
    pub const FIRST_TRAP: u64 = 160;
    /// What a local APIC delivers when an interrupt was withdrawn.
    pub const SPURIOUS: u64 = 255;
}

/// Flags that user code may have set: arithmetic, TF, DF, AC, ID.
const USER_FLAGS: u32 = 0x0024_0dd5;
/// Flags that are always set in user mode: bit 1 and IF.
const FIXED_FLAGS: u32 = 0x202;
/// Bit of a page fault's error code that says it was an instruction fetch.
const FETCH_BIT: u32 = 4;
/// Bytes of `int n` and `syscall`.
const TRAP_BYTES: u64 = 2;

macro_rules! register {
    ($name:ident) => {
        offset_of!(Tcb, registers) + offset_of!(Registers, $name)
    };
}

global_asm!(
    include_str!("entry.s"),
    CPU_USER_RSP = const offset_of!(Cpu, user_rsp),
    CPU_CURRENT = const offset_of!(Cpu, current),
    CPU_HANDLER_STACK = const offset_of!(Cpu, handler_stack),
    RESTART_IP = const offset_of!(Tcb, restart_ip),
    RIP = const register!(rip),
    RSP = const register!(rsp),
    RFLAGS = const register!(rflags),
    RAX = const register!(rax),
    RBX = const register!(rbx),
    RCX = const register!(rcx),
    RDX = const register!(rdx),
    RSI = const register!(rsi),
    RDI = const register!(rdi),
    RBP = const register!(rbp),
    R8 = const register!(r8),
    R9 = const register!(r9),
    R10 = const register!(r10),
    R11 = const register!(r11),
    R12 = const register!(r12),
    R13 = const register!(r13),
    R14 = const register!(r14),
    R15 = const register!(r15),
    USER_CS = const descriptors::USER_CODE,
    USER_SS = const descriptors::USER_DATA,
    USER_FLAGS = const USER_FLAGS,
    FIXED_FLAGS = const FIXED_FLAGS,
    FIRST_INTERRUPT = const vector::FIRST_INTERRUPT,
    SYSCALL = sym handle_syscall,
    CALL = sym handle_call,
    CALL_NUMBER = const Syscall::Call as i64,
    REPLY_RECV = sym handle_reply_receive,
    REPLY_RECV_NUMBER = const Syscall::ReplyRecv as i64,
    TRAP = sym handle_trap,
    FATAL = sym panic::fatal,
);

unsafe extern "C" {
    fn idle_loop(stack: usize) -> !;
    fn exit_to_user();
}

/// A `syscall`: the words in RDI and RSI, and the address of the current TCB.
extern "C" fn handle_syscall(address: u64, info: u64, tcb: NonZeroUsize) -> ! {
    let number = Ref::<Tcb>::from_address(tcb.get()).registers.rdx.get();
    if number == Syscall::SetTlsBase.number() {
        handle_fast(Syscall::SetTlsBase, address, info, tcb)
    }
    if number == Syscall::VMEnter.number() {
        handle_enter(tcb)
    }
    lock::acquire(this_cpu());
    handle_slow_syscall()
}

/// VMEnter. Its thread goes on, in its guest or at once, so there is no other to choose and no time
/// to book: the timer's interrupt does that when the thread's budget is used up. What a choice would
/// look at (a signal, the guest's space, its ports) is looked at by [`vcpu::enter`] and [`guest::run`].
#[inline(never)]
fn handle_enter(tcb: NonZeroUsize) -> ! {
    let cpu = this_cpu();
    if lock::acquire(cpu) == Acquired::AtOnce {
        let tcb = Ref::<Tcb>::from_address(tcb.get());
        let is_foreign = tcb.flags.get().0 & TcbFlags::FOREIGN_SYSCALLS != 0;
        if tcb.vcpu.get().is_some() && !is_foreign {
            vcpu::enter(kernel(), tcb);
            lock::release();
            exit(go_on(cpu, tcb));
        }
    }
    handle_slow_syscall()
}

/// Call; on its own, so that the compiler has registers for all of its short way.
extern "C" fn handle_call(address: u64, info: u64, tcb: NonZeroUsize) -> ! {
    handle_fast(Syscall::Call, address, info, tcb)
}

/// ReplyRecv, likewise.
extern "C" fn handle_reply_receive(address: u64, info: u64, tcb: NonZeroUsize) -> ! {
    handle_fast(Syscall::ReplyRecv, address, info, tcb)
}

/// A system call that has a short way.
#[inline(always)]
fn handle_fast(syscall: Syscall, address: u64, info: u64, tcb: NonZeroUsize) -> ! {
    // After a wait, the thread may be another CPU's by now.
    if lock::acquire(this_cpu()) == Acquired::AtOnce {
        let tcb = Ref::from_address(tcb.get());
        let next = kernel().fast_syscall(tcb, syscall, address, info);
        if let Some(next) = next {
            lock::release();
            exit(next.address());
        }
    }
    handle_slow_syscall()
}

/// Goes to user mode in the thread whose TCB is at `tcb`.
#[inline(always)]
fn exit(tcb: usize) -> ! {
    // SAFETY: the stub takes the TCB in RAX and never returns; the stack is not needed any more.
    unsafe {
        asm!("jmp {}", sym exit_to_user, in("rax") tcb, options(noreturn));
    }
}

/// The ordinary way of a system call. The lock is held. It takes no arguments, so that the short
/// ways need not keep any.
#[inline(never)]
fn handle_slow_syscall() -> ! {
    let (cpu, kernel) = (this_cpu(), kernel());
    if kernel.enter() == Entry::Proceed {
        let registers = &kernel.current().registers;
        // As `syscall` leaves them: a fault handler may look.
        registers.rcx.set(registers.rip.get());
        registers.r11.set(registers.rflags.get());
        kernel.handle_syscall(registers.rdx.get());
    }
    exit(resume(cpu, kernel))
}

/// An exception in user mode, or an interrupt in user mode or while idle.
extern "C" fn handle_trap(number: u64, code: u64, tcb: usize) -> ! {
    let cpu = this_cpu();
    let address = if number == vector::PAGE_FAULT {
        // SAFETY: reading CR2 has no effect.
        unsafe { x86::controlregs::cr2() as u64 }
    } else {
        0
    };
    if is_answered_without_lock(cpu, number) {
        exit(go_on(cpu, Ref::from_address(tcb)));
    }
    lock::acquire(cpu);
    let kernel = kernel();
    let entry = kernel.enter();
    match number {
        vector::FIRST_INTERRUPT..=vector::LAST_DEVICE => {
            kernel.handle_interrupt((number - vector::FIRST_INTERRUPT) as u8);
            apic::end_of_interrupt();
        }
        vector::TIMER => {
            apic::end_of_interrupt();
            kernel.handle_timer_interrupt();
        }
        vector::KICK => {
            apic::end_of_interrupt();
            kernel.handle_kick();
        }
        _ if entry == Entry::Void => {}
        vector::PAGE_FAULT => kernel.handle_page_fault(address, code, code >> FETCH_BIT & 1),
        0..vector::FIRST_INTERRUPT => kernel.handle_exception(number, code),
        vector::FIRST_TRAP.. => handle_software_trap(kernel, number),
        _ => {}
    }
    exit(resume(cpu, kernel))
}

/// Whether this entry is over without the lock: a question of another CPU that needs no choice of
/// thread, a timer that fired early because its counter is short, an interrupt that is none.
fn is_answered_without_lock(cpu: &Cpu, number: u64) -> bool {
    match number {
        vector::REMOTE => {
            apic::end_of_interrupt();
            match remote::answer(cpu) {
                Some(Question::Stall | Question::LeaveGuest) => false,
                _ => !cpu.lost_space.get(),
            }
        }
        vector::TIMER if clock::now() < cpu.deadline.get() => {
            apic::end_of_interrupt();
            clock::set_deadline(cpu.deadline.get());
            true
        }
        vector::SPURIOUS => true,
        _ => false,
    }
}

/// `int n` with a vector that is nobody's: a system call that does not exist, numbered as in seL4.
fn handle_software_trap(kernel: &Kernel, number: u64) {
    let tcb = kernel.current();
    let registers = &tcb.registers;
    registers.rip.set(registers.rip.get() - TRAP_BYTES);
    tcb.restart_ip.set(registers.rip.get());
    kernel.handle_syscall(number << 24 | registers.rax.get() & 0xff_ffff);
}

/// Ends an entry: the thread that runs next, with all its state in place and the lock given up.
#[inline(always)]
fn resume(cpu: &Cpu, kernel: &Kernel) -> usize {
    let next = choose(cpu, kernel);
    go_on(cpu, next)
}

/// Chooses the thread that runs next, brings all its state here and gives the lock up.
#[inline(always)]
pub fn choose(cpu: &Cpu, kernel: &Kernel) -> Ref<Tcb> {
    kernel.leave();
    let current = kernel.current();
    if cpu.lost_space.replace(false) {
        paging::switch_address_space(kernel.space_of(current));
    }
    guest::bring(cpu, current);
    thread_state::switch_thread_state(cpu, current);
    lock::release();
    current
}

/// Where this CPU goes with `tcb`: back to the stub, and for an idle thread nowhere.
#[inline(always)]
fn go_on(cpu: &Cpu, tcb: Ref<Tcb>) -> usize {
    match tcb.state.get() {
        ThreadState::RunningVm | ThreadState::Idle => go_elsewhere(cpu, tcb),
        _ => tcb.address(),
    }
}

/// As [`go_on`], with a thread that is not in user mode.
fn go_elsewhere(cpu: &Cpu, mut tcb: Ref<Tcb>) -> usize {
    while tcb.state.get() == ThreadState::RunningVm {
        match guest::run(cpu, tcb) {
            Some(next) => tcb = next,
            None => return tcb.address(),
        }
    }
    if tcb.state.get() == ThreadState::Idle {
        cpu.current.set(tcb.address());
        // SAFETY: nothing on this stack is needed any more; interrupts start again at its top.
        unsafe { idle_loop(cpu.handler_stack.get()) }
    }
    tcb.address()
}

/// Goes to user mode, or to idling, for the first time on this CPU. The caller holds the lock.
pub fn start(cpu: &Cpu) -> ! {
    exit(resume(cpu, kernel()))
}
