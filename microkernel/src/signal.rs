//! Notifications: signalling, waiting, and the binding to a thread or a scheduling context.

use crate::arch;
use crate::ipc::Patience;
use crate::kernel::Kernel;
use crate::object::{Blocking, Notification, Tcb, ThreadState};
use crate::store::Ref;

impl Kernel {
    /// Signals `badge`.
    pub fn signal(&self, notification: Ref<Notification>, badge: u64) {
        if notification.active.get() {
            notification.badge.set(notification.badge.get() | badge);
        } else if let Some(tcb) = notification.queue.pop() {
            self.wake(notification, tcb, badge);
        } else {
            self.signal_idle(notification, badge);
        }
    }

    /// A signal to a notification that nobody waits on directly.
    fn signal_idle(&self, notification: Ref<Notification>, badge: u64) {
        match notification.bound_tcb.get() {
            Some(tcb) if tcb.state.get() == ThreadState::BlockedOnReceive => {
                self.cancel_ipc(tcb);
                self.wake(notification, tcb, badge);
            }
            Some(tcb) if tcb.state.get() == ThreadState::RunningVm => {
                self.signal_guest(notification, tcb, badge);
            }
            _ => {
                notification.badge.set(badge);
                notification.active.set(true);
            }
        }
    }

    /// Ends the VMEnter of `tcb`. On another CPU that CPU does it, when it has left the guest
    /// ([`Self::take_signal_in_guest`]).
    fn signal_guest(&self, notification: Ref<Notification>, tcb: Ref<Tcb>, badge: u64) {
        let its = usize::from(tcb.node.get());
        let runs = self.node_of(tcb).current.get() == Some(tcb);
        if its != arch::node_id() && runs {
            notification.badge.set(badge);
            notification.active.set(true);
            self.request_kick(its);
            return;
        }
        crate::vcpu::leave_for_notification(tcb, badge);
        self.set_thread_state(tcb, ThreadState::Running);
        self.lend_sched_context(notification, tcb);
        if self.is_schedulable(tcb) && !runs {
            self.possible_switch_to(tcb);
        }
    }

    /// `tcb` is about to go on in its guest: a signal that another CPU left for it ends its VMEnter.
    /// The kick may come only after this CPU chose other threads in between, so this looks whenever
    /// the thread is chosen.
    pub(crate) fn take_signal_in_guest(&self, tcb: Ref<Tcb>) {
        if let Some(bound) = tcb.bound_notification.get()
            && let Some(badge) = bound.take()
        {
            crate::vcpu::leave_for_notification(tcb, badge);
            self.set_thread_state(tcb, ThreadState::Running);
        }
    }

    fn wake(&self, notification: Ref<Notification>, tcb: Ref<Tcb>, badge: u64) {
        self.set_thread_state(tcb, ThreadState::Running);
        tcb.registers.rdi.set(badge);
        self.lend_sched_context(notification, tcb);
        if self.is_schedulable(tcb) {
            self.possible_switch_to(tcb);
        }
        self.unblock_context(tcb.sched_context.get());
    }

    /// Waits for a signal, or takes one that is there.
    pub fn wait(&self, tcb: Ref<Tcb>, notification: Ref<Notification>, patience: Patience) {
        if let Some(badge) = notification.take() {
            tcb.registers.rdi.set(badge);
            self.lend_sched_context(notification, tcb);
            self.unblock_context(tcb.sched_context.get());
        } else if patience == Patience::Blocking {
            tcb.state.set(ThreadState::BlockedOnNotification);
            tcb.blocking.set(Blocking {
                notification: Some(notification),
                ..Blocking::NONE
            });
            self.notice_state(tcb);
            notification.queue.insert_by_priority(tcb);
            self.return_sched_context(notification, tcb);
        } else {
            tcb.registers.rdi.set(0);
        }
    }

    /// A receive on an endpoint finds the bound notification active.
    pub fn complete_signal(&self, notification: Ref<Notification>, tcb: Ref<Tcb>) {
        let Some(badge) = notification.take() else {
            return;
        };
        tcb.registers.rdi.set(badge);
        self.lend_sched_context(notification, tcb);
        if tcb.sched_context.get() == notification.sched_context.get() {
            self.unblock_context(tcb.sched_context.get());
        }
    }

    /// A passive thread that a notification wakes runs on the notification's context.
    fn lend_sched_context(&self, notification: Ref<Notification>, tcb: Ref<Tcb>) {
        if tcb.sched_context.get().is_none()
            && let Some(context) = notification.sched_context.get()
            && context.tcb.get().is_none()
        {
            self.donate(context, tcb);
            self.resume_context(context);
        }
    }

    /// A thread that blocks gives a context that a notification lent it back.
    pub fn return_sched_context(&self, notification: Ref<Notification>, tcb: Ref<Tcb>) {
        let context = notification.sched_context.get();
        if context.is_none() || context != tcb.sched_context.get() {
            return;
        }
        tcb.sched_context.set(None);
        if let Some(context) = context {
            context.tcb.set(None);
            if self.node().current.get() == Some(tcb) {
                self.reschedule_required();
            }
        }
    }

    /// Ends every wait on a notification that goes away.
    pub fn cancel_all_signals(&self, notification: Ref<Notification>) {
        if notification.queue.is_empty() {
            return;
        }
        while let Some(tcb) = notification.queue.pop() {
            self.set_thread_state(tcb, ThreadState::Restart);
            self.unblock_context(tcb.sched_context.get());
            self.possible_switch_to(tcb);
        }
        self.reschedule_required();
    }

    /// Ends the binding of `tcb` to its notification, if it has one.
    pub fn unbind_notification(&self, tcb: Ref<Tcb>) {
        if let Some(notification) = tcb.bound_notification.take() {
            notification.bound_tcb.set(None);
        }
    }

    /// Ends a notification's bindings to a thread and to a scheduling context.
    pub fn unbind_notification_object(&self, notification: Ref<Notification>) {
        if let Some(tcb) = notification.bound_tcb.take() {
            tcb.bound_notification.set(None);
        }
        if let Some(context) = notification.sched_context.take() {
            context.notification.set(None);
        }
    }
}
