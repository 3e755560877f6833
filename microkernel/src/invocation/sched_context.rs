//! Invocations of scheduling contexts.

use sel4_sys::InvocationLabel as Label;

use super::{Answer, Arguments, Outcome};
use crate::arch;
use crate::cap::Cap;
use crate::fault::SyscallError;
use crate::kernel::Kernel;
use crate::object::{Notification, SchedContext, Tcb, ThreadState};
use crate::store::Ref;

/// What a context can be bound to.
enum Partner {
    Thread(Ref<Tcb>),
    Notification(Ref<Notification>),
}

/// A decoded invocation.
enum Invocation {
    Bind(Partner),
    UnbindObject(Partner),
    Unbind,
    Consumed,
    YieldTo(Ref<Tcb>),
}

/// Serves an invocation of `context`. A thread that runs on it on another CPU is stopped there
/// first: what it used is charged, and it is in the queues where all the rest looks for it.
///
/// # Errors
/// As seL4's SchedContext invocations.
pub fn invoke(kernel: &Kernel, context: Ref<SchedContext>, arguments: &Arguments) -> Outcome {
    if let Some(tcb) = context.tcb.get() {
        kernel.stall(tcb);
    }
    let invocation = decode(kernel, context, arguments)?;
    Ok(perform(kernel, context, arguments.tcb, invocation))
}

fn decode(
    kernel: &Kernel,
    context: Ref<SchedContext>,
    arguments: &Arguments,
) -> Result<Invocation, SyscallError> {
    let runs_on_it = context.tcb.get() == Some(arguments.tcb);
    match Label::try_from(arguments.label) {
        Ok(Label::SchedContextConsumed) => Ok(Invocation::Consumed),
        Ok(Label::SchedContextBind) => {
            let partner = partner(arguments)?;
            check_bindable(kernel, context, &partner)?;
            Ok(Invocation::Bind(partner))
        }
        Ok(Label::SchedContextUnbindObject) => {
            let partner = partner(arguments)?;
            let is_bound = match &partner {
                Partner::Thread(tcb) => context.tcb.get() == Some(*tcb) && !runs_on_it,
                Partner::Notification(n) => context.notification.get() == Some(*n),
            };
            if is_bound {
                Ok(Invocation::UnbindObject(partner))
            } else {
                Err(SyscallError::IllegalOperation)
            }
        }
        Ok(Label::SchedContextUnbind) if !runs_on_it => Ok(Invocation::Unbind),
        Ok(Label::SchedContextYieldTo) => match context.tcb.get() {
            Some(tcb)
                if !runs_on_it
                    && tcb.priority.get() <= arguments.tcb.max_controlled_priority.get() =>
            {
                Ok(Invocation::YieldTo(tcb))
            }
            _ => Err(SyscallError::IllegalOperation),
        },
        _ => Err(SyscallError::IllegalOperation),
    }
}

fn partner(arguments: &Arguments) -> Result<Partner, SyscallError> {
    match arguments.extra_slot(0)?.cap() {
        Cap::Thread { tcb } => Ok(Partner::Thread(tcb)),
        Cap::Notification(n) => Ok(Partner::Notification(n.notification)),
        _ => Err(SyscallError::InvalidCapability(1)),
    }
}

fn check_bindable(
    kernel: &Kernel,
    context: Ref<SchedContext>,
    partner: &Partner,
) -> Result<(), SyscallError> {
    let is_free = match partner {
        Partner::Thread(tcb) => {
            context.tcb.get().is_none()
                && tcb.sched_context.get().is_none()
                && (!tcb.is_blocked() || context.is_released(&kernel.clock()))
        }
        Partner::Notification(n) => {
            context.notification.get().is_none() && n.sched_context.get().is_none()
        }
    };
    if is_free {
        Ok(())
    } else {
        Err(SyscallError::IllegalOperation)
    }
}

fn perform(
    kernel: &Kernel,
    context: Ref<SchedContext>,
    caller: Ref<Tcb>,
    invocation: Invocation,
) -> Answer {
    match invocation {
        Invocation::Bind(Partner::Thread(tcb)) => kernel.bind_tcb(context, tcb),
        Invocation::Bind(Partner::Notification(n)) => {
            kernel.bind_context_notification(context, n);
        }
        Invocation::UnbindObject(Partner::Thread(_)) => kernel.unbind_tcb(context),
        Invocation::UnbindObject(Partner::Notification(_)) => {
            kernel.unbind_context_notification(context);
        }
        Invocation::Unbind => {
            kernel.unbind_tcb(context);
            kernel.unbind_context_notification(context);
            kernel.unbind_context_reply(context);
        }
        Invocation::Consumed => return Answer::words(&[kernel.take_consumed_us(context)]),
        Invocation::YieldTo(tcb) => return yield_to(kernel, context, tcb, caller),
    }
    Answer::empty()
}

fn yield_to(
    kernel: &Kernel,
    context: Ref<SchedContext>,
    tcb: Ref<Tcb>,
    caller: Ref<Tcb>,
) -> Answer {
    if let Some(earlier) = context.yield_from.get() {
        kernel.complete_yield_to(earlier);
    }
    kernel.resume_context(context);
    if !kernel.is_schedulable(tcb) {
        return Answer::words(&[kernel.take_consumed_us(context)]);
    }
    let is_remote = usize::from(context.node.get()) != arch::node_id();
    kernel.ready_dequeue(tcb);
    if is_remote || tcb.priority.get() < caller.priority.get() {
        kernel.ready_enqueue(tcb);
        return Answer::words(&[kernel.take_consumed_us(context)]);
    }
    caller.yield_to.set(Some(context));
    context.yield_from.set(Some(caller));
    kernel.set_thread_state(caller, ThreadState::Running);
    kernel.ready_enqueue(caller);
    kernel.ready_enqueue(tcb);
    kernel.reschedule_required();
    Answer::Deferred
}
