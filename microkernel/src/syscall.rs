//! System calls and the other kernel entries: what each does, phase by phase.

use sel4_sys::{MessageInfo, Syscall};

use crate::arch;
use crate::cap::{Cap, RawCap, Rights, tag};
use crate::fault::{Fault, LookupFailure, SyscallError};
use crate::fault_delivery::canonical;
use crate::invocation::{self, Answer, Arguments, Refusal};
use crate::ipc::{self, ExtraSlots, Patience, Sending};
use crate::kernel::Kernel;
use crate::lookup;
use crate::object::{BufferUse, Slot, Tcb, TcbFlags, ThreadState};
use crate::store::Ref;
use crate::time::EndOfSlice;

/// How a system call invokes a capability.
#[derive(Clone, Copy)]
struct Invocation {
    sending: Sending,
    /// First half of a combined call: only messages, no kernel objects of threads.
    is_first_phase: bool,
}

const SEND: Invocation = Invocation {
    sending: Sending {
        patience: Patience::Blocking,
        is_call: false,
        can_donate: false,
    },
    is_first_phase: false,
};
const NB_SEND: Invocation = Invocation {
    sending: Sending {
        patience: Patience::NonBlocking,
        is_call: false,
        can_donate: false,
    },
    is_first_phase: false,
};
const CALL: Invocation = Invocation {
    sending: Sending {
        patience: Patience::Blocking,
        is_call: true,
        can_donate: true,
    },
    is_first_phase: false,
};
const FIRST_PHASE: Invocation = Invocation {
    sending: Sending {
        patience: Patience::NonBlocking,
        is_call: false,
        can_donate: true,
    },
    is_first_phase: true,
};

/// Whether a receive names a reply object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ReplyObject {
    Named,
    Without,
}

/// Whether the rest of a combined system call goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Done,
    Preempted,
}

impl Kernel {
    /// A `syscall` instruction of the current thread; `number` is what RDX held.
    pub fn handle_syscall(&self, number: u64) {
        let tcb = self.current();
        if tcb.flags.get().0 & TcbFlags::FOREIGN_SYSCALLS != 0 {
            return self.fault_with_budget(Fault::UnknownSyscall { number });
        }
        let Ok(syscall) = Syscall::try_from(number) else {
            return self.fault_with_budget(Fault::UnknownSyscall { number });
        };
        if self.check_budget_restart() && !self.handle_debug_syscall(tcb, syscall) {
            self.perform_syscall(tcb, syscall, number);
        }
    }

    fn perform_syscall(&self, tcb: Ref<Tcb>, syscall: Syscall, number: u64) {
        let r = &tcb.registers;
        match syscall {
            Syscall::Send => drop(self.invoke(tcb, r.rdi.get(), SEND)),
            Syscall::NBSend => drop(self.invoke(tcb, r.rdi.get(), NB_SEND)),
            Syscall::Call => drop(self.invoke(tcb, r.rdi.get(), CALL)),
            Syscall::Recv => self.receive(tcb, Patience::Blocking, ReplyObject::Named),
            Syscall::NBRecv => self.receive(tcb, Patience::NonBlocking, ReplyObject::Named),
            Syscall::Wait => self.receive(tcb, Patience::Blocking, ReplyObject::Without),
            Syscall::NBWait => self.receive(tcb, Patience::NonBlocking, ReplyObject::Without),
            Syscall::ReplyRecv => self.send_then_receive(tcb, r.r12.get(), ReplyObject::Named),
            Syscall::NBSendRecv => self.send_then_receive(tcb, r.r13.get(), ReplyObject::Named),
            Syscall::NBSendWait => self.send_then_receive(tcb, r.r12.get(), ReplyObject::Without),
            Syscall::Yield => self.yield_budget(),
            Syscall::SetTlsBase => r.fs_base.set(canonical(r.rdi.get())),
            Syscall::VMEnter => self.enter_guest(tcb, number),
            _ => self.handle_fault(tcb, Fault::UnknownSyscall { number }),
        }
    }

    fn fault_with_budget(&self, fault: Fault) {
        if self.check_budget_restart() {
            self.handle_fault(self.current(), fault);
        }
    }

    fn enter_guest(&self, tcb: Ref<Tcb>, number: u64) {
        if tcb.vcpu.get().is_some() {
            crate::vcpu::enter(self, tcb);
        } else {
            self.handle_fault(tcb, Fault::UnknownSyscall { number });
        }
    }

    /// A processor exception in user mode.
    pub fn handle_exception(&self, number: u64, code: u64) {
        self.fault_with_budget(Fault::UserException { number, code });
    }

    /// A page fault in user mode.
    pub fn handle_page_fault(&self, address: u64, code: u64, is_fetch: u64) {
        self.fault_with_budget(Fault::VirtualMemory {
            address,
            code,
            is_fetch,
        });
    }

    /// A device interrupt. `arch` acknowledges it at the controller afterwards.
    pub fn handle_interrupt(&self, irq: u8) {
        self.check_budget();
        let index = usize::from(irq) % self.irq_slots.len();
        if self.irq_states[index].get() == crate::kernel::IrqState::Signal
            && let Cap::Notification(n) = self.irq_slots[index].cap()
            && n.rights.contains(Rights::WRITE)
        {
            self.signal(n.notification, n.badge);
        }
        arch::set_irq_mask(irq, arch::IrqMask::Masked);
    }

    /// The deadline of this CPU has come.
    pub fn handle_timer_interrupt(&self) {
        self.check_budget();
        self.node().reprogram.set(true);
    }

    /// Another CPU asks this one to look at its queues.
    pub fn handle_kick(&self) {
        self.check_budget();
        self.node().reprogram.set(true);
        self.reschedule_required();
    }

    /// Gives up the rest of the current slice.
    fn yield_budget(&self) {
        let node = self.node();
        let Some(context) = node.current_context.get() else {
            return;
        };
        let consumed = context.consumed.get() + node.consumed.get();
        self.charge_budget(context.head().amount.get(), EndOfSlice::Quiet);
        context.consumed.set(consumed);
    }

    fn send_then_receive(&self, tcb: Ref<Tcb>, destination: u64, reply: ReplyObject) {
        if self.invoke(tcb, destination, FIRST_PHASE) == Phase::Done {
            self.receive(tcb, Patience::Blocking, reply);
        }
    }

    fn invoke(&self, tcb: Ref<Tcb>, address: u64, how: Invocation) -> Phase {
        let info = MessageInfo::from_word(tcb.registers.rsi.get());
        let slot = match lookup::lookup_slot(tcb, address) {
            Ok(slot) => slot,
            Err(failure) => return self.refuse_address(tcb, address, failure, how),
        };
        let mut extra = ExtraSlots::default();
        if info.extra_caps() > 0 {
            match ipc::extra_slots(tcb, info) {
                Ok(slots) => extra = slots,
                Err((address, failure)) => return self.refuse_address(tcb, address, failure, how),
            }
        }
        let cap = slot.raw();
        match cap.tag() {
            tag::ENDPOINT | tag::NOTIFICATION | tag::REPLY => {
                self.send_message(tcb, cap, how.sending);
                Phase::Done
            }
            _ => self.invoke_object(tcb, slot, extra, how),
        }
    }

    /// An address that the invocation needs does not resolve: one that waits faults.
    fn refuse_address(
        &self,
        tcb: Ref<Tcb>,
        address: u64,
        failure: LookupFailure,
        how: Invocation,
    ) -> Phase {
        if how.sending.patience == Patience::Blocking {
            let fault = Fault::Capability {
                address,
                in_receive_phase: 0,
                failure,
            };
            self.handle_fault(tcb, fault);
        }
        Phase::Done
    }

    /// A message of `tcb` through the endpoint, notification or reply `cap`.
    fn send_message(&self, tcb: Ref<Tcb>, cap: RawCap, how: Sending) {
        if let Some((reply, rights)) = cap.reply() {
            tcb.state.set(ThreadState::Restart);
            self.answer(tcb, reply, rights);
        } else if !cap.rights().contains(Rights::WRITE) {
            if how.is_call {
                self.write_error(tcb, SyscallError::InvalidCapability(0));
            }
        } else if let Some(cap) = cap.endpoint() {
            tcb.state.set(ThreadState::Restart);
            self.send_ipc(tcb, cap, how);
        } else if let Some(cap) = cap.notification() {
            tcb.state.set(ThreadState::Restart);
            self.signal(cap.notification, cap.badge);
        }
        if tcb.state.get() == ThreadState::Restart {
            if how.is_call {
                self.write_answer(tcb, &Answer::empty());
            }
            tcb.state.set(ThreadState::Running);
        }
    }

    /// An invocation of an object that the kernel itself serves.
    #[inline(never)]
    fn invoke_object(
        &self,
        tcb: Ref<Tcb>,
        slot: Ref<Slot>,
        extra: ExtraSlots,
        how: Invocation,
    ) -> Phase {
        let info = MessageInfo::from_word(tcb.registers.rsi.get());
        let buffer = tcb.ipc_buffer(BufferUse::Send);
        let mut length = info.length();
        if buffer.is_none() {
            length = length.min(sel4_sys::message::REGISTER_WORDS);
        }
        let arguments = Arguments {
            label: info.label(),
            length: length as u64,
            slot,
            extra,
            tcb,
            buffer,
        };
        let is_call = how.sending.is_call;
        match self.perform(&arguments, how) {
            Ok(answer) => self.finish(tcb, &answer, is_call),
            Err(Refusal::Error(error)) => {
                if tcb.state.get() == ThreadState::Restart {
                    self.set_thread_state(tcb, ThreadState::Running);
                }
                if is_call {
                    self.write_error(tcb, error);
                }
            }
            Err(Refusal::Preempted) => {
                self.settle_preemption();
                return Phase::Preempted;
            }
        }
        Phase::Done
    }

    /// After an invocation: the caller hears the answer unless it was stopped or restarted.
    fn finish(&self, tcb: Ref<Tcb>, answer: &Answer, is_call: bool) {
        if tcb.state.get() == ThreadState::Restart {
            if is_call {
                self.write_answer(tcb, answer);
            }
            self.set_thread_state(tcb, ThreadState::Running);
        }
    }

    fn perform(&self, arguments: &Arguments, how: Invocation) -> invocation::Outcome {
        let cap = arguments.slot.cap();
        let is_void = matches!(cap, Cap::Null | Cap::Zombie(_));
        if is_void || how.is_first_phase && needs_a_whole_call(cap) {
            return Err(Refusal::Error(SyscallError::InvalidCapability(0)));
        }
        arguments.tcb.state.set(ThreadState::Restart);
        invocation::perform(self, cap, arguments)
    }

    fn receive(&self, tcb: Ref<Tcb>, patience: Patience, reply_object: ReplyObject) {
        let received = self.try_receive(tcb, patience, reply_object);
        if let Err((address, failure)) = received {
            self.handle_fault(
                tcb,
                Fault::Capability {
                    address,
                    in_receive_phase: 1,
                    failure,
                },
            );
        }
    }

    #[inline]
    fn try_receive(
        &self,
        tcb: Ref<Tcb>,
        patience: Patience,
        reply_object: ReplyObject,
    ) -> Result<(), (u64, LookupFailure)> {
        let missing = LookupFailure::MissingCapability { bits_left: 0 };
        let look_up = |address| match lookup::lookup_slot(tcb, address) {
            Ok(slot) => Ok(slot.raw()),
            Err(failure) => Err((address, failure)),
        };
        let address = tcb.registers.rdi.get();
        let cap = look_up(address)?;
        if cap.is_endpoint_with(Rights::READ)
            && let Some(cap) = cap.endpoint()
        {
            let mut reply = None;
            if reply_object == ReplyObject::Named {
                let address = tcb.registers.r12.get();
                let (named, _) = look_up(address)?.reply().ok_or((address, missing))?;
                reply = Some(named);
            }
            self.receive_ipc(tcb, cap.endpoint, patience, reply);
            return Ok(());
        }
        if let Some(cap) = cap.notification()
            && cap.rights.contains(Rights::READ)
            && cap
                .notification
                .bound_tcb
                .get()
                .is_none_or(|bound| bound == tcb)
        {
            self.wait(tcb, cap.notification, patience);
            return Ok(());
        }
        Err((address, missing))
    }
}

/// Kernel objects whose invocation in the first half of a combined call is refused, as in seL4.
const fn needs_a_whole_call(cap: Cap) -> bool {
    matches!(
        cap,
        Cap::Thread { .. }
            | Cap::Domain
            | Cap::CNode(_)
            | Cap::SchedControl { .. }
            | Cap::SchedContext { .. }
            | Cap::Vcpu { .. }
    )
}
