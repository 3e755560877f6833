//! The short way through Call and ReplyRecv: a message of registers only, to a passive partner on
//! this CPU that is ready for it. Anything else takes the ordinary way, which gives the same
//! result; a test compares the two.
//!
//! No time is read here: the scheduling context goes with the message, so nothing is charged to
//! anyone else, and the deadline that ends its budget stays set.

use sel4_sys::Syscall;

use crate::arch;
use crate::cap::{Asid, MapSpace, RawCap, Rights, tag};
use crate::fault::Fault;
use crate::kernel::{Kernel, Node};
use crate::lookup;
use crate::object::{Blocking, Endpoint, Reply, Tcb, TcbFlags, TcbSlot, ThreadState};
use crate::store::{Ref, Table};

/// Length and extra capabilities of a MessageInfo word.
const SHAPE_MASK: u64 = 0x1ff;
/// Label and length: what the receiver sees.
const DELIVERED_MASK: u64 = !0xf80;
/// Most words that registers hold.
const REGISTER_WORDS: u64 = 4;

/// The thread that runs next, and its address space.
#[derive(Clone, Copy)]
struct Target {
    tcb: Ref<Tcb>,
    root: Ref<Table>,
    asid: u16,
}

/// The root and identifier of a thread's address space, if it can run.
#[inline(always)]
fn address_space(tcb: Ref<Tcb>) -> Option<(Ref<Table>, Asid)> {
    let raw = tcb.slot(TcbSlot::VSpace).raw();
    let is_virtual = raw.0[0] & RawCap::ROOT_KIND_MASK == RawCap::root_kind(MapSpace::Virtual);
    let asid = Asid::new(raw.0[1] as u16)?;
    is_virtual.then(|| (Ref::from_address(raw.address()), asid))
}

impl Kernel {
    /// A system call of `tcb`, which is the current thread of this CPU: the thread to go on with,
    /// or `None` if the call has to take the ordinary way; then nothing was changed.
    #[inline(always)]
    pub fn fast_syscall(
        &self,
        tcb: Ref<Tcb>,
        number: u64,
        address: u64,
        info: u64,
    ) -> Option<Ref<Tcb>> {
        if tcb.flags.get().0 & TcbFlags::FOREIGN_SYSCALLS != 0 {
            return None;
        }
        if number == Syscall::Call.number() {
            self.fast_call(self.node(), tcb, address, info)
        } else if number == Syscall::ReplyRecv.number() {
            let reply = tcb.registers.r12.get();
            self.fast_reply_receive(self.node(), tcb, address, reply, info)
        } else {
            None
        }
    }

    /// `tcb` calls the endpoint at `address`. `None`: take the ordinary way, nothing was changed.
    #[inline(always)]
    pub fn fast_call(
        &self,
        node: &Node,
        tcb: Ref<Tcb>,
        address: u64,
        info: u64,
    ) -> Option<Ref<Tcb>> {
        if info & SHAPE_MASK > REGISTER_WORDS {
            return None;
        }
        let raw = lookup::direct_slot(tcb, address)?.raw();
        if raw.tag() != tag::ENDPOINT || !is_callable(raw.rights()) {
            return None;
        }
        let endpoint: Ref<Endpoint> = Ref::from_address(raw.address());
        let receiver = endpoint.receiver()?;
        let reply = receiver.reply.get()?;
        let target = self.fast_target(node, tcb, receiver)?;
        let outranks = receiver.priority.get() >= tcb.priority.get();
        if receiver.sched_context.get().is_some()
            || !(outranks || is_highest(node, receiver.priority.get()))
        {
            return None;
        }
        let context = tcb.sched_context.get()?;

        endpoint.queue.remove(receiver);
        receiver.reply.set(None);
        let below = context.reply.replace(Some(reply));
        if let Some(below) = below {
            below.sched_context.set(None);
            below.above.set(Some(reply));
        }
        reply.below.set(below);
        reply.sched_context.set(Some(context));
        reply.tcb.set(Some(tcb));
        tcb.reply.set(Some(reply));
        tcb.state.set(ThreadState::BlockedOnReply);
        tcb.sched_context.set(None);
        receiver.sched_context.set(Some(context));
        context.tcb.set(Some(receiver));
        receiver.state.set(ThreadState::Running);
        deliver(tcb, receiver, raw.0[1], info);
        Self::fast_switch(node, tcb, target);
        Some(receiver)
    }

    /// `tcb` answers through the reply object at `reply_address` and receives on the endpoint at
    /// `address`. `None`: take the ordinary way, nothing was changed.
    #[inline(always)]
    pub fn fast_reply_receive(
        &self,
        node: &Node,
        tcb: Ref<Tcb>,
        address: u64,
        reply_address: u64,
        info: u64,
    ) -> Option<Ref<Tcb>> {
        if info & SHAPE_MASK > REGISTER_WORDS || !has_quiet_notification(tcb) {
            return None;
        }
        let raw = lookup::direct_slot(tcb, address)?.raw();
        let reply_raw = lookup::direct_slot(tcb, reply_address)?.raw();
        if raw.tag() != tag::ENDPOINT
            || !raw.rights().contains(Rights::READ)
            || reply_raw.tag() != tag::REPLY
        {
            return None;
        }
        let endpoint: Ref<Endpoint> = Ref::from_address(raw.address());
        let reply: Ref<Reply> = Ref::from_address(reply_raw.address());
        let caller = reply.tcb.get()?;
        let context = reply.sched_context.get()?;
        if endpoint.sender().is_some()
            || caller.state.get() != ThreadState::BlockedOnReply
            || caller.fault.get() != Fault::Null
            || caller.sched_context.get().is_some()
            || tcb.sched_context.get() != Some(context)
            || !is_highest(node, caller.priority.get())
        {
            return None;
        }
        let target = self.fast_target(node, tcb, caller)?;

        let below = reply.below.take();
        context.reply.set(below);
        if let Some(below) = below {
            below.above.set(None);
            below.sched_context.set(Some(context));
        }
        reply.sched_context.set(None);
        caller.reply.set(None);
        caller.state.set(ThreadState::Running);
        caller.sched_context.set(Some(context));
        context.tcb.set(Some(caller));
        deliver(tcb, caller, 0, info);

        tcb.sched_context.set(None);
        tcb.state.set(ThreadState::BlockedOnReceive);
        tcb.blocking.set(Blocking {
            endpoint: Some(endpoint),
            ..Blocking::NONE
        });
        tcb.reply.set(Some(reply));
        reply.tcb.set(Some(tcb));
        endpoint.queue.insert_by_priority(tcb);
        Self::fast_switch(node, tcb, target);
        Some(caller)
    }

    /// The partner, if this CPU can switch to it at once.
    #[inline(always)]
    fn fast_target(&self, node: &Node, from: Ref<Tcb>, tcb: Ref<Tcb>) -> Option<Target> {
        let (root, asid) = address_space(tcb)?;
        if self.find_root(asid, MapSpace::Virtual) != Some(root) {
            return None;
        }
        let is_here = tcb.node.get() == from.node.get() && tcb.domain.get() == node.domain.get();
        is_here.then_some(Target {
            tcb,
            root,
            asid: asid.number(),
        })
    }

    #[inline(always)]
    fn fast_switch(node: &Node, from: Ref<Tcb>, to: Target) {
        arch::switch_address_space(Some((to.root, to.asid)));
        arch::switch_thread_state(Some(from), to.tcb);
        node.current.set(Some(to.tcb));
    }
}

#[inline(always)]
const fn is_callable(rights: Rights) -> bool {
    rights.contains(Rights::WRITE)
        && (rights.contains(Rights::GRANT) || rights.contains(Rights::GRANT_REPLY))
}

#[inline(always)]
fn is_highest(node: &Node, priority: u8) -> bool {
    node.ready[usize::from(node.domain.get())]
        .highest()
        .is_none_or(|h| priority >= h)
}

/// Whether a receive of `tcb` can ignore its bound notification.
#[inline(always)]
fn has_quiet_notification(tcb: Ref<Tcb>) -> bool {
    match tcb.bound_notification.get() {
        None => true,
        Some(n) => !n.active.get() && n.sched_context.get().is_none(),
    }
}

/// Copies the message; the shape was checked, so registers hold it all.
#[inline(always)]
fn deliver(from: Ref<Tcb>, to: Ref<Tcb>, badge: u64, info: u64) {
    let length = (info & SHAPE_MASK) as usize;
    let registers = from
        .registers
        .message()
        .into_iter()
        .zip(to.registers.message());
    for (from, to) in registers.take(length) {
        to.set(from.get());
    }
    to.registers.rdi.set(badge);
    to.registers.rsi.set(info & DELIVERED_MASK);
}
