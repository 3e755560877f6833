//! What the kernel tells the root task: a page, and records behind it.

use core::mem::{offset_of, size_of};

use crate::numbered::numbered;

/// Untyped capabilities that the BootInfo page has room for.
pub const UNTYPED_MAX: usize = 230;
/// Bytes of the BootInfo page; the extra records start right after it.
pub const BOOT_INFO_FRAME_BYTES: u64 = 4096;
/// `io_page_table_levels` of a machine without IOMMU.
pub const NO_IOMMU: u64 = u64::MAX;

/// A range of slots in the root task's CNode: `start` is in it, `end` is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SlotRegion {
    /// First slot.
    pub start: u64,
    /// Slot after the last.
    pub end: u64,
}

impl SlotRegion {
    /// Number of slots.
    #[must_use]
    pub const fn length(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// One untyped capability of the root task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(C)]
pub struct UntypedDescriptor {
    /// Physical address.
    pub paddr: u64,
    /// log2 of its bytes.
    pub size_bits: u8,
    /// 1 if it is device memory: it keeps its content and becomes only frames or untypeds.
    pub is_device: u8,
    /// Zero.
    pub padding: [u8; 6],
}

/// The BootInfo page. Its address is in RDI when the root task starts.
#[derive(Debug, Clone)]
#[repr(C)]
pub struct BootInfo {
    /// Bytes of extra records.
    pub extra_length: u64,
    /// The node (CPU) that the root task runs on.
    pub node_id: u64,
    /// Number of nodes.
    pub nodes: u64,
    /// Levels of I/O page tables, [`NO_IOMMU`] if there is no IOMMU.
    pub io_page_table_levels: u64,
    /// Virtual address of the root task's IPC buffer.
    pub ipc_buffer: u64,
    /// Free slots.
    pub empty: SlotRegion,
    /// Frames shared between nodes.
    pub shared_frames: SlotRegion,
    /// Frames of the root task's image, in the order of their addresses.
    pub user_image_frames: SlotRegion,
    /// Paging structures of it.
    pub user_image_paging: SlotRegion,
    /// I/O space capabilities.
    pub io_space_caps: SlotRegion,
    /// Frames of the extra records.
    pub extra_pages: SlotRegion,
    /// log2 of the slots of the root task's CNode.
    pub cnode_size_bits: u64,
    /// Domain of the root task.
    pub domain: u64,
    /// One SchedControl capability for each node.
    pub sched_control: SlotRegion,
    /// Untyped capabilities; `untyped_list` describes them in order.
    pub untyped: SlotRegion,
    /// Description of each.
    pub untyped_list: [UntypedDescriptor; UNTYPED_MAX],
}

const _: () = {
    assert!(size_of::<UntypedDescriptor>() == 16);
    assert!(offset_of!(UntypedDescriptor, size_bits) == 8);
    assert!(offset_of!(UntypedDescriptor, is_device) == 9);
    assert!(size_of::<BootInfo>() == 3864);
    assert!(size_of::<BootInfo>() <= BOOT_INFO_FRAME_BYTES as usize);
    assert!(offset_of!(BootInfo, io_page_table_levels) == 24);
    assert!(offset_of!(BootInfo, ipc_buffer) == 32);
    assert!(offset_of!(BootInfo, empty) == 40);
    assert!(offset_of!(BootInfo, shared_frames) == 56);
    assert!(offset_of!(BootInfo, user_image_frames) == 72);
    assert!(offset_of!(BootInfo, user_image_paging) == 88);
    assert!(offset_of!(BootInfo, io_space_caps) == 104);
    assert!(offset_of!(BootInfo, extra_pages) == 120);
    assert!(offset_of!(BootInfo, cnode_size_bits) == 136);
    assert!(offset_of!(BootInfo, domain) == 144);
    assert!(offset_of!(BootInfo, sched_control) == 152);
    assert!(offset_of!(BootInfo, untyped) == 168);
    assert!(offset_of!(BootInfo, untyped_list) == 184);
};

impl BootInfo {
    /// The untyped capabilities: slot and description of each. A list that claims more than the
    /// page holds is cut.
    pub fn untyped(&self) -> impl Iterator<Item = (u64, &UntypedDescriptor)> {
        (self.untyped.start..self.untyped.end).zip(&self.untyped_list)
    }
}

numbered! {
    /// Identity of an extra record.
    ExtraRecord {
        /// Filler.
        Padding = 0,
        /// VESA BIOS information.
        X86Vbe = 1,
        /// Multiboot memory map: u32 length in bytes, then packed {u32 size, u64 base, u64
        /// length, u32 type} (always room for [`MEMORY_MAP_ENTRIES`]).
        X86MemoryMap = 2,
        /// ACPI root pointer (36 bytes).
        X86AcpiRsdp = 3,
        /// Framebuffer: packed u64 address, u32 pitch, width, height, u8 bits per pixel, u8 type.
        X86Framebuffer = 4,
        /// TSC frequency: u32 in MHz.
        X86TscFrequency = 5,
        /// Flattened device tree.
        DeviceTree = 6,
        /// Tessera: boot modules after the root task: n × {u64 paddr, u64 length}.
        Modules = 0x5445_0001,
        /// Tessera: five u64 as [`MachineRecord`].
        Machine = 0x5445_0002,
        /// Tessera: as `X86Framebuffer`, from the multiboot 2 tag.
        Framebuffer = 0x5445_0003,
    }
}

/// Entries that the multiboot memory map record has room for.
pub const MEMORY_MAP_ENTRIES: usize = 50;

/// What every extra record begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ExtraRecordHeader {
    /// An [`ExtraRecord`] number.
    pub id: u64,
    /// Bytes of the record with this header.
    pub length: u64,
}

/// One boot module (record `Modules`). Its memory appears as device untyped and keeps its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct ModuleRecord {
    /// Physical address, page-aligned.
    pub paddr: u64,
    /// Bytes.
    pub length: u64,
}

/// Body of the record `Machine`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct MachineRecord {
    /// 0 none, 1 SVM with nested paging, 2 VMX with EPT.
    pub virtualisation: u64,
    /// TSC frequency in kHz.
    pub tsc_khz: u64,
    /// Number of CPUs.
    pub cpus: u64,
    /// 1 if this is a debug kernel.
    pub debug: u64,
    /// XCR0 of the host.
    pub xcr0: u64,
}

/// Values of [`MachineRecord::virtualisation`].
pub mod virtualisation {
    /// Guests cannot run.
    pub const NONE: u64 = 0;
    /// AMD SVM with nested paging.
    pub const SVM: u64 = 1;
    /// Intel VMX with EPT.
    pub const VMX: u64 = 2;
}

/// Walks extra records.
///
/// `bytes` is what follows the BootInfo page, `extra_length` long. The walk ends at the first
/// record whose length does not fit.
pub fn extra_records(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let (header, _) = rest.split_at_checked(size_of::<ExtraRecordHeader>())?;
        let id = u64::from_le_bytes(header[..8].try_into().ok()?);
        let length = u64::from_le_bytes(header[8..].try_into().ok()?);
        let length = usize::try_from(length).ok()?;
        let body = rest.get(size_of::<ExtraRecordHeader>()..length)?;
        rest = &rest[length..];
        Some((id, body))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(id: u64, body: &[u8]) -> Vec<u8> {
        let mut bytes = id.to_le_bytes().to_vec();
        bytes.extend((16 + body.len() as u64).to_le_bytes());
        bytes.extend(body);
        bytes
    }

    #[test]
    fn extra_records_come_in_order() {
        let bytes = [
            record(3, b"rsdp"),
            record(0x5445_0001, b""),
            record(5, b"1234"),
        ]
        .concat();
        let found: Vec<_> = extra_records(&bytes).collect();
        assert_eq!(found, [(3, &b"rsdp"[..]), (0x5445_0001, b""), (5, b"1234")]);
    }

    #[test]
    fn a_record_with_a_wrong_length_ends_the_walk() {
        for length in [0, 15, 17, u64::MAX] {
            let mut bytes = record(3, b"");
            bytes[8..16].copy_from_slice(&length.to_le_bytes());
            assert_eq!(extra_records(&bytes).count(), 0);
        }
        assert_eq!(extra_records(&[1, 2, 3]).count(), 0);
    }
}
