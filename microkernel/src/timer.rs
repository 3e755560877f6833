//! Timers: a node's queue of deadlines that signal notifications (docs/decisions/0003).

use crate::arch;
use crate::cap::Cap;
use crate::finalise;
use crate::kernel::{Kernel, Node};
use crate::object::Timer;
use crate::store::Ref;

/// Timers that fire in one kernel entry. Those of a later one are due as well, so its interrupt
/// comes as soon as user code could run; what comes between is other interrupts.
const FIRED_AT_ONCE: usize = 64;

impl Kernel {
    /// Arms `timer` on this CPU for `deadline`; an armed one gets the new deadline.
    pub fn arm_timer(&self, timer: Ref<Timer>, deadline: u64) {
        self.cancel_timer(timer);
        let node = self.node();
        timer.deadline.set(deadline);
        timer.node.set(arch::node_id() as u8);
        timer.armed.set(true);
        let mut before = None;
        let mut after = node.timer_head.get();
        while let Some(other) = after
            && other.deadline.get() <= deadline
        {
            before = after;
            after = other.next.get();
        }
        timer.previous.set(before);
        timer.next.set(after);
        match before {
            Some(before) => before.next.set(Some(timer)),
            None => {
                node.timer_head.set(Some(timer));
                node.reprogram.set(true);
            }
        }
        if let Some(after) = after {
            after.previous.set(Some(timer));
        }
    }

    /// Disarms `timer`; whether it was armed.
    pub fn cancel_timer(&self, timer: Ref<Timer>) -> bool {
        if !timer.armed.replace(false) {
            return false;
        }
        let node = &self.nodes[usize::from(timer.node.get()) % self.nodes.len()];
        let (before, after) = (timer.previous.take(), timer.next.take());
        match before {
            Some(before) => before.next.set(after),
            None => node.timer_head.set(after),
        }
        if let Some(after) = after {
            after.previous.set(before);
        }
        true
    }

    /// Signals for the timers of this CPU whose deadline has come, the earliest first.
    #[inline(never)]
    pub(crate) fn fire_timers(&self, node: &Node) {
        for _ in 0..FIRED_AT_ONCE {
            let Some(timer) = node.timer_head.get() else {
                return;
            };
            if timer.deadline.get() > node.now.get() {
                return;
            }
            self.cancel_timer(timer);
            node.reprogram.set(true);
            if let Cap::Notification(n) = timer.slot.cap() {
                self.signal(n.notification, n.badge);
            }
        }
    }

    /// The last capability to `timer` goes.
    pub fn finalise_timer(&self, timer: Ref<Timer>) {
        self.cancel_timer(timer);
        finalise::delete_one(self, timer.slot());
    }
}
