//! The guest's own page tables, walked as its CPU would: 32-bit, PAE and long mode.
//!
//! Needed wherever the monitor finishes an instruction. A walk sets accessed and dirty bits and
//! gives either a guest-physical address or the page fault that the guest must see.
//! Sources: Intel SDM volume 3, chapter 4; AMD APM volume 2, chapter 5.

use crate::memory::{GuestAddress, GuestMemory, NoRam};
use crate::mode::{
    CR0_WP, CR4_PAE, CR4_PSE, CR4_SMAP, CR4_SMEP, CpuMode, EFER_LMA, EFER_NXE, RFLAGS_AC,
};

/// What the access is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Intent {
    /// Data read.
    Read,
    /// Data write.
    Write,
    /// Instruction fetch.
    Fetch,
}

/// Why there is no translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WalkFault {
    /// The guest gets #PF with this error code for this linear address.
    Page {
        /// Architectural error code.
        error_code: u32,
        /// Linear address.
        address: u64,
    },
    /// The address is not canonical: #GP, or #SS for a stack access.
    NonCanonical,
    /// The guest's tables are not in RAM.
    TablesOutsideRam(GuestAddress),
}

const PRESENT: u64 = 1 << 0;
const WRITABLE: u64 = 1 << 1;
const USER: u64 = 1 << 2;
const ACCESSED: u64 = 1 << 5;
const DIRTY: u64 = 1 << 6;
const LARGE: u64 = 1 << 7;
const NO_EXECUTE: u64 = 1 << 63;

const ERROR_PRESENT: u32 = 1 << 0;
const ERROR_WRITE: u32 = 1 << 1;
const ERROR_USER: u32 = 1 << 2;
const ERROR_RESERVED: u32 = 1 << 3;
const ERROR_FETCH: u32 = 1 << 4;

/// Physical address bits that a 64-bit entry can hold.
const ADDRESS_BITS: u64 = 0x000f_ffff_ffff_f000;

/// Shape of the tables in one mode.
#[derive(Clone, Copy)]
struct Shape {
    levels: u32,
    /// Index bits per level.
    index_bits: u32,
    /// Bytes per entry.
    wide_entries: bool,
}

/// Most levels of any mode.
const MAXIMUM_LEVELS: usize = 4;

/// What a walk found: the translation, and every entry that it rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translation {
    /// Guest-physical address of the linear address that was asked for.
    pub address: GuestAddress,
    /// Words that hold the entries, with their content (after A and D bits were set).
    entries: [(GuestAddress, u64); MAXIMUM_LEVELS],
    used: usize,
}

impl Translation {
    /// Whether every entry still is what it was, which costs a few loads instead of a walk.
    #[must_use]
    pub fn still_holds(&self, memory: &GuestMemory) -> bool {
        self.entries[..self.used]
            .iter()
            .all(|&(address, value)| memory.read_word(address) == Ok(value))
    }
}

/// Translates `linear` at the privilege of `mode`.
///
/// # Errors
/// [`WalkFault`].
pub fn translate(
    memory: &GuestMemory,
    mode: &CpuMode,
    linear: u64,
    intent: Intent,
) -> Result<Translation, WalkFault> {
    if !mode.is_paging() {
        return Ok(Translation {
            address: GuestAddress(linear & 0xffff_ffff),
            entries: [(GuestAddress(0), 0); MAXIMUM_LEVELS],
            used: 0,
        });
    }
    let (shape, linear) = if mode.efer & EFER_LMA != 0 {
        if !is_canonical(linear) {
            return Err(WalkFault::NonCanonical);
        }
        (
            Shape {
                levels: 4,
                index_bits: 9,
                wide_entries: true,
            },
            linear,
        )
    } else if mode.cr4 & CR4_PAE != 0 {
        (
            Shape {
                levels: 3,
                index_bits: 9,
                wide_entries: true,
            },
            linear & 0xffff_ffff,
        )
    } else {
        (
            Shape {
                levels: 2,
                index_bits: 10,
                wide_entries: false,
            },
            linear & 0xffff_ffff,
        )
    };
    Walk {
        memory,
        mode,
        linear,
        intent,
        shape,
    }
    .run()
}

/// Whether bits 63..47 are all alike.
#[must_use]
pub fn is_canonical(linear: u64) -> bool {
    ((linear as i64) << 16 >> 16) as u64 == linear
}

/// One walk in progress.
struct Walk<'a, 'm> {
    memory: &'a GuestMemory<'m>,
    mode: &'a CpuMode,
    linear: u64,
    intent: Intent,
    shape: Shape,
}

/// One entry as read from memory.
#[derive(Clone, Copy)]
struct Entry {
    /// Aligned word that holds it.
    word_address: GuestAddress,
    /// That word.
    word: u64,
    /// 0, or 32 for the upper half.
    shift: u32,
    value: u64,
}

impl Walk<'_, '_> {
    fn run(&self) -> Result<Translation, WalkFault> {
        let mut table = self.root();
        let mut path = [(GuestAddress(0), 0); MAXIMUM_LEVELS];
        // Rights that every level grants.
        let mut rights = WRITABLE | USER;
        let mut no_execute = false;
        for depth in 0..self.shape.levels {
            let level = self.shape.levels - depth;
            let entry = self.read_entry(table, level)?;
            if entry.value & PRESENT == 0 {
                return Err(self.fault(0));
            }
            let is_leaf = level == 1 || entry.value & LARGE != 0 && self.may_be_large(level);
            if entry.value & self.reserved(level, is_leaf) != 0 {
                return Err(self.fault(ERROR_PRESENT | ERROR_RESERVED));
            }
            // PAE's top entries carry no rights.
            if !(self.is_pae() && level == 3) {
                rights &= entry.value;
                no_execute |= self.shape.wide_entries && entry.value & NO_EXECUTE != 0;
            }
            if is_leaf {
                self.check_rights(rights, no_execute)?;
            }
            let bits = self.bits_to_set(level, is_leaf);
            path[depth as usize] = (entry.word_address, self.mark(entry, bits)?);
            if is_leaf {
                return Ok(Translation {
                    address: self.leaf_address(entry.value, level),
                    entries: path,
                    used: depth as usize + 1,
                });
            }
            table = GuestAddress(entry.value & ADDRESS_BITS);
        }
        // The lowest level is always a leaf, so the loop has returned.
        Err(self.fault(0))
    }

    fn is_pae(&self) -> bool {
        self.shape.levels == 3
    }

    fn root(&self) -> GuestAddress {
        GuestAddress(match self.shape.levels {
            4 => self.mode.cr3 & ADDRESS_BITS,
            3 => self.mode.cr3 & 0xffff_ffe0,
            _ => self.mode.cr3 & 0xffff_f000,
        })
    }

    fn level_shift(&self, level: u32) -> u32 {
        12 + (level - 1) * self.shape.index_bits
    }

    fn read_entry(&self, table: GuestAddress, level: u32) -> Result<Entry, WalkFault> {
        let index = self.linear >> self.level_shift(level) & ((1 << self.shape.index_bits) - 1);
        let outside = |refused: NoRam| WalkFault::TablesOutsideRam(refused.address);
        if self.shape.wide_entries {
            let word_address = table.offset(index * 8);
            let word = self.memory.read_word(word_address).map_err(outside)?;
            return Ok(Entry {
                word_address,
                word,
                shift: 0,
                value: word,
            });
        }
        let address = table.offset(index * 4);
        let word_address = GuestAddress(address.0 & !7);
        let word = self.memory.read_word(word_address).map_err(outside)?;
        let shift = (address.0 & 4) as u32 * 8;
        Ok(Entry {
            word_address,
            word,
            shift,
            value: word >> shift & 0xffff_ffff,
        })
    }

    fn may_be_large(&self, level: u32) -> bool {
        match level {
            2 => self.shape.wide_entries || self.mode.cr4 & CR4_PSE != 0,
            3 => self.shape.levels == 4,
            _ => false,
        }
    }

    /// Bits that must be zero. Physical address width is not checked: what lies outside RAM
    /// and devices reads all ones anyway.
    fn reserved(&self, level: u32, is_leaf: bool) -> u64 {
        if !self.shape.wide_entries {
            // Bits 20..13 of a 4 MiB page are address bits 39..32; bit 21 is reserved.
            return if is_leaf && level == 2 { 1 << 21 } else { 0 };
        }
        let mut bits = 0;
        if self.mode.efer & EFER_NXE == 0 {
            bits |= NO_EXECUTE;
        }
        if self.is_pae() {
            bits |= 0x7ff << 52;
        }
        if self.is_pae() && level == 3 {
            bits |= NO_EXECUTE | 0x1e6;
        } else if is_leaf && level > 1 {
            bits |= ((1 << self.level_shift(level)) - 1) & !0x1fff;
        } else if level == 4 {
            bits |= LARGE;
        }
        bits
    }

    fn check_rights(&self, rights: u64, no_execute: bool) -> Result<(), WalkFault> {
        let from_user = self.mode.privilege_level == 3;
        let user_page = rights & USER != 0;
        let refused = match self.intent {
            Intent::Fetch => {
                no_execute
                    || from_user && !user_page
                    || !from_user && user_page && self.mode.cr4 & CR4_SMEP != 0
            }
            Intent::Read => from_user && !user_page || self.smap_refuses(user_page),
            Intent::Write => {
                let write_protected =
                    rights & WRITABLE == 0 && (from_user || self.mode.cr0 & CR0_WP != 0);
                from_user && !user_page || write_protected || self.smap_refuses(user_page)
            }
        };
        if refused {
            return Err(self.fault(ERROR_PRESENT));
        }
        Ok(())
    }

    fn smap_refuses(&self, user_page: bool) -> bool {
        user_page
            && self.mode.privilege_level != 3
            && self.mode.cr4 & CR4_SMAP != 0
            && self.mode.rflags & RFLAGS_AC == 0
    }

    fn bits_to_set(&self, level: u32, is_leaf: bool) -> u64 {
        if self.is_pae() && level == 3 {
            0
        } else if is_leaf && self.intent == Intent::Write {
            ACCESSED | DIRTY
        } else {
            ACCESSED
        }
    }

    /// Sets accessed and dirty bits; the word as it is then.
    fn mark(&self, entry: Entry, bits: u64) -> Result<u64, WalkFault> {
        let bits = bits << entry.shift;
        if entry.word & bits != bits {
            self.memory
                .set_word_bits(entry.word_address, entry.word, bits)
                .map_err(|refused| WalkFault::TablesOutsideRam(refused.address))?;
        }
        Ok(entry.word | bits)
    }

    fn leaf_address(&self, entry: u64, level: u32) -> GuestAddress {
        let shift = self.level_shift(level);
        let offset_mask = (1u64 << shift) - 1;
        let mut base = entry & ADDRESS_BITS & !offset_mask;
        if !self.shape.wide_entries {
            base = entry & 0xffff_f000 & !offset_mask;
            if level == 2 {
                base |= (entry >> 13 & 0xff) << 32;
            }
        }
        GuestAddress(base | self.linear & offset_mask)
    }

    fn fault(&self, mut error_code: u32) -> WalkFault {
        if self.intent == Intent::Write {
            error_code |= ERROR_WRITE;
        }
        if self.mode.privilege_level == 3 {
            error_code |= ERROR_USER;
        }
        let reports_fetch = self.mode.cr4 & CR4_SMEP != 0
            || self.mode.efer & EFER_NXE != 0 && self.shape.wide_entries;
        if self.intent == Intent::Fetch && reports_fetch {
            error_code |= ERROR_FETCH;
        }
        WalkFault::Page {
            error_code,
            address: self.linear,
        }
    }
}

#[cfg(test)]
mod tests;
