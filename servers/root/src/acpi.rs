//! As much of ACPI as switching a machine off takes: from the root pointer over the FADT to the
//! PM1 control registers, and the sleep type of state S5 in the DSDT (ACPI 6.5, sections 5.2 and
//! 7.4.2).
//!
//! The tables are the firmware's and so not to be trusted: every length is bounded, every read can
//! fail, and whatever does not fit ends in `None`.

/// Physical memory.
pub trait Physical {
    /// Reads `bytes` from `paddr` on; `None` if that is no memory that can be read.
    fn read(&mut self, paddr: u64, bytes: &mut [u8]) -> Option<()>;
}

/// Most entries of an RSDT or XSDT that are looked at; machines have about twenty.
const TABLES_MAX: u64 = 64;
/// Most bytes of a DSDT that are searched; large machines have half of that.
const DSDT_BYTES_MAX: u64 = 1 << 20;
/// Bytes of a table's header.
const HEADER_BYTES: u64 = 36;
/// Offsets in the FADT.
const FADT_DSDT: u64 = 40;
const FADT_SMI_COMMAND: u64 = 48;
const FADT_ENABLE: u64 = 52;
const FADT_PM1A_CONTROL: u64 = 64;
const FADT_PM1B_CONTROL: u64 = 68;
/// AML: the name of the S5 package, and the operator of a package.
const S5_NAME: [u8; 4] = *b"_S5_";
const PACKAGE_OPERATOR: u8 = 0x12;
/// Bytes from the name to the end of the two sleep types, at most.
const S5_BYTES: usize = 16;
/// Bytes of the DSDT that are searched at a time.
const CHUNK_BYTES: usize = 256;

/// How the machine is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SoftOff {
    /// Port and value that hand the power registers to us, if the firmware has them.
    pub enable: Option<(u16, u8)>,
    /// The PM1a control register and the value that goes into its sleep type field.
    pub pm1a: (u16, u8),
    /// The same for PM1b, if there is one.
    pub pm1b: Option<(u16, u8)>,
}

/// Finds how to switch off the machine whose root pointer is `rsdp`.
#[must_use]
pub fn soft_off(rsdp: &[u8; 36], memory: &mut impl Physical) -> Option<SoftOff> {
    if rsdp[..8] != *b"RSD PTR " {
        return None;
    }
    let fadt = find_fadt(rsdp, memory)?;
    let port = |value: u32| u16::try_from(value).ok().filter(|port| *port != 0);
    let pm1a = port(read_u32(memory, fadt + FADT_PM1A_CONTROL)?)?;
    let pm1b = port(read_u32(memory, fadt + FADT_PM1B_CONTROL)?);
    let (type_a, type_b) = sleep_types(u64::from(read_u32(memory, fadt + FADT_DSDT)?), memory)?;
    let command = port(read_u32(memory, fadt + FADT_SMI_COMMAND)?);
    let value = read_u32(memory, fadt + FADT_ENABLE)? as u8;
    Some(SoftOff {
        enable: command.filter(|_| value != 0).map(|port| (port, value)),
        pm1a: (pm1a, type_a),
        pm1b: pm1b.map(|port| (port, type_b)),
    })
}

fn find_fadt(rsdp: &[u8; 36], memory: &mut impl Physical) -> Option<u64> {
    let xsdt = u64::from_le_bytes(rsdp[24..32].try_into().ok()?);
    let rsdt = u64::from(u32::from_le_bytes(rsdp[16..20].try_into().ok()?));
    let (table, width) = if rsdp[15] >= 2 && xsdt != 0 {
        (xsdt, 8)
    } else {
        (rsdt, 4)
    };
    let bytes = u64::from(read_u32(memory, table.checked_add(4)?)?).checked_sub(HEADER_BYTES)?;
    let entries = (bytes / width).min(TABLES_MAX);
    (0..entries).find_map(|index| {
        let at = table.checked_add(HEADER_BYTES + index * width)?;
        let low = u64::from(read_u32(memory, at)?);
        let high = if width == 8 {
            u64::from(read_u32(memory, at.checked_add(4)?)?)
        } else {
            0
        };
        let address = high << 32 | low;
        let mut signature = [0; 4];
        memory.read(address, &mut signature)?;
        (signature == *b"FACP" && address < u64::MAX - 4096).then_some(address)
    })
}

/// The sleep types of S5 for PM1a and PM1b, out of the DSDT at `dsdt`.
fn sleep_types(dsdt: u64, memory: &mut impl Physical) -> Option<(u8, u8)> {
    let length = u64::from(read_u32(memory, dsdt + 4)?).min(DSDT_BYTES_MAX);
    let mut offset = HEADER_BYTES;
    while offset < length {
        // Chunks overlap, so that a package across a boundary is whole in one of them.
        let mut chunk = [0; CHUNK_BYTES + S5_BYTES];
        let count = (length - offset).min(chunk.len() as u64) as usize;
        memory.read(dsdt + offset, &mut chunk[..count])?;
        if let Some(found) = find_package(&chunk[..count]) {
            return Some(found);
        }
        offset += CHUNK_BYTES as u64;
    }
    None
}

/// The first two numbers of a package called `_S5_` that begins in `bytes`.
fn find_package(bytes: &[u8]) -> Option<(u8, u8)> {
    let starts = bytes
        .windows(S5_NAME.len())
        .enumerate()
        .filter(|(_, name)| **name == S5_NAME);
    let mut packages = starts.map(|(at, _)| &bytes[at + S5_NAME.len()..]);
    packages.find_map(|rest| {
        let rest = rest.strip_prefix(&[PACKAGE_OPERATOR])?;
        // The top two bits of the length say how many bytes of it follow; one byte counts elements.
        let more = usize::from(*rest.first()? >> 6);
        let (first, rest) = number(rest.get(1 + more + 1..)?)?;
        let (second, _) = number(rest)?;
        Some((first, second))
    })
}

/// A small constant of AML and what follows it.
fn number(bytes: &[u8]) -> Option<(u8, &[u8])> {
    match *bytes {
        [value @ (0 | 1), ref rest @ ..] | [0x0a, value, ref rest @ ..] if value < 8 => {
            Some((value, rest))
        }
        _ => None,
    }
}

fn read_u32(memory: &mut impl Physical, paddr: u64) -> Option<u32> {
    let mut bytes = [0; 4];
    memory.read(paddr, &mut bytes)?;
    Some(u32::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Memory from address 0x1000 on.
    struct Memory(Vec<u8>);

    impl Physical for Memory {
        fn read(&mut self, paddr: u64, bytes: &mut [u8]) -> Option<()> {
            let start = usize::try_from(paddr.checked_sub(0x1000)?).ok()?;
            bytes.copy_from_slice(self.0.get(start..start.checked_add(bytes.len())?)?);
            Some(())
        }
    }

    impl Memory {
        fn put(&mut self, paddr: u64, bytes: &[u8]) {
            let start = paddr as usize - 0x1000;
            self.0[start..start + bytes.len()].copy_from_slice(bytes);
        }
    }

    /// RSDT at 0x1000, FADT at 0x1100, DSDT at 0x1200 with the package at its byte `at`.
    fn machine(at: u64) -> ([u8; 36], Memory) {
        let mut memory = Memory(vec![0; 0x2000]);
        memory.put(0x1000, b"RSDT");
        memory.put(0x1004, &44_u32.to_le_bytes());
        memory.put(0x1024, &0x1200_u32.to_le_bytes());
        memory.put(0x1028, &0x1100_u32.to_le_bytes());
        memory.put(0x1100, b"FACP");
        memory.put(0x1128, &0x1200_u32.to_le_bytes());
        memory.put(0x1130, &0xb2_u32.to_le_bytes());
        memory.put(0x1134, &[2]);
        memory.put(0x1140, &0x604_u32.to_le_bytes());
        memory.put(0x1200, b"DSDT");
        memory.put(0x1204, &0x800_u32.to_le_bytes());
        memory.put(0x1200 + at, b"\x08_S5_\x12\x06\x04\x0a\x05\x01\x00\x00");
        let mut rsdp = [0; 36];
        rsdp[..8].copy_from_slice(b"RSD PTR ");
        rsdp[16..20].copy_from_slice(&0x1000_u32.to_le_bytes());
        (rsdp, memory)
    }

    #[test]
    fn the_sleep_type_is_found_wherever_it_stands() {
        for at in [0x30, 0x118, 0x11f, 0x120, 0x121, 0x7f0] {
            let (rsdp, mut memory) = machine(at);
            let expected = SoftOff {
                enable: Some((0xb2, 2)),
                pm1a: (0x604, 5),
                pm1b: None,
            };
            assert_eq!(soft_off(&rsdp, &mut memory), Some(expected), "{at:#x}");
        }
    }

    #[test]
    fn a_machine_without_the_tables_is_none() {
        let (rsdp, mut memory) = machine(0x30);
        memory.put(0x1100, b"JUNK");
        assert_eq!(soft_off(&rsdp, &mut memory), None);
        assert_eq!(soft_off(&[0; 36], &mut memory), None);
        let (rsdp, mut memory) = machine(0x30);
        memory.put(0x1230, &[0; 16]);
        assert_eq!(soft_off(&rsdp, &mut memory), None);
    }

    proptest! {
        #[test]
        fn damaged_tables_never_panic(changes in prop::collection::vec((0usize..0x400, any::<u8>()), 1..20),
                                      pointer in any::<u64>(), revision in 0u8..3) {
            let (mut rsdp, mut memory) = machine(0x30);
            rsdp[15] = revision;
            rsdp[24..32].copy_from_slice(&pointer.to_le_bytes());
            for (at, value) in changes {
                memory.0[at] = value;
            }
            let _ = soft_off(&rsdp, &mut memory);
        }
    }
}
