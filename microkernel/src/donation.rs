//! Scheduling contexts between threads: binding, lending along a chain of calls, and giving back.
//!
//! A call lends the caller's context to a passive server; the reply objects of such calls form a
//! stack that the context holds (see `object::Reply`). Answering the top gives the context back.

use crate::fault::Fault;
use crate::invocation::Answer;
use crate::kernel::{Kernel, SchedulerAction};
use crate::object::{Notification, Reply, SchedContext, Tcb, ThreadState};
use crate::store::Ref;
use crate::time::has_timeout_handler;

impl Kernel {
    /// Moves `tcb` to the node of the context that it gets.
    fn migrate(&self, tcb: Ref<Tcb>, context: Ref<SchedContext>) {
        if tcb.node.get() != context.node.get() {
            crate::arch::flush_thread_state(tcb);
            tcb.node.set(context.node.get());
        }
    }

    /// Gives `context`, taken from whoever has it, to `to`, which has none.
    pub fn donate(&self, context: Ref<SchedContext>, to: Ref<Tcb>) {
        if let Some(from) = context.tcb.get() {
            self.stall(from);
            self.ready_dequeue(from);
            self.release_remove(from);
            from.sched_context.set(None);
            let node = self.node();
            if node.current.get() == Some(from)
                || node.action.get() == SchedulerAction::SwitchTo(from)
            {
                self.reschedule_required();
            }
        }
        context.tcb.set(Some(to));
        to.sched_context.set(Some(context));
        self.migrate(to, context);
    }

    /// Lets the thread of `context` wait if the context's budget is not there yet.
    pub fn resume_context(&self, context: Ref<SchedContext>) {
        let Some(tcb) = context.tcb.get() else { return };
        let clock = self.clock();
        if self.is_schedulable(tcb)
            && !(context.is_ready(&clock) && context.is_sufficient(0, &clock))
        {
            self.postpone(context);
        }
    }

    /// Binds `context` and `tcb`, neither of which is bound.
    pub fn bind_tcb(&self, context: Ref<SchedContext>, tcb: Ref<Tcb>) {
        tcb.sched_context.set(Some(context));
        context.tcb.set(Some(tcb));
        self.migrate(tcb, context);
        self.unblock_context(Some(context));
        self.resume_context(context);
        if self.is_schedulable(tcb) {
            self.ready_enqueue(tcb);
            self.reschedule_required();
        }
    }

    /// Takes `context` from its thread, if it has one.
    pub fn unbind_tcb(&self, context: Ref<SchedContext>) {
        let Some(tcb) = context.tcb.get() else { return };
        self.stall(tcb);
        if self.node().current.get() == Some(tcb) {
            self.reschedule_required();
        }
        self.ready_dequeue(tcb);
        self.release_remove(tcb);
        tcb.sched_context.set(None);
        context.tcb.set(None);
    }

    /// Binds `context` and `notification`, neither of which is bound.
    pub fn bind_context_notification(
        &self,
        context: Ref<SchedContext>,
        notification: Ref<Notification>,
    ) {
        notification.sched_context.set(Some(context));
        context.notification.set(Some(notification));
    }

    /// Takes `context` from its notification, if it has one.
    pub fn unbind_context_notification(&self, context: Ref<SchedContext>) {
        if let Some(notification) = context.notification.take() {
            notification.sched_context.set(None);
        }
    }

    /// Ends the stack of calls that `context` holds: it will not come back to the callers.
    pub fn unbind_context_reply(&self, context: Ref<SchedContext>) {
        if let Some(reply) = context.reply.take() {
            reply.sched_context.set(None);
        }
    }

    /// `caller` waits in `reply` for the answer of `callee`, which may run on the caller's context.
    pub fn push_call(
        &self,
        caller: Ref<Tcb>,
        callee: Ref<Tcb>,
        reply: Ref<Reply>,
        can_donate: bool,
    ) {
        reply.tcb.set(Some(caller));
        caller.reply.set(Some(reply));
        self.set_thread_state(caller, ThreadState::BlockedOnReply);
        if !can_donate || callee.sched_context.get().is_some() {
            return;
        }
        let Some(context) = caller.sched_context.get() else {
            return;
        };
        context.push_reply(reply);
        self.donate(context, callee);
    }

    /// Ends the call that waits in `reply`, to be answered: from the top of a stack the context
    /// goes back to `caller`; in the middle the stack breaks.
    pub fn remove_call(&self, reply: Ref<Reply>, caller: Ref<Tcb>) {
        if let Some(context) = reply.sched_context.get() {
            context.pop_reply(reply);
            if caller.sched_context.get().is_none() {
                self.donate(context, caller);
            }
        } else {
            break_stack(reply);
        }
        Self::unlink_reply(reply, caller);
    }

    /// The call of `caller` ends without an answer; a donated context stays where it is.
    pub fn abandon_call(&self, caller: Ref<Tcb>) {
        let Some(reply) = caller.reply.get() else {
            return;
        };
        if let Some(context) = reply.sched_context.take() {
            context.reply.set(None);
        }
        break_stack(reply);
        Self::unlink_reply(reply, caller);
    }

    fn unlink_reply(reply: Ref<Reply>, tcb: Ref<Tcb>) {
        reply.tcb.set(None);
        tcb.reply.set(None);
        tcb.state.set(ThreadState::Inactive);
    }

    /// An answered thread runs if its budget allows, else it waits or its handler hears of it.
    pub(crate) fn resume_answered(&self, tcb: Ref<Tcb>, context: Ref<SchedContext>, fault: Fault) {
        let clock = self.clock();
        if context.is_ready(&clock) && context.is_sufficient(0, &clock) {
            self.possible_switch_to(tcb);
        } else if has_timeout_handler(tcb) && !matches!(fault, Fault::Timeout { .. }) {
            self.handle_timeout(
                tcb,
                Fault::Timeout {
                    badge: context.badge.get(),
                },
            );
        } else {
            self.postpone(context);
        }
    }

    /// Microseconds used since the last time somebody asked.
    pub fn take_consumed_us(&self, context: Ref<SchedContext>) -> u64 {
        self.ticks_to_us(context.consumed.replace(0))
    }

    /// `tcb` runs again: it is told what the context that it yielded to has used.
    pub fn complete_yield_to(&self, tcb: Ref<Tcb>) {
        let Some(context) = tcb.yield_to.take() else {
            return;
        };
        context.yield_from.set(None);
        let consumed = self.take_consumed_us(context);
        self.write_answer(tcb, &Answer::words(&[consumed]));
    }

    /// Forgets that `tcb` yielded to anyone.
    pub fn cancel_yield_to(&self, tcb: Ref<Tcb>) {
        if let Some(context) = tcb.yield_to.take() {
            context.yield_from.set(None);
        }
    }
}

/// Takes `reply` out of the middle or the bottom of its stack.
fn break_stack(reply: Ref<Reply>) {
    if let Some(above) = reply.above.take() {
        above.below.set(None);
    }
    if let Some(below) = reply.below.take() {
        below.above.set(None);
        below.sched_context.set(None);
    }
}
