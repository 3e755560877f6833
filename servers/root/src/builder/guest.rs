//! A guest: its memory, mapped contiguously in the monitor and as guest-physical memory, and its
//! virtual CPUs.

use super::Builder;
use super::memory::Use;
use crate::address_space::AddressSpace;
use crate::error::BuildError;
use crate::kernel::{Kernel, Mapping};
use crate::layout;
use libcap::capability::Vcpu;
use proto::start::{CapKind, NamedRegion};
use sel4_sys::object::LARGE_PAGE_BITS;
use sel4_sys::{CapRights, ObjectType, VmAttributes};

const LARGE_PAGE: u64 = 1 << LARGE_PAGE_BITS;

impl<K: Kernel> Builder<'_, K> {
    /// Builds what a monitor runs; nothing for other programs.
    pub(super) fn build_guest(&mut self) -> Result<(), BuildError> {
        if self.program.vcpus == 0 {
            return Ok(());
        }
        let mut guest = AddressSpace::for_guest(self.arena, self.resources)?;
        self.map_guest_memory(&mut guest)?;
        for index in 0..self.program.vcpus {
            let slot = self.arena.make(self.resources, ObjectType::Vcpu, 0)?;
            let thread = self
                .threads
                .get(usize::from(index) + 1)
                .ok_or(BuildError::BadManifest)?;
            let vcpu = Vcpu::from_cptr(self.resources.cspace.cptr(slot));
            self.resources
                .kernel
                .bind_vcpu(vcpu, thread.tcb, guest.guest_root())?;
            let from = self.resources.cspace.slot(slot);
            self.give(
                alloc::format!("vcpu.{index}"),
                CapKind::Vcpu,
                from,
                CapRights::ALL,
            )?;
        }
        Ok(())
    }

    fn map_guest_memory(&mut self, guest: &mut AddressSpace) -> Result<(), BuildError> {
        let length = self.order.guest_bytes;
        let pages = self
            .arena
            .make_large_pages(self.resources, length / LARGE_PAGE)?;
        for (slot, offset) in pages.into_iter().zip((0..).step_by(LARGE_PAGE as usize)) {
            // A capability is mapped in one place, so the guest's mapping gets a copy.
            let frame = self.resources.cspace.slot(slot);
            let copy = self.arena.copy(self.resources, frame, CapRights::ALL)?;
            let mapping = Use::Write.mapping(layout::GUEST + offset);
            self.space
                .map(self.arena, self.resources, (LARGE_PAGE_BITS, slot), mapping)?;
            let mapping = Mapping {
                vaddr: layout::guest_physical(offset),
                rights: CapRights::READ_WRITE,
                attributes: VmAttributes::WRITE_BACK,
            };
            guest.map(self.arena, self.resources, (LARGE_PAGE_BITS, copy), mapping)?;
        }
        let (name, vaddr) = ("ram".into(), layout::GUEST);
        self.regions.push(NamedRegion {
            name,
            vaddr,
            length,
            paddr: None,
            writable: true,
        });
        Ok(())
    }
}
