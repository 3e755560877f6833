//! What a thread is made of: spaces, buffer, handlers, priorities, scheduling context.

use sel4_sys::InvocationLabel as Label;

use crate::cap::{Cap, FrameCap, MapSpace, Rights};
use crate::derivation::{self, Badges};
use crate::fault::SyscallError;
use crate::finalise;
use crate::invocation::{Answer, Arguments, Outcome};
use crate::kernel::Kernel;
use crate::object::{SchedContext, Slot, Tcb, TcbSlot, ThreadState};
use crate::store::Ref;

/// IPC buffers are aligned to their size.
const BUFFER_ALIGNMENT: u64 = 1024;

/// A capability to put into one of the thread's slots; `cap` null empties it.
#[derive(Clone, Copy)]
struct Install {
    target: TcbSlot,
    cap: Cap,
    source: Ref<Slot>,
}

/// A decoded change of spaces: installed in this order.
#[derive(Default)]
struct Spaces {
    installs: [Option<Install>; 3],
    /// New address of the IPC buffer.
    buffer_address: Option<u64>,
}

/// Serves Configure, SetSpace, SetIPCBuffer and SetTimeoutEndpoint.
pub fn invoke_spaces(
    kernel: &Kernel,
    tcb: Ref<Tcb>,
    label: Label,
    arguments: &Arguments,
) -> Outcome {
    let spaces = match label {
        Label::TcbConfigure => decode_configure(tcb, arguments)?,
        Label::TcbSetSpace => decode_set_space(tcb, arguments)?,
        Label::TcbSetIpcBuffer => {
            let (address, source) = (arguments.word(0)?, arguments.extra_slot(0)?);
            Spaces {
                installs: [Some(decode_buffer(address, source)?), None, None],
                buffer_address: Some(address),
            }
        }
        _ => {
            let handler = decode_handler(TcbSlot::TimeoutHandler, arguments.extra_slot(0)?, 1)?;
            Spaces {
                installs: [Some(handler), None, None],
                buffer_address: None,
            }
        }
    };
    for install in spaces.installs.into_iter().flatten() {
        perform_install(kernel, tcb, arguments.slot, install)?;
    }
    if let Some(address) = spaces.buffer_address {
        tcb.ipc_buffer_address.set(address);
    }
    Ok(Answer::empty())
}

fn decode_configure(tcb: Ref<Tcb>, arguments: &Arguments) -> Result<Spaces, SyscallError> {
    let buffer_source = arguments.extra_slot(2)?;
    let address = arguments.word(2)?;
    let buffer = decode_buffer(address, buffer_source)?;
    check_quick_to_delete(tcb)?;
    let cspace = decode_cspace(arguments.extra_slot(0)?, arguments.word(0)?)?;
    let vspace = decode_vspace(arguments.extra_slot(1)?, arguments.word(1)?)?;
    Ok(Spaces {
        installs: [Some(cspace), Some(vspace), Some(buffer)],
        buffer_address: Some(address),
    })
}

fn decode_set_space(tcb: Ref<Tcb>, arguments: &Arguments) -> Result<Spaces, SyscallError> {
    let vspace_source = arguments.extra_slot(2)?;
    let (cspace_data, vspace_data) = (arguments.word(0)?, arguments.word(1)?);
    check_quick_to_delete(tcb)?;
    let cspace = decode_cspace(arguments.extra_slot(1)?, cspace_data)?;
    let vspace = decode_vspace(vspace_source, vspace_data)?;
    let handler = decode_handler(TcbSlot::FaultHandler, arguments.extra_slot(0)?, 1)?;
    Ok(Spaces {
        installs: [Some(handler), Some(cspace), Some(vspace)],
        buffer_address: None,
    })
}

fn check_quick_to_delete(tcb: Ref<Tcb>) -> Result<(), SyscallError> {
    let slow = [TcbSlot::CSpace, TcbSlot::VSpace]
        .into_iter()
        .any(|slot| derivation::is_long_running_delete(tcb.slot(slot)));
    if slow {
        Err(SyscallError::IllegalOperation)
    } else {
        Ok(())
    }
}

fn with_data(cap: Cap, data: u64) -> Cap {
    if data == 0 {
        cap
    } else {
        derivation::update_data(Badges::Kept, data, cap)
    }
}

fn decode_cspace(source: Ref<Slot>, data: u64) -> Result<Install, SyscallError> {
    let cap = derivation::derive_cap(source, with_data(source.cap(), data))?;
    match cap {
        Cap::CNode(_) => Ok(Install {
            target: TcbSlot::CSpace,
            cap,
            source,
        }),
        _ => Err(SyscallError::IllegalOperation),
    }
}

fn decode_vspace(source: Ref<Slot>, data: u64) -> Result<Install, SyscallError> {
    let cap = derivation::derive_cap(source, with_data(source.cap(), data))?;
    match cap {
        Cap::Root(root) if root.space == MapSpace::Virtual && root.asid.is_some() => Ok(Install {
            target: TcbSlot::VSpace,
            cap,
            source,
        }),
        _ => Err(SyscallError::IllegalOperation),
    }
}

/// A fault handler: an endpoint that a fault can be sent to and answered from, or nothing.
fn decode_handler(
    target: TcbSlot,
    source: Ref<Slot>,
    number: u64,
) -> Result<Install, SyscallError> {
    let cap = source.cap();
    let is_valid = match cap {
        Cap::Null => true,
        Cap::Endpoint(e) => {
            e.rights.contains(Rights::WRITE)
                && (e.rights.contains(Rights::GRANT) || e.rights.contains(Rights::GRANT_REPLY))
        }
        _ => false,
    };
    if is_valid {
        Ok(Install {
            target,
            cap,
            source,
        })
    } else {
        Err(SyscallError::InvalidCapability(number))
    }
}

fn decode_buffer(address: u64, source: Ref<Slot>) -> Result<Install, SyscallError> {
    let install = |cap| Install {
        target: TcbSlot::IpcBuffer,
        cap,
        source,
    };
    if address == 0 {
        return Ok(install(Cap::Null));
    }
    let cap = derivation::derive_cap(source, source.cap())?;
    match cap {
        Cap::Frame(FrameCap { device: false, .. }) => {}
        _ => return Err(SyscallError::IllegalOperation),
    }
    if !address.is_multiple_of(BUFFER_ALIGNMENT) {
        return Err(SyscallError::AlignmentError);
    }
    Ok(install(cap))
}

fn perform_install(
    kernel: &Kernel,
    tcb: Ref<Tcb>,
    thread_slot: Ref<Slot>,
    install: Install,
) -> Result<(), crate::fault::Preempted> {
    let slot = tcb.slot(install.target);
    finalise::delete(kernel, slot)?;
    // Deleting the old capability may have deleted the new one, or the thread's own.
    if !install.cap.is_null()
        && derivation::same_object(install.cap, install.source.cap())
        && thread_slot.cap() == (Cap::Thread { tcb })
    {
        derivation::insert(install.cap, install.source, slot);
    }
    Ok(())
}

/// A decoded change of how a thread is scheduled.
#[derive(Default)]
struct Scheduling {
    handler: Option<Install>,
    max_controlled_priority: Option<u8>,
    priority: Option<u8>,
    context: Option<Option<Ref<SchedContext>>>,
}

/// Serves SetPriority, SetMCPriority and SetSchedParams.
pub fn invoke_scheduling(
    kernel: &Kernel,
    tcb: Ref<Tcb>,
    label: Label,
    arguments: &Arguments,
) -> Outcome {
    let authority_slot = arguments.extra_slot(0)?;
    if label == Label::TcbSetSchedParams {
        // Refused as a whole when anything is missing, before a capability is looked at.
        arguments.extra_slot(2)?;
        arguments.word(1)?;
    }
    let first = arguments.word(0)?;
    let Cap::Thread { tcb: authority } = authority_slot.cap() else {
        return Err(SyscallError::InvalidCapability(1).into());
    };
    let first = check_priority(first, authority)?;
    let change = match label {
        Label::TcbSetPriority => Scheduling {
            priority: Some(first),
            ..Scheduling::default()
        },
        Label::TcbSetMcPriority => Scheduling {
            max_controlled_priority: Some(first),
            ..Scheduling::default()
        },
        _ => Scheduling {
            max_controlled_priority: Some(first),
            priority: Some(check_priority(arguments.word(1)?, authority)?),
            context: decode_context(kernel, tcb, arguments)?,
            handler: Some(decode_handler(
                TcbSlot::FaultHandler,
                arguments.extra_slot(2)?,
                3,
            )?),
        },
    };
    perform_scheduling(kernel, tcb, arguments.slot, change)
}

fn check_priority(priority: u64, authority: Ref<Tcb>) -> Result<u8, SyscallError> {
    let max = authority.max_controlled_priority.get();
    match u8::try_from(priority) {
        Ok(priority) if priority <= max => Ok(priority),
        _ => Err(SyscallError::RangeError {
            min: 0,
            max: u64::from(max),
        }),
    }
}

/// The scheduling context to change to, if it changes.
fn decode_context(
    kernel: &Kernel,
    tcb: Ref<Tcb>,
    arguments: &Arguments,
) -> Result<Option<Option<Ref<SchedContext>>>, SyscallError> {
    let current = tcb.sched_context.get();
    match arguments.extra_slot(1)?.cap() {
        Cap::SchedContext { context, .. } => {
            let changes = current != Some(context);
            if changes && (current.is_some() || context.tcb.get().is_some()) {
                return Err(SyscallError::IllegalOperation);
            }
            if tcb.is_blocked() && !context.is_released(&kernel.clock()) {
                return Err(SyscallError::IllegalOperation);
            }
            Ok(changes.then_some(Some(context)))
        }
        Cap::Null if tcb == arguments.tcb => Err(SyscallError::IllegalOperation),
        Cap::Null => Ok(current.is_some().then_some(None)),
        _ => Err(SyscallError::InvalidCapability(2)),
    }
}

fn perform_scheduling(
    kernel: &Kernel,
    tcb: Ref<Tcb>,
    thread_slot: Ref<Slot>,
    change: Scheduling,
) -> Outcome {
    if let Some(handler) = change.handler {
        perform_install(kernel, tcb, thread_slot, handler)?;
    }
    if let Some(mcp) = change.max_controlled_priority {
        tcb.max_controlled_priority.set(mcp);
    }
    if let Some(priority) = change.priority {
        set_priority(kernel, tcb, priority);
    }
    match change.context {
        Some(Some(context)) => kernel.bind_tcb(context, tcb),
        Some(None) => {
            if let Some(context) = tcb.sched_context.get() {
                kernel.unbind_tcb(context);
            }
        }
        None => {}
    }
    Ok(Answer::empty())
}

fn set_priority(kernel: &Kernel, tcb: Ref<Tcb>, priority: u8) {
    let is_current = kernel.node().current.get() == Some(tcb);
    match tcb.state.get() {
        ThreadState::Running | ThreadState::Restart | ThreadState::RunningVm
            if tcb.in_ready_queue.get() || is_current =>
        {
            kernel.ready_dequeue(tcb);
            tcb.priority.set(priority);
            if kernel.is_schedulable(tcb) {
                kernel.ready_enqueue(tcb);
            }
            kernel.reschedule_required();
        }
        ThreadState::BlockedOnReceive | ThreadState::BlockedOnSend => {
            tcb.priority.set(priority);
            if let Some(endpoint) = tcb.blocking.get().endpoint {
                endpoint.queue.remove(tcb);
                endpoint.queue.insert_by_priority(tcb);
            }
        }
        ThreadState::BlockedOnNotification => {
            tcb.priority.set(priority);
            if let Some(notification) = tcb.blocking.get().notification {
                notification.queue.remove(tcb);
                notification.queue.insert_by_priority(tcb);
            }
        }
        _ => tcb.priority.set(priority),
    }
}
