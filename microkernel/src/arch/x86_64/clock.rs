//! Time: the time-stamp counter, its frequency, and the timer that fires at one of its values.

use x86::io::{inb, inl, outb};

use super::apic;
use super::cpu::this_cpu;
use super::features::features;
use super::global::SetAtBoot;
use crate::firmware::acpi::PmTimer;

/// Frequency of the power-management timer, in Hz.
const PM_TIMER_HZ: u64 = 3_579_545;
/// Bits of it that every machine has.
const PM_TIMER_MASK: u32 = 0xff_ffff;
/// Frequency of the programmable interval timer, in Hz.
const PIT_HZ: u64 = 1_193_182;
/// One measurement lasts this part of a second: long enough for 0.01 %, short enough not to be
/// noticed at boot. The interval timer's counter has 16 bits and could count 1/18.
const MEASUREMENTS_PER_SECOND: u64 = 50;
/// The slowest of so many measurements counts: what the firmware or an emulator's other work
/// adds between two readings makes the counters look faster.
const MEASUREMENTS: usize = 3;
/// A wait that lasts so many ticks of the time-stamp counter will not end: there is no such clock.
/// A fifth of a second at 10 GHz, ten times the longest honest measurement.
const GIVE_UP_TICKS: u64 = 1 << 31;
/// No time-stamp counter is slower, so a lower result means that there was nothing to measure by.
const LOWEST_KHZ: u64 = 1000;
/// What is assumed without any clock or CPUID word: QEMU's counter under instruction counting.
const ASSUMED_KHZ: u64 = 1_000_000;

const PIT_CHANNEL_2: u16 = 0x42;
const PIT_COMMAND: u16 = 0x43;
const SYSTEM_CONTROL: u16 = 0x61;

/// Frequencies of this machine.
#[derive(Clone, Copy, Debug)]
struct Frequencies {
    tsc_khz: u64,
    /// Timer ticks in a TSC tick, times 2^32. Not used with TSC deadlines.
    timer_ratio: u64,
}

static FREQUENCIES: SetAtBoot<Frequencies> = SetAtBoot::new(Frequencies {
    tsc_khz: ASSUMED_KHZ,
    timer_ratio: 1 << 32,
});

/// What a measurement counted.
#[derive(Clone, Copy)]
struct Counts {
    tsc: u64,
    timer: u64,
    /// Ticks of the clock that was measured by.
    clock: u64,
}

impl Counts {
    /// Frequency of something that counted `count` meanwhile, in kHz.
    const fn khz(&self, count: u64, clock_hz: u64) -> u64 {
        count * clock_hz / self.clock / 1000
    }

    /// Whether the time-stamp counter ran slower by this measurement than by `other`.
    const fn is_slower(&self, other: &Self) -> bool {
        self.tsc * other.clock < other.tsc * self.clock
    }
}

/// The time-stamp counter: the unit of all ticks.
#[inline(always)]
#[must_use]
pub fn now() -> u64 {
    // SAFETY: every 64-bit CPU has the instruction.
    unsafe { x86::time::rdtsc() }
}

/// Frequency of `now`, in kHz.
pub fn tsc_khz() -> u64 {
    FREQUENCIES.get().tsc_khz
}

/// Measures both counters by a clock of known frequency: the power-management timer, else the
/// interval timer, else what CPUID says. For the first CPU, with its APIC enabled.
pub fn calibrate(pm_timer: Option<PmTimer>) {
    let measured = pm_timer
        .and_then(|timer| measure_often(PM_TIMER_HZ, || wait_pm_timer(timer)))
        .or_else(|| measure_often(PIT_HZ, wait_pit));
    let (tsc_khz, timer_khz) = measured.unwrap_or_else(told_by_cpuid);
    let timer_ratio = ((u128::from(timer_khz) << 32) / u128::from(tsc_khz)) as u64;
    // SAFETY: boot, one CPU.
    unsafe {
        FREQUENCIES.set(Frequencies {
            tsc_khz,
            timer_ratio,
        })
    };
}

/// Both frequencies in kHz, by a clock of `clock_hz` for which `wait` waits and tells how many
/// ticks it counted; `None` if that clock does not run.
fn measure_often(clock_hz: u64, wait: impl Fn() -> Option<u64>) -> Option<(u64, u64)> {
    let mut best: Option<Counts> = None;
    for _ in 0..MEASUREMENTS {
        let counts = measure(&wait)?;
        if best.is_none_or(|b| counts.is_slower(&b)) {
            best = Some(counts);
        }
    }
    best.map(|counts| {
        let khz = |count| counts.khz(count, clock_hz);
        (khz(counts.tsc), khz(counts.timer))
    })
    .filter(|(tsc_khz, _)| *tsc_khz >= LOWEST_KHZ)
}

/// Counts while `wait` lasts. The timer is not in use yet, and counts down.
fn measure(wait: impl Fn() -> Option<u64>) -> Option<Counts> {
    apic::start_countdown(u32::MAX);
    let (tsc, timer) = (now(), apic::countdown());
    let waited = wait();
    let (tsc_end, timer_end) = (now(), apic::countdown());
    apic::start_countdown(0);
    let clock = waited.filter(|ticks| *ticks > 0)?;
    Some(Counts {
        tsc: tsc_end - tsc,
        timer: u64::from(timer.wrapping_sub(timer_end)),
        clock,
    })
}

/// Repeats `is_over` until it is; whether it came to that.
fn wait_until(mut is_over: impl FnMut() -> bool) -> bool {
    let start = now();
    while !is_over() {
        if now() - start > GIVE_UP_TICKS {
            return false;
        }
    }
    true
}

/// Ticks of the timer that passed, by its own count: whoever is kept from running reads it late.
fn wait_pm_timer(timer: PmTimer) -> Option<u64> {
    // SAFETY: reading the counter has no effect.
    let read = || unsafe { inl(timer.port) };
    let start = read();
    let mut passed = 0;
    let over = wait_until(|| {
        passed = u64::from(read().wrapping_sub(start) & PM_TIMER_MASK);
        passed >= PM_TIMER_HZ / MEASUREMENTS_PER_SECOND
    });
    over.then_some(passed)
}

/// Lets channel 2, which only drives the speaker, count down once.
fn wait_pit() -> Option<u64> {
    const GATE: u8 = 1;
    const SPEAKER: u8 = 2;
    const OUTPUT: u8 = 0x20;
    /// Channel 2, both bytes, interrupt on terminal count.
    const COUNT_ONCE: u8 = 0xb0;
    let ticks = (PIT_HZ / MEASUREMENTS_PER_SECOND) as u16;
    // SAFETY: channel 2 and its gate belong to nobody yet.
    unsafe {
        let control = inb(SYSTEM_CONTROL) & !SPEAKER;
        outb(SYSTEM_CONTROL, control & !GATE);
        outb(PIT_COMMAND, COUNT_ONCE);
        outb(PIT_CHANNEL_2, ticks as u8);
        outb(PIT_CHANNEL_2, (ticks >> 8) as u8);
        outb(SYSTEM_CONTROL, control | GATE);
    }
    // SAFETY: reading the port has no effect.
    let over = wait_until(|| unsafe { inb(SYSTEM_CONTROL) } & OUTPUT != 0);
    over.then_some(u64::from(ticks))
}

/// Frequencies of the time-stamp counter and of the timer that CPUID tells, in kHz: from the
/// crystal (leaf 0x15), or from a hypervisor (leaf 0x4000_0010).
fn told_by_cpuid() -> (u64, u64) {
    use x86::cpuid::cpuid;
    if cpuid!(0).eax >= 0x15 {
        let leaf = cpuid!(0x15);
        if leaf.eax != 0 && leaf.ebx != 0 && leaf.ecx != 0 {
            let crystal_khz = u64::from(leaf.ecx) / 1000;
            return (
                crystal_khz * u64::from(leaf.ebx) / u64::from(leaf.eax),
                crystal_khz,
            );
        }
    }
    let hypervisor = cpuid!(1).ecx >> 31 == 1;
    if hypervisor && cpuid!(0x4000_0000).eax >= 0x4000_0010 {
        let leaf = cpuid!(0x4000_0010);
        if leaf.eax != 0 {
            return (u64::from(leaf.eax), u64::from(leaf.ebx.max(1)));
        }
    }
    (ASSUMED_KHZ, ASSUMED_KHZ)
}

/// Asks for a timer interrupt on this CPU at `deadline`, in ticks. A past one fires at once; the
/// highest value never fires.
pub fn set_deadline(deadline: u64) {
    this_cpu().deadline.set(deadline);
    if features().tsc_deadline {
        let never = deadline == u64::MAX;
        apic::set_tsc_deadline(if never { 0 } else { deadline.max(1) });
    } else if deadline == u64::MAX {
        apic::start_countdown(0);
    } else {
        let left = u128::from(deadline.saturating_sub(now()));
        let count = (left * u128::from(FREQUENCIES.get().timer_ratio)) >> 32;
        // A counter too short for the wait fires early; the interrupt then comes back here.
        let count = u32::try_from(count + 1).unwrap_or(u32::MAX);
        apic::start_countdown(count);
    }
}

/// Lets `us` microseconds pass. For boot.
pub fn wait_us(us: u64) {
    let end = now() + us * tsc_khz() / 1000;
    while now() < end {
        core::hint::spin_loop();
    }
}
