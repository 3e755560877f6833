//! Invocations of timers (Tessera's addition).

use sel4_sys::InvocationLabel as Label;

use super::{Answer, Arguments, Outcome};
use crate::cap::{Cap, Rights};
use crate::derivation;
use crate::fault::SyscallError;
use crate::finalise;
use crate::kernel::Kernel;
use crate::object::Timer;
use crate::store::Ref;

/// Serves an invocation of `timer`.
///
/// # Errors
/// `InvalidCapability(1)` if Bind gets no notification that may be signalled; `TruncatedMessage`;
/// `IllegalOperation` for a label that timers do not have.
pub fn invoke(kernel: &Kernel, timer: Ref<Timer>, arguments: &Arguments) -> Outcome {
    match Label::try_from(arguments.label) {
        Ok(Label::TimerBind) => {
            let source = arguments.extra_slot(0)?;
            let cap = source.cap();
            match cap {
                Cap::Notification(n) if n.rights.contains(Rights::WRITE) => {}
                _ => return Err(SyscallError::InvalidCapability(1).into()),
            }
            let derived = derivation::derive_cap(source, cap)?;
            finalise::delete_one(kernel, timer.slot());
            derivation::insert(derived, source, timer.slot());
            Ok(Answer::empty())
        }
        Ok(Label::TimerArm) => {
            let deadline = arguments.word(0)?;
            kernel.arm_timer(timer, deadline);
            Ok(Answer::empty())
        }
        Ok(Label::TimerCancel) => Ok(Answer::words(&[u64::from(kernel.cancel_timer(timer))])),
        _ => Err(SyscallError::IllegalOperation.into()),
    }
}
