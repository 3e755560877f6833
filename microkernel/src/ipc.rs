//! Synchronous messages: send and receive on endpoints, and the transfer between two threads.

use sel4_sys::MessageInfo;
use sel4_sys::message::{EXTRA_CAPS, REGISTER_WORDS};

use crate::cap::{Cap, EndpointCap, Rights};
use crate::derivation;
use crate::fault::{Fault, LookupFailure};
use crate::kernel::Kernel;
use crate::lookup;
use crate::object::{Blocking, BufferUse, Endpoint, Reply, Slot, Tcb, ThreadState};
use crate::store::Ref;

/// Word of the IPC buffer with the first capability address, or received badge.
const CAPS_WORD: usize = 122;

/// Whether an operation waits for its partner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Patience {
    /// It waits.
    Blocking,
    /// Without a partner it does nothing.
    NonBlocking,
}

/// How a message is sent.
#[derive(Clone, Copy, Debug)]
pub struct Sending {
    /// Whether the sender waits for a receiver.
    pub patience: Patience,
    /// The sender waits for an answer.
    pub is_call: bool,
    /// The receiver may run on the sender's time.
    pub can_donate: bool,
}

/// Slots of the capabilities that a message carries.
pub type ExtraSlots = [Option<Ref<Slot>>; EXTRA_CAPS];

/// Looks up the capabilities that the message of `tcb` names.
///
/// # Errors
/// The first address that does not resolve, and why.
pub fn extra_slots(tcb: Ref<Tcb>, info: MessageInfo) -> Result<ExtraSlots, (u64, LookupFailure)> {
    let mut slots = [None; EXTRA_CAPS];
    let Some(buffer) = tcb.ipc_buffer(BufferUse::Send) else {
        return Ok(slots);
    };
    for (index, slot) in slots.iter_mut().enumerate().take(info.extra_caps()) {
        let address = buffer.word(CAPS_WORD + index).get();
        *slot = Some(lookup::lookup_slot(tcb, address).map_err(|failure| (address, failure))?);
    }
    Ok(slots)
}

impl Kernel {
    /// Sends the message, or the fault, of `sender` through `cap`.
    pub fn send_ipc(&self, sender: Ref<Tcb>, cap: EndpointCap, how: Sending) {
        let Some(receiver) = cap.endpoint.receiver() else {
            if how.patience == Patience::Blocking {
                self.block_on_send(sender, cap, how);
            }
            return;
        };
        cap.endpoint.queue.remove_head(receiver);
        self.transfer(sender, Some(cap.endpoint), cap.badge, cap.rights, receiver);
        let reply = receiver.reply.take();
        if let Some(reply) = reply {
            reply.tcb.set(None);
        }
        if how.is_call || sender.has_fault() {
            match reply {
                Some(reply) if may_be_answered(cap.rights) => {
                    self.push_call(sender, receiver, reply, how.can_donate);
                }
                _ => self.set_thread_state(sender, ThreadState::Inactive),
            }
        } else if how.can_donate
            && receiver.sched_context.get().is_none()
            && let Some(context) = sender.sched_context.get()
        {
            self.donate(context, receiver);
        }
        receiver.state.set(ThreadState::Running);
        self.unblock_context(receiver.sched_context.get());
        self.possible_switch_to(receiver);
    }

    fn block_on_send(&self, sender: Ref<Tcb>, cap: EndpointCap, how: Sending) {
        sender.state.set(ThreadState::BlockedOnSend);
        sender.blocking.set(Blocking {
            endpoint: Some(cap.endpoint),
            notification: None,
            badge: cap.badge,
            can_grant: cap.rights.contains(Rights::GRANT),
            can_grant_reply: cap.rights.contains(Rights::GRANT_REPLY),
            is_call: how.is_call,
        });
        self.notice_state(sender);
        cap.endpoint.queue.insert_by_priority(sender);
    }

    /// Receives a message on `endpoint`; a call's answer will go through `reply`.
    pub fn receive_ipc(
        &self,
        receiver: Ref<Tcb>,
        endpoint: Ref<Endpoint>,
        patience: Patience,
        reply: Option<Ref<Reply>>,
    ) {
        if let Some(waiting) = reply.and_then(|r| r.tcb.get())
            && waiting != receiver
        {
            self.cancel_ipc(waiting);
        }
        if let Some(bound) = receiver.bound_notification.get() {
            if bound.active.get() {
                return self.complete_signal(bound, receiver);
            }
            if patience == Patience::Blocking {
                self.return_sched_context(bound, receiver);
            }
        }
        match endpoint.sender() {
            Some(sender) => self.receive_from(receiver, endpoint, sender, reply),
            None if patience == Patience::Blocking => {
                self.block_on_receive(receiver, endpoint, reply);
            }
            None => receiver.registers.rdi.set(0),
        }
    }

    fn block_on_receive(
        &self,
        receiver: Ref<Tcb>,
        endpoint: Ref<Endpoint>,
        reply: Option<Ref<Reply>>,
    ) {
        receiver.state.set(ThreadState::BlockedOnReceive);
        receiver.blocking.set(Blocking {
            endpoint: Some(endpoint),
            ..Blocking::NONE
        });
        receiver.reply.set(reply);
        self.notice_state(receiver);
        if let Some(reply) = reply {
            reply.tcb.set(Some(receiver));
        }
        endpoint.queue.insert_by_priority(receiver);
    }

    fn receive_from(
        &self,
        receiver: Ref<Tcb>,
        endpoint: Ref<Endpoint>,
        sender: Ref<Tcb>,
        reply: Option<Ref<Reply>>,
    ) {
        endpoint.queue.remove_head(sender);
        let blocking = sender.blocking.get();
        let mut rights = Rights::NONE;
        if blocking.can_grant {
            rights = rights.union(Rights::GRANT);
        }
        if blocking.can_grant_reply {
            rights = rights.union(Rights::GRANT_REPLY);
        }
        self.transfer(sender, Some(endpoint), blocking.badge, rights, receiver);
        self.unblock_context(sender.sched_context.get());
        if blocking.is_call || sender.has_fault() {
            match reply {
                Some(reply) if may_be_answered(rights) => {
                    let can_donate = !matches!(sender.fault.get(), Fault::Timeout { .. });
                    self.push_call(sender, receiver, reply, can_donate);
                }
                _ => self.set_thread_state(sender, ThreadState::Inactive),
            }
        } else {
            sender.state.set(ThreadState::Running);
            self.possible_switch_to(sender);
        }
    }

    /// Answers the call that waits in `reply` with the message of `sender`.
    pub fn answer(&self, sender: Ref<Tcb>, reply: Ref<Reply>, rights: Rights) {
        let Some(receiver) = reply.tcb.get() else {
            return;
        };
        if receiver.state.get() != ThreadState::BlockedOnReply {
            return;
        }
        self.remove_call(reply, receiver);
        self.unblock_context(receiver.sched_context.get());
        let fault = receiver.fault.get();
        if receiver.has_fault() {
            receiver.state.set(self.take_fault_reply(receiver, sender));
            receiver.fault.set(Fault::Null);
        } else {
            self.transfer(sender, None, 0, rights, receiver);
            receiver.state.set(ThreadState::Running);
        }
        if receiver.is_runnable()
            && let Some(context) = receiver.sched_context.get()
        {
            self.resume_answered(receiver, context, fault);
        }
    }

    /// Transfers the message or the fault of `sender`.
    fn transfer(
        &self,
        sender: Ref<Tcb>,
        endpoint: Option<Ref<Endpoint>>,
        badge: u64,
        rights: Rights,
        receiver: Ref<Tcb>,
    ) {
        let info = if sender.has_fault() {
            self.write_fault(sender, receiver)
        } else {
            transfer_message(sender, endpoint, rights, receiver)
        };
        receiver.registers.rsi.set(info.word());
        receiver.registers.rdi.set(badge);
    }

    /// Gives up whatever `tcb` waits for; afterwards it is inactive if it was blocked.
    pub fn cancel_ipc(&self, tcb: Ref<Tcb>) {
        tcb.fault.set(Fault::Null);
        match tcb.state.get() {
            ThreadState::BlockedOnSend | ThreadState::BlockedOnReceive => {
                if let Some(endpoint) = tcb.blocking.get().endpoint {
                    endpoint.queue.remove(tcb);
                }
                release_reply(tcb);
                self.set_thread_state(tcb, ThreadState::Inactive);
            }
            ThreadState::BlockedOnNotification => {
                if let Some(notification) = tcb.blocking.get().notification {
                    notification.queue.remove(tcb);
                }
                self.set_thread_state(tcb, ThreadState::Inactive);
            }
            ThreadState::BlockedOnReply => self.abandon_call(tcb),
            _ => {}
        }
    }

    /// Ends every send and receive on an endpoint that goes away.
    pub fn cancel_all_ipc(&self, endpoint: Ref<Endpoint>) {
        if endpoint.queue.is_empty() {
            return;
        }
        while let Some(tcb) = endpoint.queue.pop() {
            release_reply(tcb);
            self.restart_unless_faulted(tcb);
        }
        self.reschedule_required();
    }

    /// Ends every send that waits on `endpoint` with `badge`.
    pub fn cancel_badged_sends(&self, endpoint: Ref<Endpoint>, badge: u64) {
        if endpoint.sender().is_none() {
            return;
        }
        for tcb in endpoint.queue.iter() {
            if tcb.blocking.get().badge == badge {
                endpoint.queue.remove(tcb);
                self.restart_unless_faulted(tcb);
            }
        }
        self.reschedule_required();
    }

    fn restart_unless_faulted(&self, tcb: Ref<Tcb>) {
        if !tcb.has_fault() {
            self.set_thread_state(tcb, ThreadState::Restart);
            self.unblock_context(tcb.sched_context.get());
            self.possible_switch_to(tcb);
        } else {
            self.set_thread_state(tcb, ThreadState::Inactive);
        }
    }
}

fn may_be_answered(rights: Rights) -> bool {
    rights.contains(Rights::GRANT) || rights.contains(Rights::GRANT_REPLY)
}

/// A blocked receiver lets go of its reply object.
fn release_reply(tcb: Ref<Tcb>) {
    if tcb.state.get() == ThreadState::BlockedOnReceive
        && let Some(reply) = tcb.reply.take()
    {
        reply.tcb.set(None);
    }
}

/// Transfers a message; what the receiver sees of it.
#[inline(always)]
fn transfer_message(
    sender: Ref<Tcb>,
    endpoint: Option<Ref<Endpoint>>,
    rights: Rights,
    receiver: Ref<Tcb>,
) -> MessageInfo {
    let info = MessageInfo::from_word(sender.registers.rsi.get());
    let length = copy_message(sender, receiver, info.length());
    let (moved, unwrapped) = if rights.contains(Rights::GRANT) && info.extra_caps() > 0 {
        transfer_caps(sender, info, endpoint, receiver)
    } else {
        (0, 0)
    };
    MessageInfo::new(info.label(), length, moved).with_caps_unwrapped(unwrapped)
}

/// Copies up to `length` message words; how many were copied.
#[inline(always)]
fn copy_message(sender: Ref<Tcb>, receiver: Ref<Tcb>, length: usize) -> usize {
    sender.registers.copy_message(&receiver.registers, length);
    if length <= REGISTER_WORDS {
        return length;
    }
    let buffers = (
        sender.ipc_buffer(BufferUse::Send),
        receiver.ipc_buffer(BufferUse::Receive),
    );
    let (Some(from), Some(to)) = buffers else {
        return REGISTER_WORDS;
    };
    let words = REGISTER_WORDS..length;
    for (from, to) in from.message(words.clone()).iter().zip(to.message(words)) {
        to.set(from.get());
    }
    length
}

/// Passes capabilities on: at most one goes to the receive slot; those to the endpoint of the
/// message itself arrive as badges. How many, and which arrived as badges.
#[inline(never)]
fn transfer_caps(
    sender: Ref<Tcb>,
    info: MessageInfo,
    endpoint: Option<Ref<Endpoint>>,
    receiver: Ref<Tcb>,
) -> (usize, u64) {
    let Some(buffer) = receiver.ipc_buffer(BufferUse::Receive) else {
        return (0, 0);
    };
    let slots = extra_slots(sender, info).unwrap_or_default();
    let mut destination = lookup::receive_slot(receiver, buffer);
    let mut unwrapped = 0;
    for (index, slot) in slots.into_iter().enumerate() {
        let Some(slot) = slot else {
            return (index, unwrapped);
        };
        match slot.cap() {
            Cap::Endpoint(e) if Some(e.endpoint) == endpoint => {
                buffer.word(CAPS_WORD + index).set(e.badge);
                unwrapped |= 1 << index;
            }
            cap => {
                let derived = match derivation::derive_cap(slot, cap) {
                    Ok(derived) if !derived.is_null() => derived,
                    _ => return (index, unwrapped),
                };
                let Some(target) = destination.take() else {
                    return (index, unwrapped);
                };
                derivation::insert(derived, slot, target);
            }
        }
    }
    (EXTRA_CAPS, unwrapped)
}
