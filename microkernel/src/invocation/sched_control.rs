//! SchedControl: giving a scheduling context its budget and its node.

use sel4_sys::InvocationLabel as Label;

use super::{Answer, Arguments, Outcome};
use crate::arch;
use crate::cap::Cap;
use crate::config::{KERNEL_WCET_US, MIN_REFILLS};
use crate::fault::SyscallError;
use crate::kernel::Kernel;
use crate::object::SchedContext;
use crate::store::Ref;

/// Smallest budget and period, in microseconds.
const MIN_BUDGET_US: u64 = 2 * KERNEL_WCET_US;
/// Flag of ConfigureFlags: an unused budget keeps its replenishment times.
const SPORADIC: u64 = 1;

/// A decoded ConfigureFlags. Times in ticks.
struct Configuration {
    context: Ref<SchedContext>,
    node: u8,
    budget: u64,
    period: u64,
    max_refills: u32,
    badge: u64,
    sporadic: bool,
}

/// Serves an invocation of the SchedControl capability of `node`.
///
/// # Errors
/// As seL4's SchedControl.ConfigureFlags.
pub fn invoke(kernel: &Kernel, node: u8, arguments: &Arguments) -> Outcome {
    if Label::try_from(arguments.label) != Ok(Label::SchedControlConfigureFlags) {
        return Err(SyscallError::IllegalOperation.into());
    }
    let configuration = decode(kernel, node, arguments)?;
    perform(kernel, &configuration);
    Ok(Answer::empty())
}

fn decode(kernel: &Kernel, node: u8, arguments: &Arguments) -> Result<Configuration, SyscallError> {
    let target = arguments.extra_slot(0)?;
    if arguments.length < 5 {
        return Err(SyscallError::TruncatedMessage);
    }
    let (budget_us, period_us) = (arguments.word(0)?, arguments.word(1)?);
    let max_us = kernel.max_period_us();
    let in_range = |us: u64| (MIN_BUDGET_US..=max_us).contains(&us);
    if !in_range(budget_us) || !in_range(period_us) {
        return Err(SyscallError::RangeError {
            min: MIN_BUDGET_US,
            max: max_us,
        });
    }
    if budget_us > period_us {
        return Err(SyscallError::RangeError {
            min: MIN_BUDGET_US,
            max: period_us,
        });
    }
    let Cap::SchedContext { context, size_bits } = target.cap() else {
        return Err(SyscallError::InvalidCapability(1));
    };
    let extra = arguments.word(2)?;
    let room = SchedContext::capacity(size_bits) - MIN_REFILLS;
    if extra > room {
        return Err(SyscallError::RangeError { min: 0, max: room });
    }
    Ok(Configuration {
        context,
        node,
        budget: kernel.us_to_ticks(budget_us),
        period: kernel.us_to_ticks(period_us),
        max_refills: (extra + MIN_REFILLS) as u32,
        badge: arguments.word(3)?,
        sporadic: arguments.word(4)? & SPORADIC != 0,
    })
}

fn perform(kernel: &Kernel, c: &Configuration) {
    let context = c.context;
    let thread = context.tcb.get();
    if let Some(tcb) = thread {
        kernel.stall(tcb);
        kernel.release_remove(tcb);
        kernel.ready_dequeue(tcb);
        if kernel.node().current_context.get() == Some(context) {
            kernel.commit_time();
            // The slice under way ends when the new budget does.
            kernel.node().reprogram.set(true);
        }
    }
    let clock = kernel.clock();
    let in_use = c.node == context.node.get()
        && context.is_active()
        && thread.is_some_and(|tcb| tcb.is_runnable());
    if c.budget == c.period {
        context.configure_new(MIN_REFILLS as u32, c.budget, 0, &clock);
    } else if in_use {
        context.configure_update(c.max_refills, c.budget, c.period, &clock);
    } else {
        context.configure_new(c.max_refills, c.budget, c.period, &clock);
    }
    context.node.set(c.node);
    context.badge.set(c.badge);
    context.sporadic.set(c.sporadic);
    if let Some(tcb) = thread {
        arch::flush_thread_state(tcb);
        tcb.node.set(c.node);
        kernel.resume_context(context);
        let is_current = kernel.node().current.get() == Some(tcb);
        if is_current {
            kernel.reschedule_required();
        } else if tcb.is_runnable() && !tcb.in_release_queue.get() {
            kernel.possible_switch_to(tcb);
        }
    }
}
