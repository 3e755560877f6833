//! Real mode: the state after reset, port I/O, CPUID, MSRs, HLT.

use sel4_sys::vcpu::IoQualification;
use sel4_sys::{ExitReason, VcpuField as F};

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::machine::{CR0_RESET, Machine, RAX, RBX, RCX, RDX, RSI};
use crate::memory::{self, PAGE, RESET_PAGE};

/// A new VCPU begins at the reset vector.
pub fn reset(bench: &mut Bench) -> Outcome {
    let offset = (code::reset_vector() - code::CODE_BASE) as usize;
    memory::clear();
    memory::write_bytes(
        RESET_PAGE * PAGE + 0xff0,
        &code::image()[offset..offset + 5],
    );
    let mut machine = Machine::new(bench)?;
    let entered = machine.resume();
    machine.must_be(entered, ExitReason::Io)?;
    let record = machine.record;
    ensure_equal!(record.rip(), 0xfff2, "RIP");
    ensure_equal!(record.cs_base(), 0xffff_0000, "CS base");
    ensure_equal!(record.cr0(), CR0_RESET, "CR0");
    ensure_equal!(
        [record.cr3(), record.cr4(), record.efer()],
        [0; 3],
        "CR3, CR4, EFER"
    );
    ensure_equal!(record.rflags(), 2, "RFLAGS");
    ensure_equal!(record.mode(), 0, "mode");
    ensure_equal!(machine.get(RAX), 0x5a, "RAX");
    machine.must_be_mark(0x80)?;
    machine.expect(ExitReason::Hlt)?;
    ensure_equal!(machine.record.rip(), 0xfff4, "RIP of HLT");
    ensure_equal!(machine.field(F::CsSelector)?, 0xf000, "CS");
    Ok(())
}

fn expect_io(machine: &mut Machine, port: u16, size: u8, flags: u64, length: u64) -> Outcome {
    machine.expect(ExitReason::Io)?;
    let wanted = IoQualification::new(port, size, flags);
    ensure_equal!(
        machine.record.qualification(),
        wanted.0,
        "I/O at {:#x}",
        machine.record.rip()
    );
    machine.skip(length)
}

/// All sizes and directions, and string output.
pub fn port_io(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_real(code::port_io())?;
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.get(RAX), 0x42, "AL");
    expect_io(&mut machine, 0x1f0, 2, 0, 1)?;
    ensure_equal!(machine.get(RAX), 0x1234, "AX");
    expect_io(&mut machine, 0x1f0, 4, 0, 2)?;
    ensure_equal!(machine.get(RAX), 0x89ab_cdef, "EAX");
    expect_io(&mut machine, 0x64, 1, IoQualification::IN, 2)?;
    machine.set(RAX, 0x89ab_cd5a);
    expect_io(&mut machine, 0x1f0, 2, IoQualification::IN, 1)?;
    ensure_equal!(machine.get(RAX), 0x89ab_cd5a, "RAX as the monitor set it");
    expect_io(&mut machine, 0x1f0, 4, IoQualification::IN, 2)?;
    machine.set(RAX, 0x77);
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.get(RAX), 0x77, "RAX as the monitor set it");
    let flags = IoQualification::STRING | IoQualification::REP;
    expect_io(&mut machine, 0x1f0, 1, flags, 2)?;
    ensure_equal!(
        [machine.get(RCX), machine.get(RSI)],
        [3, 0x2000],
        "CX and SI"
    );
    machine.set(RCX, 0);
    machine.expect(ExitReason::Hlt)
}

/// What a monitor answers with registers.
pub fn cpuid_and_msrs(bench: &mut Bench) -> Outcome {
    const OFFSET: u64 = 1 << 40;
    let mut machine = Machine::new(bench)?;
    machine.start_real(code::cpuid_and_msrs())?;
    machine.vcpu.write_fields(&[(F::TscOffset, OFFSET)])?;
    machine.expect(ExitReason::Cpuid)?;
    ensure_equal!(
        [machine.get(RAX), machine.get(RCX)],
        [0x4000_0001, 7],
        "EAX and ECX"
    );
    machine.skip(2)?;
    machine.set(RBX, 0x1122_3344);
    machine.expect(ExitReason::Hlt)?;
    ensure_equal!(machine.get(RBX), 0x1122_3344, "EBX as the monitor set it");
    machine.skip(1)?;
    machine.expect(ExitReason::MsrRead)?;
    ensure_equal!(machine.record.qualification(), 0x1b, "MSR read");
    machine.skip(2)?;
    machine.expect(ExitReason::MsrWrite)?;
    ensure_equal!(machine.record.qualification(), 0x1b, "MSR written");
    ensure_equal!(
        [machine.get(RAX), machine.get(RDX)],
        [0xfee0_0900, 5],
        "EDX:EAX"
    );
    machine.skip(2)?;
    let before = libcap::kernel::time_stamp();
    machine.expect(ExitReason::Hlt)?;
    let after = libcap::kernel::time_stamp();
    ensure_equal!(machine.get(RBX), 0x1122_3344, "LSTAR as the guest reads it");
    ensure_equal!(machine.field(F::Lstar)?, 0x5566_1122_3344, "LSTAR");
    let seen = machine.get(RDX) << 32 | machine.get(RAX);
    ensure!(
        (before..=after).contains(&seen.wrapping_sub(OFFSET)),
        "RDTSC gave {seen:#x} between {before:#x} and {after:#x}"
    );
    Ok(())
}
