//! The PCI bus: configuration mechanism 1, and functions with base address registers.
//! Source: PCI Local Bus specification 3.0.
//!
//! So far the bus holds the host bridge alone. A device that is added brings a
//! [`ConfigSpace`]; where its BARs are mapped is then a question to [`PciBus::claim`].

use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

use crate::exit::AccessSize;

/// Bytes of a function's configuration space.
const CONFIG_BYTES: usize = 256;
/// Base address registers of a type 0 header.
const BARS: usize = 6;
/// Devices of bus 0.
pub const SLOTS: usize = 32;

const COMMAND: usize = 0x04;
const COMMAND_IO: u8 = 1 << 0;
const COMMAND_MEMORY: u8 = 1 << 1;
const FIRST_BAR: usize = 0x10;

/// What a BAR decodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BarKind {
    /// Ports.
    Ports,
    /// Memory below 4 GiB.
    Memory32,
    /// Memory anywhere; takes two registers.
    Memory64,
}

#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Bar {
    kind: BarKind,
    size: u64,
}

/// Identity of a function.
#[derive(Clone, Copy, Debug)]
pub struct Identity {
    /// Vendor.
    pub vendor: u16,
    /// Device.
    pub device: u16,
    /// Revision.
    pub revision: u8,
    /// Class, subclass and interface, as in bytes 0x09..0x0c.
    pub class: u32,
}

/// Configuration space of one function.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfigSpace {
    bytes: Vec<u8>,
    writable: Vec<u8>,
    bars: [Option<Bar>; BARS],
}

/// The BAR cannot be added as described.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarRefused;

impl ConfigSpace {
    /// A type 0 header with no BARs.
    #[must_use]
    pub fn new(identity: Identity) -> Self {
        let mut space = Self {
            bytes: alloc::vec![0; CONFIG_BYTES],
            writable: alloc::vec![0; CONFIG_BYTES],
            bars: [None; BARS],
        };
        space.set(0x00, &identity.vendor.to_le_bytes());
        space.set(0x02, &identity.device.to_le_bytes());
        space.set(0x08, &[identity.revision]);
        space.set(0x09, &identity.class.to_le_bytes()[..3]);
        // Ports, memory, bus master, parity, SERR; interrupt disable.
        space.allow(COMMAND, &[0x47, 0x05]);
        space.allow(0x0c, &[0xff]);
        space.allow(0x3c, &[0xff]);
        space
    }

    /// Sets bytes as the device itself would.
    pub fn set(&mut self, offset: usize, bytes: &[u8]) {
        for (index, byte) in bytes.iter().enumerate() {
            if let Some(target) = self.bytes.get_mut(offset + index) {
                *target = *byte;
            }
        }
    }

    /// Lets the guest write the bits of `mask` at `offset`.
    pub fn allow(&mut self, offset: usize, mask: &[u8]) {
        for (index, bits) in mask.iter().enumerate() {
            if let Some(target) = self.writable.get_mut(offset + index) {
                *target |= *bits;
            }
        }
    }

    /// Adds a BAR of `size` bytes, a power of two.
    ///
    /// # Errors
    /// [`BarRefused`] for a size that is none, and for a register that is taken or not there.
    pub fn add_bar(&mut self, index: usize, kind: BarKind, size: u64) -> Result<(), BarRefused> {
        let (least, most, flags) = match kind {
            BarKind::Ports => (4, 0x100, 0x1),
            BarKind::Memory32 => (16, 1 << 31, 0x0),
            BarKind::Memory64 => (16, 1 << 40, 0x4),
        };
        let registers = if kind == BarKind::Memory64 { 2 } else { 1 };
        let is_free = self
            .bars
            .get(index..index + registers)
            .is_some_and(|bars| bars.iter().all(Option::is_none));
        let follows_wide = index > 0
            && matches!(
                self.bars[index - 1],
                Some(Bar {
                    kind: BarKind::Memory64,
                    ..
                })
            );
        if !is_free || follows_wide || !size.is_power_of_two() || !(least..=most).contains(&size) {
            return Err(BarRefused);
        }
        self.bars[index] = Some(Bar { kind, size });
        let offset = FIRST_BAR + index * 4;
        self.set(offset, &[flags]);
        let mask = (!(size - 1)).to_le_bytes();
        self.allow(offset, &mask[..registers * 4]);
        Ok(())
    }

    /// Reads `size` at `offset`, which is aligned.
    #[must_use]
    pub fn read(&self, offset: usize, size: AccessSize) -> u64 {
        let end = offset + size.bytes();
        match self.bytes.get(offset..end) {
            Some(bytes) => bytes
                .iter()
                .rev()
                .fold(0, |value, byte| value << 8 | u64::from(*byte)),
            None => size.mask(),
        }
    }

    /// Writes the bits that the guest may write.
    pub fn write(&mut self, offset: usize, size: AccessSize, value: u64) {
        for index in 0..size.bytes() {
            let byte = (value >> (index * 8)) as u8;
            if let (Some(target), Some(mask)) = (
                self.bytes.get_mut(offset + index),
                self.writable.get(offset + index),
            ) {
                *target = *target & !mask | byte & mask;
            }
        }
    }

    /// Base address of BAR `index`, if it is decoded.
    #[must_use]
    pub fn bar_address(&self, index: usize) -> Option<u64> {
        let bar = (*self.bars.get(index)?)?;
        let command = self.bytes[COMMAND];
        let offset = FIRST_BAR + index * 4;
        let (enabled, raw) = match bar.kind {
            BarKind::Ports => (COMMAND_IO, self.read(offset, AccessSize::Dword)),
            BarKind::Memory32 => (COMMAND_MEMORY, self.read(offset, AccessSize::Dword)),
            BarKind::Memory64 => (COMMAND_MEMORY, self.read(offset, AccessSize::Qword)),
        };
        (command & enabled != 0).then_some(raw & !(bar.size - 1))
    }

    fn claim(&self, kind_is_ports: impl Fn(BarKind) -> bool, address: u64) -> Option<(usize, u64)> {
        (0..BARS).find_map(|index| {
            let bar = self.bars[index].filter(|bar| kind_is_ports(bar.kind))?;
            let offset = address.checked_sub(self.bar_address(index)?)?;
            (offset < bar.size).then_some((index, offset))
        })
    }
}

/// A place within a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BarHit {
    /// Device number.
    pub slot: usize,
    /// BAR.
    pub bar: usize,
    /// Offset in it.
    pub offset: u64,
}

/// In which space an address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressSpace {
    /// I/O ports.
    Ports,
    /// Memory.
    Memory,
}

/// Bus 0 and its configuration ports.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PciBus {
    address: u32,
    slots: Vec<Option<ConfigSpace>>,
}

impl Default for PciBus {
    /// A bus with a host bridge like that of the i440FX, which every operating system knows.
    fn default() -> Self {
        let mut slots: Vec<Option<ConfigSpace>> = (0..SLOTS).map(|_| None).collect();
        slots[0] = Some(ConfigSpace::new(Identity {
            vendor: 0x8086,
            device: 0x1237,
            revision: 2,
            class: 0x06_0000,
        }));
        Self { address: 0, slots }
    }
}

impl PciBus {
    /// Puts a function into a slot; gives it back if the slot is taken or not there.
    ///
    /// # Errors
    /// The function itself.
    #[expect(
        clippy::result_large_err,
        reason = "what found no place is given back whole, once, when a machine is built"
    )]
    pub fn insert(&mut self, slot: usize, function: ConfigSpace) -> Result<(), ConfigSpace> {
        match self.slots.get_mut(slot) {
            Some(place @ None) => {
                *place = Some(function);
                Ok(())
            }
            _ => Err(function),
        }
    }

    /// Reads port 0xcf8.
    #[must_use]
    pub fn read_address(&self) -> u32 {
        self.address
    }

    /// Writes port 0xcf8.
    pub fn write_address(&mut self, value: u32) {
        self.address = value & 0x80ff_fffc;
    }

    /// Slot and register that the address port names, if a function is there.
    fn selected(&self, byte: u8) -> Option<(usize, usize)> {
        let is_enabled = self.address >> 31 == 1;
        let bus_and_function = self.address >> 16 & 0xff | self.address & 0x700;
        let slot = (self.address >> 11 & 0x1f) as usize;
        let register = (self.address & 0xfc) as usize + usize::from(byte);
        (is_enabled && bus_and_function == 0).then_some((slot, register))
    }

    /// Reads port 0xcfc + `byte`.
    #[must_use]
    pub fn read_data(&self, byte: u8, size: AccessSize) -> u64 {
        self.selected(byte)
            .and_then(|(slot, register)| Some(self.slots.get(slot)?.as_ref()?.read(register, size)))
            .unwrap_or(size.mask())
    }

    /// Writes port 0xcfc + `byte`.
    pub fn write_data(&mut self, byte: u8, size: AccessSize, value: u64) {
        if let Some((slot, register)) = self.selected(byte)
            && let Some(Some(function)) = self.slots.get_mut(slot)
        {
            function.write(register, size, value);
        }
    }

    /// The device and BAR that decode `address`.
    #[must_use]
    pub fn claim(&self, space: AddressSpace, address: u64) -> Option<BarHit> {
        let wants = |kind: BarKind| (kind == BarKind::Ports) == (space == AddressSpace::Ports);
        self.slots.iter().enumerate().find_map(|(slot, function)| {
            let (bar, offset) = function.as_ref()?.claim(wants, address)?;
            Some(BarHit { slot, bar, offset })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn select(bus: &mut PciBus, slot: u32, register: u32) {
        bus.write_address(1 << 31 | slot << 11 | register);
    }

    fn test_function() -> ConfigSpace {
        let mut function = ConfigSpace::new(Identity {
            vendor: 0x1af4,
            device: 0x1042,
            revision: 1,
            class: 0x01_0000,
        });
        function.add_bar(0, BarKind::Ports, 0x20).unwrap();
        function.add_bar(1, BarKind::Memory32, 0x1000).unwrap();
        function.add_bar(4, BarKind::Memory64, 0x4000).unwrap();
        function
    }

    #[test]
    fn the_host_bridge_answers_and_empty_slots_read_all_ones() {
        let mut bus = PciBus::default();
        select(&mut bus, 0, 0);
        assert_eq!(bus.read_data(0, AccessSize::Dword), 0x1237_8086);
        assert_eq!(bus.read_data(2, AccessSize::Word), 0x1237);
        select(&mut bus, 0, 8);
        assert_eq!(bus.read_data(3, AccessSize::Byte), 0x06);
        select(&mut bus, 1, 0);
        assert_eq!(bus.read_data(0, AccessSize::Dword), 0xffff_ffff);
        bus.write_address(0);
        assert_eq!(bus.read_data(0, AccessSize::Word), 0xffff);
    }

    #[test]
    fn identity_cannot_be_written() {
        let mut bus = PciBus::default();
        select(&mut bus, 0, 0);
        bus.write_data(0, AccessSize::Dword, 0);
        assert_eq!(bus.read_data(0, AccessSize::Dword), 0x1237_8086);
    }

    #[test]
    fn a_bar_tells_its_size_and_decodes_where_it_is_put() {
        let mut bus = PciBus::default();
        bus.insert(3, test_function()).unwrap();
        select(&mut bus, 3, 0x14);
        bus.write_data(0, AccessSize::Dword, 0xffff_ffff);
        assert_eq!(bus.read_data(0, AccessSize::Dword), 0xffff_f000);
        bus.write_data(0, AccessSize::Dword, 0xd000_0000);
        assert_eq!(
            bus.claim(AddressSpace::Memory, 0xd000_0010),
            None,
            "not enabled"
        );
        select(&mut bus, 3, 4);
        bus.write_data(0, AccessSize::Word, 3);
        assert_eq!(
            bus.claim(AddressSpace::Memory, 0xd000_0fff),
            Some(BarHit {
                slot: 3,
                bar: 1,
                offset: 0xfff
            })
        );
        assert_eq!(bus.claim(AddressSpace::Memory, 0xd000_1000), None);
    }

    #[test]
    fn wide_and_port_bars_have_their_flags() {
        let mut bus = PciBus::default();
        bus.insert(3, test_function()).unwrap();
        for (register, expected) in [
            (0x10, 0xffff_ffe1),
            (0x20, 0xffff_c004),
            (0x24, 0xffff_ffff),
        ] {
            select(&mut bus, 3, register);
            bus.write_data(0, AccessSize::Dword, 0xffff_ffff);
            assert_eq!(
                bus.read_data(0, AccessSize::Dword),
                expected,
                "{register:#x}"
            );
        }
    }

    #[test]
    fn impossible_bars_are_refused() {
        let mut function = test_function();
        for (index, kind, size) in [
            (0, BarKind::Ports, 0x20),
            (2, BarKind::Memory32, 0x18),
            (5, BarKind::Memory32, 0x1000),
            (6, BarKind::Memory32, 0x1000),
            (3, BarKind::Memory64, 0x1000),
        ] {
            assert_eq!(function.add_bar(index, kind, size), Err(BarRefused));
        }
    }

    proptest! {
        #[test]
        fn no_access_panics(steps in proptest::collection::vec((any::<u32>(), 0u8..4, 0u8..3, any::<u64>()), 0..100)) {
            let mut bus = PciBus::default();
            bus.insert(1, test_function()).unwrap();
            for (address, byte, size, value) in steps {
                let size = [AccessSize::Byte, AccessSize::Word, AccessSize::Dword][usize::from(size)];
                bus.write_address(address & 0x8000_0fff);
                bus.write_data(byte, size, value);
                let _ = bus.read_data(byte, size);
                bus.write_address(address);
                let _ = bus.read_data(byte, size);
                let _ = bus.claim(AddressSpace::Memory, value);
                let _ = bus.claim(AddressSpace::Ports, value & 0xffff);
            }
        }
    }
}
