//! The CPUs: modes, identification, registers, messages between them.

use super::{Verdict, ensure};
use crate::apic::{self, ANSWER_VECTOR, REQUEST_VECTOR};
use crate::cpu::{self, Amd};
use crate::second;
use crate::trap;

/// CR0: protection, paging.
const PROTECTION: u64 = 1;
const PAGING: u64 = 1 << 31;
/// EFER and its bit "long mode is active".
const EFER: u32 = 0xc000_0080;
const LONG_MODE_ACTIVE: u64 = 1 << 10;
/// Other registers.
const TIME_STAMP: u32 = 0x10;
const PAGE_ATTRIBUTES: u32 = 0x277;
const SYSTEM_CALL_TARGET: u32 = 0xc000_0082;
const KERNEL_GS_BASE: u32 = 0xc000_0102;
/// What no CPU has.
const NO_REGISTER: u32 = 0x0001_2345;
/// Exceptions.
const INVALID_OPCODE: u8 = 6;
const GENERAL_PROTECTION: u8 = 13;
/// What a hypercall answers when there are none.
const NO_HYPERCALL: u64 = u64::MAX;
/// How often one looks for a message, each time waiting for an interrupt of some kind.
const PATIENCE: u32 = 100_000_000;

/// The CPU came through real mode, and is in long mode now.
pub fn modes() -> Verdict {
    let in_real_mode = trap::real_mode_status();
    ensure(in_real_mode & PROTECTION == 0, "real mode was protected")?;
    let [cr0, ..] = cpu::control_registers();
    ensure(cr0 & (PROTECTION | PAGING) == PROTECTION | PAGING, "CR0")?;
    ensure(cpu::read_msr(EFER) & LONG_MODE_ACTIVE != 0, "EFER")
}

/// CPUID says what a guest may use.
pub fn identification() -> Verdict {
    const HYPERVISOR: u32 = 1 << 31;
    const VMX: u32 = 1 << 5;
    const SVM: u32 = 1 << 2;
    let [_, _, features, _] = cpu::identify(1, 0);
    ensure(features & HYPERVISOR != 0, "no hypervisor bit")?;
    ensure(features & VMX == 0, "VMX is offered")?;
    let [highest, ..] = cpu::identify(0x8000_0000, 0);
    ensure(highest >= 0x8000_0001, "no extended leaves")?;
    ensure(
        cpu::identify(0x8000_0001, 0)[2] & SVM == 0,
        "SVM is offered",
    )?;
    let [_, b, c, d] = cpu::identify(0x4000_0000, 0);
    let name = [b, c, d].map(u32::to_le_bytes);
    ensure(
        name.as_flattened() == b"TesseraVMM\0\0",
        "another hypervisor",
    )
}

/// MSRs keep what is written, and those that do not exist are exceptions.
pub fn registers() -> Verdict {
    for (register, value) in [
        (SYSTEM_CALL_TARGET, 0xffff_8000_0012_3456),
        (KERNEL_GS_BASE, 0xffff_9000_0000_1000),
        (PAGE_ATTRIBUTES, 0x0007_0406_0007_0106),
    ] {
        let before = cpu::read_msr(register);
        cpu::write_msr(register, value);
        let after = cpu::read_msr(register);
        cpu::write_msr(register, before);
        ensure(after == value, "a register forgot its value")?;
    }
    let first = cpu::read_msr(TIME_STAMP);
    ensure(cpu::read_msr(TIME_STAMP) > first, "the TSC stands still")?;
    for wrong in [read_no_register, write_no_register, write_wrong_value] {
        let exception = trap::attempt(0, wrong, 0).err();
        ensure(
            exception.map(|exception| exception.vector) == Some(GENERAL_PROTECTION),
            "what is not there was given",
        )?;
    }
    Ok(())
}

extern "sysv64" fn read_no_register(_: u64) {
    cpu::read_msr(NO_REGISTER);
}

extern "sysv64" fn write_no_register(_: u64) {
    cpu::write_msr(NO_REGISTER, 0);
}

/// A memory type that does not exist.
extern "sysv64" fn write_wrong_value(_: u64) {
    cpu::write_msr(PAGE_ATTRIBUTES, 2);
}

/// The hypercall instruction is answered; the other vendor's is an exception or answered.
pub fn hypercall() -> Verdict {
    let answer = cpu::hypercall(5, cpu::vendor());
    ensure(answer == NO_HYPERCALL, "an unknown hypercall did something")?;
    // On some CPUs the other one traps to the monitor as well.
    match trap::attempt(0, other_hypercall, 0) {
        Err(exception) => ensure(exception.vector == INVALID_OPCODE, "another exception"),
        Ok(()) => Ok(()),
    }
}

extern "sysv64" fn other_hypercall(_: u64) {
    let other = match cpu::vendor() {
        Amd::Yes => Amd::No,
        Amd::No => Amd::Yes,
    };
    cpu::hypercall(5, other);
}

/// The second CPU starts, comes to long mode, and answers interrupts with interrupts.
pub fn second_cpu() -> Verdict {
    second::start();
    await_answers(1)?;
    for count in 2..=10 {
        apic::interrupt(second::IDENTIFIER, REQUEST_VECTOR);
        await_answers(count)?;
    }
    Ok(())
}

fn await_answers(count: u32) -> Verdict {
    for _ in 0..PATIENCE {
        if second::answers() >= count && trap::interrupts(ANSWER_VECTOR) >= count {
            return Ok(());
        }
        cpu::open_to_interrupts();
    }
    Err("no answer from the second VCPU")
}

/// The local APIC by registers: it keeps its identity, and an interrupt to itself comes.
pub fn x2apic() -> Verdict {
    const SELF_INTERRUPT: u32 = 0x3f;
    const IDENTIFIER: u32 = 2;
    apic::use_x2apic();
    ensure(
        cpu::read_msr(apic::X2_FIRST + IDENTIFIER) == 0,
        "another identifier",
    )?;
    let before = trap::interrupts(REQUEST_VECTOR);
    cpu::write_msr(apic::X2_FIRST + SELF_INTERRUPT, u64::from(REQUEST_VECTOR));
    cpu::open_to_interrupts();
    ensure(
        trap::interrupts(REQUEST_VECTOR) == before + 1,
        "no interrupt",
    )
}
