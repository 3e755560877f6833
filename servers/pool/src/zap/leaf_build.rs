//! Leaves as lists of entries, and building a leaf block from such a list.
//!
//! A change takes a leaf apart and builds it anew: a few microseconds, and no leaf can be left half changed.

use alloc::vec;
use alloc::vec::Vec;

use super::ZapValue;
use super::leaf::{
    ARRAY_BYTES, CHUNK_ARRAY, CHUNK_ENTRY, CHUNK_SIZE, END, HEADER_SIZE, LEAF_BLOCK, MAGIC,
};
use crate::layout::{put_u16, put_u32, put_u64};

const CHUNK_FREE: u8 = 253;
/// `flags` of a leaf: chains are sorted.
const SORTED: u8 = 1;

/// One entry with everything a leaf stores of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafEntry {
    /// The used bits of the name's hash.
    pub hash: u64,
    /// Tells entries of the same hash apart.
    pub differentiator: u32,
    /// The name as stored, with its NUL.
    pub name: Vec<u8>,
    /// Integers in the name.
    pub name_length: u16,
    /// The value.
    pub value: ZapValue,
}

impl LeafEntry {
    fn chunks(&self) -> usize {
        1 + self.name.len().div_ceil(ARRAY_BYTES) + self.value.bytes.len().div_ceil(ARRAY_BYTES)
    }
}

/// Builds a leaf block of `size` bytes for hashes that start with `prefix`; `None` when the entries do not fit.
pub fn build(
    size: usize,
    prefix: u64,
    prefix_length: u32,
    entries: &mut [LeafEntry],
) -> Option<Vec<u8>> {
    let hash_shift = size.trailing_zeros() - 5;
    let chunks_at = HEADER_SIZE + (2 << hash_shift);
    let chunks = (size - chunks_at) / CHUNK_SIZE;
    let needed: usize = entries.iter().map(LeafEntry::chunks).sum();
    if needed > chunks {
        return None;
    }
    // In descending order, so that putting each at the head leaves chains ascending.
    entries.sort_by_key(|entry| core::cmp::Reverse((entry.hash, entry.differentiator)));
    let mut leaf = Builder {
        block: vec![0; size],
        chunks_at,
        next: 0,
    };
    leaf.block[HEADER_SIZE..chunks_at].fill(0xff);
    for entry in entries.iter() {
        let shift = u64::BITS - hash_shift - prefix_length;
        let bucket = (entry.hash >> shift) as usize & ((1 << hash_shift) - 1);
        leaf.entry(entry, HEADER_SIZE + 2 * bucket);
    }
    let free = leaf.next;
    for index in free..chunks {
        let at = leaf.at(index);
        leaf.block[at] = CHUNK_FREE;
        let next = if index + 1 < chunks {
            index as u16 + 1
        } else {
            END
        };
        put_u16(&mut leaf.block, at + 22, next);
    }
    let mut block = leaf.block;
    put_u64(&mut block, 0, LEAF_BLOCK);
    put_u64(&mut block, 16, prefix);
    put_u32(&mut block, 24, MAGIC);
    put_u16(&mut block, 28, (chunks - free) as u16);
    put_u16(&mut block, 30, entries.len() as u16);
    put_u16(&mut block, 32, prefix_length as u16);
    put_u16(
        &mut block,
        34,
        if free < chunks { free as u16 } else { END },
    );
    block[36] = SORTED;
    Some(block)
}

struct Builder {
    block: Vec<u8>,
    chunks_at: usize,
    next: usize,
}

impl Builder {
    fn at(&self, chunk: usize) -> usize {
        self.chunks_at + chunk * CHUNK_SIZE
    }

    fn entry(&mut self, entry: &LeafEntry, bucket_at: usize) {
        let own = self.next;
        self.next += 1;
        let name = self.array(&entry.name);
        let value = self.array(&entry.value.bytes);
        let at = self.at(own);
        let head = [self.block[bucket_at], self.block[bucket_at + 1]];
        let block = &mut self.block;
        block[at] = CHUNK_ENTRY;
        block[at + 1] = entry.value.integer_size as u8;
        block[at + 2..at + 4].copy_from_slice(&head);
        put_u16(block, at + 4, name);
        put_u16(block, at + 6, entry.name_length);
        put_u16(block, at + 8, value);
        put_u16(
            block,
            at + 10,
            (entry.value.bytes.len() / entry.value.integer_size.max(1)) as u16,
        );
        put_u32(block, at + 12, entry.differentiator);
        put_u64(block, at + 16, entry.hash);
        put_u16(block, bucket_at, own as u16);
    }

    /// Stores bytes in a chain of chunks and gives its first.
    fn array(&mut self, bytes: &[u8]) -> u16 {
        let first = self.next;
        let parts = bytes.chunks(ARRAY_BYTES);
        let count = parts.len();
        for (index, part) in parts.enumerate() {
            let at = self.at(self.next);
            self.next += 1;
            self.block[at] = CHUNK_ARRAY;
            self.block[at + 1..at + 1 + part.len()].copy_from_slice(part);
            let next = if index + 1 < count {
                self.next as u16
            } else {
                END
            };
            put_u16(&mut self.block, at + 22, next);
        }
        if count == 0 { END } else { first as u16 }
    }
}

#[cfg(test)]
mod tests {
    use super::super::leaf::Leaf;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_built_leaf_gives_its_entries_back(
            names in proptest::collection::btree_set("[a-z]{1,60}", 0..20), prefix_length in 0u32..4,
        ) {
            let mut entries: Vec<LeafEntry> = names.iter().enumerate().map(|(index, name)| {
                let mut stored = Vec::from(name.as_bytes());
                stored.push(0);
                // Few hashes, so that chains get longer than one.
                let hash = ((index as u64 % 5) << 36 | 1 << 63) >> prefix_length;
                LeafEntry {
                    hash, differentiator: index as u32, name_length: stored.len() as u16, name: stored,
                    value: ZapValue::from_u64(index as u64),
                }
            }).collect();
            let block = build(4096, 0, prefix_length, &mut entries).unwrap();
            let leaf = Leaf::new(&block).unwrap();
            for entry in &entries {
                prop_assert_eq!(leaf.lookup(entry.hash, &entry.name, 1).unwrap(), Some(entry.value.clone()));
            }
            let mut found = leaf.leaf_entries(1).unwrap();
            found.sort_by_key(|entry| entry.differentiator);
            entries.sort_by_key(|entry| entry.differentiator);
            prop_assert_eq!(found, entries);
        }
    }
}
