//! Leaves of fat tables: a hash table of entries whose names and values are chains of 21-byte chunks.

use alloc::vec::Vec;

use super::fat::KeyForm;
use super::leaf_build::LeafEntry;
use super::{CORRUPT, ZapEntry, ZapValue};
use crate::error::Error;
use crate::layout::Fields;

pub(super) const LEAF_BLOCK: u64 = 0x8000_0000_0000_0000;
pub(super) const MAGIC: u32 = 0x02ab_1eaf;
pub(super) const HEADER_SIZE: usize = 48;
pub(super) const CHUNK_SIZE: usize = 24;
/// Bytes of name or value in one chunk.
pub(super) const ARRAY_BYTES: usize = 21;
pub(super) const CHUNK_ENTRY: u8 = 252;
pub(super) const CHUNK_ARRAY: u8 = 251;
/// End of a chain.
pub(super) const END: u16 = 0xffff;

/// A leaf block that was checked.
pub struct Leaf<'a> {
    block: &'a [u8],
    /// log2 of the hash table's length.
    hash_shift: u32,
    prefix_length: u32,
    chunks_at: usize,
    chunks: usize,
}

/// The fields of an entry chunk.
struct EntryChunk {
    value_size: usize,
    next: u16,
    name_chunk: u16,
    name_length: usize,
    value_chunk: u16,
    value_length: usize,
    hash: u64,
}

impl<'a> Leaf<'a> {
    /// Checks the header of a leaf block.
    pub fn new(block: &'a [u8]) -> Result<Leaf<'a>, Error> {
        let valid = block.u64_at(0) == Some(LEAF_BLOCK)
            && block.u32_at(24) == Some(MAGIC)
            && block.len().is_power_of_two()
            && block.len() >= 512;
        if !valid {
            return Err(CORRUPT);
        }
        let hash_shift = block.len().trailing_zeros() - 5;
        let prefix_length = u32::from(block.u16_at(32).ok_or(CORRUPT)?);
        if prefix_length > u64::BITS - hash_shift {
            return Err(CORRUPT);
        }
        let chunks_at = HEADER_SIZE + (2 << hash_shift);
        let chunks = (block.len() - chunks_at) / CHUNK_SIZE;
        Ok(Leaf {
            block,
            hash_shift,
            prefix_length,
            chunks_at,
            chunks,
        })
    }

    /// The value of the entry with this hash and stored name.
    pub fn lookup(
        &self,
        hash: u64,
        name: &[u8],
        name_integer_size: usize,
    ) -> Result<Option<ZapValue>, Error> {
        let shift = u64::BITS - self.hash_shift - self.prefix_length;
        let bucket = (hash >> shift) as usize & ((1 << self.hash_shift) - 1);
        let mut chunk = self.block.u16_at(HEADER_SIZE + 2 * bucket).ok_or(CORRUPT)?;
        for _ in 0..self.chunks {
            if chunk == END {
                return Ok(None);
            }
            let entry = self.entry(chunk).ok_or(CORRUPT)?;
            if entry.hash == hash && entry.name_length * name_integer_size == name.len() {
                let found = self.array(entry.name_chunk, name.len()).ok_or(CORRUPT)?;
                if found == name {
                    return self.value(&entry).map(Some);
                }
            }
            chunk = entry.next;
        }
        Err(CORRUPT)
    }

    /// The bits that all hashes here start with, and how many they are.
    pub fn prefix(&self) -> (u64, u32) {
        (self.block.u64_at(16).unwrap_or(0), self.prefix_length)
    }

    /// All entries with what is needed to build the leaf anew.
    pub fn leaf_entries(&self, name_integer_size: usize) -> Result<Vec<LeafEntry>, Error> {
        let mut all = Vec::new();
        for index in 0..self.chunks {
            let Some(entry) = self.entry(index as u16) else {
                continue;
            };
            let differentiator = self
                .chunk(index as u16)
                .and_then(|chunk| chunk.u32_at(12))
                .ok_or(CORRUPT)?;
            all.push(LeafEntry {
                hash: entry.hash,
                differentiator,
                name: self
                    .array(entry.name_chunk, entry.name_length * name_integer_size)
                    .ok_or(CORRUPT)?,
                name_length: entry.name_length as u16,
                value: self.value(&entry)?,
            });
        }
        Ok(all)
    }

    /// Adds all entries to `all`.
    pub fn entries(&self, form: KeyForm, all: &mut Vec<ZapEntry>) -> Result<(), Error> {
        for index in 0..self.chunks {
            let Some(entry) = self.entry(index as u16) else {
                continue;
            };
            let size = match form {
                KeyForm::Text => entry.name_length,
                KeyForm::Words => entry.name_length * 8,
            };
            let mut name = self.array(entry.name_chunk, size).ok_or(CORRUPT)?;
            if form == KeyForm::Text && name.pop() != Some(0) {
                return Err(CORRUPT);
            }
            all.push(ZapEntry {
                name,
                value: self.value(&entry)?,
            });
        }
        Ok(())
    }

    fn chunk(&self, index: u16) -> Option<&'a [u8]> {
        let index = usize::from(index);
        if index >= self.chunks {
            return None;
        }
        self.block
            .bytes_at(self.chunks_at + index * CHUNK_SIZE, CHUNK_SIZE)
    }

    fn entry(&self, index: u16) -> Option<EntryChunk> {
        let chunk = self.chunk(index)?;
        if chunk[0] != CHUNK_ENTRY {
            return None;
        }
        Some(EntryChunk {
            value_size: usize::from(chunk[1]),
            next: chunk.u16_at(2)?,
            name_chunk: chunk.u16_at(4)?,
            name_length: usize::from(chunk.u16_at(6)?),
            value_chunk: chunk.u16_at(8)?,
            value_length: usize::from(chunk.u16_at(10)?),
            hash: chunk.u64_at(16)?,
        })
    }

    fn value(&self, entry: &EntryChunk) -> Result<ZapValue, Error> {
        if !matches!(entry.value_size, 1 | 2 | 4 | 8) {
            return Err(CORRUPT);
        }
        let bytes = self
            .array(entry.value_chunk, entry.value_length * entry.value_size)
            .ok_or(CORRUPT)?;
        Ok(ZapValue {
            integer_size: entry.value_size,
            bytes,
        })
    }

    /// Collects a chain of array chunks.
    fn array(&self, mut index: u16, size: usize) -> Option<Vec<u8>> {
        if size > self.chunks * ARRAY_BYTES {
            return None;
        }
        let mut bytes = Vec::with_capacity(size);
        while bytes.len() < size {
            let chunk = self.chunk(index)?;
            if chunk[0] != CHUNK_ARRAY {
                return None;
            }
            let part = (size - bytes.len()).min(ARRAY_BYTES);
            bytes.extend_from_slice(&chunk[1..1 + part]);
            index = chunk.u16_at(22)?;
        }
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn random_leaves_never_panic(mut block in proptest::collection::vec(any::<u8>(), 1024..1025), hash: u64) {
            block[..8].copy_from_slice(&LEAF_BLOCK.to_le_bytes());
            block[24..28].copy_from_slice(&MAGIC.to_le_bytes());
            block[33] = 0;
            for index in (0..1024 - CHUNK_SIZE).step_by(CHUNK_SIZE) {
                block[HEADER_SIZE + 64 + index % 900] = [CHUNK_ENTRY, CHUNK_ARRAY][index / CHUNK_SIZE % 2];
            }
            if let Ok(leaf) = Leaf::new(&block) {
                let _ = leaf.lookup(hash, b"name\0", 1);
                let _ = leaf.entries(KeyForm::Text, &mut Vec::new());
                let _ = leaf.entries(KeyForm::Words, &mut Vec::new());
            }
        }
    }
}
