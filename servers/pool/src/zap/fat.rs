//! Fat tables: the header block and the table from hash prefixes to leaf blocks.

use super::CORRUPT;
use super::hash::crc64;
use crate::dmu::Dnode;
use crate::error::Error;
use crate::layout::Fields;

pub(super) const MAGIC: u64 = 0x2_f52a_b2ab;
const FLAG_HASH64: u64 = 1;
const FLAG_UINT64_KEY: u64 = 2;
const FLAG_PRE_HASHED: u64 = 4;
/// Bits of the hash that are used, by the hash flag.
const HASH_BITS: u32 = 28;
const HASH_BITS_LARGE: u32 = 48;

/// What keys are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyForm {
    /// Bytes with a NUL at the end.
    Text,
    /// 64-bit integers.
    Words,
}

/// The header of a fat table.
#[derive(Clone, Debug)]
pub struct FatHeader {
    /// Byte offset of the pointer table in the object.
    table_at: u64,
    /// log2 of its length.
    table_shift: u32,
    salt: u64,
    flags: u64,
    /// How names are compared.
    pub normalization: u64,
}

impl FatHeader {
    /// Reads the header block of the object.
    pub fn decode(block: &[u8], dnode: &Dnode) -> Result<FatHeader, Error> {
        let word = |index: usize| block.u64_at(8 * index).ok_or(CORRUPT);
        let size = block.len() as u64;
        let [table_block, table_blocks, shift] = [word(2)?, word(3)?, word(4)?];
        let table_shift = u32::try_from(shift)
            .ok()
            .filter(|&shift| shift < u64::BITS)
            .ok_or(CORRUPT)?;
        // Without a table of its own, the second half of this block is the table.
        let (table_at, room) = match table_blocks {
            0 => (size / 2, size / 2),
            count => {
                let last = table_block.checked_add(count - 1).ok_or(CORRUPT)?;
                if last > dnode.phys.max_block {
                    return Err(CORRUPT);
                }
                (table_block * size, count * size)
            }
        };
        if word(1)? != MAGIC || 1u64 << table_shift > room / 8 {
            return Err(CORRUPT);
        }
        Ok(FatHeader {
            table_at,
            table_shift,
            salt: word(10)?,
            normalization: word(11)?,
            flags: word(12)?,
        })
    }

    /// log2 of the pointer table's length.
    pub fn table_shift(&self) -> u32 {
        self.table_shift
    }

    /// Entries of the pointer table.
    pub fn table_length(&self) -> u64 {
        1 << self.table_shift
    }

    /// Where entry `index` of the pointer table is in the object.
    pub fn table_offset(&self, index: u64) -> u64 {
        self.table_at + 8 * index
    }

    /// The entry of the pointer table for a hash.
    pub fn leaf_index(&self, hash: u64) -> u64 {
        hash.checked_shr(u64::BITS - self.table_shift).unwrap_or(0)
    }

    /// What keys are made of.
    pub fn key_form(&self) -> KeyForm {
        if self.flags & FLAG_UINT64_KEY != 0 {
            KeyForm::Words
        } else {
            KeyForm::Text
        }
    }

    /// The hash of a name that needs no normalization.
    pub fn hash_name(&self, name: &[u8]) -> u64 {
        self.cut(crc64(self.salt, name.iter().copied()))
    }

    /// The hash of an integer key.
    pub fn hash_words(&self, key: &[u64]) -> u64 {
        if self.flags & FLAG_PRE_HASHED != 0 {
            return self.cut(key.first().copied().unwrap_or(0));
        }
        self.cut(crc64(
            self.salt,
            key.iter().flat_map(|word| word.to_le_bytes()),
        ))
    }

    fn cut(&self, hash: u64) -> u64 {
        let bits = if self.flags & FLAG_HASH64 != 0 {
            HASH_BITS_LARGE
        } else {
            HASH_BITS
        };
        hash & !((1 << (u64::BITS - bits)) - 1)
    }
}
