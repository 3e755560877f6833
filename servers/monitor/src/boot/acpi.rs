//! The ACPI tables that describe the board. Source: ACPI specification 6.4.
//!
//! Fixed hardware, no hardware-reduced mode: a power block with its SCI, a reset register, the
//! MADT with local APICs and the I/O APIC, and a DSDT with the PCI root, the serial port, the
//! clock and the S5 sleep type.

use acpi_tables::aml::{
    AddressSpace, AddressSpaceCacheable, Device, EISAName, IO, Interrupt, Name, Package, Path,
    ResourceTemplate, Scope,
};
use acpi_tables::fadt::{FADTBuilder, Flags};
use acpi_tables::gas::{AccessSize, AddressSpace as GasSpace, GAS};
use acpi_tables::rsdp::Rsdp;
use acpi_tables::sdt::Sdt;
use acpi_tables::xsdt::XSDT;
use acpi_tables::{Aml, facs::FACS};
use alloc::vec;
use alloc::vec::Vec;

use super::layout;
use crate::device::acpi_power::{BASE_PORT, CONTROL_OFFSET, SLEEP_TYPE_OFF, TIMER_OFFSET};
use crate::device::local_apic::DEFAULT_BASE;
use crate::device::real_time_clock::CENTURY;
use crate::interrupts::TIMER_PIN;
use crate::memory::{GuestAddress, GuestMemory, LOW_MEMORY_LIMIT, NoRam};
use crate::platform::{
    COM1_IRQ, COM1_PORT, IO_APIC_ADDRESS, PIT_IRQ, RESET_PORT, RESET_VALUE, RTC_IRQ, SCI_IRQ,
};

const OEM: [u8; 6] = *b"TESSRA";
const OEM_TABLE: [u8; 8] = *b"TESSERA ";
const OEM_REVISION: u32 = 1;

/// There are devices on the board that nobody can find by asking, but no keyboard controller worth
/// probing and no VGA.
const BOOT_ARCHITECTURE: u16 = 1 << 0 | 1 << 2;
/// The 8259 pair is there too.
const MADT_HAS_8259: u32 = 1;
/// Active high, level-triggered.
const LEVEL_HIGH: u16 = 0b1101;
/// As the bus has it.
const CONFORMS: u16 = 0;

/// Tables are put at multiples of this.
const ALIGNMENT: u64 = 64;

/// Writes all tables, and returns the address of the root pointer.
///
/// # Errors
/// [`NoRam`].
pub fn write_tables(memory: &GuestMemory, vcpus: usize) -> Result<GuestAddress, NoRam> {
    let root = layout::ACPI_TABLES;
    let mut writer = Writer {
        memory,
        next: root.offset(ALIGNMENT),
    };
    let facs = writer.append(&bytes_of(&FACS::new()))?;
    let dsdt = writer.append(&dsdt())?;
    let fadt = writer.append(&fadt(facs, dsdt))?;
    let madt = writer.append(&madt(vcpus))?;
    let mut xsdt = XSDT::new(OEM, OEM_TABLE, OEM_REVISION);
    xsdt.add_entry(fadt.0);
    xsdt.add_entry(madt.0);
    let xsdt = writer.append(&bytes_of(&xsdt))?;
    memory.write(root, &bytes_of(&Rsdp::new(OEM, xsdt.0)))?;
    Ok(root)
}

/// Puts one table behind the other.
struct Writer<'a, 'm> {
    memory: &'a GuestMemory<'m>,
    next: GuestAddress,
}

impl Writer<'_, '_> {
    fn append(&mut self, table: &[u8]) -> Result<GuestAddress, NoRam> {
        let address = self.next;
        self.memory.write(address, table)?;
        self.next = GuestAddress((address.0 + table.len() as u64).next_multiple_of(ALIGNMENT));
        Ok(address)
    }
}

fn bytes_of(table: &dyn Aml) -> Vec<u8> {
    let mut bytes = Vec::new();
    table.to_aml_bytes(&mut bytes);
    bytes
}

fn port_register(port: u16, bits: u8, access: AccessSize) -> GAS {
    GAS::new(GasSpace::SystemIo, bits, 0, access, u64::from(port))
}

fn fadt(facs: GuestAddress, dsdt: GuestAddress) -> Vec<u8> {
    let mut fadt = FADTBuilder::new(OEM, OEM_TABLE, OEM_REVISION)
        .firmware_ctrl_32(facs.0 as u32)
        .dsdt_32(dsdt.0 as u32)
        .flag(Flags::Wbinvd)
        .flag(Flags::ProcC1)
        .flag(Flags::SlpButton)
        .flag(Flags::FixRtc)
        .flag(Flags::TmrValExt)
        .flag(Flags::ResetRegSup)
        .flag(Flags::Headless);
    fadt.x_dsdt = dsdt.0.into();
    fadt.sci_int = u16::from(SCI_IRQ).into();
    fadt.pm1a_evt_blk = u32::from(BASE_PORT).into();
    fadt.pm1a_cnt_blk = u32::from(BASE_PORT + CONTROL_OFFSET).into();
    fadt.pm_tmr_blk = u32::from(BASE_PORT + TIMER_OFFSET).into();
    fadt.pm1_evt_len = 4;
    fadt.pm1_cnt_len = 2;
    fadt.pm_tmr_len = 4;
    // Latencies that mean "not supported".
    fadt.p_lvl2_lat = 101.into();
    fadt.p_lvl3_lat = 1001.into();
    fadt.century = CENTURY;
    fadt.iapc_boot_arch = BOOT_ARCHITECTURE.into();
    fadt.reset_reg = port_register(RESET_PORT, 8, AccessSize::ByteAccess);
    fadt.reset_value = RESET_VALUE;
    fadt.x_pm1a_evt_blk = port_register(BASE_PORT, 32, AccessSize::WordAccess);
    fadt.x_pm1a_cnt_blk = port_register(BASE_PORT + CONTROL_OFFSET, 16, AccessSize::WordAccess);
    fadt.x_pm_tmr_blk = port_register(BASE_PORT + TIMER_OFFSET, 32, AccessSize::DwordAccess);
    bytes_of(&fadt.finalize())
}

/// The crate's MADT knows neither the flag for the 8259 pair nor interrupt overrides.
fn madt(vcpus: usize) -> Vec<u8> {
    let mut madt = Sdt::new(*b"APIC", 44, 5, OEM, OEM_TABLE, OEM_REVISION);
    madt.write_u32(36, DEFAULT_BASE as u32);
    madt.write_u32(40, MADT_HAS_8259);
    for index in 0..vcpus as u8 {
        // Type 0: processor, its identifiers, enabled.
        madt.append_slice(&[0, 8, index, index, 1, 0, 0, 0]);
    }
    // Type 1: the I/O APIC.
    madt.append_slice(&[1, 12, 0, 0]);
    madt.append_slice(&(IO_APIC_ADDRESS as u32).to_le_bytes());
    madt.append_slice(&0u32.to_le_bytes());
    for (irq, pin, flags) in [
        (PIT_IRQ, TIMER_PIN, CONFORMS),
        (SCI_IRQ, SCI_IRQ, LEVEL_HIGH),
    ] {
        // Type 2: where an ISA interrupt ends.
        madt.append_slice(&[2, 10, 0, irq]);
        madt.append_slice(&u32::from(pin).to_le_bytes());
        madt.append_slice(&flags.to_le_bytes());
    }
    // Type 4: NMI at LINT1 of every processor.
    madt.append_slice(&[4, 6, 0xff, 0, 0, 1]);
    madt.as_slice().to_vec()
}

fn dsdt() -> Vec<u8> {
    let mut dsdt = Sdt::new(*b"DSDT", 36, 2, OEM, OEM_TABLE, OEM_REVISION);
    let sleep = u8::try_from(SLEEP_TYPE_OFF).unwrap_or(0);
    let off = Package::new(vec![&sleep, &sleep, &0u8, &0u8]);
    dsdt.append_slice(&bytes_of(&Name::new(Path::new("_S5_"), &off)));
    let pci = pci_root();
    let serial = isa_device("COM1", "PNP0501", COM1_PORT, 8, COM1_IRQ);
    let clock = isa_device("RTC0", "PNP0B00", 0x70, 2, RTC_IRQ);
    let children = [pci, serial, clock].concat();
    let children = Encoded(&children);
    let scope = Scope::new(Path::new("_SB_"), vec![&children]);
    dsdt.append_slice(&bytes_of(&scope));
    dsdt.as_slice().to_vec()
}

/// AML that is already bytes.
struct Encoded<'a>(&'a [u8]);

impl Aml for Encoded<'_> {
    fn to_aml_bytes(&self, sink: &mut dyn acpi_tables::AmlSink) {
        sink.vec(self.0);
    }
}

fn pci_root() -> Vec<u8> {
    let gap_end = IO_APIC_ADDRESS as u32 - 1;
    let resources = bytes_of(&ResourceTemplate::new(vec![
        &AddressSpace::<u16>::new_bus_number(0, 0xff),
        &IO::new(0xcf8, 0xcf8, 1, 8),
        &AddressSpace::<u16>::new_io(0, 0xcf7, None),
        &AddressSpace::<u16>::new_io(0xd00, 0xffff, None),
        &AddressSpace::<u32>::new_memory(
            AddressSpaceCacheable::NotCacheable,
            true,
            LOW_MEMORY_LIMIT as u32,
            gap_end,
            None,
        ),
    ]));
    bytes_of(&Device::new(
        Path::new("PCI0"),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new("PNP0A03")),
            &Name::new(Path::new("_UID"), &0u8),
            &Name::new(Path::new("_CRS"), &Encoded(&resources)),
        ],
    ))
}

fn isa_device(name: &str, identifier: &str, port: u16, ports: u8, irq: u8) -> Vec<u8> {
    let resources = bytes_of(&ResourceTemplate::new(vec![
        &IO::new(port, port, 1, ports),
        &Interrupt::new(true, true, false, false, u32::from(irq)),
    ]));
    bytes_of(&Device::new(
        Path::new(name),
        vec![
            &Name::new(Path::new("_HID"), &EISAName::new(identifier)),
            &Name::new(Path::new("_UID"), &1u8),
            &Name::new(Path::new("_CRS"), &Encoded(&resources)),
        ],
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::AccessSize as Size;
    use crate::memory::tests::ram;
    use std::collections::BTreeMap;

    fn sum(bytes: &[u8]) -> u8 {
        bytes.iter().fold(0, |sum, byte| sum.wrapping_add(*byte))
    }

    fn table(memory: &GuestMemory, address: u64) -> Vec<u8> {
        let length = memory
            .read_value(GuestAddress(address + 4), Size::Dword)
            .unwrap();
        let mut bytes = vec![0; length as usize];
        memory.read(GuestAddress(address), &mut bytes).unwrap();
        bytes
    }

    /// Follows the pointers as an operating system does.
    fn tables(vcpus: usize) -> BTreeMap<[u8; 4], Vec<u8>> {
        let words = ram(1 << 20);
        let memory = GuestMemory::new(&words);
        let root = write_tables(&memory, vcpus).unwrap();
        let mut pointer = [0; 36];
        memory.read(root, &mut pointer).unwrap();
        assert_eq!(
            (&pointer[..8], sum(&pointer[..20]), sum(&pointer)),
            (&b"RSD PTR "[..], 0, 0)
        );
        let xsdt = table(
            &memory,
            u64::from_le_bytes(pointer[24..32].try_into().unwrap()),
        );
        let mut found = BTreeMap::new();
        for entry in xsdt[36..].chunks_exact(8) {
            let bytes = table(&memory, u64::from_le_bytes(entry.try_into().unwrap()));
            found.insert(bytes[..4].try_into().unwrap(), bytes);
        }
        let dsdt = u32::from_le_bytes(found[b"FACP"][40..44].try_into().unwrap());
        found.insert(*b"DSDT", table(&memory, u64::from(dsdt)));
        found.insert(*b"XSDT", xsdt);
        found
    }

    #[test]
    fn every_table_is_found_and_sums_to_zero() {
        let tables = tables(2);
        for (signature, bytes) in &tables {
            assert_eq!(sum(bytes), 0, "{}", String::from_utf8_lossy(signature));
        }
        assert!(tables.keys().eq([b"APIC", b"DSDT", b"FACP", b"XSDT"]));
    }

    #[test]
    fn there_is_a_processor_entry_for_every_cpu() {
        for vcpus in 1..=4 {
            let madt = &tables(vcpus)[b"APIC"];
            let mut entries = &madt[44..];
            let mut processors = 0;
            while !entries.is_empty() {
                processors += usize::from(entries[0] == 0);
                entries = &entries[usize::from(entries[1])..];
            }
            assert_eq!(processors, vcpus);
        }
    }

    #[test]
    fn the_fixed_description_names_reset_power_and_timer_ports() {
        let tables = tables(1);
        let fadt = &tables[b"FACP"];
        let word = |offset: usize| u32::from_le_bytes(fadt[offset..offset + 4].try_into().unwrap());
        assert_eq!((word(56), word(64), word(76)), (0x600, 0x604, 0x608));
        assert_eq!(fadt[128], RESET_VALUE);
        assert_eq!(&fadt[116..128], &[1, 8, 0, 1, 0xf9, 0xc, 0, 0, 0, 0, 0, 0]);
        assert_eq!(word(112) & (1 << 20), 0, "not hardware-reduced");
    }

    #[test]
    fn the_differentiated_description_has_its_devices() {
        let tables = tables(1);
        let dsdt = &tables[b"DSDT"];
        for name in [&b"_S5_"[..], b"PCI0", b"COM1", b"RTC0"] {
            assert!(dsdt.windows(4).any(|window| window == name));
        }
    }
}
