//! Changing fat tables: leaves are rebuilt, split when they are full, and the table from hashes to leaves doubles when
//! a leaf has a place of its own only.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use super::fat::FatHeader;
use super::hash::normal_form;
use super::leaf::Leaf;
use super::leaf_build::{LeafEntry, build};
use super::{CORRUPT, FAT_BLOCK, ZapValue};
use crate::arc::Buffer;
use crate::dmu::{Dnode, Objset};
use crate::error::Error;
use crate::layout::{Fields, put_u64};

/// Size of a fat table's blocks, new ones.
pub const BLOCK_SIZE: usize = 16 << 10;
/// log2 of the entries of a pointer table inside the header block.
const INNER_SHIFT: u32 = BLOCK_SIZE.trailing_zeros() - 4;
/// The longest table of pointers: 2^26 leaves of 16 KiB are a tebibyte of names.
const MAX_TABLE_SHIFT: u32 = 26;

/// Word numbers of the header block.
const TABLE_BLOCK: usize = 2;
const TABLE_BLOCKS: usize = 3;
const TABLE_SHIFT: usize = 4;
const FREE_BLOCK: usize = 7;
const LEAVES: usize = 8;
const ENTRIES: usize = 9;
const SALT: usize = 10;
const NORMALIZATION: usize = 11;

/// What to do with the entry of a name.
pub enum Change<'a> {
    /// Add it or set its value.
    Set(&'a ZapValue),
    /// Take it out.
    Remove,
}

/// The header block of an empty table with one empty leaf, and that leaf.
pub fn empty(salt: u64, normalization: u64) -> [Vec<u8>; 2] {
    let mut header = vec![0; BLOCK_SIZE];
    put_u64(&mut header, 0, FAT_BLOCK);
    put_u64(&mut header, 8, super::fat::MAGIC);
    for (word, value) in [
        (TABLE_SHIFT, u64::from(INNER_SHIFT)),
        (FREE_BLOCK, 2),
        (LEAVES, 1),
        (SALT, salt),
        (NORMALIZATION, normalization),
    ] {
        put_u64(&mut header, 8 * word, value);
    }
    for at in (BLOCK_SIZE / 2..BLOCK_SIZE).step_by(8) {
        put_u64(&mut header, at, 1);
    }
    [header, build(BLOCK_SIZE, 0, 0, &mut []).unwrap_or_default()]
}

/// A table open for one change.
struct Update<'a> {
    objset: &'a Objset,
    dnode: Dnode,
    header: Vec<u8>,
    fat: FatHeader,
}

/// Applies a change to the entry of a name.
///
/// # Errors
/// `NotFound` when a name to remove is not there.
pub async fn change(
    objset: &Objset,
    object: u64,
    name: &[u8],
    change: Change<'_>,
) -> Result<(), Error> {
    loop {
        let dnode = objset.dnode(object).await?;
        let header = Vec::clone(&*objset.block(&dnode, 0).await?.ok_or(CORRUPT)?);
        let fat = FatHeader::decode(&header, &dnode)?;
        let mut update = Update {
            objset,
            dnode,
            header,
            fat,
        };
        if update.apply(name, &change).await? {
            return Ok(());
        }
    }
}

impl Update<'_> {
    /// Does the change; `false` when it made room first and has to be tried again.
    async fn apply(&mut self, name: &[u8], change: &Change<'_>) -> Result<bool, Error> {
        let normal = normal_form(name, self.fat.normalization)?;
        let hash = self.fat.hash_name(&normal);
        let index = self.fat.leaf_index(hash);
        let number = self.pointer(index).await?;
        let block = self.leaf(number).await?;
        let leaf = Leaf::new(&block)?;
        let mut entries = leaf.leaf_entries(1)?;
        let mut stored = Vec::from(name);
        stored.push(0);
        let found = entries.iter().position(|entry| entry.name == stored);
        match (change, found) {
            (Change::Remove, None) => return Err(Error::NotFound),
            (Change::Remove, Some(at)) => drop(entries.swap_remove(at)),
            (Change::Set(value), Some(at)) => entries[at].value = (*value).clone(),
            (Change::Set(value), None) => {
                let same = entries.iter().filter(|entry| entry.hash == hash);
                let taken: Vec<u32> = same.map(|entry| entry.differentiator).collect();
                entries.push(LeafEntry {
                    hash,
                    differentiator: (0..).find(|number| !taken.contains(number)).unwrap_or(0),
                    name_length: stored.len() as u16,
                    name: stored,
                    value: (*value).clone(),
                });
            }
        }
        let (prefix, prefix_length) = leaf.prefix();
        match build(block.len(), prefix, prefix_length, &mut entries) {
            Some(new) => {
                let count = self.word(ENTRIES);
                let count = match (change, found) {
                    (Change::Remove, _) => count.saturating_sub(1),
                    (Change::Set(_), None) => count + 1,
                    (Change::Set(_), Some(_)) => count,
                };
                self.set_word(ENTRIES, count);
                self.put(number, new).await?;
                self.put_header().await?;
                Ok(true)
            }
            None if prefix_length == self.fat.table_shift() => {
                self.double_table().await.map(|()| false)
            }
            None => self.split(number, &block).await.map(|()| false),
        }
    }

    fn word(&self, index: usize) -> u64 {
        self.header.u64_at(8 * index).unwrap_or(0)
    }

    fn set_word(&mut self, index: usize, value: u64) {
        put_u64(&mut self.header, 8 * index, value);
    }

    async fn leaf(&self, number: u64) -> Result<Buffer, Error> {
        self.objset
            .block(&self.dnode, number)
            .await?
            .filter(|_| number > 0)
            .ok_or(CORRUPT)
    }

    async fn put(&self, number: u64, block: Vec<u8>) -> Result<(), Error> {
        self.objset
            .set_block(self.dnode.number, number, Rc::new(block))
            .await
    }

    async fn put_header(&self) -> Result<(), Error> {
        self.put(0, self.header.clone()).await
    }

    async fn pointer(&self, index: u64) -> Result<u64, Error> {
        let mut word = [0; 8];
        self.objset
            .read(&self.dnode, self.fat.table_offset(index), &mut word)
            .await?;
        Ok(u64::from_le_bytes(word))
    }

    /// Takes blocks at the end of the object.
    fn take_blocks(&mut self, count: u64) -> u64 {
        let first = self.word(FREE_BLOCK);
        self.set_word(FREE_BLOCK, first + count);
        first
    }

    /// Moves the upper half of a leaf's hashes to a new leaf.
    async fn split(&mut self, number: u64, block: &[u8]) -> Result<(), Error> {
        let leaf = Leaf::new(block)?;
        let (prefix, length) = leaf.prefix();
        let bit = 1 << (u64::BITS - length - 1);
        let (mut upper, mut lower): (Vec<_>, Vec<_>) = leaf
            .leaf_entries(1)?
            .into_iter()
            .partition(|entry| entry.hash & bit != 0);
        let new = self.take_blocks(1);
        self.set_word(LEAVES, self.word(LEAVES) + 1);
        self.put(
            number,
            build(block.len(), prefix << 1, length + 1, &mut lower).ok_or(CORRUPT)?,
        )
        .await?;
        self.put(
            new,
            build(block.len(), prefix << 1 | 1, length + 1, &mut upper).ok_or(CORRUPT)?,
        )
        .await?;
        let places = self.fat.table_shift() - length - 1;
        let first = (prefix << 1 | 1) << places;
        self.set_pointers(first, &vec![new; 1 << places]).await
    }

    /// Sets neighbouring pointers, which are in the header block or in blocks of their own, and puts the header back.
    async fn set_pointers(&mut self, first: u64, pointers: &[u64]) -> Result<(), Error> {
        let at = self.fat.table_offset(first);
        let bytes: Vec<u8> = pointers
            .iter()
            .flat_map(|pointer| pointer.to_le_bytes())
            .collect();
        if self.word(TABLE_BLOCKS) == 0 {
            let at = at as usize;
            self.header
                .get_mut(at..at + bytes.len())
                .ok_or(CORRUPT)?
                .copy_from_slice(&bytes);
        } else {
            self.objset.write(self.dnode.number, at, &bytes).await?;
        }
        self.put_header().await
    }

    /// Makes the table of pointers twice as long, in new blocks.
    async fn double_table(&mut self) -> Result<(), Error> {
        let shift = self.fat.table_shift();
        if shift >= MAX_TABLE_SHIFT {
            return Err(Error::NoSpace);
        }
        let mut old = vec![0; 8 << shift];
        self.objset
            .read(&self.dnode, self.fat.table_offset(0), &mut old)
            .await?;
        let doubled: Vec<u8> = old
            .words()
            .iter()
            .flat_map(|word| [*word, *word])
            .flat_map(u64::to_le_bytes)
            .collect();
        let size = self.header.len() as u64;
        let blocks = (doubled.len() as u64).div_ceil(size);
        let first = self.take_blocks(blocks);
        for (word, value) in [
            (TABLE_BLOCK, first),
            (TABLE_BLOCKS, blocks),
            (TABLE_SHIFT, u64::from(shift) + 1),
        ] {
            self.set_word(word, value);
        }
        let inner = self.header.len() / 2;
        self.header[inner..].fill(0);
        self.objset
            .write(self.dnode.number, first * size, &doubled)
            .await?;
        self.put_header().await
    }
}
