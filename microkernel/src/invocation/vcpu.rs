//! Invocations of VCPUs (Tessera's addition): what one runs in, who runs it, its fields.

use heapless::Vec;
use sel4_sys::vcpu_field::FIELDS_PER_CALL;
use sel4_sys::{InvocationLabel as Label, VcpuField};

use super::{Answer, Arguments, Outcome};
use crate::cap::{Cap, MapSpace};
use crate::derivation;
use crate::fault::SyscallError;
use crate::finalise;
use crate::kernel::Kernel;
use crate::object::Slot;
use crate::store::Ref;
use crate::vcpu::control::with_control;
use crate::vcpu::{self, PORT_SLOTS, Trust, Vcpu, field};

/// Serves an invocation of `vcpu`. If its guest runs on another CPU it is stopped first.
///
/// # Errors
/// As docs/abi.md says; a refused WriteFields wrote nothing.
pub fn invoke(kernel: &Kernel, vcpu: Ref<Vcpu>, arguments: &Arguments) -> Outcome {
    if let Some(tcb) = vcpu.tcb.get() {
        kernel.stall(tcb);
    }
    match Label::try_from(arguments.label) {
        Ok(Label::VcpuSetTcb) => set_tcb(kernel, vcpu, arguments),
        Ok(Label::VcpuSetGuestRoot) => set_guest_root(kernel, vcpu, arguments),
        Ok(Label::VcpuReadFields) => read_fields(vcpu, arguments),
        Ok(Label::VcpuWriteFields) => write_fields(vcpu, arguments),
        Ok(Label::VcpuEnableIoPort) => enable_ports(vcpu, arguments),
        Ok(Label::VcpuDisableIoPort) => disable_ports(kernel, vcpu, arguments),
        _ => Err(SyscallError::IllegalOperation.into()),
    }
}

fn set_tcb(kernel: &Kernel, vcpu: Ref<Vcpu>, arguments: &Arguments) -> Outcome {
    let Cap::Thread { tcb } = arguments.extra_slot(0)?.cap() else {
        return Err(SyscallError::InvalidCapability(1).into());
    };
    kernel.stall(tcb);
    if let Some(old) = vcpu.tcb.get() {
        vcpu::detach(old);
    }
    vcpu::detach(tcb);
    vcpu.tcb.set(Some(tcb));
    tcb.vcpu.set(Some(vcpu));
    Ok(Answer::empty())
}

fn set_guest_root(kernel: &Kernel, vcpu: Ref<Vcpu>, arguments: &Arguments) -> Outcome {
    let source = arguments.extra_slot(0)?;
    let cap = source.cap();
    match cap {
        Cap::Root(root) if root.space == MapSpace::Guest && root.asid.is_some() => {}
        _ => return Err(SyscallError::InvalidCapability(1).into()),
    }
    let derived = derivation::derive_cap(source, cap)?;
    finalise::delete_one(kernel, vcpu.root_slot());
    derivation::insert(derived, source, vcpu.root_slot());
    vcpu.trust.set(Trust::Unchecked);
    Ok(Answer::empty())
}

/// How many fields a call names.
fn field_count(arguments: &Arguments) -> Result<usize, SyscallError> {
    let count = arguments.word(0)?;
    let max = FIELDS_PER_CALL as u64;
    if count > max {
        return Err(SyscallError::RangeError { min: 0, max });
    }
    Ok(count as usize)
}

/// The field that argument pair `index` names.
fn named_field(word: u64, index: usize) -> Result<VcpuField, SyscallError> {
    VcpuField::try_from(word).map_err(|_| SyscallError::InvalidArgument(index as u64))
}

fn read_fields(vcpu: Ref<Vcpu>, arguments: &Arguments) -> Outcome {
    let mut values = Vec::<u64, FIELDS_PER_CALL>::new();
    for index in 0..field_count(arguments)? {
        let field = named_field(arguments.word(1 + index)?, index)?;
        // The count was checked.
        let _ = values.push(with_control!(vcpu, control => field::read(&vcpu, control, field)));
    }
    Ok(Answer::words(&values))
}

fn write_fields(vcpu: Ref<Vcpu>, arguments: &Arguments) -> Outcome {
    let mut pairs = Vec::<(VcpuField, u64), FIELDS_PER_CALL>::new();
    for index in 0..field_count(arguments)? {
        let field = named_field(arguments.word(1 + 2 * index)?, index)?;
        let value = arguments.word(2 + 2 * index)?;
        if !field::is_acceptable(field, value) {
            return Err(SyscallError::InvalidArgument(index as u64).into());
        }
        // The count was checked.
        let _ = pairs.push((field, value));
    }
    for (field, value) in pairs {
        with_control!(vcpu, control => field::write(&vcpu, control, field, value));
    }
    Ok(Answer::empty())
}

/// A range of ports; it must be the whole range of a port capability.
fn port_range(arguments: &Arguments) -> Result<(u16, u16), SyscallError> {
    let port = |index| {
        u16::try_from(arguments.word(index)?)
            .map_err(|_| SyscallError::InvalidArgument(index as u64))
    };
    let (first, last) = (port(0)?, port(1)?);
    if first > last {
        Err(SyscallError::InvalidArgument(1))
    } else {
        Ok((first, last))
    }
}

fn enable_ports(vcpu: Ref<Vcpu>, arguments: &Arguments) -> Outcome {
    let source = arguments.extra_slot(0)?;
    let (first, last) = port_range(arguments)?;
    match source.cap() {
        Cap::IoPort {
            first: low,
            last: high,
        } if (low, high) == (first, last) => {}
        _ => return Err(SyscallError::InvalidCapability(1).into()),
    }
    let free = (0..PORT_SLOTS)
        .map(|index| vcpu.port_slot(index))
        .find(|slot| slot.is_empty());
    let slot: Ref<Slot> = free.ok_or(SyscallError::DeleteFirst)?;
    derivation::insert(Cap::IoPort { first, last }, source, slot);
    vcpu.gain_port();
    Ok(Answer::empty())
}

fn disable_ports(kernel: &Kernel, vcpu: Ref<Vcpu>, arguments: &Arguments) -> Outcome {
    let (first, last) = port_range(arguments)?;
    for index in 0..PORT_SLOTS {
        let slot = vcpu.port_slot(index);
        if slot.cap() == (Cap::IoPort { first, last }) {
            finalise::delete_one(kernel, slot);
            return Ok(Answer::empty());
        }
    }
    Err(SyscallError::InvalidArgument(0).into())
}
