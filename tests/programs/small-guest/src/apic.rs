//! The local and the I/O APIC, by memory and by registers (Intel SDM volume 3, chapter 11; 82093AA
//! data sheet).

use core::sync::atomic::Ordering::Relaxed;

use crate::cpu;
use crate::trap;

/// The local APIC's page.
pub const LOCAL: u64 = 0xfee0_0000;
/// The I/O APIC's page.
pub const IO: u64 = 0xfec0_0000;
/// Offsets in the local APIC's page.
pub mod register {
    pub const ID: u64 = 0x20;
    pub const VERSION: u64 = 0x30;
    pub const TASK_PRIORITY: u64 = 0x80;
    pub const SPURIOUS: u64 = 0xf0;
    pub const COMMAND: u64 = 0x300;
    pub const COMMAND_HIGH: u64 = 0x310;
    pub const LVT_TIMER: u64 = 0x320;
    pub const LVT_LINT0: u64 = 0x350;
    pub const LVT_LINT1: u64 = 0x360;
    pub const LVT_ERROR: u64 = 0x370;
    pub const INITIAL_COUNT: u64 = 0x380;
    pub const CURRENT_COUNT: u64 = 0x390;
    pub const DIVIDE: u64 = 0x3e0;
}
use register::{
    COMMAND, COMMAND_HIGH, DIVIDE, INITIAL_COUNT, LVT_ERROR, LVT_LINT0, LVT_LINT1, LVT_TIMER,
    SPURIOUS, TASK_PRIORITY,
};

/// APIC_BASE, and its bits.
pub const BASE_MSR: u32 = 0x1b;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2: u64 = 1 << 10;
const BASE_BOOT_CPU: u64 = 1 << 8;
/// First x2APIC register.
pub const X2_FIRST: u32 = 0x800;

/// Frequency of the local APIC's timer, divided by 1.
pub const TIMER_HZ: u32 = 24_000_000;
/// Vectors.
pub const TIMER_VECTOR: u8 = 0x40;
/// From the first CPU to the second, or to itself.
pub const REQUEST_VECTOR: u8 = 0x41;
/// From the second CPU to the first.
pub const ANSWER_VECTOR: u8 = 0x43;
/// The PIT through the I/O APIC.
pub const PIT_VECTOR: u8 = 0x42;
const SPURIOUS_VECTOR: u32 = 0xff;

const MASKED: u32 = 1 << 16;
const PERIODIC: u32 = 1 << 17;
const DIVIDE_BY_ONE: u32 = 0b1011;
/// Command: INIT, start-up message, to oneself.
const INIT: u32 = 0x4500;
const STARTUP: u32 = 0x4600;
const TO_SELF: u32 = 0x4_4000;
const FIXED: u32 = 0x4000;

/// How often a timer fires.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Repeat {
    /// Once.
    Once,
    /// Until it is stopped.
    Always,
}

/// Writes a register of this CPU's APIC, which may be reached by memory or by MSRs.
fn write_local(register: u64, value: u32) {
    if trap::uses_x2apic.load(Relaxed) == 0 {
        cpu::write_memory(LOCAL + register, value);
    } else {
        cpu::write_msr(X2_FIRST + (register >> 4) as u32, u64::from(value));
    }
}

/// Switches this CPU's APIC on, with everything masked.
pub fn enable() {
    write_local(SPURIOUS, 0x100 | SPURIOUS_VECTOR);
    quiet();
}

/// Puts the APIC where it was after reset, by memory, and masks what others may have opened.
pub fn restore() {
    cpu::write_msr(BASE_MSR, LOCAL | BASE_ENABLED | BASE_BOOT_CPU);
    for pin in 0..24 {
        close_pin(pin);
    }
}

/// Masks all interrupt sources of this CPU's APIC, and lets all vectors through.
pub fn quiet() {
    for register in [LVT_TIMER, LVT_LINT0, LVT_LINT1, LVT_ERROR] {
        write_local(register, MASKED | SPURIOUS_VECTOR);
    }
    write_local(INITIAL_COUNT, 0);
    write_local(TASK_PRIORITY, 0);
}

/// Starts the timer with [`TIMER_VECTOR`].
pub fn start_timer(repeat: Repeat, count: u32) {
    start_timer_with(TIMER_VECTOR, repeat, count);
}

/// An interrupt that breaks an attempt off after `count` ticks.
pub fn start_watchdog(count: u32) {
    start_timer_with(trap::WATCHDOG, Repeat::Once, count);
}

fn start_timer_with(vector: u8, repeat: Repeat, count: u32) {
    let mode = if repeat == Repeat::Always {
        PERIODIC
    } else {
        0
    };
    write_local(DIVIDE, DIVIDE_BY_ONE);
    write_local(LVT_TIMER, mode | u32::from(vector));
    write_local(INITIAL_COUNT, count);
}

/// Sleeps for `ms` milliseconds, or less if another interrupt comes.
pub fn nap(ms: u32) {
    start_timer(Repeat::Once, TIMER_HZ / 1000 * ms);
    cpu::wait_for_interrupt();
}

/// Stops the timer.
pub fn stop_timer() {
    write_local(LVT_TIMER, MASKED | u32::from(TIMER_VECTOR));
    write_local(INITIAL_COUNT, 0);
}

/// Sends an interrupt to this CPU.
pub fn interrupt_self(vector: u8) {
    cpu::write_memory(LOCAL + COMMAND, TO_SELF | u32::from(vector));
}

/// Sends an interrupt to the CPU with this identifier.
pub fn interrupt(target: u32, vector: u8) {
    send(target, FIXED | u32::from(vector));
}

/// Starts the CPU with this identifier in real mode at `page`.
pub fn start_cpu(target: u32, page: u8) {
    send(target, INIT);
    for _ in 0..2 {
        send(target, STARTUP | u32::from(page));
    }
}

fn send(target: u32, command: u32) {
    cpu::write_memory(LOCAL + COMMAND_HIGH, target << 24);
    cpu::write_memory(LOCAL + COMMAND, command);
}

/// Goes over to registers instead of memory.
pub fn use_x2apic() {
    cpu::write_msr(BASE_MSR, cpu::read_msr(BASE_MSR) | BASE_ENABLED | BASE_X2);
    trap::uses_x2apic.store(1, Relaxed);
}

/// Reads an I/O APIC register.
pub fn read_io(index: u32) -> u32 {
    cpu::write_memory(IO, index);
    cpu::read_memory(IO + 0x10)
}

/// Writes an I/O APIC register.
pub fn write_io(index: u32, value: u32) {
    cpu::write_memory(IO, index);
    cpu::write_memory(IO + 0x10, value);
}

/// Index of the low half of a pin's entry.
pub const fn entry(pin: u32) -> u32 {
    0x10 + 2 * pin
}

/// Delivers a pin to CPU 0, by edges.
pub fn open_pin(pin: u32, vector: u8) {
    write_io(entry(pin) + 1, 0);
    write_io(entry(pin), u32::from(vector));
}

/// Masks a pin.
pub fn close_pin(pin: u32) {
    write_io(entry(pin), MASKED);
}
