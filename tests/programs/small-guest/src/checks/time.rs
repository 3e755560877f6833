//! Timers and clocks.

use super::{Verdict, ensure};
use crate::apic::{self, PIT_VECTOR, Repeat, TIMER_HZ, TIMER_VECTOR, register};
use crate::cpu::{self, Width};
use crate::trap;

/// A thousandth of a second of the local APIC's timer.
const MILLISECOND: u32 = TIMER_HZ / 1000;
/// The PIT: channel 0, its control, and rate generator at about 1 kHz.
const PIT_CHANNEL: u16 = 0x40;
const PIT_CONTROL: u16 = 0x43;
const RATE_GENERATOR: u32 = 0x34;
const ONE_SHOT: u32 = 0x30;
const PIT_COUNT: u32 = 1193;
/// Where the PIT's line is on the I/O APIC.
const PIT_PIN: u32 = 2;
/// The PM timer: 3.58 MHz.
const PM_TIMER: u16 = 0x608;

/// Sleeps until the interrupt has come `times` more.
fn await_interrupts(vector: u8, times: u32) {
    let start = trap::interrupts(vector);
    while trap::interrupts(vector).wrapping_sub(start) < times {
        cpu::wait_for_interrupt();
    }
}

/// One interrupt that ends a HLT, and no second one; the count runs down meanwhile.
pub fn local_timer() -> Verdict {
    apic::start_timer(Repeat::Once, MILLISECOND);
    let before = trap::interrupts(TIMER_VECTOR);
    await_interrupts(TIMER_VECTOR, 1);
    let left = cpu::read_memory(apic::LOCAL + register::CURRENT_COUNT);
    ensure(left == 0, "it still counts")?;
    cpu::open_to_interrupts();
    ensure(
        trap::interrupts(TIMER_VECTOR) == before + 1,
        "it came twice",
    )
}

/// Interrupts that come while the guest computes, without HLT.
pub fn periodic_timer() -> Verdict {
    let start = trap::interrupts(TIMER_VECTOR);
    apic::start_timer(Repeat::Always, MILLISECOND);
    let mut turns = 0u64;
    while trap::interrupts(TIMER_VECTOR).wrapping_sub(start) < 5 {
        cpu::open_to_interrupts();
        turns += 1;
    }
    apic::stop_timer();
    ensure(turns > 5, "the guest did not get on")
}

/// The PIT's interrupts by way of the I/O APIC.
pub fn interval_timer() -> Verdict {
    apic::open_pin(PIT_PIN, PIT_VECTOR);
    set_interval(RATE_GENERATOR, PIT_COUNT);
    await_interrupts(PIT_VECTOR, 3);
    apic::close_pin(PIT_PIN);
    set_interval(ONE_SHOT, PIT_COUNT);
    let before = trap::interrupts(PIT_VECTOR);
    apic::start_timer(Repeat::Once, 3 * MILLISECOND);
    await_interrupts(TIMER_VECTOR, 1);
    ensure(
        trap::interrupts(PIT_VECTOR) == before,
        "it comes although it is masked",
    )
}

fn set_interval(mode: u32, count: u32) {
    cpu::output(PIT_CONTROL, Width::Byte, mode);
    cpu::output(PIT_CHANNEL, Width::Byte, count & 0xff);
    cpu::output(PIT_CHANNEL, Width::Byte, count >> 8);
}

/// The clocks go forward, and the PM timer at about its frequency.
pub fn clocks() -> Verdict {
    let stamp = cpu::time_stamp();
    let start = cpu::input(PM_TIMER, Width::Dword);
    apic::start_timer(Repeat::Once, 5 * MILLISECOND);
    await_interrupts(TIMER_VECTOR, 1);
    let ticks = cpu::input(PM_TIMER, Width::Dword).wrapping_sub(start);
    ensure(cpu::time_stamp() > stamp, "the TSC stands still")?;
    // 5 ms are 17,898 ticks. An emulator may be late, never early.
    ensure(ticks >= 17_800, "the PM timer is slow")
}
