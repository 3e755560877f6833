//! Time: interrupts of the host while a guest runs, and what an exit costs.

use alloc::vec::Vec;
use core::sync::atomic::{AtomicU64, Ordering};

use libcap::vcpu::Outcome as Entered;
use libcap::{kernel, log};
use sel4_sys::ExitReason;

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::machine::{COUNTER, Machine, RDI};
use crate::memory;

/// How long a guest spins at a time.
const SPIN_TICKS: u64 = 5_000_000;
/// How often it is let spin.
const ROUNDS: u64 = 10;
/// Exits that are measured.
const EXITS: u64 = 2_000;

/// Exits that take longer than a thread's budget.
const SLICE_EXITS: u64 = 200_000;

static OTHERS: AtomicU64 = AtomicU64::new(0);

extern "C" fn count() -> ! {
    loop {
        OTHERS.fetch_add(1, Ordering::Relaxed);
    }
}

/// A guest that never exits: a timer's signal ends VMEnter and another thread gets its turns,
/// and the guest goes on where it was.
pub fn timer(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    let (bell, timer) = bench.bell(0b100)?;
    let rival = bench.thread(0, count)?;
    rival.resume()?;
    machine.start_real(code::real_spin())?;
    timer.arm(kernel::time_stamp() + SPIN_TICKS)?;
    let mut entered = machine.enter();
    let mut progress = Vec::new();
    for round in 0..ROUNDS {
        ensure!(
            entered == Entered::Notification(0b100),
            "round {round}: {entered:?}"
        );
        progress.push(memory::read(COUNTER));
        timer.arm(kernel::time_stamp() + SPIN_TICKS)?;
        entered = machine.resume();
    }
    progress.dedup();
    // The other thread may have had some of the rounds for itself.
    ensure!(progress.len() > 3, "the guest counted {progress:?}");
    let last = memory::read(COUNTER);
    let others = OTHERS.load(Ordering::Relaxed);
    ensure!(others > 0, "the other thread never ran");
    // A signal that is there already ends VMEnter before the guest runs.
    bell.signal();
    let entered = machine.resume();
    ensure!(entered == Entered::Notification(0), "{entered:?}");
    ensure_equal!(memory::read(COUNTER), last, "the counter");
    rival.suspend()?;
    bench.own_thread().unbind_notification()?;
    Ok(())
}

/// A thread that does nothing but enter a guest and have it exit: no entry books its time, and yet
/// another thread gets its turns.
pub fn budget_of_exits(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    let rival = bench.thread(0, count)?;
    machine.start_long(code::count_cpuids())?;
    machine.set(RDI, COUNTER);
    rival.resume()?;
    let others = OTHERS.load(Ordering::Relaxed);
    let mut exits = 0;
    while OTHERS.load(Ordering::Relaxed) == others {
        machine.expect(ExitReason::Cpuid)?;
        machine.skip(2)?;
        exits += 1;
        ensure!(exits < SLICE_EXITS, "{exits} exits, and no turn for others");
    }
    Ok(rival.suspend()?)
}

/// A guest sets CR0 to what no CPU takes. QEMU's takes it, and must be able to enter the guest again
/// after an interrupt of the host's; others have a fault for that.
pub fn odd_cr0(bench: &mut Bench) -> Outcome {
    const GENERAL_PROTECTION: u64 = 13;
    let mut machine = Machine::new(bench)?;
    let (_bell, timer) = bench.bell(0b100)?;
    machine.start_real(code::odd_cr0())?;
    let handler = code::handler_fault() as u32;
    memory::write_bytes(GENERAL_PROTECTION * 4, &handler.to_le_bytes());
    let mut progress = Vec::new();
    timer.arm(kernel::time_stamp() + SPIN_TICKS)?;
    let mut entered = machine.enter();
    while entered == Entered::Notification(0b100) && progress.len() < ROUNDS as usize {
        progress.push(memory::read(COUNTER));
        timer.arm(kernel::time_stamp() + SPIN_TICKS)?;
        entered = machine.resume();
    }
    if progress.is_empty() {
        machine.must_be(entered, ExitReason::Io)?;
        machine.must_be_mark(0x83)?;
    } else {
        progress.dedup();
        // The host may have had some of the rounds for itself.
        ensure!(
            progress.len() > 3,
            "{entered:?}; the guest counted {progress:?}"
        );
    }
    timer.cancel()?;
    bench.own_thread().unbind_notification()?;
    Ok(())
}

/// Ticks of the time-stamp counter for CPUID, its exit, and the answer.
pub fn cost(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::count_cpuids())?;
    machine.set(RDI, COUNTER);
    let before = kernel::time_stamp();
    for _ in 0..EXITS {
        machine.expect(ExitReason::Cpuid)?;
        machine.skip(2)?;
    }
    let ticks = (kernel::time_stamp() - before) / EXITS;
    log!("PROBE an exit and its answer cost {ticks} ticks");
    Ok(())
}
