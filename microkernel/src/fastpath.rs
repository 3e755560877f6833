//! The short way through Call and ReplyRecv: a message of registers only, to a partner on this CPU
//! that is ready for it and runs on the caller's time; and through SetTLSBase, which concerns nobody
//! else. Anything else takes the ordinary way, which gives the same result; a test compares the two.
//!
//! Everything is looked at first and makes a plain value ([`Hop`]); then everything is done. There is
//! no call out of line between entry and exit, so that the compiler needs neither a stack nor
//! saved registers; where one would be needed the answer is `None`.
//!
//! No time is read here: the scheduling context goes with the message, so nothing is charged to
//! anyone else, and the deadline that ends its budget stays set.

use sel4_sys::Syscall;

use crate::arch::{self, SpaceWord};
use crate::cap::{RawCap, Rights, tag};
use crate::fault_delivery::canonical;
use crate::kernel::{Kernel, Node};
use crate::lookup;
use crate::object::{Blocking, Endpoint, Reply, SchedContext, Tcb, TcbFlags, ThreadState};
use crate::store::Ref;

/// Length and extra capabilities of a MessageInfo word.
const SHAPE_MASK: u64 = 0x1ff;
/// Label and length: what the receiver sees.
const DELIVERED_MASK: u64 = !0xf80;
/// Most words that registers hold.
const REGISTER_WORDS: u64 = 4;

/// A message about to go from the current thread to `to`, which goes on with it.
#[derive(Clone, Copy)]
struct Hop {
    from: Ref<Tcb>,
    to: Ref<Tcb>,
    /// The address space of `to`.
    space: SpaceWord,
    /// The time that goes along.
    context: Ref<SchedContext>,
}

impl Kernel {
    /// A system call of `tcb`, which is the current thread of this CPU: the thread to go on with,
    /// or `None` if the call has to take the ordinary way; then nothing was changed.
    #[inline(always)]
    pub fn fast_syscall(
        &self,
        tcb: Ref<Tcb>,
        syscall: Syscall,
        address: u64,
        info: u64,
    ) -> Option<Ref<Tcb>> {
        let is_foreign = tcb.flags.get().0 & TcbFlags::FOREIGN_SYSCALLS != 0;
        if is_foreign || info & SHAPE_MASK > REGISTER_WORDS {
            return None;
        }
        match syscall {
            Syscall::Call => self.fast_call(tcb, address, info),
            Syscall::ReplyRecv => self.fast_reply_receive(tcb, address, info),
            Syscall::SetTlsBase => {
                tcb.registers.fs_base.set(canonical(address));
                arch::load_fs_base(tcb);
                Some(tcb)
            }
            _ => None,
        }
    }

    /// `tcb` calls the endpoint at `address`.
    #[inline(always)]
    fn fast_call(&self, tcb: Ref<Tcb>, address: u64, info: u64) -> Option<Ref<Tcb>> {
        let node = self.node();
        let cap = lookup::direct_slot(tcb, address)?.raw();
        if !is_callable(cap) {
            return None;
        }
        let endpoint: Ref<Endpoint> = Ref::from_address(cap.address());
        let receiver = endpoint.receiver()?;
        let reply = receiver.reply.get()?;
        if receiver.sched_context.get().is_some() || !has_precedence(node, receiver, tcb) {
            return None;
        }
        let context = tcb.sched_context.get()?;
        let hop = self.hop(tcb, receiver, context)?;

        endpoint.queue.remove_head(receiver);
        receiver.reply.set(None);
        context.push_reply(reply);
        reply.tcb.set(Some(tcb));
        tcb.reply.set(Some(reply));
        tcb.state.set(ThreadState::BlockedOnReply);
        hop.deliver(cap.0[1], info);
        Some(hop.perform(node))
    }

    /// `tcb` answers through the reply object that R12 names and receives on the endpoint at
    /// `address`.
    #[inline(always)]
    fn fast_reply_receive(&self, tcb: Ref<Tcb>, address: u64, info: u64) -> Option<Ref<Tcb>> {
        let node = self.node();
        let reply_address = tcb.registers.r12.get();
        let cap = lookup::direct_slot(tcb, address)?.raw();
        let reply_cap = lookup::direct_slot(tcb, reply_address)?.raw();
        if !cap.is_endpoint_with(Rights::READ)
            || reply_cap.tag() != tag::REPLY
            || !has_quiet_notification(tcb)
        {
            return None;
        }
        let endpoint: Ref<Endpoint> = Ref::from_address(cap.address());
        let reply: Ref<Reply> = Ref::from_address(reply_cap.address());
        let caller = reply.tcb.get()?;
        let context = reply.sched_context.get()?;
        let last = endpoint.queue.tail.get();
        if !last.is_none_or(|last| receives_before(last, tcb))
            || caller.state.get() != ThreadState::BlockedOnReply
            || caller.has_fault()
            || caller.sched_context.get().is_some()
            || tcb.sched_context.get() != Some(context)
            || !has_precedence(node, caller, tcb)
        {
            return None;
        }
        let hop = self.hop(tcb, caller, context)?;

        context.pop_reply(reply);
        caller.reply.set(None);
        reply.tcb.set(Some(tcb));
        tcb.reply.set(Some(reply));
        tcb.state.set(ThreadState::BlockedOnReceive);
        tcb.blocking.set(Blocking {
            endpoint: Some(endpoint),
            ..tcb.blocking.get()
        });
        endpoint.queue.push_back(tcb);
        hop.deliver(0, info);
        Some(hop.perform(node))
    }

    /// The message to `to`, if this CPU can switch to it at once.
    #[inline(always)]
    fn hop(&self, from: Ref<Tcb>, to: Ref<Tcb>, context: Ref<SchedContext>) -> Option<Hop> {
        if !from.is_beside(to) || !arch::can_hop(to) {
            return None;
        }
        let space = self.known_space_of(to)?;
        Some(Hop {
            from,
            to,
            space,
            context,
        })
    }
}

impl Hop {
    /// Copies the message; the shape was checked, so registers hold it all.
    #[inline(always)]
    fn deliver(self, badge: u64, info: u64) {
        let to = &self.to.registers;
        let length = (info & SHAPE_MASK) as usize;
        self.from.registers.copy_message(to, length);
        to.rdi.set(badge);
        to.rsi.set(info & DELIVERED_MASK);
    }

    /// Lets the partner run on the time that goes along.
    #[inline(always)]
    fn perform(self, node: &Node) -> Ref<Tcb> {
        self.from.sched_context.set(None);
        self.to.sched_context.set(Some(self.context));
        self.context.tcb.set(Some(self.to));
        self.to.state.set(ThreadState::Running);
        node.current.set(Some(self.to));
        arch::hop(self.to, self.space);
        self.to
    }
}

/// Whether `cap` is an endpoint that a call may go to.
#[inline(always)]
const fn is_callable(cap: RawCap) -> bool {
    let answer = Rights::GRANT.union(Rights::GRANT_REPLY);
    cap.is_endpoint_with(Rights::WRITE) && cap.rights().masked_by(answer).bits() != 0
}

/// Whether `to` runs before every ready thread, now that `from`, which does, waits.
#[inline(always)]
fn has_precedence(node: &Node, to: Ref<Tcb>, from: Ref<Tcb>) -> bool {
    let priority = to.priority.get();
    priority >= from.priority.get()
        || node.ready[usize::from(node.domain.get())]
            .highest()
            .is_none_or(|highest| priority >= highest)
}

/// Whether `last`, the last thread of an endpoint's queue, receives and stays before `tcb`.
#[inline(always)]
fn receives_before(last: Ref<Tcb>, tcb: Ref<Tcb>) -> bool {
    last.state.get() == ThreadState::BlockedOnReceive && last.priority.get() >= tcb.priority.get()
}

/// Whether a receive of `tcb` can ignore its bound notification.
#[inline(always)]
fn has_quiet_notification(tcb: Ref<Tcb>) -> bool {
    match tcb.bound_notification.get() {
        None => true,
        Some(n) => !n.active.get() && n.sched_context.get().is_none(),
    }
}
