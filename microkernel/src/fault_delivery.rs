//! Faults as messages: to the handler, and back as registers to go on with.

use core::cell::Cell;

use sel4_sys::message::REGISTER_WORDS;
use sel4_sys::{FaultLabel, MessageInfo};

use crate::cap::Cap;
use crate::fault::{Fault, LookupFailure};
use crate::ipc::{Patience, Sending};
use crate::kernel::Kernel;
use crate::object::{BufferUse, Registers, Tcb, TcbSlot, ThreadState};
use crate::store::{IpcBuffer, Ref};

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

/// Words of a lookup failure as errors and capability faults report them.
pub struct FailureWords {
    words: [u64; 4],
    length: usize,
}

impl FailureWords {
    /// Type, bits left, bits or guard found, guard bits: as many as the type has.
    #[must_use]
    pub const fn new(failure: LookupFailure) -> Self {
        match failure {
            LookupFailure::InvalidRoot => Self {
                words: [1, 0, 0, 0],
                length: 1,
            },
            LookupFailure::MissingCapability { bits_left } => Self {
                words: [2, bits_left as u64, 0, 0],
                length: 2,
            },
            LookupFailure::DepthMismatch {
                bits_left,
                bits_found,
            } => Self {
                words: [3, bits_left as u64, bits_found as u64, 0],
                length: 3,
            },
            LookupFailure::GuardMismatch {
                bits_left,
                guard_found,
                guard_bits,
            } => Self {
                words: [4, bits_left as u64, guard_found, guard_bits as u64],
                length: 4,
            },
        }
    }

    /// The words.
    #[must_use]
    pub fn as_slice(&self) -> &[u64] {
        &self.words[..self.length]
    }
}

/// Writes message words into registers and buffer; how many found room.
pub fn write_words(
    tcb: Ref<Tcb>,
    buffer: Option<Ref<IpcBuffer>>,
    words: impl IntoIterator<Item = u64>,
) -> usize {
    let mut count = 0;
    for (index, word) in words.into_iter().enumerate() {
        match (tcb.registers.message().get(index), buffer) {
            (Some(register), _) => register.set(word),
            (None, Some(buffer)) => buffer.word(1 + index).set(word),
            (None, None) => return count,
        }
        count = index + 1;
    }
    count
}

/// Reads message word `index` of `tcb`.
fn read_word(tcb: Ref<Tcb>, buffer: Option<Ref<IpcBuffer>>, index: usize) -> Option<u64> {
    match tcb.registers.message().get(index) {
        Some(register) => Some(register.get()),
        None => buffer.map(|b| b.word(1 + index).get()),
    }
}

/// The registers of an UnknownSyscall message after RAX..R15, without the instruction pointer.
fn syscall_registers(r: &Registers) -> [&Cell<u64>; 15] {
    [
        &r.rax, &r.rbx, &r.rcx, &r.rdx, &r.rsi, &r.rdi, &r.rbp, &r.r8, &r.r9, &r.r10, &r.r11,
        &r.r12, &r.r13, &r.r14, &r.r15,
    ]
}

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
        let Cap::Endpoint(cap) = tcb.slot(slot).cap() else {
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
    pub(crate) fn write_fault(
        &self,
        sender: Ref<Tcb>,
        receiver: Ref<Tcb>,
        buffer: Option<Ref<IpcBuffer>>,
    ) -> MessageInfo {
        let r = &sender.registers;
        let ip = sender.restart_ip.get();
        let put = |words: &[u64]| write_words(receiver, buffer, words.iter().copied());
        let (label, length) = match sender.fault.get() {
            Fault::Null => (FaultLabel::NullFault, 0),
            Fault::Capability {
                address,
                in_receive_phase,
                failure,
            } => {
                let details = FailureWords::new(failure);
                let head = [ip, address, in_receive_phase];
                let words = head.iter().chain(details.as_slice()).copied();
                (FaultLabel::CapFault, write_words(receiver, buffer, words))
            }
            Fault::UnknownSyscall { number } => {
                let general = syscall_registers(r).map(Cell::get);
                let tail = [ip, r.rsp.get(), r.rflags.get(), number];
                let words = general.into_iter().chain(tail);
                (
                    FaultLabel::UnknownSyscall,
                    write_words(receiver, buffer, words),
                )
            }
            Fault::UserException { number, code } => (
                FaultLabel::UserException,
                put(&[ip, r.rsp.get(), r.rflags.get(), number, code]),
            ),
            Fault::Timeout { badge } => {
                (FaultLabel::Timeout, self.write_timeout(sender, badge, put))
            }
            Fault::VirtualMemory {
                address,
                code,
                is_fetch,
            } => (FaultLabel::VmFault, put(&[ip, address, is_fetch, code])),
        };
        MessageInfo::new(label.number(), length, 0)
    }

    fn write_timeout(&self, sender: Ref<Tcb>, badge: u64, put: impl Fn(&[u64]) -> usize) -> usize {
        match sender.sched_context.get() {
            Some(context) => put(&[badge, self.take_consumed_us(context)]),
            None => put(&[badge]),
        }
    }

    /// Applies the message of `handler` to the faulted `tcb`; the state that it goes on in.
    pub(crate) fn take_fault_reply(&self, tcb: Ref<Tcb>, handler: Ref<Tcb>) -> ThreadState {
        let info = MessageInfo::from_word(handler.registers.rsi.get());
        let buffer = handler.ipc_buffer(BufferUse::Send);
        let r = &tcb.registers;
        let ip = &tcb.restart_ip;
        let general = syscall_registers(r);
        let mut index = 0;
        let mut take = |register: &Cell<u64>| {
            if index < info.length()
                && let Some(word) = read_word(handler, buffer, index)
            {
                register.set(word);
            }
            index += 1;
        };
        match tcb.fault.get() {
            Fault::UnknownSyscall { .. } => {
                general
                    .into_iter()
                    .chain([ip, &r.rsp, &r.rflags])
                    .for_each(&mut take);
            }
            Fault::UserException { .. } => {
                [ip, &r.rsp, &r.rflags].into_iter().for_each(&mut take);
            }
            Fault::Timeout { .. } => {
                let head = [ip, &r.rsp, &r.rflags].into_iter();
                head.chain(general).chain([&r.fs_base]).for_each(&mut take);
            }
            _ => return ThreadState::Restart,
        }
        ip.set(canonical(ip.get()));
        r.rflags.set(sanitised_flags(r.rflags.get()));
        r.fs_base.set(canonical(r.fs_base.get()));
        if info.label() == 0 {
            ThreadState::Restart
        } else {
            ThreadState::Inactive
        }
    }
}
