//! Fields: what is refused, by the kernel and by the CPU.

use libcap::KernelError;
use libcap::capability::Vcpu;
use libcap::vcpu::{self, Entry, ExitRecord, Outcome as Entered, Refusal};
use sel4_sys::vcpu_field::segment_attributes;
use sel4_sys::{ExitReason, ObjectType, VcpuField as F};

use crate::bench::{Bench, Engine};
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::machine::Machine;

/// Values that no CPU has, states that do not fit, a VCPU without memory.
pub fn refusals(bench: &mut Bench) -> Outcome {
    let bare: Vcpu = bench.make(ObjectType::Vcpu, 0);
    bare.set_tcb(bench.own_thread())?;
    let entered = vcpu::enter(&Entry::resume(), &mut ExitRecord::default());
    ensure!(
        entered == Entered::Refused(Refusal::NoGuestRoot),
        "without memory: {entered:?}"
    );

    let mut machine = Machine::new(bench)?;
    machine.start_real(code::out_and_halt())?;
    let refused = machine.vcpu.write_fields(&[(F::Dr0, 7), (F::Cr4, 1 << 13)]);
    ensure!(
        refused == Err(KernelError::InvalidArgument { argument: 1 }),
        "CR4.VMXE: {refused:?}"
    );
    ensure_equal!(machine.field(F::Dr0)?, 0, "a field of a refused call");
    for (field, value) in [
        (F::Cr0, 1 << 32),
        (F::Cr0, 1 << 29),
        (F::Efer, 1 << 12),
        (F::Lstar, 1 << 47),
        (F::Rflags, 0),
        (F::Xcr0, 0),
        (F::Pat, 2),
    ] {
        let refused = machine.vcpu.write_fields(&[(field, value)]);
        ensure!(refused.is_err(), "{field:?} = {value:#x} was accepted");
    }
    machine.vcpu.write_fields(&[(F::Cr0, 0x8000_0010)])?;
    let entered = machine.resume();
    let field = F::Cr0.number();
    ensure!(
        entered == Entered::Refused(Refusal::InvalidState { field }),
        "paging without protection: {entered:?}"
    );
    read_back(&mut machine)
}

/// Every field that can have any value comes back as it was written.
fn read_back(machine: &mut Machine) -> Outcome {
    for (index, field) in F::ALL.iter().enumerate() {
        let value = match field.number() {
            0..=7 => 0x1238 + index as u64,
            8..=15 | 54..=69 | 75..=78 => 0x7a00_0000 + index as u64,
            16..=23 => 0xfff,
            _ => continue,
        };
        machine.vcpu.write_fields(&[(*field, value)])?;
        ensure_equal!(machine.field(*field)?, value, "{field:?}");
    }
    for (field, value) in [
        (F::Cr0, 0x6000_0010),
        (F::Cr2, 0x1234_5678_9abc),
        (F::Cr3, 0x5000),
        (F::Cr4, 0x6f0),
        (F::Efer, 0x901),
        (F::Dr7, 0x400),
        (F::Pat, 0x0007_0406_0007_0406),
        (F::SysenterCs, 0x10),
        (F::Star, 0x1234_5678_9abc_def0),
        (F::Cstar, 0x1234),
        (F::KernelGsBase, 0xffff_8000_0000_0000),
        (F::TscOffset, u64::MAX),
        (F::TscAux, 0x77),
        (F::ExceptionIntercepts, 0x4000),
        (F::DsAttributes, segment_attributes::UNUSABLE),
    ] {
        machine.vcpu.write_fields(&[(field, value)])?;
        let read = machine.field(field)?;
        ensure_equal!(read, value, "{field:?}");
    }
    Ok(())
}

/// A state that passes the kernel's checks but not the CPU's is an exit, and can be mended.
pub fn invalid_state(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::out_and_halt())?;
    let task = machine.field(F::TrAttributes)?;
    machine
        .vcpu
        .write_fields(&[(F::TrAttributes, segment_attributes::UNUSABLE)])?;
    if bench.engine() == Engine::Vmx {
        machine.expect(ExitReason::InvalidState)?;
        ensure_equal!(
            machine.record.guest_physical(),
            0x8000_0021,
            "raw exit code"
        );
        ensure_equal!(machine.record.rip(), code::out_and_halt(), "RIP");
    }
    machine.vcpu.write_fields(&[(F::TrAttributes, task)])?;
    machine.expect_mark(0x80)?;
    machine.expect(ExitReason::Hlt)
}
