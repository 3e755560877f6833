//! Devices, by ports and by memory.

use super::{Verdict, ensure};
use crate::apic::{self, register};
use crate::cpu::{self, Width};
use crate::serial::COM1;

/// A register of the UART that only remembers.
const SCRATCH: u16 = COM1 + 7;
/// PCI's configuration address, 32 bits wide.
const PCI_ADDRESS: u16 = 0xcf8;
const PCI_ENABLED: u32 = 1 << 31;
/// The CMOS: index and data. Its last bytes only remember.
const CMOS_INDEX: u16 = 0x70;
const CMOS_DATA: u16 = 0x71;
const CMOS_FREE: u32 = 0x7f;
/// A port that nobody answers.
const NO_PORT: u16 = 0x1234;
/// An address between RAM and the devices that nobody answers.
const NO_DEVICE: u64 = 0xd000_0000;
/// Behind the RAM of a VM of 16 MiB, where a host has RAM.
const BEYOND_RAM: u64 = 0x0200_0000;
/// A pin that no device uses.
const FREE_PIN: u32 = 20;

/// IN and OUT of every width.
pub fn ports() -> Verdict {
    for value in [0x00, 0x5a, 0xff] {
        cpu::output(SCRATCH, Width::Byte, value);
        let read = cpu::input(SCRATCH, Width::Byte);
        ensure(read == value, "the UART's scratch register")?;
    }
    cpu::output(PCI_ADDRESS, Width::Dword, PCI_ENABLED | 0x0012_3400);
    let address = cpu::input(PCI_ADDRESS, Width::Dword);
    ensure(address == PCI_ENABLED | 0x0012_3400, "PCI's address")?;
    cpu::output(CMOS_INDEX, Width::Byte, CMOS_FREE);
    cpu::output(CMOS_DATA, Width::Byte, 0xa7);
    let kept = cpu::input(CMOS_DATA, Width::Byte);
    ensure(kept == 0xa7, "the CMOS forgot a byte")?;
    for width in [Width::Byte, Width::Word, Width::Dword] {
        cpu::output(NO_PORT, width, 0);
        let read = cpu::input(NO_PORT, width);
        ensure(read == width.mask(), "a port that nobody answers")?;
    }
    Ok(())
}

/// REP OUTSB, by which a line appears.
pub fn string_output() -> Verdict {
    cpu::output_string(COM1, b"GUEST string\r\n");
    let mut scratch = *b"abc";
    cpu::output_string(SCRATCH, &scratch);
    scratch[0] = cpu::input(SCRATCH, Width::Byte) as u8;
    ensure(scratch[0] == b'c', "the last byte did not arrive")
}

/// REP INSB and REP INSD.
pub fn string_input() -> Verdict {
    cpu::output(SCRATCH, Width::Byte, 0x3c);
    let mut bytes = [0; 100];
    cpu::input_string(SCRATCH, &mut bytes);
    ensure(bytes == [0x3c; 100], "bytes")?;
    let mut words = [0; 7];
    cpu::input_string_wide(NO_PORT, &mut words);
    ensure(words == [u32::MAX; 7], "words")
}

/// The pages of both APICs, by several kinds of instruction.
pub fn memory() -> Verdict {
    let id = cpu::read_memory(apic::LOCAL + register::ID);
    ensure(id >> 24 == 0, "the local APIC's identifier")?;
    let version = cpu::read_memory(apic::LOCAL + register::VERSION);
    ensure(version & 0xf0 == 0x10, "the local APIC's version")?;
    let priority = apic::LOCAL + register::TASK_PRIORITY;
    cpu::write_memory(priority, 0x20);
    cpu::add_memory(priority, 0x10);
    let raised = cpu::exchange_memory(priority, 0);
    ensure(raised == 0x30, "the task priority")?;
    let mut words = [0; 4];
    cpu::copy_from_device(apic::LOCAL + register::VERSION, &mut words);
    ensure(words[0] == version, "a copy from device memory")?;
    ensure(
        apic::read_io(1) >> 16 & 0xff == 23,
        "the I/O APIC's version",
    )?;
    apic::write_io(apic::entry(FREE_PIN), 0x0001_00aa);
    let entry = apic::read_io(apic::entry(FREE_PIN));
    ensure(entry == 0x0001_00aa, "an entry of the I/O APIC")
}

/// Addresses that the monitor gave nothing at read as ones, and take nothing.
pub fn beyond_memory() -> Verdict {
    for address in [NO_DEVICE, BEYOND_RAM, 0x7fff_f000, 0xffff_fff0] {
        cpu::write_memory(address, 0);
        let read = cpu::read_memory(address);
        ensure(read == u32::MAX, "something is there")?;
    }
    Ok(())
}
