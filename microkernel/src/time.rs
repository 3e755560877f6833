//! Time: charging what was used, ending slices, waking what has budget again, domains, timers.
//!
//! All in ticks of the time-stamp counter. A kernel entry reads the clock once ([`Kernel::enter`]);
//! everything in that entry happens at that moment.

use crate::arch;
use crate::config::{DOMAIN_SCHEDULE_LENGTH, KERNEL_WCET_US};
use crate::fault::{Fault, Preempted};
use crate::kernel::{DomainTurn, Kernel, Node};
use crate::object::{SchedContext, Tcb, TcbSlot, ThreadState};
use crate::refill::Clock;
use crate::store::Ref;

/// What a kernel entry may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// What it came for.
    Proceed,
    /// Nothing: its thread was taken away while it waited for the lock. Only schedule.
    Void,
}

/// The one domain of a system that never configures any runs for ever.
pub const ENDLESS_TURN: u64 = u64::MAX;

impl Kernel {
    /// Sets the frequency of the ticks, once, at boot.
    pub fn set_clock(&self, ticks_per_us: u64) {
        self.ticks_per_us.set(ticks_per_us.max(1));
        self.wcet_ticks.set(KERNEL_WCET_US * ticks_per_us.max(1));
        self.domain_schedule[0].set(DomainTurn {
            domain: 0,
            duration: ENDLESS_TURN,
        });
    }

    /// Microseconds as ticks; too large ones saturate.
    #[must_use]
    pub fn us_to_ticks(&self, us: u64) -> u64 {
        us.saturating_mul(self.ticks_per_us.get())
    }

    /// Ticks as whole microseconds.
    #[must_use]
    pub fn ticks_to_us(&self, ticks: u64) -> u64 {
        ticks / self.ticks_per_us.get()
    }

    /// Smallest budget of a scheduling context.
    #[must_use]
    pub fn min_budget(&self) -> u64 {
        2 * self.wcet_ticks.get()
    }

    /// Longest period, in microseconds: an eighth of what the counter can express.
    #[must_use]
    pub fn max_period_us(&self) -> u64 {
        u64::MAX / self.ticks_per_us.get() / 8
    }

    /// The clock of this kernel entry.
    #[inline(always)]
    #[must_use]
    pub fn clock(&self) -> Clock {
        Clock {
            now: self.node().now.get(),
            min_budget: self.min_budget(),
            max_release_time: u64::MAX - u64::MAX / 8 * 5,
        }
    }

    /// Begins a kernel entry on this CPU, after the lock was taken.
    #[inline]
    pub fn enter(&self) -> Entry {
        self.update_timestamp();
        if self.node().stalled.replace(false) {
            Entry::Void
        } else {
            Entry::Proceed
        }
    }

    /// Ends a kernel entry: afterwards this CPU runs `node().current()`.
    #[inline]
    pub fn leave(&self) {
        self.schedule();
        self.activate();
    }

    /// Reads the time and books what passed as used.
    pub fn update_timestamp(&self) {
        Self::book(self.node(), self.min_budget(), arch::now());
    }

    /// Books the time until `now` on `node`.
    fn book(node: &Node, min_budget: u64, now: u64) {
        let used = now.saturating_sub(node.now.get());
        node.now.set(node.now.get().max(now));
        node.consumed.set(node.consumed.get() + used);
        let left = node.domain_time.get();
        if left != ENDLESS_TURN {
            let over = used.saturating_add(min_budget) >= left;
            node.domain_time.set(if over { 0 } else { left - used });
        }
    }

    /// Charges what was booked to the current context.
    pub fn commit_time(&self) {
        self.commit(self.node());
    }

    fn commit(&self, node: &Node) {
        let used = node.consumed.replace(0);
        let Some(context) = node.current_context.get() else {
            return;
        };
        if !context.is_active() || node.idle_context.get() == Some(context) {
            return;
        }
        context.charge_any(used, &self.clock());
        context.consumed.set(context.consumed.get() + used);
    }

    /// The thread of `node`, another CPU, is taken away now: charges what it used, and leaves that
    /// CPU nothing to charge to anyone until it schedules.
    pub(crate) fn settle_stalled(&self, node: &Node) {
        Self::book(node, self.min_budget(), self.node().now.get());
        self.commit(node);
        node.current_context.set(node.idle_context.get());
        node.reprogram.set(true);
    }

    /// Whether the current thread has budget for this entry. If not, its slice ends here.
    #[inline]
    pub fn check_budget(&self) -> bool {
        let node = self.node();
        let Some(context) = node.current_context.get() else {
            return true;
        };
        if node.idle_context.get() == Some(context) {
            return node.domain_time.get() != 0;
        }
        if !context.is_active() {
            node.consumed.set(0);
            return true;
        }
        if context.is_sufficient(node.consumed.get(), &self.clock()) {
            return node.domain_time.get() != 0;
        }
        self.charge_budget(node.consumed.get(), EndOfSlice::MayFault);
        false
    }

    /// As `check_budget`, and without budget the entry's work starts again later.
    #[inline]
    pub fn check_budget_restart(&self) -> bool {
        let enough = self.check_budget();
        let current = self.current();
        if !enough && matches!(current.state.get(), ThreadState::Running) {
            self.set_thread_state(current, ThreadState::Restart);
        }
        enough
    }

    /// Charges `used` to the current context and ends its slice.
    pub fn charge_budget(&self, used: u64, end: EndOfSlice) {
        let node = self.node();
        if let Some(context) = node.current_context.get()
            && node.idle_context.get() != Some(context)
            && context.is_active()
        {
            if context.is_round_robin() {
                context.renew_slice();
            } else {
                context.charge(used, &self.clock());
            }
            context.consumed.set(context.consumed.get() + used);
        }
        node.consumed.set(0);
        let current = node.current();
        if self.is_schedulable(current) && node.idle.get() != Some(current) {
            self.end_timeslice(current, end);
            self.reschedule_required();
            node.reprogram.set(true);
        }
    }

    fn end_timeslice(&self, current: Ref<Tcb>, end: EndOfSlice) {
        let Some(context) = current.sched_context.get() else {
            return;
        };
        let faults = end == EndOfSlice::MayFault
            && !context.is_round_robin()
            && has_timeout_handler(current);
        if faults {
            self.handle_timeout(
                current,
                Fault::Timeout {
                    badge: context.badge.get(),
                },
            );
        } else if context.is_ready(&self.clock()) && context.is_sufficient(0, &self.clock()) {
            self.ready_append(current);
        } else {
            self.postpone(context);
        }
    }

    /// Puts threads whose budget is there again among the ready ones, and fires timers.
    #[inline]
    pub fn awaken(&self, node: &Node) {
        while let Some(tcb) = node.release.head.get()
            && tcb
                .sched_context
                .get()
                .is_none_or(|c| c.is_ready(&self.clock()))
        {
            self.release_remove(tcb);
            self.possible_switch_to(tcb);
        }
        if node.timer_head.get().is_some() {
            self.fire_timers(node);
        }
    }

    /// The context `context` comes back into use on a thread that is not current.
    #[inline]
    pub fn unblock_context(&self, context: Option<Ref<SchedContext>>) {
        let Some(context) = context else { return };
        let node = &self.nodes[usize::from(context.node.get()) % self.nodes.len()];
        if context.sporadic.get()
            && node.current_context.get() != Some(context)
            && context.is_active()
            && context.unblock(&self.clock())
        {
            node.reprogram.set(true);
        }
    }

    /// Starts using the chosen thread's context.
    #[inline]
    pub(crate) fn switch_context(&self, node: &Node) {
        let next = node.current().sched_context.get();
        if node.current_context.get() != next {
            node.reprogram.set(true);
            if let Some(context) = next
                && !context.sporadic.get()
                && node.idle_context.get() != next
                && context.unblock(&self.clock())
            {
                node.reprogram.set(true);
            }
        }
        if node.reprogram.get() {
            self.commit_time();
        }
        node.current_context.set(next);
    }

    /// Sets the hardware deadline: end of the slice, of the domain, the next refill or timer.
    pub(crate) fn set_next_deadline(&self, node: &Node) {
        let now = node.now.get();
        let mut deadline = u64::MAX;
        if let Some(context) = node.current_context.get()
            && node.idle_context.get() != Some(context)
        {
            deadline = now.saturating_add(context.head().amount.get());
        }
        if node.domain_time.get() != ENDLESS_TURN {
            deadline = deadline.min(now.saturating_add(node.domain_time.get()));
        }
        if let Some(context) = node.release.head.get().and_then(|t| t.sched_context.get()) {
            deadline = deadline.min(context.head().time.get());
        }
        if let Some(timer) = node.timer_head.get() {
            deadline = deadline.min(timer.deadline.get());
        }
        arch::set_deadline(deadline);
    }

    /// Goes to the next turn of the domain schedule.
    pub(crate) fn next_domain(&self, node: &Node) {
        let next = node.domain_index.get() + 1;
        let ended =
            next >= DOMAIN_SCHEDULE_LENGTH || self.domain_schedule[next].get().duration == 0;
        let index = if ended { self.domain_start.get() } else { next };
        let turn = self.domain_schedule[index].get();
        node.domain_index.set(index);
        node.domain.set(turn.domain);
        node.domain_time.set(turn.duration);
        node.work_units.set(0);
        node.reprogram.set(true);
    }

    /// A point at which unbounded work may stop for an interrupt.
    ///
    /// # Errors
    /// `Preempted` if it must: an interrupt waits, or the budget or the domain's time is over.
    pub fn preemption_point(&self) -> Result<(), Preempted> {
        let node = self.node();
        node.work_units.set(node.work_units.get() + 1);
        if node.work_units.get() < crate::config::WORK_UNITS_LIMIT {
            return Ok(());
        }
        node.work_units.set(0);
        self.update_timestamp();
        let context = node.current_context.get();
        let spent = context.is_some_and(|c| {
            c.is_active()
                && node.idle_context.get() != context
                && !c.is_sufficient(node.consumed.get(), &self.clock())
        });
        if arch::interrupt_pending() || spent || node.domain_time.get() == 0 {
            return Err(Preempted);
        }
        Ok(())
    }

    /// After a preempted invocation: charge what it used; its thread may be gone by now.
    pub(crate) fn settle_preemption(&self) {
        let node = self.node();
        let current = node.current();
        if self.is_schedulable(current) {
            self.check_budget();
        } else if node.current_context.get().is_some_and(|c| c.is_active()) {
            self.charge_budget(node.consumed.get(), EndOfSlice::Quiet);
        } else {
            node.consumed.set(0);
        }
    }
}

/// Whether a slice that ends may raise a timeout fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndOfSlice {
    /// It may, if there is a handler.
    MayFault,
    /// It does not: the thread gave the time up itself, or is gone.
    Quiet,
}

/// Whether `tcb` has someone to tell about timeouts.
#[must_use]
pub fn has_timeout_handler(tcb: Ref<Tcb>) -> bool {
    tcb.slot(TcbSlot::TimeoutHandler).raw().tag() == crate::cap::tag::ENDPOINT
}
