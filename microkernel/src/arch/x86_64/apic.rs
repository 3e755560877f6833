//! The local APIC: interrupts between CPUs, end of interrupt, and the timer's registers (Intel SDM
//! volume 3, chapter 11). One module for both ways to its registers, memory and MSRs.

use core::hint::spin_loop;

use x86::msr::{IA32_APIC_BASE, IA32_TSC_DEADLINE, rdmsr, wrmsr};

use super::features::features;
use super::global::SetAtBoot;
use super::paging;
use super::trap::vector;

/// Register offsets in memory; the MSR is 0x800 + offset / 16.
mod register {
    pub const ID: u32 = 0x20;
    pub const TASK_PRIORITY: u32 = 0x80;
    pub const END_OF_INTERRUPT: u32 = 0xb0;
    pub const SPURIOUS: u32 = 0xf0;
    pub const REQUESTS: u32 = 0x200;
    pub const COMMAND: u32 = 0x300;
    pub const COMMAND_HIGH: u32 = 0x310;
    pub const LVT_TIMER: u32 = 0x320;
    pub const LVT_THERMAL: u32 = 0x330;
    pub const LVT_PERFORMANCE: u32 = 0x340;
    pub const LVT_LINT0: u32 = 0x350;
    pub const LVT_LINT1: u32 = 0x360;
    pub const LVT_ERROR: u32 = 0x370;
    pub const INITIAL_COUNT: u32 = 0x380;
    pub const CURRENT_COUNT: u32 = 0x390;
    pub const DIVIDE: u32 = 0x3e0;
}

const FIRST_MSR: u32 = 0x800;
const BASE_ENABLED: u64 = 1 << 11;
const BASE_X2APIC: u64 = 1 << 10;
const SOFTWARE_ENABLED: u32 = 1 << 8;
const MASKED: u32 = 1 << 16;
const TIMER_TSC_DEADLINE: u32 = 2 << 17;
const DIVIDE_BY_1: u32 = 0xb;
const COMMAND_PENDING: u32 = 1 << 12;
const COMMAND_ASSERT: u32 = 1 << 14;
const COMMAND_INIT: u32 = 5 << 8 | COMMAND_ASSERT;
const COMMAND_STARTUP: u32 = 6 << 8 | COMMAND_ASSERT;
/// Words of the interrupt request register that can hold interrupts; word 0 is exceptions.
const REQUEST_WORDS: core::ops::Range<u32> = 1..8;

/// Where the registers are in memory; unused with x2APIC.
static REGISTERS: SetAtBoot<usize> = SetAtBoot::new(0);

/// Makes the registers reachable. For the first CPU, before any other function here.
/// `physical` is the address that the firmware tells.
pub fn find(physical: u64) {
    if !features().x2apic {
        let address = paging::map_device(physical);
        // SAFETY: boot, one CPU.
        unsafe { REGISTERS.set(address.unwrap_or(0)) };
    }
}

#[inline(always)]
fn read(register: u32) -> u32 {
    // SAFETY: a register of this CPU's APIC, by the way that `find` and `enable` set up.
    unsafe {
        if features().x2apic {
            rdmsr(FIRST_MSR + (register >> 4)) as u32
        } else {
            ((*REGISTERS.get() + register as usize) as *const u32).read_volatile()
        }
    }
}

#[inline(always)]
fn write(register: u32, value: u32) {
    // SAFETY: as in `read`; the values written here touch interrupts only.
    unsafe {
        if features().x2apic {
            wrmsr(FIRST_MSR + (register >> 4), u64::from(value));
        } else {
            ((*REGISTERS.get() + register as usize) as *mut u32).write_volatile(value);
        }
    }
}

/// Enables this CPU's APIC, with all its own interrupts masked but the timer's.
pub fn enable() {
    let mode = if features().x2apic {
        BASE_ENABLED | BASE_X2APIC
    } else {
        BASE_ENABLED
    };
    // SAFETY: turns the APIC on in a mode that it has; firmware left it off or in either mode,
    // and from each the step to `mode` is allowed.
    unsafe { wrmsr(IA32_APIC_BASE, rdmsr(IA32_APIC_BASE) | mode) };
    write(
        register::SPURIOUS,
        SOFTWARE_ENABLED | vector::SPURIOUS as u32,
    );
    write(register::TASK_PRIORITY, 0);
    for lvt in [
        register::LVT_LINT0,
        register::LVT_LINT1,
        register::LVT_ERROR,
        register::LVT_THERMAL,
        register::LVT_PERFORMANCE,
    ] {
        write(lvt, MASKED);
    }
    write(register::DIVIDE, DIVIDE_BY_1);
    write(register::INITIAL_COUNT, 0);
    let timer = if features().tsc_deadline {
        TIMER_TSC_DEADLINE
    } else {
        0
    };
    write(register::LVT_TIMER, timer | vector::TIMER as u32);
    x86::fence::mfence();
}

/// Identifier of this CPU's APIC.
pub fn id() -> u32 {
    let word = read(register::ID);
    if features().x2apic { word } else { word >> 24 }
}

/// The interrupt in service was handled.
#[inline(always)]
pub fn end_of_interrupt() {
    write(register::END_OF_INTERRUPT, 0);
}

/// Whether an interrupt waits on this CPU: the question of a preemption point.
#[must_use]
pub fn interrupt_pending() -> bool {
    REQUEST_WORDS
        .into_iter()
        .any(|word| read(register::REQUESTS + 16 * word) != 0)
}

/// Lets the timer fire after `count` of its ticks; 0 stops it. Not with TSC deadlines.
pub fn start_countdown(count: u32) {
    write(register::INITIAL_COUNT, count);
}

/// Ticks left of the countdown.
pub fn countdown() -> u32 {
    read(register::CURRENT_COUNT)
}

/// Lets the timer fire at a value of the TSC; 0 stops it. Only where CPUID offers it.
#[inline(always)]
pub fn set_tsc_deadline(deadline: u64) {
    // SAFETY: the MSR is there, and only makes an interrupt that the kernel expects.
    unsafe { wrmsr(IA32_TSC_DEADLINE, deadline) };
}

fn command(apic_id: u32, command: u32) {
    if features().x2apic {
        let msr = FIRST_MSR + (register::COMMAND >> 4);
        // SAFETY: an interrupt to a CPU, which has a handler for it or waits for its start.
        unsafe { wrmsr(msr, u64::from(apic_id) << 32 | u64::from(command)) };
    } else {
        write(register::COMMAND_HIGH, apic_id << 24);
        write(register::COMMAND, command);
        while read(register::COMMAND) & COMMAND_PENDING != 0 {
            spin_loop();
        }
    }
}

/// Sends an interrupt to a CPU, which may be this one. What was written before is visible to its handler.
pub fn send_interrupt(apic_id: u32, vector: u64) {
    // Writes to x2APIC MSRs do not wait for earlier stores.
    x86::fence::mfence();
    command(apic_id, vector as u32 | COMMAND_ASSERT);
}

/// Resets another CPU; it then waits for `send_startup`.
pub fn send_init(apic_id: u32) {
    command(apic_id, COMMAND_INIT);
}

/// Starts another CPU in real mode at physical address `page` * 4096.
pub fn send_startup(apic_id: u32, page: u8) {
    command(apic_id, COMMAND_STARTUP | u32::from(page));
}
