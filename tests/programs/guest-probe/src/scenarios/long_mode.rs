//! The way to long mode, and what a guest does there.

use libcap::vcpu::Outcome as Entered;
use sel4_sys::vcpu::exit_mode;
use sel4_sys::{Event, ExitReason, VcpuField as F};

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::machine::{
    COUNTER, CR0_LONG, EFER_LONG, Machine, PAGE_TABLES, RAX, RBX, RCX, RDI, RDX, write_long_tables,
};
use crate::memory;

const EFER: u64 = 0xc000_0080;

/// Answers an access to EFER as a monitor does.
fn answer_efer(machine: &mut Machine) -> Outcome {
    machine.expect(ExitReason::MsrRead)?;
    ensure_equal!(machine.record.qualification(), EFER, "MSR read");
    let efer = machine.record.efer();
    machine.skip(2)?;
    machine.set(RAX, efer & 0xffff_ffff);
    machine.set(RDX, efer >> 32);
    machine.expect(ExitReason::MsrWrite)?;
    ensure_equal!(machine.record.qualification(), EFER, "MSR written");
    let value = machine.get(RDX) << 32 | machine.get(RAX);
    ensure_equal!(value, 0x901, "new EFER");
    machine.vcpu.write_fields(&[(F::Efer, value)])?;
    machine.skip(2)
}

/// Real mode, protected mode, long mode; every control register as the guest set it.
pub fn from_reset(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_real(code::long_mode())?;
    write_long_tables();
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.record.cr0(), 0x6000_0011, "CR0 in protected mode");
    ensure_equal!(machine.record.mode(), exit_mode::CS_DEFAULT_32, "mode");
    answer_efer(&mut machine)?;
    machine.expect_mark(0x80)?;
    let record = machine.record;
    ensure_equal!(record.mode(), exit_mode::CS_LONG, "mode");
    ensure_equal!(record.cr0(), CR0_LONG, "CR0 in long mode");
    ensure_equal!(
        [record.cr3(), record.cr4()],
        [PAGE_TABLES, 0x20],
        "CR3 and CR4"
    );
    ensure_equal!(record.efer(), EFER_LONG, "EFER with LMA");
    ensure_equal!(
        [machine.get(RBX), machine.get(RCX)],
        [CR0_LONG, 0x20],
        "what the guest reads"
    );
    ensure_equal!(machine.field(F::Efer)?, EFER_LONG, "EFER as a field");
    machine.expect_mark(0x80)?;
    ensure_equal!(
        machine.get(RBX),
        CR0_LONG | 0x6000_0000,
        "CR0 with caches off"
    );
    ensure_equal!(machine.get(RCX), CR0_LONG, "CR0 with caches on again");
    ensure_equal!(machine.record.cr0(), CR0_LONG, "CR0 in the record");
    machine.expect(ExitReason::Hlt)
}

/// Page directory pointers at 0x15000: address 0 is mapped to `page`.
fn write_pae_tables(page: u64) {
    memory::write(0x1_5000, 0x1_6001);
    memory::write(0x1_6000, 0x1_7003);
    for index in 0..16 {
        memory::write(0x1_7000 + index * 8, index << 12 | 3);
    }
    memory::write(0x1_7000 + (COUNTER >> 12) * 8, page | 3);
}

/// The guest switches it on itself.
pub fn pae_paging(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_real(code::pae_paging())?;
    machine.enter_protected_mode(code::pae_paging())?;
    write_pae_tables(0x2_0000);
    memory::write(0x2_0000, 0x3333);
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.get(RBX), 0x3333, "what is mapped");
    machine.expect_mark(0x80)?;
    machine.expect(ExitReason::Hlt)
}

/// The monitor switches it on, as when it restores a guest.
pub fn pae_from_fields(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_real(code::pae_paging())?;
    machine.enter_protected_mode(code::pae_paging())?;
    write_pae_tables(0x2_1000);
    memory::write(0x2_1000, 0x4444);
    machine.expect_mark(0x80)?;
    let state = [(F::Cr0, 0x8000_0011), (F::Cr3, 0x1_5000), (F::Cr4, 0x20)];
    let mut restored = Machine::new(bench)?;
    restored.enter_protected_mode(machine.record.rip() + 2)?;
    restored.vcpu.write_fields(&state)?;
    restored.expect_mark(0x80)?;
    ensure_equal!(restored.get(RBX), 0x4444, "what is mapped");
    restored.expect(ExitReason::Hlt)
}

/// It stays in the guest.
pub fn page_fault(bench: &mut Bench) -> Outcome {
    const NOWHERE: u64 = 0x4000_0008;
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::page_fault())?;
    machine.set(RDI, NOWHERE);
    machine.expect_mark(0x86)?;
    ensure_equal!(
        [machine.get(RAX), machine.get(RBX)],
        [NOWHERE, 0],
        "CR2 and error code"
    );
    ensure_equal!(machine.field(F::Cr2)?, NOWHERE, "CR2 as a field");
    machine.expect(ExitReason::Hlt)
}

/// Only chosen vectors exit.
pub fn exception_intercepts(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::undefined())?;
    machine
        .vcpu
        .write_fields(&[(F::ExceptionIntercepts, 1 << 6)])?;
    machine.expect(ExitReason::Exception)?;
    ensure_equal!(machine.record.qualification(), 6, "vector");
    machine
        .vcpu
        .write_fields(&[(F::ExceptionIntercepts, 1 << 14)])?;
    machine.expect_mark(0x87)?;
    machine.start_long(code::page_fault())?;
    machine
        .vcpu
        .write_fields(&[(F::ExceptionIntercepts, 1 << 14)])?;
    machine.set(RDI, 0x4000_0000);
    machine.expect(ExitReason::Exception)?;
    ensure_equal!(machine.record.qualification(), 14, "vector and error code");
    machine.inject(Event::exception(14, Some(2)));
    machine.expect_mark(0x86)?;
    ensure_equal!(machine.get(RBX), 2, "error code that the monitor injected");
    Ok(())
}

/// An external interrupt, and back.
pub fn interrupt(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::out_and_halt())?;
    machine.vcpu.write_fields(&[(F::Rflags, 0x202)])?;
    machine.inject(Event::interrupt(0x30));
    machine.expect_mark(0x88)?;
    machine.expect_mark(0x80)?;
    machine.expect(ExitReason::Hlt)
}

/// Without descriptors every exception ends in a triple fault.
pub fn triple_fault(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::undefined())?;
    machine.vcpu.write_fields(&[(F::IdtrLimit, 0)])?;
    machine.expect(ExitReason::Shutdown)?;
    // It can be reset.
    machine.start_real(code::out_and_halt())?;
    machine.expect_mark(0x80)
}

/// The guest's vector registers are its own, and so is XCR0.
pub fn vector_registers(bench: &mut Bench) -> Outcome {
    const PATTERN: u64 = 0x0123_4567_89ab_cdef;
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::vector_registers())?;
    machine.set(RAX, PATTERN);
    machine.expect_mark(0x80)?;
    let own = core::hint::black_box(core::array::from_fn::<f64, 16, _>(|index| index as f64));
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.get(RBX), PATTERN, "XMM5 of the guest");
    let sum: f64 = own.iter().sum();
    ensure!(sum as u64 == 120, "vector registers of the program changed");
    let entered = machine.enter();
    ensure!(entered == Entered::Exit, "{entered:?}");
    if machine.record.reason() == Ok(ExitReason::Xsetbv) {
        ensure_equal!(machine.record.rip(), code::write_xcr0(), "RIP of XSETBV");
        machine.skip(3)?;
        machine.vcpu.write_fields(&[(F::Xcr0, 3)])?;
        machine.expect(ExitReason::Io)?;
    }
    machine.must_be_mark(0x80)?;
    ensure_equal!(machine.get(RAX), 3, "XCR0 as the guest reads it");
    ensure_equal!(machine.field(F::Xcr0)?, 3, "XCR0 as a field");
    machine.expect(ExitReason::Hlt)
}
