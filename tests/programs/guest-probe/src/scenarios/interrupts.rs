//! Events: windows, injection, shadows.

use libcap::vcpu::{Outcome as Entered, Refusal};
use sel4_sys::vcpu::exit_mode;
use sel4_sys::{Event, ExitReason, VcpuField as F};

use crate::bench::Bench;
use crate::code;
use crate::failure::{Outcome, ensure, ensure_equal};
use crate::machine::{COUNTER, Machine};
use crate::memory;

/// Real mode with handlers for vectors 2, 13, 0x20 and 0x21.
fn start(machine: &mut Machine, rip: u64) -> Outcome {
    machine.start_real(rip)?;
    let handlers = [
        (2, code::handler_nmi()),
        (13, code::handler_fault()),
        (0x20, code::handler_interrupt()),
        (0x21, code::handler_software()),
    ];
    for (vector, handler) in handlers {
        memory::write_bytes(vector * 4, &(handler as u32).to_le_bytes());
    }
    Ok(())
}

/// An interrupt waits for its window; NMIs and exceptions do not.
pub fn window_and_injection(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    start(&mut machine, code::interrupts())?;
    machine.wait_for_window();
    machine.expect_mark(0x80)?;
    ensure_equal!(
        machine.record.mode() & exit_mode::INTERRUPTS_ENABLED,
        0,
        "IF"
    );
    machine.wait_for_window();
    machine.expect(ExitReason::InterruptWindow)?;
    ensure_equal!(
        machine.record.rip(),
        code::interrupts_open(),
        "RIP at the window"
    );
    let open = exit_mode::INTERRUPTS_ENABLED;
    ensure_equal!(machine.record.mode() & open, open, "IF at the window");
    machine.inject(Event::interrupt(0x20));
    machine.expect_mark(0x81)?;
    ensure_equal!(machine.record.mode() & open, 0, "IF in the handler");
    machine.expect_mark(0x84)?;
    machine.inject(Event::nmi());
    machine.expect_mark(0x82)?;
    machine.inject(Event::exception(13, None));
    machine.expect_mark(0x83)?;
    // The guest's own INT 0x21, after both handlers have returned.
    machine.expect_mark(0x85)?;
    machine.expect(ExitReason::Hlt)?;
    ensure_equal!(machine.record.rip(), code::interrupts_idle(), "RIP of HLT");
    Ok(())
}

/// An interrupt whose entry asks for a window too, because more wait, is delivered once, however long
/// its handler takes.
pub fn once_with_window(bench: &mut Bench) -> Outcome {
    const ROUNDS: u64 = 20;
    const INTERRUPT_FLAG: u64 = 1 << 9;
    let mut machine = Machine::new(bench)?;
    start(&mut machine, code::out_and_halt())?;
    let handler = code::handler_slow() as u32;
    memory::write_bytes(0x20 * 4, &handler.to_le_bytes());
    machine
        .vcpu
        .write_fields(&[(F::Rflags, 2 | INTERRUPT_FLAG)])?;
    for round in 1..=ROUNDS {
        machine.inject(Event::interrupt(0x20));
        machine.wait_for_window();
        machine.expect_mark(0x81)?;
        ensure_equal!(memory::read(COUNTER), round, "interrupts");
        // The window opens when the handler returns.
        machine.wait_for_window();
        machine.expect(ExitReason::InterruptWindow)?;
        ensure_equal!(machine.record.rip(), code::out_and_halt(), "RIP behind it");
    }
    machine.expect_mark(0x80)
}

/// HLT behind STI exits in the shadow of STI.
pub fn shadow(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    start(&mut machine, code::interrupts_idle() - 1)?;
    machine.wait_for_window();
    machine.expect(ExitReason::Hlt)?;
    let shadow = exit_mode::INTERRUPT_SHADOW;
    ensure_equal!(machine.record.mode() & shadow, shadow, "shadow");
    machine.skip(1)?;
    machine.wait_for_window();
    machine.expect(ExitReason::InterruptWindow)?;
    ensure_equal!(
        machine.record.rip(),
        code::interrupts_idle() + 1,
        "RIP at the window"
    );
    ensure_equal!(machine.record.mode() & shadow, 0, "shadow after emulation");
    machine.inject(Event::interrupt(0x20));
    machine.expect_mark(0x81)?;
    machine.expect(ExitReason::Hlt)?;
    ensure_equal!(
        machine.record.rip(),
        code::interrupts_idle() + 2,
        "RIP of the second HLT"
    );
    Ok(())
}

/// Events that no CPU delivers are refused, and nothing is pending afterwards.
pub fn refused_events(bench: &mut Bench) -> Outcome {
    let mut machine = Machine::new(bench)?;
    start(&mut machine, code::out_and_halt())?;
    let field = F::PendingEvent.number();
    let refused = Entered::Refused(Refusal::InvalidState { field });
    let events = [
        // With interrupts off.
        Event::interrupt(0x20),
        Event::exception(40, None),
        Event::exception(2, None),
        Event::from_word(Event::nmi().word() | 1 << 12),
        Event::from_word(0x20),
    ];
    for event in events {
        machine.inject(event);
        let entered = machine.enter();
        ensure!(entered == refused, "{event:x?} gave {entered:?}");
    }
    start(&mut machine, code::out_and_halt())?;
    machine.expect_mark(0x80)
}
