//! Faults as messages: to the handler, and back as registers to go on with.

use core::cell::Cell;

use sel4_sys::message::REGISTER_WORDS;
use sel4_sys::{FaultLabel, MessageInfo};

use crate::fault::{Fault, LookupFailure};
use crate::ipc::{Patience, Sending};
use crate::kernel::Kernel;
use crate::object::{BufferUse, Registers, Tcb, TcbSlot, ThreadState};
use crate::store::Ref;

/// RFLAGS bits that user code may set: arithmetic, trap, direction, alignment check, identification.
const USER_FLAGS: u64 = 0x0024_0dd5 | 1 << 10;
/// RFLAGS bits that are always set for user code: reserved bit 1 and interrupts.
const FIXED_FLAGS: u64 = 0x202;

/// RFLAGS as user code may have them.
#[must_use]
pub const fn sanitised_flags(flags: u64) -> u64 {
    flags & USER_FLAGS | FIXED_FLAGS
}

/// An instruction pointer or segment base as user code may have it: a canonical address of the lower
/// half; others are cut to one. The CPU faults in the kernel when it is to load anything else.
#[must_use]
pub const fn canonical(address: u64) -> u64 {
    address & 0x0000_7fff_ffff_ffff
}

/// Words of a lookup failure as errors and capability faults report them: type, bits left, bits or
/// guard found, guard bits, and how many of these the type has.
#[must_use]
pub const fn failure_words(failure: LookupFailure) -> ([u64; 4], usize) {
    match failure {
        LookupFailure::InvalidRoot => ([1, 0, 0, 0], 1),
        LookupFailure::MissingCapability { bits_left } => ([2, bits_left as u64, 0, 0], 2),
        LookupFailure::DepthMismatch {
            bits_left,
            bits_found,
        } => ([3, bits_left as u64, bits_found as u64, 0], 3),
        LookupFailure::GuardMismatch {
            bits_left,
            guard_found,
            guard_bits,
        } => ([4, bits_left as u64, guard_found, guard_bits as u64], 4),
    }
}

/// Writes message words into registers and buffer; how many found room.
pub fn write_words(tcb: Ref<Tcb>, words: &[u64]) -> usize {
    for (register, word) in tcb.registers.message().into_iter().zip(words) {
        register.set(*word);
    }
    if words.len() <= REGISTER_WORDS {
        return words.len();
    }
    let Some(buffer) = tcb.ipc_buffer(BufferUse::Receive) else {
        return REGISTER_WORDS;
    };
    for (index, word) in words.iter().enumerate().skip(REGISTER_WORDS) {
        buffer.word(1 + index).set(*word);
    }
    words.len()
}

/// Sets `registers` to the words of the message of `tcb` from number `start` on, as far as it has any.
fn take_words(tcb: Ref<Tcb>, start: usize, registers: &[&Cell<u64>]) {
    let length = MessageInfo::from_word(tcb.registers.rsi.get()).length();
    let buffer = if length > REGISTER_WORDS {
        tcb.ipc_buffer(BufferUse::Send)
    } else {
        None
    };
    for (index, register) in (start..length).zip(registers) {
        match (tcb.registers.message().get(index), buffer) {
            (Some(word), _) => register.set(word.get()),
            (None, Some(buffer)) => register.set(buffer.word(1 + index).get()),
            (None, None) => return,
        }
    }
}

/// The registers of an UnknownSyscall message after RAX..R15, without the instruction pointer.
fn syscall_registers(r: &Registers) -> [&Cell<u64>; SYSCALL_REGISTERS] {
    [
        &r.rax, &r.rbx, &r.rcx, &r.rdx, &r.rsi, &r.rdi, &r.rbp, &r.r8, &r.r9, &r.r10, &r.r11,
        &r.r12, &r.r13, &r.r14, &r.r15,
    ]
}

const SYSCALL_REGISTERS: usize = 15;
const _: () = assert!(REGISTER_WORDS == 4);

impl Kernel {
    /// Delivers a fault of `tcb` to its handler; without one the thread stops.
    pub fn handle_fault(&self, tcb: Ref<Tcb>, fault: Fault) {
        let can_donate = tcb.sched_context.get().is_some();
        if !self.send_fault(tcb, fault, TcbSlot::FaultHandler, can_donate) {
            crate::debug::unhandled_fault(tcb, fault);
            self.set_thread_state(tcb, ThreadState::Inactive);
        }
    }

    /// Delivers a timeout of `tcb` to its timeout handler, which exists.
    pub fn handle_timeout(&self, tcb: Ref<Tcb>, fault: Fault) {
        self.send_fault(tcb, fault, TcbSlot::TimeoutHandler, false);
    }

    fn send_fault(&self, tcb: Ref<Tcb>, fault: Fault, slot: TcbSlot, can_donate: bool) -> bool {
        let Some(cap) = tcb.slot(slot).raw().endpoint() else {
            return false;
        };
        tcb.fault.set(fault);
        let how = Sending {
            patience: Patience::Blocking,
            is_call: false,
            can_donate,
        };
        self.send_ipc(tcb, cap, how);
        true
    }

    /// Writes the fault of `sender` as a message to `receiver`.
    #[inline(never)]
    pub(crate) fn write_fault(&self, sender: Ref<Tcb>, receiver: Ref<Tcb>) -> MessageInfo {
        let r = &sender.registers;
        let (ip, rsp, rflags) = (sender.restart_ip.get(), r.rsp.get(), r.rflags.get());
        let put = |label: FaultLabel, words: &[u64]| {
            MessageInfo::new(label.number(), write_words(receiver, words), 0)
        };
        match sender.fault.get() {
            Fault::Null => put(FaultLabel::NullFault, &[]),
            Fault::Capability {
                address,
                in_receive_phase,
                failure,
            } => {
                let ([a, b, c, d], length) = failure_words(failure);
                let words = [ip, address, in_receive_phase, a, b, c, d];
                put(FaultLabel::CapFault, &words[..3 + length])
            }
            Fault::UnknownSyscall { number } => {
                let mut words = [0; SYSCALL_REGISTERS + 4];
                for (word, register) in words.iter_mut().zip(syscall_registers(r)) {
                    *word = register.get();
                }
                words[SYSCALL_REGISTERS..].copy_from_slice(&[ip, rsp, rflags, number]);
                put(FaultLabel::UnknownSyscall, &words)
            }
            Fault::UserException { number, code } => {
                put(FaultLabel::UserException, &[ip, rsp, rflags, number, code])
            }
            Fault::Timeout { badge } => match sender.sched_context.get() {
                Some(context) => put(
                    FaultLabel::Timeout,
                    &[badge, self.take_consumed_us(context)],
                ),
                None => put(FaultLabel::Timeout, &[badge]),
            },
            Fault::VirtualMemory {
                address,
                code,
                is_fetch,
            } => put(FaultLabel::VmFault, &[ip, address, is_fetch, code]),
        }
    }

    /// Applies the message of `handler` to the faulted `tcb`; the state that it goes on in.
    pub(crate) fn take_fault_reply(&self, tcb: Ref<Tcb>, handler: Ref<Tcb>) -> ThreadState {
        let r = &tcb.registers;
        let ip = &tcb.restart_ip;
        let special = [ip, &r.rsp, &r.rflags];
        match tcb.fault.get() {
            Fault::UnknownSyscall { .. } => {
                take_words(handler, 0, &syscall_registers(r));
                take_words(handler, SYSCALL_REGISTERS, &special);
            }
            Fault::UserException { .. } => take_words(handler, 0, &special),
            Fault::Timeout { .. } => {
                take_words(handler, 0, &special);
                take_words(handler, special.len(), &syscall_registers(r));
                take_words(handler, special.len() + SYSCALL_REGISTERS, &[&r.fs_base]);
            }
            _ => return ThreadState::Restart,
        }
        ip.set(canonical(ip.get()));
        r.rflags.set(sanitised_flags(r.rflags.get()));
        r.fs_base.set(canonical(r.fs_base.get()));
        if MessageInfo::from_word(handler.registers.rsi.get()).label() == 0 {
            ThreadState::Restart
        } else {
            ThreadState::Inactive
        }
    }
}
