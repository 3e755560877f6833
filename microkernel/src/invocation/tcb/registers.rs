//! Reading and writing a thread's registers.

use core::cell::Cell;

use crate::cap::Cap;
use crate::fault::SyscallError;
use crate::fault_delivery::{canonical, sanitised_flags};
use crate::invocation::{Answer, Arguments, Outcome};
use crate::kernel::Kernel;
use crate::object::{Registers, Tcb};
use crate::store::Ref;

/// Registers of ReadRegisters and WriteRegisters.
const COUNT: usize = 20;
/// The first three are the frame (instruction and stack pointer, flags), the rest integers.
const FRAME: usize = 3;

/// Whether source and destination of a transfer are one's own running thread.
fn check_not_self(tcb: Ref<Tcb>, arguments: &Arguments) -> Result<(), SyscallError> {
    if tcb == arguments.tcb {
        Err(SyscallError::IllegalOperation)
    } else {
        Ok(())
    }
}

/// The registers of `tcb`, with the address where it will go on in place of RIP.
fn cells(tcb: &Tcb) -> [&Cell<u64>; COUNT] {
    let mut all = tcb.registers.all();
    all[0] = &tcb.restart_ip;
    all
}

/// What user code may put into register `index`.
fn sanitised(index: usize, value: u64) -> u64 {
    match index {
        0 | 18 | 19 => canonical(value),
        2 => sanitised_flags(value),
        _ => value,
    }
}

/// ReadRegisters: flags, count.
pub fn read(kernel: &Kernel, tcb: Ref<Tcb>, arguments: &Arguments) -> Outcome {
    let (flags, count) = (arguments.word(0)?, arguments.word(1)?);
    if count < 1 || count > COUNT as u64 {
        return Err(SyscallError::RangeError {
            min: 1,
            max: COUNT as u64,
        }
        .into());
    }
    check_not_self(tcb, arguments)?;
    if flags & 1 != 0 {
        kernel.suspend(tcb);
    }
    let values = cells(&tcb).map(Cell::get);
    Ok(Answer::words(&values[..count as usize]))
}

/// WriteRegisters: flags, count, values.
pub fn write(kernel: &Kernel, tcb: Ref<Tcb>, arguments: &Arguments) -> Outcome {
    let (flags, count) = (arguments.word(0)?, arguments.word(1)?);
    if arguments.length - 2 < count {
        return Err(SyscallError::TruncatedMessage.into());
    }
    check_not_self(tcb, arguments)?;
    let count = (count as usize).min(COUNT);
    let mut values = [0; COUNT];
    for (index, value) in values.iter_mut().enumerate().take(count) {
        *value = sanitised(index, arguments.word(2 + index)?);
    }
    for (register, value) in cells(&tcb).iter().zip(values).take(count) {
        register.set(value);
    }
    tcb.registers.rip.set(tcb.restart_ip.get());
    if flags & 1 != 0 {
        kernel.restart(tcb);
    }
    Ok(Answer::empty())
}

/// CopyRegisters: flags; extra: the source thread.
pub fn copy(kernel: &Kernel, tcb: Ref<Tcb>, arguments: &Arguments) -> Outcome {
    let flags = arguments.word(0)?;
    let Cap::Thread { tcb: source } = arguments.extra_slot(0)?.cap() else {
        return Err(SyscallError::InvalidCapability(1).into());
    };
    kernel.stall(source);
    if flags & 1 != 0 {
        kernel.suspend(source);
    }
    if flags & 2 != 0 {
        kernel.restart(tcb);
    }
    let from = cells(&source).map(Cell::get);
    let to = cells(&tcb);
    let copy = |range: core::ops::Range<usize>| {
        for (register, value) in to[range.clone()].iter().zip(&from[range]) {
            register.set(*value);
        }
    };
    if flags & 4 != 0 {
        copy(0..FRAME);
        tcb.registers.rip.set(tcb.restart_ip.get());
    }
    if flags & 8 != 0 {
        copy(FRAME..COUNT);
    }
    if kernel.node().current.get() == Some(tcb) {
        kernel.reschedule_required();
    }
    Ok(Answer::empty())
}

const _: () = assert!(size_of::<Registers>() == COUNT * size_of::<u64>());
