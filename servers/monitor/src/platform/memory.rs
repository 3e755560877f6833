//! Device memory accesses: the local APIC's page, the I/O APIC, and one day PCI BARs.

use super::{IO_APIC_ADDRESS, Platform};
use crate::exit::AccessSize;
use crate::memory::GuestAddress;
use crate::time::Ticks;

const PAGE: u64 = 0x1000;

/// What an address belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claim {
    /// The accessing CPU's local APIC, at this offset.
    LocalApic(u64),
    /// The I/O APIC, at this offset.
    IoApic(u64),
    /// Nobody.
    Nobody,
}

impl Platform {
    fn claim(&self, vcpu: usize, address: GuestAddress) -> Claim {
        let offset_in = |base: u64| address.0.checked_sub(base).filter(|offset| *offset < PAGE);
        if let Some(offset) = self.interrupts.local(vcpu).page().and_then(offset_in) {
            return Claim::LocalApic(offset);
        }
        offset_in(IO_APIC_ADDRESS).map_or(Claim::Nobody, Claim::IoApic)
    }

    /// CPU `vcpu` reads device memory.
    pub fn read_memory(
        &mut self,
        vcpu: usize,
        address: GuestAddress,
        size: AccessSize,
        now: Ticks,
    ) -> u64 {
        match self.claim(vcpu, address) {
            Claim::LocalApic(offset) => {
                let register = (offset >> 4) as u8;
                let apic = self.interrupts.local_mut(vcpu);
                // What cannot be read as memory reads zero.
                let value = apic.read(register, now).unwrap_or(0);
                part_of_register(value, offset & 0xf, size)
            }
            Claim::IoApic(offset) => {
                let value = self.interrupts.io_apic().read(offset & !0xf);
                part_of_register(value, offset & 0xf, size)
            }
            Claim::Nobody => size.mask(),
        }
    }

    /// CPU `vcpu` writes device memory.
    pub fn write_memory(
        &mut self,
        vcpu: usize,
        address: GuestAddress,
        size: AccessSize,
        value: u64,
        now: Ticks,
    ) {
        // Registers are 32 bits wide, at multiples of 16; anything else is undefined.
        if address.0 & 0xf != 0 || size < AccessSize::Dword {
            return;
        }
        match self.claim(vcpu, address) {
            Claim::LocalApic(offset) => {
                let apic = self.interrupts.local_mut(vcpu);
                if let Ok(effect) = apic.write((offset >> 4) as u8, value as u32, now) {
                    self.interrupts.apply(vcpu, effect);
                }
            }
            Claim::IoApic(offset) => self.interrupts.write_io_apic(offset, value as u32),
            Claim::Nobody => {}
        }
    }
}

/// `size` bytes from byte `offset` of a 32-bit register; what is beyond it reads zero.
fn part_of_register(value: u32, offset: u64, size: AccessSize) -> u64 {
    u64::from(value).checked_shr(offset as u32 * 8).unwrap_or(0) & size.mask()
}
