//! The ends: what a guest does last.

use super::{Attacker, blow, storms};
use crate::apic::{self, register};
use crate::cpu::{self, Width};
use crate::second;
use crate::serial::COM1;
use crate::trap;

/// An end.
type End = fn(&mut Attacker);

/// All of them. There are as many seeds in the test.
const ALL: [(&str, End); 16] = [
    ("triple fault", triple_fault),
    ("random instructions", random_instructions),
    ("page tables of random words", random_tables),
    ("random instructions in real mode", random_real_mode),
    ("page tables where no memory is", tables_nowhere),
    ("every port", every_port),
    ("execution of device memory", execute_device),
    ("INIT and start-up messages", start_messages),
    ("sleep without interrupts", sleep_for_ever),
    ("a loop without interrupts", spin_for_ever),
    ("a stack in device memory", stack_in_device),
    ("a flood of output", flood),
    ("vector instructions on device memory", odd_instructions),
    ("interrupts without end", interrupt_storm),
    ("random descriptor tables", random_descriptors),
    ("reset", reset),
];

/// The end of `seed`.
pub fn of_seed(seed: u64) -> (&'static str, End) {
    ALL[(seed % ALL.len() as u64) as usize]
}

fn triple_fault(_: &mut Attacker) {
    cpu::load_interrupt_table(0, 0);
    cpu::undefined();
}

/// Random bytes as code, again and again. The watchdog ends what loops with interrupts on.
fn random_instructions(attacker: &mut Attacker) {
    loop {
        let code = blow::scratch();
        for index in 0..64 {
            cpu::write_memory(code + index * 4, attacker.random.next() as u32);
        }
        apic::start_watchdog(apic::TIMER_HZ / 1000);
        let _ = trap::attempt(attacker.cpu, blow::call_with_interrupts, code);
        apic::restore();
    }
}

fn fill_scratch(attacker: &mut Attacker) -> u64 {
    let page = blow::scratch();
    for index in 0..1024 {
        cpu::write_memory(page + index * 4, attacker.random.next() as u32 | 7);
    }
    page
}

fn random_tables(attacker: &mut Attacker) {
    blow::load_tables(fill_scratch(attacker));
}

fn tables_nowhere(_: &mut Attacker) {
    blow::load_tables(0xd000_0000);
}

fn random_real_mode(attacker: &mut Attacker) {
    // Below 1 MiB, behind the start-up code.
    const CODE: u64 = 0x3_0000;
    for index in 0..0x4000 {
        cpu::write_memory(CODE + index * 4, attacker.random.next() as u32);
    }
    blow::enter_real_mode();
}

/// Values of every kind to all ports, those that reset and switch off among them.
fn every_port(attacker: &mut Attacker) {
    for port in 0..=u16::MAX {
        let value = attacker.random.next() as u32;
        cpu::output(port, Width::Byte, value);
        cpu::input(port, Width::Dword);
    }
}

fn execute_device(_: &mut Attacker) {
    cpu::call(apic::LOCAL);
}

/// Messages of all kinds to all CPUs.
fn start_messages(attacker: &mut Attacker) {
    for _ in 0..10_000 {
        let command = attacker.random.next() as u32 & 0x000c_dfff;
        cpu::write_memory(
            apic::LOCAL + register::COMMAND_HIGH,
            attacker.random.next() as u32,
        );
        cpu::write_memory(apic::LOCAL + register::COMMAND, command);
    }
}

fn sleep_for_ever(_: &mut Attacker) {
    blow::sleep_without_interrupts();
}

fn spin_for_ever(_: &mut Attacker) {
    loop {
        core::hint::spin_loop();
    }
}

/// An exception is to be delivered to a stack that is the local APIC.
fn stack_in_device(_: &mut Attacker) {
    const INVALID_OPCODE: u8 = 6;
    trap::use_interrupted_stack(INVALID_OPCODE);
    blow::fault_with_stack(apic::LOCAL + 0x800);
}

fn flood(attacker: &mut Attacker) {
    loop {
        cpu::output_string(COM1, &attacker.random.next().to_le_bytes());
    }
}

fn odd_instructions(attacker: &mut Attacker) {
    for kind in 0..blow::ODD_KINDS {
        let _ = trap::attempt(attacker.cpu, blow::odd_instruction, kind);
    }
}

/// As many timer interrupts and messages as the devices send.
fn interrupt_storm(attacker: &mut Attacker) {
    apic::start_timer(apic::Repeat::Always, 1);
    for pin in 0..24 {
        apic::open_pin(pin, 0x50 + pin as u8);
    }
    cpu::output(0x43, Width::Byte, 0x34);
    cpu::output(0x40, Width::Byte, 1);
    cpu::output(0x40, Width::Byte, 0);
    loop {
        apic::interrupt(second::IDENTIFIER, attacker.random.below(0xe0) as u8 + 0x20);
        apic::interrupt_self(attacker.random.below(0xb0) as u8 + 0x20);
        cpu::open_to_interrupts();
    }
}

fn random_descriptors(attacker: &mut Attacker) {
    let table = fill_scratch(attacker);
    blow::load_descriptors(table);
    cpu::load_interrupt_table(table, 0xfff);
    for vector in 0..256 {
        blow::software_interrupt(vector);
    }
}

fn reset(attacker: &mut Attacker) {
    for (_, storm) in storms::ALL {
        storm(attacker);
    }
    cpu::output(0xcf9, Width::Byte, 0x06);
}
