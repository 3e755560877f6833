//! Memory of a run: image, heap, stacks, IPC buffers, rings, the boot archive.
//!
//! Only code is executable, and code is never writable.

use super::Builder;
use crate::elf::{Access, Program as Image};
use crate::error::BuildError;
use crate::fixed::DeviceMemory;
use crate::kernel::{Kernel, Mapping};
use crate::layout;
use crate::run::Run;
use proto::start::{IPC_BUFFER_POINTER_OFFSET, NamedRegion, Region};
use sel4_sys::object::{LARGE_PAGE_BITS, SMALL_PAGE_BITS};
use sel4_sys::{CapRights, VmAttributes};

const PAGE: u64 = 1 << SMALL_PAGE_BITS;
const LARGE_PAGE: u64 = 1 << LARGE_PAGE_BITS;

/// What a program may do with a mapping; nothing is ever writable and executable.
#[derive(Clone, Copy)]
pub(super) enum Use {
    Read,
    Write,
    Execute,
}

impl Use {
    pub(super) fn mapping(self, vaddr: u64) -> Mapping {
        let (rights, attributes) = match self {
            Self::Read => (CapRights::READ, VmAttributes::EXECUTE_NEVER),
            Self::Write => (CapRights::READ_WRITE, VmAttributes::EXECUTE_NEVER),
            Self::Execute => (CapRights::READ, VmAttributes::WRITE_BACK),
        };
        Mapping {
            vaddr,
            rights,
            attributes,
        }
    }
}

impl<K: Kernel> Builder<'_, K> {
    /// Loads the program's segments.
    pub(super) fn map_image(&mut self, image: &Image<'_>) -> Result<(), BuildError> {
        for segment in &image.segments {
            let access = match segment.access {
                Access::Read => Use::Read,
                Access::Write => Use::Write,
                Access::Execute => Use::Execute,
            };
            for (vaddr, offset, bytes) in segment.pages() {
                let slot = self.filled_page(offset, bytes)?;
                self.map_page(slot, access.mapping(vaddr))?;
                if segment.access == Access::Execute {
                    self.code.push((vaddr, slot));
                }
            }
        }
        Ok(())
    }

    /// Maps the heap, by large pages as far as they reach.
    pub(super) fn map_heap(&mut self) -> Result<Region, BuildError> {
        let length = self.program.heap_bytes;
        let large = self
            .arena
            .make_large_pages(self.resources, length / LARGE_PAGE)?;
        let rest = self
            .arena
            .make_pages(self.resources, length % LARGE_PAGE / PAGE)?;
        let large = large.into_iter().map(|slot| (LARGE_PAGE_BITS, slot));
        let rest = rest.into_iter().map(|slot| (SMALL_PAGE_BITS, slot));
        let mut vaddr = layout::HEAP;
        for (bits, slot) in large.chain(rest) {
            let mapping = Use::Write.mapping(vaddr);
            self.space
                .map(self.arena, self.resources, (bits, slot), mapping)?;
            vaddr += 1 << bits;
        }
        Ok(Region {
            vaddr: layout::HEAP,
            length,
        })
    }

    /// Maps a thread's stack and IPC buffer page. Returns the slot of the latter's frame.
    pub(super) fn map_thread_memory(&mut self, thread: u16) -> Result<u64, BuildError> {
        let top = layout::stack_top(thread);
        for vaddr in (top - self.program.stack_bytes..top).step_by(PAGE as usize) {
            let slot = self.filled_page(0, &[])?;
            self.map_page(slot, Use::Write.mapping(vaddr))?;
        }
        let vaddr = layout::ipc_buffer(thread);
        let slot = self.filled_page(IPC_BUFFER_POINTER_OFFSET as usize, &vaddr.to_le_bytes())?;
        self.map_page(slot, Use::Write.mapping(vaddr))?;
        Ok(slot)
    }

    /// Maps `bytes` read-only from `vaddr` on.
    pub(super) fn map_filled(&mut self, vaddr: u64, bytes: &[u8]) -> Result<(), BuildError> {
        for (page, vaddr) in bytes
            .chunks(PAGE as usize)
            .zip((vaddr..).step_by(PAGE as usize))
        {
            let slot = self.filled_page(0, page)?;
            self.map_page(slot, Use::Read.mapping(vaddr))?;
        }
        Ok(())
    }

    /// Maps one of a channel's ring pages, which belong to both ends.
    pub(super) fn map_ring(&mut self, name: &str, end: &str, slot: u64) -> Result<(), BuildError> {
        let vaddr = layout::ring(self.rings);
        self.rings += 1;
        let frame = self.resources.cspace.slot(slot);
        let copy = self.arena.copy(self.resources, frame, CapRights::ALL)?;
        self.map_page(copy, Use::Write.mapping(vaddr))?;
        self.regions.push(NamedRegion {
            name: alloc::format!("{name}.{end}"),
            vaddr,
            length: PAGE,
            paddr: None,
            writable: true,
        });
        Ok(())
    }

    /// Maps the boot archive, for a program that may see it.
    pub(super) fn map_archive(&mut self) -> Result<(), BuildError> {
        if !self.program.boot_archive {
            return Ok(());
        }
        let archive = &self.order.fixed.archive;
        let vaddr = self.map_device_memory(
            archive,
            layout::ARCHIVE,
            Use::Read,
            VmAttributes::WRITE_BACK,
        )?;
        let (name, length) = ("boot".into(), archive.bytes);
        self.regions.push(NamedRegion {
            name,
            vaddr,
            length,
            paddr: None,
            writable: false,
        });
        Ok(())
    }

    /// Maps device memory near `base`, at the same offset in a large page as in physical memory.
    /// Returns the address.
    pub(super) fn map_device_memory(
        &mut self,
        memory: &DeviceMemory,
        base: u64,
        access: Use,
        memory_type: VmAttributes,
    ) -> Result<u64, BuildError> {
        let first = base + memory.paddr % LARGE_PAGE;
        let mut vaddr = first;
        for (bits, slot) in &memory.pages {
            let frame = self.resources.cspace.slot(*slot);
            let copy = self.arena.copy(self.resources, frame, CapRights::ALL)?;
            let mut mapping = access.mapping(vaddr);
            mapping.attributes = mapping.attributes.union(memory_type);
            self.space
                .map(self.arena, self.resources, (*bits, copy), mapping)?;
            vaddr += 1 << bits;
        }
        Ok(first)
    }

    /// A new page with `bytes` at `offset`.
    fn filled_page(&mut self, offset: usize, bytes: &[u8]) -> Result<u64, BuildError> {
        let slot = self
            .arena
            .make(self.resources, sel4_sys::ObjectType::SmallPage, 0)?;
        if !bytes.is_empty() {
            let frame = Run::frame(self.resources, slot);
            self.resources.kernel.write_frame(frame, offset, bytes)?;
        }
        Ok(slot)
    }

    fn map_page(&mut self, slot: u64, mapping: Mapping) -> Result<(), BuildError> {
        self.space
            .map(self.arena, self.resources, (SMALL_PAGE_BITS, slot), mapping)
    }
}
