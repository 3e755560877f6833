//! Time: scheduling contexts, their control, and timers.

use sel4_sys::thread::SCHED_CONTEXT_SPORADIC;
use sel4_sys::{CPtr, InvocationLabel};

use super::{Notification, Tcb, capabilities};
use crate::invocation::{KernelError, invoke, perform};

capabilities! {
    /// A budget of CPU time on one CPU.
    SchedContext,
    /// The right to fill budgets on one CPU.
    SchedControl,
    /// One deadline that signals a notification.
    Timer,
}

/// How a scheduling context gets its budget back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refill {
    /// All of it each period.
    Full,
    /// Each piece one period after it was used.
    Sporadic,
}

/// What a scheduling context is filled with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SchedParameters {
    /// CPU time per period, in microseconds.
    pub budget_us: u64,
    /// The period, in microseconds. As long as the budget: round robin.
    pub period_us: u64,
    /// Refills beyond the two that every context has.
    pub extra_refills: u64,
    /// What a timeout fault carries.
    pub badge: u64,
    /// How it is refilled.
    pub refill: Refill,
}

impl SchedControl {
    /// Fills a scheduling context and puts it on this CPU.
    ///
    /// # Errors
    /// `Range` for a budget above its period, below the least, or a period that is too long.
    pub fn configure(
        self,
        context: SchedContext,
        parameters: &SchedParameters,
    ) -> Result<(), KernelError> {
        let flags = match parameters.refill {
            Refill::Full => 0,
            Refill::Sporadic => SCHED_CONTEXT_SPORADIC,
        };
        let words = [
            parameters.budget_us,
            parameters.period_us,
            parameters.extra_refills,
            parameters.badge,
            flags,
        ];
        let label = InvocationLabel::SchedControlConfigureFlags;
        perform(self.cptr(), label, &words, &[context.cptr()])
    }
}

impl SchedContext {
    /// Gives the budget to a thread.
    ///
    /// # Errors
    /// `IllegalOperation` if either is bound.
    pub fn bind(self, thread: Tcb) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::SchedContextBind,
            &[],
            &[thread.cptr()],
        )
    }

    /// Takes the budget back from whoever has it.
    ///
    /// # Errors
    /// `IllegalOperation` for the calling thread's own.
    pub fn unbind(self) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::SchedContextUnbind, &[], &[])
    }

    /// Takes the budget back from one thread or notification.
    ///
    /// # Errors
    /// `IllegalOperation` if it is not bound to it.
    pub fn unbind_object(self, object: CPtr) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::SchedContextUnbindObject,
            &[],
            &[object],
        )
    }

    /// Microseconds consumed since this was last asked.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no scheduling context.
    pub fn consumed_us(self) -> Result<u64, KernelError> {
        Ok(invoke(self.cptr(), InvocationLabel::SchedContextConsumed, &[], &[])?.word(0))
    }

    /// Lets its thread run before others of its priority; returns microseconds consumed.
    ///
    /// # Errors
    /// `IllegalOperation` if no thread has it or the caller's priority does not reach so far.
    pub fn yield_to(self) -> Result<u64, KernelError> {
        Ok(invoke(self.cptr(), InvocationLabel::SchedContextYieldTo, &[], &[])?.word(0))
    }
}

/// Whether a timer that was cancelled would still have fired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cancelled {
    /// It was armed.
    InTime,
    /// It had fired, or was never armed.
    TooLate,
}

impl Timer {
    /// Chooses what the timer signals.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no notification that may be signalled.
    pub fn bind(self, notification: Notification) -> Result<(), KernelError> {
        perform(
            self.cptr(),
            InvocationLabel::TimerBind,
            &[],
            &[notification.cptr()],
        )
    }

    /// Signals when the time-stamp counter reaches `deadline`; an earlier deadline is forgotten.
    /// One that is past signals at once.
    ///
    /// # Errors
    /// `IllegalOperation` if nothing is bound.
    pub fn arm(self, deadline: u64) -> Result<(), KernelError> {
        perform(self.cptr(), InvocationLabel::TimerArm, &[deadline], &[])
    }

    /// Forgets the deadline.
    ///
    /// # Errors
    /// `InvalidCapability` if it is no timer.
    pub fn cancel(self) -> Result<Cancelled, KernelError> {
        let answer = invoke(self.cptr(), InvocationLabel::TimerCancel, &[], &[])?;
        Ok(if answer.word(0) == 0 {
            Cancelled::TooLate
        } else {
            Cancelled::InTime
        })
    }
}
