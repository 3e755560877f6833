//! Domains: which domain a thread is in, and the schedule of domains.

use sel4_sys::InvocationLabel as Label;

use super::{Answer, Arguments, Outcome};
use crate::arch;
use crate::cap::Cap;
use crate::config::{DOMAIN_SCHEDULE_LENGTH, NUM_DOMAINS};
use crate::fault::SyscallError;
use crate::kernel::{DomainTurn, Kernel};
use crate::object::Tcb;
use crate::store::Ref;

/// Durations fit in 56 bits, as in seL4.
const MAX_DURATION: u64 = (1 << 56) - 1;

/// A decoded invocation.
enum Invocation {
    Set { tcb: Ref<Tcb>, domain: u8 },
    Configure { index: usize, turn: DomainTurn },
    SetStart { index: usize },
}

/// Serves an invocation of the domain capability.
///
/// # Errors
/// As seL4's Domain invocations.
pub fn invoke(kernel: &Kernel, arguments: &Arguments) -> Outcome {
    let invocation = decode(kernel, arguments)?;
    perform(kernel, invocation);
    Ok(Answer::empty())
}

fn decode(kernel: &Kernel, arguments: &Arguments) -> Result<Invocation, SyscallError> {
    match Label::try_from(arguments.label) {
        Ok(Label::DomainSetSet) => {
            let domain = arguments.word(0)? & 0xff;
            if domain as usize >= NUM_DOMAINS {
                return Err(SyscallError::InvalidArgument(0));
            }
            let Cap::Thread { tcb } = arguments.extra_slot(0)?.cap() else {
                return Err(SyscallError::InvalidArgument(1));
            };
            Ok(Invocation::Set {
                tcb,
                domain: domain as u8,
            })
        }
        Ok(Label::DomainScheduleConfigure) => decode_configure(kernel, arguments),
        Ok(Label::DomainScheduleSetStart) => {
            let index = arguments.word(0)?;
            let last = DOMAIN_SCHEDULE_LENGTH as u64 - 1;
            if index > last {
                return Err(SyscallError::RangeError { min: 0, max: last });
            }
            if kernel.domain_schedule[index as usize].get().duration == 0 {
                return Err(SyscallError::InvalidArgument(0));
            }
            Ok(Invocation::SetStart {
                index: index as usize,
            })
        }
        _ => Err(SyscallError::IllegalOperation),
    }
}

fn decode_configure(kernel: &Kernel, arguments: &Arguments) -> Result<Invocation, SyscallError> {
    let duration = arguments.word(2)?;
    let (index, domain) = (arguments.word(0)?, arguments.word(1)? & 0xff);
    // The last entry stays an end marker.
    let last = DOMAIN_SCHEDULE_LENGTH as u64 - 2;
    if index > last {
        return Err(SyscallError::RangeError { min: 0, max: last });
    }
    if domain as usize >= NUM_DOMAINS {
        return Err(SyscallError::RangeError {
            min: 0,
            max: NUM_DOMAINS as u64 - 1,
        });
    }
    if duration > MAX_DURATION {
        return Err(SyscallError::InvalidArgument(2));
    }
    if duration == 0 && domain != 0 {
        return Err(SyscallError::InvalidArgument(1));
    }
    if duration == 0 && index as usize == kernel.domain_start.get() {
        return Err(SyscallError::InvalidArgument(2));
    }
    let turn = DomainTurn {
        domain: domain as u8,
        duration,
    };
    Ok(Invocation::Configure {
        index: index as usize,
        turn,
    })
}

fn perform(kernel: &Kernel, invocation: Invocation) {
    match invocation {
        Invocation::Set { tcb, domain } => {
            kernel.stall(tcb);
            kernel.ready_dequeue(tcb);
            tcb.domain.set(domain);
            if kernel.is_schedulable(tcb) {
                kernel.ready_enqueue(tcb);
            }
            // It may be the one that runs, or may run before that one now.
            kernel.reschedule_required();
        }
        Invocation::Configure { index, turn } => kernel.domain_schedule[index].set(turn),
        Invocation::SetStart { index } => {
            kernel.domain_start.set(index);
            for (number, node) in kernel
                .nodes
                .iter()
                .enumerate()
                .take(kernel.node_count.get())
            {
                node.domain_time.set(0);
                // The end marker: the next turn is the first of the new schedule.
                node.domain_index.set(DOMAIN_SCHEDULE_LENGTH - 2);
                if number != arch::node_id() {
                    kernel.request_kick(number);
                }
            }
            kernel.reschedule_required();
        }
    }
}
