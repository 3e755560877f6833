//! How a pass over an object set stores blocks, and what it changed.

use alloc::vec::Vec;

use crate::blkptr::BlockPointer;
use crate::checksum::ChecksumKind;
use crate::compress::Compression;
use crate::zio::{PointerForms, Zio};

/// How one kind of block is stored.
#[derive(Clone, Copy, Debug)]
pub struct StoragePolicy {
    /// Compression.
    pub compression: Compression,
    /// Checksum.
    pub checksum: ChecksumKind,
    /// Copies.
    pub copies: usize,
}

/// Whether blocks that this transaction group wrote already may be overwritten.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rewrite {
    /// Every write goes to new space.
    Never,
    /// They are, uncompressed, so that writing the MOS comes to an end.
    InPlace,
}

/// What one pass over an object set needs to know.
#[derive(Clone, Copy, Debug)]
pub struct SyncPolicy {
    /// The transaction group.
    pub txg: u64,
    /// Blocks of files and volumes.
    pub data: StoragePolicy,
    /// Everything else.
    pub metadata: StoragePolicy,
    /// What the pool's features let pointers be like.
    pub forms: PointerForms,
    /// What happens to blocks of this transaction group.
    pub rewrite: Rewrite,
}

/// Sums of what blocks count for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BlockSums {
    /// Bytes allocated, without parity.
    pub used: u64,
    /// Bytes stored.
    pub compressed: u64,
    /// Bytes before compression.
    pub uncompressed: u64,
}

impl BlockSums {
    /// Adds a block.
    pub fn add(&mut self, zio: &Zio, pointer: &BlockPointer) {
        self.used += zio.deflated_size(pointer);
        self.compressed += pointer.physical_size() as u64;
        self.uncompressed += pointer.logical_size() as u64;
    }
}

impl core::ops::AddAssign for BlockSums {
    fn add_assign(&mut self, other: BlockSums) {
        self.used = self.used.wrapping_add(other.used);
        self.compressed = self.compressed.wrapping_add(other.compressed);
        self.uncompressed = self.uncompressed.wrapping_add(other.uncompressed);
    }
}

impl core::ops::SubAssign for BlockSums {
    fn sub_assign(&mut self, other: BlockSums) {
        self.used = self.used.saturating_sub(other.used);
        self.compressed = self.compressed.saturating_sub(other.compressed);
        self.uncompressed = self.uncompressed.saturating_sub(other.uncompressed);
    }
}

/// What a pass changed, for the accounting of the data set.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Blocks that were written.
    pub born: BlockSums,
    /// Blocks that are no longer part of the object set.
    pub killed: Vec<BlockPointer>,
}
