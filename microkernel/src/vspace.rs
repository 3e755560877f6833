//! Paging structures: walking them, and taking frames and tables out of them.
//!
//! Virtual and guest-physical spaces have the same shape: four levels of 512 entries. Only the
//! bits of an entry differ, and only for guests on Intel ([`GuestPaging`]).
//! Putting something in is `invocation::{frame, table}`'s matter.

use sel4_sys::VmAttributes;

use crate::arch;
use crate::asid;
use crate::boot::Virtualisation;
use crate::cap::{FrameCap, FrameSize, MapSpace, Mapping, Rights, TableCap};
use crate::fault::{LookupFailure, SyscallError};
use crate::kernel::Kernel;
use crate::store::{Ref, Table, UserWord};

/// Entry bits of x86-64 paging (Intel SDM volume 3, 4.5).
pub mod entry {
    /// The entry is used.
    pub const PRESENT: u64 = 1 << 0;
    /// Writes allowed.
    pub const WRITE: u64 = 1 << 1;
    /// User mode allowed.
    pub const USER: u64 = 1 << 2;
    /// Write-through (PAT index bit 0).
    pub const WRITE_THROUGH: u64 = 1 << 3;
    /// Cache disable (PAT index bit 1).
    pub const CACHE_DISABLE: u64 = 1 << 4;
    /// The entry maps memory, not a table (levels above the last).
    pub const LARGE: u64 = 1 << 7;
    /// PAT index bit 2 of a 4 KiB page.
    pub const PAT_SMALL: u64 = 1 << 7;
    /// PAT index bit 2 of a larger page.
    pub const PAT_LARGE: u64 = 1 << 12;
    /// Ours, ignored by every CPU: what a guest's entry maps is a device's, not memory.
    pub const DEVICE: u64 = 1 << 52;
    /// No instruction fetch: every 64-bit CPU since 2004 has it, and boot turns it on before
    /// anything else.
    pub const EXECUTE_NEVER: u64 = 1 << 63;
    /// The physical address.
    pub const ADDRESS: u64 = 0x000f_ffff_ffff_f000;
}

/// Address bits below an entry of the root.
const ROOT_ENTRY_BITS: u8 = 39;

/// An entry on the way to an address.
#[derive(Clone, Copy)]
pub struct Position {
    /// The table.
    pub table: Ref<Table>,
    /// The index in it.
    pub index: usize,
    /// Address bits below this entry: 39, 30, 21 or 12.
    pub bits: u8,
}

impl Position {
    /// The entry itself.
    #[must_use]
    pub fn entry(&self) -> &UserWord {
        self.table.entry(self.index)
    }

    /// Whether the entry is used.
    #[must_use]
    pub fn is_used(&self) -> bool {
        self.entry().get() != 0
    }

    /// Whether the entry maps memory.
    fn is_leaf(&self) -> bool {
        self.bits == 12 || self.entry().get() & entry::LARGE != 0
    }

    fn is_leaf_in_use(&self) -> bool {
        self.is_used() && self.is_leaf()
    }

    /// The physical address in the entry, without the bits below the entry's span.
    fn frame_address(&self) -> u64 {
        self.entry().get() & entry::ADDRESS & !((1 << self.bits) - 1)
    }
}

/// The entry with `bits` address bits below it on the way to `address`.
///
/// # Errors
/// `MissingCapability` with the bits of the level that has no table.
pub fn find(root: Ref<Table>, address: u64, bits: u8) -> Result<Position, LookupFailure> {
    let mut at = Position {
        table: root,
        index: (address >> ROOT_ENTRY_BITS) as usize & 511,
        bits: ROOT_ENTRY_BITS,
    };
    while at.bits > bits {
        if !at.is_used() || at.is_leaf() {
            return Err(LookupFailure::MissingCapability { bits_left: at.bits });
        }
        let next = arch::kernel_address(at.entry().get() & entry::ADDRESS);
        let bits = at.bits - 9;
        at = Position {
            table: Ref::from_address(next),
            index: (address >> bits) as usize & 511,
            bits,
        };
    }
    Ok(at)
}

/// As `find`, as the error of an invocation.
pub fn find_for(root: Ref<Table>, address: u64, bits: u8) -> Result<Position, SyscallError> {
    find(root, address, bits).map_err(|failure| SyscallError::FailedLookup {
        was_source: false,
        failure,
    })
}

/// The aligned word at the guest-physical `address`, if it is memory.
#[must_use]
pub fn read_guest_word(root: Ref<Table>, address: u64) -> Option<u64> {
    let sizes = [FrameSize::Small, FrameSize::Large, FrameSize::Huge];
    let at = sizes
        .into_iter()
        .filter_map(|size| find(root, address, size.bits()).ok())
        .find(Position::is_leaf_in_use)?;
    if at.entry().get() & entry::DEVICE != 0 {
        return None;
    }
    let physical = at.frame_address() | address & ((1 << at.bits) - 1);
    let page = Ref::<Table>::from_address(arch::kernel_address(physical & entry::ADDRESS));
    Some(page.entry(address as usize >> 3).get())
}

impl Kernel {
    /// Takes the frame out of the space that it is mapped in through this capability.
    pub fn unmap_frame(&self, frame: FrameCap) {
        if let Some((root, mapping, at)) =
            self.find_mapped(frame.mapping, frame.space, frame.size.bits())
            && at.is_leaf_in_use()
            && at.frame_address() == arch::physical_address(frame.base)
        {
            at.entry().set(0);
            forget_page(root, frame.space, mapping);
        }
    }

    /// Takes the table out of the space that it is mapped in.
    pub fn unmap_table(&self, cap: TableCap) {
        let physical = arch::physical_address(cap.table.address());
        if let Some((root, mapping, at)) =
            self.find_mapped(cap.mapping, cap.space, cap.level.span_bits())
            && at.is_used()
            && !at.is_leaf()
            && at.entry().get() & entry::ADDRESS == physical
        {
            at.entry().set(0);
            asid::forget_translations(root, cap.space, mapping.asid);
        }
    }

    /// The root and the entry of something that spans 2^`bits` bytes and was mapped, if that place is
    /// still there. Something else may be mapped in it by now.
    fn find_mapped(
        &self,
        mapping: Option<Mapping>,
        space: MapSpace,
        bits: u8,
    ) -> Option<(Ref<Table>, Mapping, Position)> {
        let mapping = mapping?;
        let root = self.find_root(mapping.asid, space)?;
        let at = find(root, mapping.address, bits).ok()?;
        Some((root, mapping, at))
    }
}

/// Makes every CPU forget what it knows of a page that was mapped.
pub fn forget_page(root: Ref<Table>, space: MapSpace, mapping: Mapping) {
    let asid = mapping.asid.number();
    match space {
        MapSpace::Guest => arch::invalidate_guest_space(root, asid),
        MapSpace::Virtual => arch::invalidate_page(root, asid, mapping.address),
    }
}

/// How the CPU translates guest-physical addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GuestPaging {
    /// AMD nested paging: ordinary page-table entries, walked as user accesses.
    Nested,
    /// Intel extended page tables (SDM volume 3, 29.3.2).
    Extended,
}

impl GuestPaging {
    /// What this machine's guests use.
    #[must_use]
    pub fn here() -> Self {
        match arch::virtualisation() {
            Virtualisation::Vmx => Self::Extended,
            _ => Self::Nested,
        }
    }

    /// An entry that refers to a table.
    #[must_use]
    pub const fn table_entry(self, physical: u64) -> u64 {
        match self {
            Self::Nested => physical | entry::PRESENT | entry::WRITE | entry::USER,
            Self::Extended => physical | extended::READ | extended::WRITE | extended::EXECUTE,
        }
    }

    /// An entry that maps a frame; `attributes` as Page.MapGuest documents them.
    #[must_use]
    pub fn frame_entry(self, frame: &FrameCap, rights: Rights, attributes: VmAttributes) -> u64 {
        let pick = |condition: bool, bit: u64| if condition { bit } else { 0 };
        let base = arch::physical_address(frame.base)
            | frame.size.leaf_bits()
            | pick(frame.device, entry::DEVICE);
        let write = rights.contains(Rights::WRITE);
        let execute_never = attributes.contains(VmAttributes::EXECUTE_NEVER);
        let uncached = attributes.memory_type() == VmAttributes::GUEST_UNCACHED.memory_type();
        match self {
            Self::Nested => {
                base | entry::PRESENT
                    | entry::USER
                    | pick(write, entry::WRITE)
                    | pick(execute_never, entry::EXECUTE_NEVER)
                    | pick(uncached, entry::CACHE_DISABLE | entry::WRITE_THROUGH)
            }
            Self::Extended => {
                base | extended::READ
                    | pick(write, extended::WRITE)
                    | pick(!execute_never, extended::EXECUTE)
                    | pick(!uncached, extended::WRITE_BACK)
            }
        }
    }
}

/// Entry bits of extended page tables.
mod extended {
    pub const READ: u64 = 1 << 0;
    pub const WRITE: u64 = 1 << 1;
    pub const EXECUTE: u64 = 1 << 2;
    pub const WRITE_BACK: u64 = 6 << 3;
}

impl FrameSize {
    /// The bits of a page entry that say that it is one.
    #[must_use]
    pub const fn leaf_bits(self) -> u64 {
        match self {
            Self::Small => 0,
            Self::Large | Self::Huge => entry::LARGE,
        }
    }
}
