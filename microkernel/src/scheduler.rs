//! Which thread runs: ready queues, the release queue, and the choice at the end of an entry.
//!
//! Budgets are `time`'s and `refill`'s matter; this module asks them only whether a context is
//! ready. A thread is schedulable when it is runnable, has an active context and does not wait for
//! its budget. A thread is in a ready queue only while it is schedulable and not the current one.

use crate::arch;
use crate::kernel::{Kernel, Node, ReadyQueues, SchedulerAction};
use crate::object::{SchedContext, Tcb, ThreadState};
use crate::store::Ref;

impl ReadyQueues {
    fn mark(&self, priority: u8) {
        let (word, bit) = (usize::from(priority >> 6), priority & 63);
        self.words[word].set(self.words[word].get() | 1 << bit);
        self.summary.set(self.summary.get() | 1 << word);
    }

    fn unmark(&self, priority: u8) {
        let (word, bit) = (usize::from(priority >> 6), priority & 63);
        self.words[word].set(self.words[word].get() & !(1 << bit));
        if self.words[word].get() == 0 {
            self.summary.set(self.summary.get() & !(1 << word));
        }
    }

    /// The highest priority with a ready thread.
    #[inline(always)]
    #[must_use]
    pub fn highest(&self) -> Option<u8> {
        let summary = self.summary.get();
        if summary == 0 {
            return None;
        }
        let word = 63 - summary.leading_zeros();
        let bit = 63 - self.words[word as usize & 3].get().leading_zeros();
        Some((word * 64 + bit) as u8)
    }
}

/// Which end of its queue a thread joins.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Front,
    Back,
}

impl Kernel {
    /// The node that `tcb` runs on.
    #[inline]
    #[must_use]
    pub fn node_of(&self, tcb: Ref<Tcb>) -> &Node {
        &self.nodes[usize::from(tcb.node.get()) % self.nodes.len()]
    }

    /// Whether the scheduler may run `tcb` now.
    #[inline]
    #[must_use]
    pub fn is_schedulable(&self, tcb: Ref<Tcb>) -> bool {
        tcb.is_runnable()
            && !tcb.in_release_queue.get()
            && tcb.sched_context.get().is_some_and(|c| c.is_active())
    }

    fn join_ready_queue(&self, tcb: Ref<Tcb>, end: End) {
        if tcb.in_ready_queue.get() {
            return;
        }
        let (domain, priority) = (usize::from(tcb.domain.get()), tcb.priority.get());
        let ready = &self.node_of(tcb).ready[domain];
        let queue = &ready.queues[usize::from(priority)];
        match end {
            End::Front => queue.push_front(tcb),
            End::Back => queue.push_back(tcb),
        }
        ready.mark(priority);
        tcb.in_ready_queue.set(true);
        self.kick_if_better(tcb);
    }

    /// Tells another CPU that it has a better thread to run.
    fn kick_if_better(&self, tcb: Ref<Tcb>) {
        let me = arch::node_id();
        let its = usize::from(tcb.node.get());
        if its == me {
            return;
        }
        let node = self.node_of(tcb);
        if node.stalled.get() {
            // It waits for the lock and chooses a thread when it has it.
            return;
        }
        let better = match node.current.get() {
            None => false,
            Some(current) => {
                node.idle.get() == Some(current)
                    || tcb.priority.get() > current.priority.get()
                    || node.reprogram.get()
            }
        };
        if better {
            self.request_kick(its);
        }
    }

    /// Makes CPU `node` schedule when this entry ends.
    pub fn request_kick(&self, node: usize) {
        let kicks = &self.node().kicks;
        kicks.set(kicks.get() | 1 << node);
    }

    /// Puts `tcb` before the ready threads of its priority.
    pub fn ready_enqueue(&self, tcb: Ref<Tcb>) {
        self.join_ready_queue(tcb, End::Front);
    }

    /// Puts `tcb` behind the ready threads of its priority.
    pub fn ready_append(&self, tcb: Ref<Tcb>) {
        self.join_ready_queue(tcb, End::Back);
    }

    /// Takes `tcb` out of its ready queue, if it is in one.
    #[inline]
    pub fn ready_dequeue(&self, tcb: Ref<Tcb>) {
        if tcb.in_ready_queue.replace(false) {
            self.leave_ready_queue(tcb);
        }
    }

    fn leave_ready_queue(&self, tcb: Ref<Tcb>) {
        let (domain, priority) = (usize::from(tcb.domain.get()), tcb.priority.get());
        let ready = &self.node_of(tcb).ready[domain];
        let queue = &ready.queues[usize::from(priority)];
        queue.remove(tcb);
        if queue.is_empty() {
            ready.unmark(priority);
        }
    }

    /// Puts `tcb`, which is in no queue, among those that wait for their budget.
    pub fn release_enqueue(&self, tcb: Ref<Tcb>) {
        let Some(context) = tcb.sched_context.get() else {
            return;
        };
        let time = context.head().time.get();
        let node = self.node_of(tcb);
        node.release.insert_behind(tcb, |other| {
            other
                .sched_context
                .get()
                .is_some_and(|c| c.head().time.get() <= time)
        });
        tcb.in_release_queue.set(true);
        if node.release.head.get() == Some(tcb) {
            self.request_reprogram(tcb);
        }
    }

    /// Takes `tcb` out of the release queue, if it is in it.
    #[inline]
    pub fn release_remove(&self, tcb: Ref<Tcb>) {
        if tcb.in_release_queue.replace(false) {
            self.leave_release_queue(tcb);
        }
    }

    fn leave_release_queue(&self, tcb: Ref<Tcb>) {
        let node = self.node_of(tcb);
        if node.release.head.get() == Some(tcb) {
            self.request_reprogram(tcb);
        }
        node.release.remove(tcb);
    }

    fn request_reprogram(&self, tcb: Ref<Tcb>) {
        self.node_of(tcb).reprogram.set(true);
        let its = usize::from(tcb.node.get());
        if its != arch::node_id() {
            self.request_kick(its);
        }
    }

    /// Makes the thread of `context` wait until the context's budget is there.
    pub fn postpone(&self, context: Ref<SchedContext>) {
        if let Some(tcb) = context.tcb.get() {
            self.ready_dequeue(tcb);
            self.release_enqueue(tcb);
            self.node_of(tcb).reprogram.set(true);
        }
    }

    /// Look for another thread at the end of this entry.
    pub fn reschedule_required(&self) {
        let node = self.node();
        if let SchedulerAction::SwitchTo(candidate) = node.action.get()
            && self.is_schedulable(candidate)
        {
            self.ready_enqueue(candidate);
        }
        node.action.set(SchedulerAction::ChooseNew);
    }

    /// `tcb` became runnable: it may run at the end of this entry, without passing a queue.
    #[inline]
    pub fn possible_switch_to(&self, tcb: Ref<Tcb>) {
        if tcb.sched_context.get().is_none() || tcb.in_release_queue.get() {
            return;
        }
        let node = self.node();
        if tcb.domain.get() != node.domain.get() || usize::from(tcb.node.get()) != arch::node_id() {
            self.ready_enqueue(tcb);
        } else if node.action.get() == SchedulerAction::ResumeCurrent
            || node.action.get() == SchedulerAction::ChooseNew
                && !self.is_schedulable(node.current())
        {
            // What has to be chosen anew is chosen with it: it would be the first of its priority.
            node.action.set(SchedulerAction::SwitchTo(tcb));
        } else {
            self.reschedule_required();
            self.ready_enqueue(tcb);
        }
    }

    /// Changes a thread's state, and notices if the current thread can no longer run.
    #[inline]
    pub fn set_thread_state(&self, tcb: Ref<Tcb>, state: ThreadState) {
        tcb.state.set(state);
        self.notice_state(tcb);
    }

    /// After a change of `tcb`'s state.
    #[inline]
    pub fn notice_state(&self, tcb: Ref<Tcb>) {
        let node = self.node();
        if node.current.get() == Some(tcb)
            && node.action.get() == SchedulerAction::ResumeCurrent
            && !self.is_schedulable(tcb)
        {
            node.action.set(SchedulerAction::ChooseNew);
        }
    }

    /// Chooses the thread that this CPU goes on with, and charges and programs time.
    pub fn schedule(&self) {
        let node = self.node();
        self.awaken(node);
        if node.domain_time.get() == 0 {
            node.reprogram.set(true);
            self.reschedule_required();
        }
        if node.action.get() != SchedulerAction::ResumeCurrent {
            self.choose(node);
        }
        node.action.set(SchedulerAction::ResumeCurrent);
        if node.kicks.get() != 0 {
            self.send_kicks(node);
        }
        self.switch_context(node);
        if node.reprogram.replace(false) {
            self.set_next_deadline(node);
        }
    }

    fn choose(&self, node: &Node) {
        let current = node.current();
        let was_runnable = self.is_schedulable(current) && node.idle.get() != Some(current);
        if was_runnable {
            self.ready_enqueue(current);
        }
        let SchedulerAction::SwitchTo(candidate) = node.action.get() else {
            return self.choose_new_thread(node);
        };
        let ready = &node.ready[usize::from(node.domain.get())];
        let highest = ready.highest();
        if highest.is_some_and(|highest| highest > candidate.priority.get()) {
            self.ready_enqueue(candidate);
            self.choose_new_thread(node);
        } else if was_runnable && candidate.priority.get() == current.priority.get() {
            self.ready_append(candidate);
            self.choose_new_thread(node);
        } else {
            self.switch_to(node, candidate);
        }
    }

    fn choose_new_thread(&self, node: &Node) {
        if node.domain_time.get() == 0 {
            self.next_domain(node);
        }
        let ready = &node.ready[usize::from(node.domain.get())];
        let best = ready
            .highest()
            .and_then(|priority| ready.queues[usize::from(priority)].head.get());
        match best.or(node.idle.get()) {
            Some(tcb) => self.switch_to(node, tcb),
            None => panic!("a node has no idle thread"),
        }
    }

    /// Makes `tcb` the current thread of this CPU.
    pub fn switch_to(&self, node: &Node, tcb: Ref<Tcb>) {
        arch::switch_address_space(self.space_of(tcb));
        self.ready_dequeue(tcb);
        node.current.set(Some(tcb));
    }

    fn send_kicks(&self, node: &Node) {
        let mut kicks = node.kicks.replace(0);
        while kicks != 0 {
            arch::kick(kicks.trailing_zeros() as usize);
            kicks &= kicks - 1;
        }
    }

    /// Lets the chosen thread go on: what it still has to be told, or where it starts again.
    #[inline]
    pub fn activate(&self) {
        let current = self.node().current();
        if current.yield_to.get().is_some() {
            self.complete_yield_to(current);
        }
        match current.state.get() {
            ThreadState::Restart => {
                current.registers.rip.set(current.restart_ip.get());
                self.set_thread_state(current, ThreadState::Running);
            }
            ThreadState::RunningVm => self.take_signal_in_guest(current),
            _ => {}
        }
    }

    /// Stops `tcb` if another CPU runs it: when this returns its registers are saved, its time is
    /// charged, it waits in a queue, and that CPU runs its idle thread until it gets the lock.
    #[inline]
    pub fn stall(&self, tcb: Ref<Tcb>) {
        let its = usize::from(tcb.node.get());
        if its != arch::node_id() && self.node_of(tcb).current.get() == Some(tcb) {
            self.stall_remote(tcb, its);
        }
    }

    fn stall_remote(&self, tcb: Ref<Tcb>, its: usize) {
        let node = self.node_of(tcb);
        arch::stall(its);
        if tcb.state.get() == ThreadState::Running {
            tcb.state.set(ThreadState::Restart);
        }
        arch::flush_thread_state(tcb);
        node.current.set(node.idle.get());
        node.action.set(SchedulerAction::ChooseNew);
        node.stalled.set(true);
        self.settle_stalled(node);
        if let Some(context) = tcb.sched_context.get()
            && self.is_schedulable(tcb)
        {
            self.ready_enqueue(tcb);
            self.resume_context(context);
        }
    }
}
