//! Guest-physical memory that is not there, may not be written, or goes away.

use libcap::vcpu::Outcome as Entered;
use sel4_sys::vcpu::memory_fault;
use sel4_sys::{CapRights, Event, ExitReason, VcpuField as F};

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::machine::{INTERRUPT_TABLE, Machine, RBX, RDI};
use crate::memory::{self, PAGE, READ_ONLY, SPARE_PAGE};

fn expect_fault(machine: &mut Machine, address: u64, qualification: u64) -> Outcome {
    machine.expect(ExitReason::MemoryFault)?;
    ensure_equal!(
        machine.record.guest_physical(),
        address,
        "address of the fault"
    );
    ensure_equal!(
        machine.record.qualification(),
        qualification,
        "fault at {address:#x}"
    );
    Ok(())
}

/// Reads, writes and fetches in real mode.
pub fn real_mode(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    machine.start_real(code::memory_faults())?;
    memory::write(READ_ONLY + 0x30, 0x99);
    expect_fault(&mut machine, 0x4_0010, memory_fault::READ)?;
    machine.go_to(code::memory_write());
    expect_fault(&mut machine, 0x4_0020, memory_fault::WRITE)?;
    ensure_equal!(machine.record.rip(), code::memory_write(), "RIP");
    machine.go_to(code::memory_read_only());
    let forbidden = memory_fault::WRITE | memory_fault::PRESENT;
    expect_fault(&mut machine, READ_ONLY + 0x30, forbidden)?;
    ensure_equal!(machine.record.rip(), code::memory_read_only_write(), "RIP");
    ensure_equal!(machine.get(0) & 0xff, 0x99, "what was read before");
    machine.go_to(code::memory_fetch());
    expect_fault(&mut machine, 0x5_0040, memory_fault::FETCH)?;
    ensure_equal!(machine.record.cs_base(), 0x5_0000, "CS base");
    Ok(())
}

/// A page that is unmapped between two reads, then another in its place.
pub fn unmapping(bench: &mut Bench) -> Outcome {
    const PLACE: u64 = 0x5_0000;
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::read_twice())?;
    memory::write(0x2_0000, 0x1111);
    memory::write(SPARE_PAGE * PAGE, 0x2222);
    let first = bench.map(0x20, PLACE, CapRights::READ)?;
    machine.set(RDI, PLACE);
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.get(RBX), 0x1111, "the first page");
    first.unmap()?;
    expect_fault(&mut machine, PLACE, memory_fault::READ)?;
    let second = bench.map(SPARE_PAGE, PLACE, CapRights::READ)?;
    machine.expect_mark(0x80)?;
    ensure_equal!(machine.get(RBX), 0x2222, "the second page");
    // Deleting the capability unmaps too.
    bench.delete(second)?;
    machine.go_to(code::read_twice());
    expect_fault(&mut machine, PLACE, memory_fault::READ)
}

/// The table with the handler of an exception is not there: the exception stays pending.
pub fn broken_delivery(bench: &mut Bench) -> Outcome {
    const NOWHERE: u64 = 0x6_0000;
    let mut machine = Machine::new(bench)?;
    machine.start_long(code::undefined())?;
    machine.vcpu.write_fields(&[(F::IdtrBase, NOWHERE)])?;
    expect_fault(&mut machine, NOWHERE + 6 * 16, memory_fault::READ)?;
    let pending = Event::exception(6, None);
    ensure_equal!(
        machine.record.pending_event().word(),
        pending.word(),
        "pending event"
    );
    ensure_equal!(machine.record.rip(), code::undefined(), "RIP");
    machine
        .vcpu
        .write_fields(&[(F::IdtrBase, INTERRUPT_TABLE)])?;
    let entered = machine.resume();
    ensure!(entered == Entered::Exit, "{entered:?}");
    machine.must_be_mark(0x87)?;
    ensure_equal!(machine.record.pending_event().word(), 0, "pending event");
    // The same with an interrupt that the monitor injects.
    machine.start_long(code::out_and_halt())?;
    machine
        .vcpu
        .write_fields(&[(F::IdtrBase, NOWHERE), (F::Rflags, 0x202)])?;
    machine.inject(Event::interrupt(0x30));
    expect_fault(&mut machine, NOWHERE + 0x30 * 16, memory_fault::READ)?;
    let pending = Event::interrupt(0x30);
    ensure_equal!(
        machine.record.pending_event().word(),
        pending.word(),
        "pending interrupt"
    );
    machine
        .vcpu
        .write_fields(&[(F::IdtrBase, INTERRUPT_TABLE)])?;
    machine.expect_mark(0x88)?;
    machine.expect_mark(0x80)
}
