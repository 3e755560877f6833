//! The storms.

use super::{Attacker, blow};
use crate::apic::{self, register};
use crate::cpu::{self, Width};
use crate::trap;

/// A storm.
pub type Storm = fn(&mut Attacker);

/// All of them, in the order in which they run.
pub const ALL: [(&str, Storm); 8] = [
    ("CPUID", identification),
    ("hypercalls", hypercalls),
    ("MSRs", registers),
    ("ports", ports),
    ("device registers", device_registers),
    ("device memory", memory),
    ("control and debug registers", control_registers),
    ("software interrupts", software_interrupts),
];

/// Rounds of a storm. One exit costs an emulated CPU some ten microseconds, so that all storms of a
/// seed take about a second.
const ROUNDS: u64 = 600;
/// CR0 and CR4 in long mode.
const PAGING_AND_PROTECTION: u64 = 1 << 31 | 1;
const WIDE_TABLES: u64 = 1 << 5;
/// Ports that end or reset a VM, with their neighbours: a wide access reaches those too.
const FATAL_PORTS: [core::ops::RangeInclusive<u16>; 5] = [
    0x61..=0x64,
    0x8f..=0x92,
    0xf1..=0xf4,
    0x601..=0x605,
    0xcf6..=0xcf9,
];
const WIDTHS: [Width; 3] = [Width::Byte, Width::Word, Width::Dword];
/// First and last port of each device.
const DEVICES: [(u16, u16); 10] = [
    (0x20, 0x21),
    (0x40, 0x43),
    (0x60, 0x61),
    (0x70, 0x71),
    (0xa0, 0xa1),
    (0x3f8, 0x3ff),
    (0x4d0, 0x4d1),
    (0x600, 0x60f),
    (0xcf8, 0xcf8),
    (0xcfc, 0xcff),
];
/// Registers of the x2APIC that end a VM: commands may be INIT.
const FATAL_MSRS: [u32; 1] = [apic::X2_FIRST + 0x30];
/// Registers around which there are others.
const MSR_NEIGHBOURHOODS: [u32; 9] = [
    0x0,
    0x170,
    0x200,
    0x260,
    0x6e0,
    0x800,
    0xc000_0080,
    0xc000_0100,
    0xc001_0010,
];
/// Registers without which the program cannot go on, and what they have in common: EFER, GS and FS base
/// are not among them, for the program needs neither.
const OWN_MSRS: [u32; 1] = [apic::BASE_MSR];

fn identification(attacker: &mut Attacker) {
    let random = &mut attacker.random;
    for _ in 0..ROUNDS {
        let range = random.pick(&[0, 0x4000_0000, 0x8000_0000, 0xc000_0000]);
        let leaf = (random.of_any_length() as u32).wrapping_add(range);
        cpu::identify(leaf, random.of_any_length() as u32);
    }
}

fn hypercalls(attacker: &mut Attacker) {
    for round in 0..ROUNDS / 4 {
        let kind = attacker.random.below(blow::HYPERCALLS);
        // An exception is one answer.
        let _ = trap::attempt(attacker.cpu, blow::hypercall, kind << 32 | round);
    }
}

extern "sysv64" fn read_register(register: u64) {
    cpu::read_msr(register as u32);
}

/// What [`write_register`] takes needs more than one word.
struct RegisterWrite {
    register: u32,
    value: u64,
}

extern "sysv64" fn write_register(write: u64) {
    let write = blow::at::<RegisterWrite>(write);
    cpu::write_msr(write.register, write.value);
}

fn registers(attacker: &mut Attacker) {
    for _ in 0..ROUNDS {
        let random = &mut attacker.random;
        let base = random.pick(&MSR_NEIGHBOURHOODS);
        let register = if random.below(4) == 0 {
            random.next() as u32
        } else {
            base + random.below(0x40) as u32
        };
        if random.below(2) == 0 {
            let _ = trap::attempt(attacker.cpu, read_register, u64::from(register));
            continue;
        }
        let value = random.of_any_length();
        if FATAL_MSRS.contains(&register) || OWN_MSRS.contains(&register) {
            continue;
        }
        let write = RegisterWrite { register, value };
        let _ = trap::attempt(attacker.cpu, write_register, blow::address(&write));
    }
}

fn is_fatal(port: u16) -> bool {
    FATAL_PORTS.iter().any(|range| range.contains(&port))
}

fn access_port(attacker: &mut Attacker, port: u16) {
    let random = &mut attacker.random;
    let width = random.pick(&WIDTHS);
    match random.below(8) {
        0 => {
            let mut bytes = [0; 64];
            let length = random.below(64) as usize;
            cpu::input_string(port, &mut bytes[..length]);
        }
        1 => cpu::output_string(port, &random.next().to_le_bytes()),
        2..=4 => {
            cpu::input(port, width);
        }
        _ => cpu::output(port, width, random.of_any_length() as u32),
    }
}

/// Any port, device or not.
fn ports(attacker: &mut Attacker) {
    for _ in 0..ROUNDS {
        let port = attacker.random.of_any_length() as u16;
        if !is_fatal(port) {
            access_port(attacker, port);
        }
    }
}

/// Garbage in every register of every device.
fn device_registers(attacker: &mut Attacker) {
    for (first, last) in DEVICES {
        for _ in 0..ROUNDS / 8 {
            let span = u64::from(last - first) + 1;
            let port = first + attacker.random.below(span) as u16;
            if !is_fatal(port) {
                access_port(attacker, port);
            }
        }
    }
    // A byte at a time to the keyboard controller's data, which cannot reset.
    for _ in 0..ROUNDS / 8 {
        cpu::input(0x60, Width::Byte);
        cpu::input(0x64, Width::Byte);
    }
}

/// Garbage in the pages of the APICs and where nothing is, by all kinds of instructions.
fn memory(attacker: &mut Attacker) {
    for _ in 0..ROUNDS {
        let random = &mut attacker.random;
        let page = random.pick(&[apic::LOCAL, apic::IO, apic::LOCAL, 0xd000_0000, 0x0200_0000]);
        let offset = match random.below(2) {
            0 => random.below(0x40) << 4,
            _ => random.below(0xff0),
        };
        let is_command = page == apic::LOCAL && (offset | 0xf) == (register::COMMAND | 0xf);
        let access = blow::MemoryAccess {
            address: page + offset,
            kind: random.below(blow::MEMORY_KINDS),
            value: random.of_any_length(),
        };
        if !is_command {
            let _ = trap::attempt(attacker.cpu, blow::access_memory, blow::address(&access));
        }
    }
}

/// Values that no CPU takes, and some that it takes for an instant.
fn control_registers(attacker: &mut Attacker) {
    for _ in 0..ROUNDS / 2 {
        let random = &mut attacker.random;
        let kind = random.below(blow::CONTROL_KINDS);
        // QEMU lets a program leave long mode where a CPU refuses; that would end the storm.
        let kept = match kind {
            blow::WRITE_CR0 => PAGING_AND_PROTECTION,
            blow::WRITE_CR4 => WIDE_TABLES,
            _ => 0,
        };
        let value = random.of_any_length() ^ random.pick(&[0, 1 << 63, 0x8005_0033]) | kept;
        let write = blow::ControlWrite { kind, value };
        let _ = trap::attempt(attacker.cpu, blow::write_control, blow::address(&write));
        blow::restore_control();
    }
}

/// Every vector, by INT; those of interrupts are acknowledged though nothing was requested.
fn software_interrupts(attacker: &mut Attacker) {
    for vector in 0..256 {
        let _ = trap::attempt(attacker.cpu, blow::software_interrupt, vector);
    }
}
