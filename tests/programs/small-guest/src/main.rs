//! A guest of our own, small enough to boot in an emulator of an emulator.
//!
//! What it does stands on its command line: `check` tries everything that a virtual machine of ours
//! has, prints a line for each, and switches itself off when somebody types Enter; `beat` prints one line after another, driven by its timer, so
//! that others can see that its VM lives; `hostile SEED` does to its VM what it can, and ends or
//! hangs in one of many ways.
//!
//! It boots by PVH, goes to real mode, and from there to long mode as its second CPU does.
#![no_std]
#![no_main]
#![deny(unsafe_code)]

mod apic;
#[expect(unsafe_code, reason = "names that the assembler calls")]
mod boot;
mod checks;
#[expect(unsafe_code, reason = "instructions that Rust has no words for")]
mod cpu;
mod hostile;
mod random;
mod second;
mod serial;
#[expect(unsafe_code, reason = "the assembler's part of exceptions")]
mod trap;

use boot::CommandLine;
use cpu::Width;
use serial::say;

/// ACPI's control register, and what switches the machine off.
const SLEEP_CONTROL: u16 = 0x604;
const SOFT_OFF: u32 = 5 << 10 | 1 << 13;
/// Beats in a second.
const BEATS_PER_SECOND: u32 = 4;

fn first_cpu(line: &CommandLine) -> ! {
    serial::reset();
    trap::prepare(0);
    apic::enable();
    let mut words = line.words();
    match words.next() {
        Some("check") => checks::run(),
        Some("beat") => beat(),
        Some("hostile") => {
            let seed = words.next().and_then(|word| word.parse().ok());
            hostile::run(seed.unwrap_or(0));
        }
        _ => say!("GUEST has nothing to do: check, beat or hostile SEED"),
    }
    end()
}

/// Shows for ever that the VM lives.
fn beat() -> ! {
    let mut count = 0u64;
    apic::start_timer(apic::Repeat::Always, apic::TIMER_HZ / BEATS_PER_SECOND);
    loop {
        let before = trap::interrupts(apic::TIMER_VECTOR);
        while trap::interrupts(apic::TIMER_VECTOR) == before {
            cpu::wait_for_interrupt();
        }
        count += 1;
        say!("GUEST beat {count}");
    }
}

fn second_cpu() -> ! {
    trap::prepare(1);
    apic::enable();
    second::serve()
}

/// Switches the machine off when somebody has typed Enter, who then has seen what was printed. On
/// one that does not obey, sleeps.
fn end() -> ! {
    serial::reset();
    say!("GUEST switches itself off at Enter");
    serial::await_enter();
    loop {
        cpu::output(SLEEP_CONTROL, Width::Word, SOFT_OFF);
        cpu::wait_for_interrupt();
    }
}
