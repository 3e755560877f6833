//! Threads beside the own one, and several VCPUs: on one CPU, on several, and from one to another.

use core::arch::x86_64::{__cpuid, __cpuid_count};
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use libcap::vcpu::{self, Entry, ExitRecord, GeneralRegisters, Outcome as Entered};
use libcap::{kernel, log};
use sel4_sys::{ExitReason, Syscall, TcbFlags, VcpuField as F};

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::machine::{COUNTER, Machine, PAGE_TABLES, RAX, RBX, RDI, write_long_tables};
use crate::memory;

/// In ECX of CPUID leaf 7.
const CPUID_PROTECTION_KEYS: u32 = 1 << 3;
/// Protection keys on.
const CR4_PKE: u64 = 1 << 22;
/// Longest wait for another CPU.
const PATIENCE_TICKS: u64 = 2_000_000_000;
/// A while in which another CPU would do something if it could.
const REST_TICKS: u64 = 1_000_000;

/// Two VCPUs of one address space with tables of their own that map one address differently: what
/// the CPU caches for one must not serve the other.
pub fn two_spaces(bench: &mut Bench) -> Outcome {
    const SECOND_TABLES: u64 = 0x1_8000;
    const VIRTUAL: u64 = 0x20_0000;
    let mut first = Machine::new(bench)?;
    let mut second = Machine::without_thread(bench)?;
    first.start_long(code::read_twice())?;
    second.enter_long_mode(code::read_twice())?;
    second.vcpu.write_fields(&[(F::Cr3, SECOND_TABLES)])?;
    memory::write(SECOND_TABLES, (SECOND_TABLES + 0x1000) | 7);
    memory::write(SECOND_TABLES + 0x1000, (SECOND_TABLES + 0x2000) | 7);
    memory::write(SECOND_TABLES + 0x2000, 0x83);
    for (tables, page) in [(PAGE_TABLES, 0x2_0000), (SECOND_TABLES, 0x2_1000)] {
        let table = 0x1_c000 + (tables - PAGE_TABLES) / 8;
        memory::write(tables + 0x2008, table | 7);
        memory::write(table, page | 3);
        memory::write(page, page);
    }
    first.set(RDI, VIRTUAL);
    second.set(RDI, VIRTUAL);
    for round in 0..2 {
        first.give_to(bench.own_thread())?;
        first.expect_mark(0x80)?;
        ensure_equal!(
            first.get(RBX),
            0x2_0000,
            "round {round}, the first VCPU's page"
        );
        second.give_to(bench.own_thread())?;
        second.expect_mark(0x80)?;
        ensure_equal!(
            second.get(RBX),
            0x2_1000,
            "round {round}, the second VCPU's page"
        );
    }
    Ok(())
}

/// What one guest left in registers that the kernel does not save, which no CPUID of a guest should
/// offer, is not what another guest finds there.
pub fn unsaved_registers(bench: &mut Bench) -> Outcome {
    const RIGHTS: u64 = 0x5555_5554;
    if __cpuid(0).eax < 7 || __cpuid_count(7, 0).ecx & CPUID_PROTECTION_KEYS == 0 {
        log!("no protection keys here");
        return Ok(());
    }
    let mut first = Machine::new(bench)?;
    let mut second = Machine::without_thread(bench)?;
    first.start_long(code::write_key_rights())?;
    second.enter_long_mode(code::read_key_rights())?;
    for machine in [&first, &second] {
        let cr4 = machine.field(F::Cr4)? | CR4_PKE;
        machine.vcpu.write_fields(&[(F::Cr4, cr4)])?;
    }
    first.set(RAX, RIGHTS);
    first.expect_mark(0x80)?;
    first.expect_mark(0x80)?;
    ensure_equal!(first.get(RAX), RIGHTS, "what the first guest wrote");
    second.give_to(bench.own_thread())?;
    second.expect_mark(0x80)?;
    ensure_equal!(second.get(RAX), 0, "what the second guest reads");
    second.expect(ExitReason::Hlt)
}

/// Set when the other thread shall stop asking for its guest.
static STOP: AtomicBool = AtomicBool::new(false);
/// Whether it does so.
static PARKED: AtomicBool = AtomicBool::new(false);
/// Exits that the other thread saw.
static EXITS: AtomicU64 = AtomicU64::new(0);
/// What its last VMEnter gave: 1 for an exit by a mark.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// Runs its guest again and again; skips every instruction that exits, which are two bytes long.
extern "C" fn run_guest() -> ! {
    let mut record = ExitRecord::default();
    // Where the guest goes on, with which registers, if not where it was.
    let mut skipped: Option<(u64, GeneralRegisters)> = None;
    loop {
        PARKED.store(STOP.load(Ordering::SeqCst), Ordering::SeqCst);
        if PARKED.load(Ordering::SeqCst) {
            // The VCPU may come back in another state.
            skipped = None;
            kernel::yield_now();
            continue;
        }
        let entry = match &skipped {
            Some((rip, registers)) => Entry::resume().with_registers(*rip, registers),
            None => Entry::resume(),
        };
        let entered = vcpu::enter(&entry, &mut record);
        skipped = None;
        if entered == Entered::Exit {
            EXITS.fetch_add(1, Ordering::SeqCst);
            if record.reason() == Ok(ExitReason::Io) {
                MARKS.fetch_add(1, Ordering::SeqCst);
            }
            skipped = Some((record.rip() + 2, *record.registers()));
        }
    }
}

fn wait_until(what: &str, mut condition: impl FnMut() -> bool) -> Outcome {
    let end = kernel::time_stamp() + PATIENCE_TICKS;
    while !condition() {
        ensure!(kernel::time_stamp() < end, "{what}: not in time");
    }
    Ok(())
}

/// A thread whose every system call is a fault does not enter its guest, until its calls are its own.
pub fn foreign_thread(bench: &mut Bench) -> Outcome {
    let thread = bench.thread(0, run_guest)?;
    thread.set_flags(TcbFlags::default(), TcbFlags::FOREIGN_SYSCALLS)?;
    let mut machine = Machine::without_thread(bench)?;
    machine.start_long(code::count_cpuids())?;
    machine.vcpu.write_fields(&[(F::Rdi, COUNTER)])?;
    machine.give_to(thread)?;
    let exits = EXITS.load(Ordering::SeqCst);
    thread.resume()?;
    wait_until("the thread asks for its guest", || {
        kernel::yield_now();
        thread
            .read_registers()
            .is_ok_and(|registers| registers.rdx == Syscall::VMEnter.number())
    })?;
    kernel::yield_now();
    ensure_equal!(EXITS.load(Ordering::SeqCst), exits, "exits of no guest");
    // The fault had no handler: the thread is suspended before its call.
    thread.set_flags(TcbFlags::FOREIGN_SYSCALLS, TcbFlags::default())?;
    thread.resume()?;
    wait_until("an exit of the guest", || {
        kernel::yield_now();
        EXITS.load(Ordering::SeqCst) > exits
    })?;
    Ok(thread.suspend()?)
}

/// A VCPU on another CPU: it counts, is read and written while it runs, comes here and goes back.
pub fn several(bench: &mut Bench) -> Outcome {
    if bench.cpus() < 2 {
        log!("PROBE has one CPU only");
        return Ok(());
    }
    let thread = bench.thread(1, run_guest)?;
    let mut machine = Machine::without_thread(bench)?;
    machine.start_long(code::spin())?;
    machine.vcpu.write_fields(&[(F::Rdi, COUNTER)])?;
    machine.give_to(thread)?;
    thread.resume()?;
    wait_until("the guest over there counts", || {
        memory::read(COUNTER) > 1000
    })?;
    let rip = machine.field(F::Rip)?;
    ensure!(
        (code::spin()..code::count_cpuids()).contains(&rip),
        "RIP is {rip:#x} while it runs"
    );
    let counted = memory::read(COUNTER);
    wait_until("it goes on after a look", || {
        memory::read(COUNTER) > counted
    })?;

    both_count(bench)?;
    unmap_below_it(bench)?;

    // Here, and there again.
    park(bench)?;
    machine.give_to(bench.own_thread())?;
    machine
        .vcpu
        .write_fields(&[(F::Rip, code::out_and_halt())])?;
    let entered = machine.resume();
    machine.must_be(entered, ExitReason::Io)?;
    ensure_equal!(machine.get(RDI), COUNTER, "RDI after the move");
    machine
        .vcpu
        .write_fields(&[(F::Rip, code::mark_forever())])?;
    let marks = MARKS.load(Ordering::SeqCst);
    machine.give_to(thread)?;
    STOP.store(false, Ordering::SeqCst);
    wait_until("a mark over there", || MARKS.load(Ordering::SeqCst) > marks)?;

    // It goes while it runs.
    bench.delete(machine.vcpu)?;
    let marks = MARKS.load(Ordering::SeqCst);
    let rest = kernel::time_stamp() + REST_TICKS;
    while kernel::time_stamp() < rest {}
    ensure_equal!(
        MARKS.load(Ordering::SeqCst),
        marks,
        "marks of a deleted VCPU"
    );
    thread.suspend()?;
    Ok(())
}

/// A second VCPU here, while the other runs there.
fn both_count(bench: &mut Bench) -> Outcome {
    let mut own = Machine::new(bench)?;
    own.enter_long_mode(code::read_twice())?;
    write_long_tables();
    own.set(RDI, COUNTER);
    own.expect_mark(0x80)?;
    let first = own.get(RBX);
    let counted = memory::read(COUNTER);
    wait_until("the other goes on", || memory::read(COUNTER) > counted)?;
    own.expect_mark(0x80)?;
    ensure!(
        own.get(RBX) > first,
        "the guest here sees what the guest there counts"
    );
    Ok(())
}

/// The page that the guest over there uses goes away: it must notice at once.
fn unmap_below_it(bench: &mut Bench) -> Outcome {
    let mapping = bench.mapping(COUNTER);
    let exits = EXITS.load(Ordering::SeqCst);
    mapping.unmap()?;
    let counted = memory::read(COUNTER);
    wait_until("a memory fault over there", || {
        EXITS.load(Ordering::SeqCst) > exits
    })?;
    ensure_equal!(
        memory::read(COUNTER),
        counted,
        "the counter in an unmapped page"
    );
    bench.restore(COUNTER)
}

/// Brings the other thread out of its guest, and to wait: without a VCPU it must not enter.
fn park(bench: &Bench) -> Outcome {
    STOP.store(true, Ordering::SeqCst);
    bench.mapping(COUNTER).unmap()?;
    wait_until("the other thread waits", || PARKED.load(Ordering::SeqCst))?;
    bench.restore(COUNTER)
}
