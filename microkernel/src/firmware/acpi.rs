//! ACPI: the few tables that the kernel needs itself, read by hand (ACPI 6.5, chapter 5.2).
//!
//! The MADT tells CPUs and I/O APICs, the FADT the power-management timer (a clock of known
//! frequency to calibrate others). Everything else is for user space, which gets the root pointer.

use heapless::Vec;

use super::PhysicalMemory;
use crate::boot::RSDP_BYTES;
use crate::config::MAX_NODES;

/// I/O APICs that are used; servers have one for each PCI host bridge.
pub const MAX_IOAPICS: usize = 8;

/// Largest table that is believed. MADTs of big machines have a few KiB.
const MAX_TABLE_BYTES: u64 = 64 << 10;
/// Bytes of the header that every table has.
const HEADER_BYTES: u64 = 36;
/// Tables that an RSDT or XSDT may list before the rest is ignored.
const MAX_TABLES: u64 = 256;

/// An I/O APIC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IoApic {
    /// Physical address of its registers.
    pub address: u64,
    /// Global interrupt of its first pin.
    pub interrupt_base: u32,
}

/// What the MADT tells.
#[derive(Clone, Debug, Default)]
pub struct Processors {
    /// APIC identifiers of usable CPUs, in the table's order.
    pub apic_ids: Vec<u32, MAX_NODES>,
    /// I/O APICs, in the table's order.
    pub ioapics: Vec<IoApic, MAX_IOAPICS>,
    /// Physical address of each CPU's local APIC.
    pub local_apic: u64,
}

/// Where the power-management timer is; it counts at 3,579,545 Hz.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PmTimer {
    /// I/O port of the counter, of which 24 bits are always there.
    pub port: u16,
}

/// The tables behind one root pointer.
#[derive(Clone, Copy, Debug)]
pub struct Tables {
    root: u64,
    entry_bytes: u64,
}

/// Reads and checks the root pointer at `address`; one of ACPI 1 is padded with zeros.
pub fn read_rsdp(memory: &impl PhysicalMemory, address: u64) -> Option<[u8; RSDP_BYTES]> {
    let mut bytes = [0; RSDP_BYTES];
    memory.read(address, &mut bytes[..20])?;
    if &bytes[..8] != b"RSD PTR " || sum(&bytes[..20]) != 0 {
        return None;
    }
    if bytes[15] >= 2 {
        memory.read(address, &mut bytes)?;
        if sum(&bytes) != 0 {
            return None;
        }
    }
    Some(bytes)
}

/// Looks for the root pointer where a PC's BIOS keeps it: the first KiB of the extended BIOS data
/// area, and the 128 KiB below 1 MiB.
pub fn find_rsdp(memory: &impl PhysicalMemory) -> Option<[u8; RSDP_BYTES]> {
    let ebda = u64::from(memory.u16_at(0x40e, 0)?) << 4;
    let near_ebda = (ebda..ebda + 1024).step_by(16);
    let bios = (0xe_0000..0x10_0000).step_by(16);
    near_ebda
        .chain(bios)
        .find_map(|address| read_rsdp(memory, address))
}

impl Tables {
    /// The tables that the root pointer `rsdp` leads to; `None` if it leads nowhere.
    #[must_use]
    pub fn new(rsdp: &[u8; RSDP_BYTES]) -> Option<Self> {
        let [.., a, b, c, d, e, f, g, h, _, _, _, _] = *rsdp;
        let xsdt = u64::from_le_bytes([a, b, c, d, e, f, g, h]);
        if rsdp[15] >= 2 && xsdt != 0 {
            return Some(Self {
                root: xsdt,
                entry_bytes: 8,
            });
        }
        let rsdt = u32::from_le_bytes([rsdp[16], rsdp[17], rsdp[18], rsdp[19]]);
        (rsdt != 0).then_some(Self {
            root: u64::from(rsdt),
            entry_bytes: 4,
        })
    }

    /// Address and length of the first intact table with this signature.
    fn find(&self, memory: &impl PhysicalMemory, signature: &[u8; 4]) -> Option<(u64, u64)> {
        let length = table_length(memory, self.root)?;
        let count = ((length - HEADER_BYTES) / self.entry_bytes).min(MAX_TABLES);
        for index in 0..count {
            let at = HEADER_BYTES + index * self.entry_bytes;
            let table = match self.entry_bytes {
                8 => memory.u64_at(self.root, at)?,
                _ => u64::from(memory.u32_at(self.root, at)?),
            };
            let mut found = [0; 4];
            if memory.read(table, &mut found).is_some() && &found == signature {
                return Some((table, table_length(memory, table)?));
            }
        }
        None
    }

    /// CPUs and I/O APICs.
    pub fn processors(&self, memory: &impl PhysicalMemory) -> Option<Processors> {
        let (madt, length) = self.find(memory, b"APIC")?;
        let mut found = Processors {
            local_apic: u64::from(memory.u32_at(madt, HEADER_BYTES)?),
            ..Processors::default()
        };
        let mut offset = HEADER_BYTES + 8;
        while offset + 2 <= length {
            let kind = memory.u8_at(madt, offset)?;
            let size = u64::from(memory.u8_at(madt, offset + 1)?);
            if size < 2 || offset + size > length {
                break;
            }
            found.add(memory, madt + offset, kind, size)?;
            offset += size;
        }
        Some(found)
    }

    /// The power-management timer.
    pub fn pm_timer(&self, memory: &impl PhysicalMemory) -> Option<PmTimer> {
        let (fadt, length) = self.find(memory, b"FACP")?;
        if length < 80 {
            return None;
        }
        let port = u16::try_from(memory.u32_at(fadt, 76)?).ok()?;
        (port != 0).then_some(PmTimer { port })
    }
}

impl Processors {
    /// Takes one entry of the MADT; unknown and short ones tell nothing.
    fn add(&mut self, memory: &impl PhysicalMemory, at: u64, kind: u8, size: u64) -> Option<()> {
        match kind {
            0 if size >= 8 => {
                let id = u32::from(memory.u8_at(at, 3)?);
                self.add_cpu(id, memory.u32_at(at, 4)?);
            }
            1 if size >= 12 => {
                let ioapic = IoApic {
                    address: u64::from(memory.u32_at(at, 4)?),
                    interrupt_base: memory.u32_at(at, 8)?,
                };
                // One too many stays unused: its pins cannot be named.
                let _ = self.ioapics.push(ioapic);
            }
            5 if size >= 12 => self.local_apic = memory.u64_at(at, 4)?,
            9 if size >= 16 => self.add_cpu(memory.u32_at(at, 4)?, memory.u32_at(at, 8)?),
            _ => {}
        }
        Some(())
    }

    /// Bit 0 of `flags` says that the CPU is there; others wait to be plugged in.
    fn add_cpu(&mut self, apic_id: u32, flags: u32) {
        if flags & 1 != 0 && !self.apic_ids.contains(&apic_id) {
            // A CPU beyond the limit is not started.
            let _ = self.apic_ids.push(apic_id);
        }
    }
}

fn sum(bytes: &[u8]) -> u8 {
    bytes
        .iter()
        .fold(0, |total, &byte| total.wrapping_add(byte))
}

/// Length of an intact table.
fn table_length(memory: &impl PhysicalMemory, table: u64) -> Option<u64> {
    let length = u64::from(memory.u32_at(table, 4)?);
    if !(HEADER_BYTES..=MAX_TABLE_BYTES).contains(&length) {
        return None;
    }
    let mut total = 0u8;
    for offset in 0..length {
        total = total.wrapping_add(memory.u8_at(table, offset)?);
    }
    (total == 0).then_some(length)
}

#[cfg(test)]
mod tests;
