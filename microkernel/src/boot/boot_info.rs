//! Writing BootInfo and the extra records behind it, as `sel4_sys::boot_info` lays them out.

use core::mem::offset_of;

use sel4_sys::boot_info::{MEMORY_MAP_ENTRIES, NO_IOMMU};
use sel4_sys::{BootInfo, ExtraRecord, SlotRegion};

use super::memory::UntypedRegion;
use super::{Framebuffer, Machine, page_aligned_module};
use crate::store::{Ref, Table};

/// A page that bytes are written to in order.
pub struct PageWriter {
    page: Ref<Table>,
    offset: usize,
}

impl PageWriter {
    /// Writes from the start of `page`.
    #[must_use]
    pub const fn new(page: Ref<Table>) -> Self {
        Self { page, offset: 0 }
    }

    /// Bytes written so far.
    #[must_use]
    pub const fn written(&self) -> usize {
        self.offset
    }

    fn byte(&mut self, byte: u8) {
        let word = self.page.entry(self.offset / 8);
        let shift = self.offset % 8 * 8;
        word.set(word.get() & !(0xff << shift) | u64::from(byte) << shift);
        self.offset += 1;
    }

    fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|byte| self.byte(*byte));
    }

    fn header(&mut self, record: ExtraRecord, body: usize) {
        self.bytes(&record.number().to_le_bytes());
        self.bytes(&(16 + body as u64).to_le_bytes());
    }

    fn framebuffer(&mut self, record: ExtraRecord, framebuffer: &Framebuffer) {
        self.header(record, 22);
        self.bytes(&framebuffer.address.to_le_bytes());
        for word in [framebuffer.pitch, framebuffer.width, framebuffer.height] {
            self.bytes(&word.to_le_bytes());
        }
        self.bytes(&[framebuffer.bits_per_pixel, framebuffer.kind]);
    }

    /// seL4's memory map record always has its full size.
    fn memory_map(&mut self, machine: &Machine) {
        const ENTRY_BYTES: usize = 24;
        self.header(
            ExtraRecord::X86MemoryMap,
            4 + MEMORY_MAP_ENTRIES * ENTRY_BYTES,
        );
        let entries = machine.memory_map.len().min(MEMORY_MAP_ENTRIES);
        self.bytes(&((entries * ENTRY_BYTES) as u32).to_le_bytes());
        for index in 0..MEMORY_MAP_ENTRIES {
            let entry = machine.memory_map.get(index).copied().unwrap_or_default();
            self.bytes(&(ENTRY_BYTES as u32 - 4).to_le_bytes());
            self.bytes(&entry.base.to_le_bytes());
            self.bytes(&entry.length.to_le_bytes());
            self.bytes(&entry.kind.to_le_bytes());
        }
    }

    /// Writes every extra record of the machine.
    pub fn records(&mut self, machine: &Machine) {
        if let Some(rsdp) = &machine.rsdp {
            self.header(ExtraRecord::X86AcpiRsdp, rsdp.len());
            self.bytes(rsdp);
        }
        if let Some(framebuffer) = &machine.framebuffer {
            self.framebuffer(ExtraRecord::X86Framebuffer, framebuffer);
        }
        self.memory_map(machine);
        self.header(ExtraRecord::X86TscFrequency, 4);
        self.bytes(&((machine.tsc_khz / 1000) as u32).to_le_bytes());
        let others = machine.modules.get(1..).unwrap_or_default();
        self.header(ExtraRecord::Modules, others.len() * 16);
        for module in others {
            let start = page_aligned_module(*module).start;
            self.bytes(&start.to_le_bytes());
            self.bytes(&(module.end - start).to_le_bytes());
        }
        let words = [
            machine.virtualisation as u64,
            machine.tsc_khz,
            machine.nodes as u64,
            u64::from(crate::config::DEBUG_SYSCALLS),
            machine.xcr0,
        ];
        self.header(ExtraRecord::Machine, words.len() * 8);
        for word in words {
            self.bytes(&word.to_le_bytes());
        }
        if let Some(framebuffer) = &machine.framebuffer {
            self.framebuffer(ExtraRecord::Framebuffer, framebuffer);
        }
    }
}

/// What the root task is told, apart from the extra records.
pub struct Contents<'a> {
    /// Bytes of extra records.
    pub extra_length: u64,
    /// CPUs.
    pub nodes: u64,
    /// Address of the IPC buffer.
    pub ipc_buffer: u64,
    /// Slot regions.
    pub empty: SlotRegion,
    /// Frames of the image.
    pub user_image_frames: SlotRegion,
    /// Its paging structures.
    pub user_image_paging: SlotRegion,
    /// Frames of the extra records.
    pub extra_pages: SlotRegion,
    /// SchedControl of each node.
    pub sched_control: SlotRegion,
    /// Untypeds.
    pub untyped: SlotRegion,
    /// What they are.
    pub untypeds: &'a [UntypedRegion],
}

/// Writes the BootInfo page.
pub fn write(page: Ref<Table>, contents: &Contents<'_>) {
    let word = |offset: usize, value: u64| page.entry(offset / 8).set(value);
    let region = |offset: usize, value: SlotRegion| {
        word(offset, value.start);
        word(offset + 8, value.end);
    };
    word(offset_of!(BootInfo, extra_length), contents.extra_length);
    word(offset_of!(BootInfo, nodes), contents.nodes);
    word(offset_of!(BootInfo, io_page_table_levels), NO_IOMMU);
    word(offset_of!(BootInfo, ipc_buffer), contents.ipc_buffer);
    region(offset_of!(BootInfo, empty), contents.empty);
    region(
        offset_of!(BootInfo, user_image_frames),
        contents.user_image_frames,
    );
    region(
        offset_of!(BootInfo, user_image_paging),
        contents.user_image_paging,
    );
    region(offset_of!(BootInfo, extra_pages), contents.extra_pages);
    word(
        offset_of!(BootInfo, cnode_size_bits),
        u64::from(crate::config::ROOT_CNODE_SIZE_BITS),
    );
    region(offset_of!(BootInfo, sched_control), contents.sched_control);
    region(offset_of!(BootInfo, untyped), contents.untyped);
    for (index, untyped) in contents.untypeds.iter().enumerate() {
        let at = offset_of!(BootInfo, untyped_list) + index * 16;
        word(at, untyped.paddr);
        word(
            at + 8,
            u64::from(untyped.size_bits) | u64::from(untyped.is_device) << 8,
        );
    }
}
