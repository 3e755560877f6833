//! Invocations of threads. `registers` moves register values, `control` changes what a thread
//! is made of: spaces, buffer, handlers, priorities, scheduling context.

mod control;
mod registers;

use sel4_sys::InvocationLabel as Label;

use super::{Answer, Arguments, Outcome};
use crate::arch;
use crate::cap::{Cap, Rights};
use crate::fault::SyscallError;
use crate::fault_delivery::canonical;
use crate::kernel::Kernel;
use crate::object::{Tcb, TcbFlags};
use crate::store::Ref;

/// Serves an invocation of `tcb`. A thread that runs on another CPU is stopped there first.
///
/// # Errors
/// As seL4's TCB invocations; `Preempted` when an old capability space takes long to delete.
pub fn invoke(kernel: &Kernel, tcb: Ref<Tcb>, arguments: &Arguments) -> Outcome {
    kernel.stall(tcb);
    let label = Label::try_from(arguments.label).map_err(|_| SyscallError::IllegalOperation)?;
    match label {
        Label::TcbReadRegisters => registers::read(kernel, tcb, arguments),
        Label::TcbWriteRegisters => registers::write(kernel, tcb, arguments),
        Label::TcbCopyRegisters => registers::copy(kernel, tcb, arguments),
        Label::TcbConfigure
        | Label::TcbSetSpace
        | Label::TcbSetIpcBuffer
        | Label::TcbSetTimeoutEndpoint => control::invoke_spaces(kernel, tcb, label, arguments),
        Label::TcbSetPriority | Label::TcbSetMcPriority | Label::TcbSetSchedParams => {
            control::invoke_scheduling(kernel, tcb, label, arguments)
        }
        Label::TcbSuspend => {
            kernel.suspend(tcb);
            Ok(Answer::empty())
        }
        Label::TcbResume => {
            kernel.restart(tcb);
            Ok(Answer::empty())
        }
        Label::TcbBindNotification => bind_notification(tcb, arguments),
        Label::TcbUnbindNotification => {
            if tcb.bound_notification.get().is_none() {
                return Err(SyscallError::IllegalOperation.into());
            }
            kernel.unbind_notification(tcb);
            Ok(Answer::empty())
        }
        Label::TcbSetTlsBase => {
            tcb.registers.fs_base.set(canonical(arguments.word(0)?));
            if kernel.node().current.get() == Some(tcb) {
                kernel.reschedule_required();
            }
            Ok(Answer::empty())
        }
        Label::TcbSetFlags => set_flags(kernel, tcb, arguments),
        _ => Err(SyscallError::IllegalOperation.into()),
    }
}

fn bind_notification(tcb: Ref<Tcb>, arguments: &Arguments) -> Outcome {
    let source = arguments.extra_slot(0)?;
    let Cap::Notification(n) = source.cap() else {
        return Err(SyscallError::IllegalOperation.into());
    };
    let is_free = tcb.bound_notification.get().is_none()
        && n.rights.contains(Rights::READ)
        && n.notification.queue.is_empty()
        && n.notification.bound_tcb.get().is_none();
    if !is_free {
        return Err(SyscallError::IllegalOperation.into());
    }
    n.notification.bound_tcb.set(Some(tcb));
    tcb.bound_notification.set(Some(n.notification));
    Ok(Answer::empty())
}

fn set_flags(kernel: &Kernel, tcb: Ref<Tcb>, arguments: &Arguments) -> Outcome {
    let (clear, set) = (arguments.word(0)?, arguments.word(1)?);
    let flags = (tcb.flags.get().0 & !clear | set) & TcbFlags::ALL;
    tcb.flags.set(TcbFlags(flags));
    if flags & TcbFlags::FPU_DISABLED != 0 {
        arch::flush_thread_state(tcb);
    }
    if kernel.node().current.get() == Some(tcb) {
        kernel.reschedule_required();
    }
    Ok(Answer::words(&[flags]))
}
