//! Exceptions that the guest's own tables, code and debug registers raise.

use core::sync::atomic::Ordering::Relaxed;

use super::{Verdict, ensure};
use crate::cpu::{self, Amd};
use crate::trap::{self, Exception};

/// Vectors.
const DEBUG: u8 = 1;
const INVALID_OPCODE: u8 = 6;
const PAGE_FAULT: u8 = 14;
/// A page of 2 MiB that the checks may change: in memory, and used by nobody.
const PAGE: u64 = 0x60_0000;
/// The same page once more, at an address without memory.
const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;
/// Error codes of page faults.
const WAS_PRESENT: u64 = 1 << 0;
const WAS_WRITE: u64 = 1 << 1;
const WAS_FETCH: u64 = 1 << 4;
/// RET, what a page begins with that is called.
const RET: u32 = 0xc3;
/// Breakpoint 0 on the execution of one byte.
const EXECUTION: u64 = 0b11;
/// Breakpoint 0 on writes of four bytes.
const WRITES: u64 = 0b11 | 0b1101 << 16;
/// DR6: breakpoint 0, single step.
const HIT_0: u64 = 1 << 0;
const STEPPED: u64 = 1 << 14;

extern "sysv64" fn write_page(address: u64) {
    cpu::write_memory(address, 1);
}

extern "sysv64" fn call_page(address: u64) {
    cpu::call(address);
}

/// Maps [`PAGE`] with these rights, does something there, and maps it as before.
fn with_rights(rights: u64, action: extern "sysv64" fn(u64)) -> Option<Exception> {
    let entry = &trap::third_tables[(PAGE >> 21) as usize];
    let before = entry.swap(PAGE | LARGE | rights, Relaxed);
    cpu::forget_page(PAGE);
    let exception = trap::attempt(0, action, PAGE).err();
    entry.store(before, Relaxed);
    cpu::forget_page(PAGE);
    exception
}

/// Pages that are not present, not writable, not executable.
pub fn page_faults() -> Verdict {
    cpu::write_memory(PAGE, RET);
    ensure(
        with_rights(PRESENT | WRITABLE, call_page).is_none(),
        "a good page",
    )?;
    let cases: [(u64, extern "sysv64" fn(u64), u64); 3] = [
        (0, write_page, WAS_WRITE),
        (PRESENT, write_page, WAS_PRESENT | WAS_WRITE),
        (PRESENT | NO_EXECUTE, call_page, WAS_PRESENT | WAS_FETCH),
    ];
    for (rights, action, error_code) in cases {
        let Some(exception) = with_rights(rights, action) else {
            return Err("no exception");
        };
        ensure(exception.vector == PAGE_FAULT, "another exception")?;
        ensure(exception.error_code == error_code, "its error code")?;
        ensure(exception.address == PAGE, "its address")?;
    }
    Ok(())
}

extern "sysv64" fn undefined(_: u64) {
    cpu::undefined();
}

/// An instruction that is none.
pub fn others() -> Verdict {
    let exception = trap::attempt(0, undefined, 0).err();
    ensure(
        exception.map(|exception| exception.vector) == Some(INVALID_OPCODE),
        "no exception",
    )
}

extern "sysv64" fn step(_: u64) {
    cpu::single_step();
}

extern "sysv64" fn step_into_exit(_: u64) {
    cpu::single_step_cpuid();
}

/// The trap flag, before an instruction that the CPU does and one that the monitor does.
pub fn single_step() -> Verdict {
    for action in [step, step_into_exit] {
        let exception = trap::attempt(0, action, 0).err();
        ensure(
            exception.map(|exception| exception.vector) == Some(DEBUG),
            "no exception",
        )?;
        ensure(cpu::debug_status() & STEPPED != 0, "DR6")?;
    }
    Ok(())
}

extern "sysv64" fn write_watched(_: u64) {
    cpu::set_breakpoint(PAGE, WRITES);
    cpu::write_memory(PAGE, RET);
}

extern "sysv64" fn call_watched(_: u64) {
    cpu::set_breakpoint(PAGE, EXECUTION);
    cpu::call(PAGE);
}

/// A breakpoint on a write and on execution. QEMU's emulation of SVM does not arm a guest's
/// breakpoints; on AMD's CPUs their absence is no failure.
pub fn breakpoint() -> Verdict {
    cpu::write_memory(PAGE, RET);
    for action in [write_watched, call_watched] {
        let exception = trap::attempt(0, action, 0).err();
        let status = cpu::debug_status();
        cpu::set_breakpoint(0, 0);
        if exception.is_none() && cpu::vendor() == Amd::Yes {
            return Ok(());
        }
        ensure(
            exception.map(|exception| exception.vector) == Some(DEBUG),
            "no exception",
        )?;
        ensure(status & HIT_0 != 0, "DR6")?;
    }
    Ok(())
}
