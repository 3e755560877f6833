//! A thread as a whole: stopping it, starting it, and taking it apart.

use crate::kernel::Kernel;
use crate::object::{Reply, SchedContext, Tcb, ThreadState};
use crate::store::Ref;

impl Kernel {
    /// Stops `tcb`; it forgets what it waited for.
    pub fn suspend(&self, tcb: Ref<Tcb>) {
        self.stall(tcb);
        self.cancel_ipc(tcb);
        if matches!(
            tcb.state.get(),
            ThreadState::Running | ThreadState::RunningVm
        ) {
            tcb.restart_ip.set(tcb.registers.rip.get());
        }
        self.ready_dequeue(tcb);
        self.release_remove(tcb);
        self.cancel_yield_to(tcb);
        self.set_thread_state(tcb, ThreadState::Inactive);
    }

    /// Starts `tcb` if it is stopped or blocked.
    pub fn restart(&self, tcb: Ref<Tcb>) {
        if !tcb.is_blocked() && tcb.state.get() != ThreadState::Inactive {
            return;
        }
        self.cancel_ipc(tcb);
        self.set_thread_state(tcb, ThreadState::Restart);
        self.unblock_context(tcb.sched_context.get());
        if let Some(context) = tcb.sched_context.get() {
            self.resume_context(context);
        }
        if self.is_schedulable(tcb) {
            self.possible_switch_to(tcb);
        }
    }

    /// The last capability to `tcb` goes: nothing may refer to it afterwards.
    pub fn finalise_tcb(&self, tcb: Ref<Tcb>) {
        self.stall(tcb);
        self.unbind_notification(tcb);
        if let Some(context) = tcb.sched_context.get() {
            self.unbind_tcb(context);
            if let Some(yielder) = context.yield_from.get() {
                self.complete_yield_to(yielder);
            }
        }
        self.suspend(tcb);
        crate::vcpu::detach(tcb);
        crate::arch::flush_thread_state(tcb);
        for node in &self.nodes {
            if node.current.get() == Some(tcb) {
                node.current.set(node.idle.get());
                if core::ptr::eq(node, self.node()) {
                    self.reschedule_required();
                }
            }
        }
    }

    /// The last capability to `context` goes.
    pub fn finalise_sched_context(&self, context: Ref<SchedContext>) {
        self.unbind_tcb(context);
        self.unbind_context_notification(context);
        self.unbind_context_reply(context);
        if let Some(yielder) = context.yield_from.get() {
            self.complete_yield_to(yielder);
        }
        context.refill_max.set(0);
        context.sporadic.set(false);
        for node in &self.nodes {
            if node.current_context.get() == Some(context) {
                node.current_context.set(node.idle_context.get());
                node.consumed.set(0);
                node.reprogram.set(true);
            }
        }
    }

    /// The last capability to `reply` goes: who waits in it stops.
    pub fn finalise_reply(&self, reply: Ref<Reply>) {
        let Some(tcb) = reply.tcb.get() else { return };
        match tcb.state.get() {
            ThreadState::BlockedOnReply => self.remove_call(reply, tcb),
            ThreadState::BlockedOnReceive => self.cancel_ipc(tcb),
            _ => reply.tcb.set(None),
        }
    }
}
