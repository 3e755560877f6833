//! Blocks of the intent log: their checksum is inside them, and where a block ends the chain ends.

use alloc::vec::Vec;

use super::Zio;
use crate::blkptr::{BlockPointer, BlockShape};
use crate::checksum::{Checksum, ChecksumKind, EMBEDDED_MAGIC, EMBEDDED_SIZE};
use crate::compress::Compression;
use crate::dnode::ObjectType;
use crate::error::{DeviceError, Error};
use crate::layout::{Fields, put_u64};
use crate::metaslab::AllocationClass;

/// Bytes of the header before the records of a zilog2 block.
pub const HEADER_SIZE: usize = 184;
const NEXT_AT: usize = 8;
const USED_AT: usize = 136;
const EMBEDDED_AT: usize = 144;
/// The checksum of a zilog2 block covers the used part rounded up to this.
const CHECKED_GRAIN: usize = 4096;

/// A valid block of the intent log.
pub struct LogBlock {
    /// The block after it, which may not have been written.
    pub next: BlockPointer,
    /// The stored bytes of the whole block.
    pub data: Vec<u8>,
    /// The range of `data` that holds records.
    pub records: core::ops::Range<usize>,
}

impl Zio {
    /// Reads a block of the intent log; `None` when it was never written, which is how the chain ends.
    pub async fn read_log_block(&self, pointer: &BlockPointer) -> Option<LogBlock> {
        pointer.validate().ok()?;
        let kind = pointer.checksum_kind().ok()?;
        let verify = |data: &[u8]| parse(kind, pointer, data).is_some();
        for dva in pointer.dvas() {
            if let Ok(data) = self.read_dva(dva, pointer.physical_size(), &verify).await {
                let (next, records) = parse(kind, pointer, &data)?;
                return Some(LogBlock {
                    next,
                    data,
                    records,
                });
            }
        }
        None
    }

    /// Takes space for a log block, on a log device if there is one. `identity` is what tells it from blocks of other chains.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn allocate_log_block(
        &self,
        size: usize,
        identity: Checksum,
        txg: u64,
    ) -> Result<BlockPointer, Error> {
        let shape = BlockShape {
            logical_size: size,
            physical_size: size,
            compression: Compression::Off,
            checksum: ChecksumKind::Zilog2,
            object_type: ObjectType::INTENT_LOG.0,
            level: 0,
        };
        let mut pointer = BlockPointer::new(shape, txg, 0);
        pointer.set_checksum(identity);
        let size_on = |vdev| {
            let top = self.tree.top(vdev);
            top.map_or(size as u64, |top| top.allocated_size(size as u64))
        };
        let mut allocator = self.allocator.borrow_mut();
        let dva = match allocator.allocate(AllocationClass::Log, 0, &size_on) {
            Err(Error::NoSpace) => allocator.allocate(AllocationClass::Normal, 0, &size_on)?,
            other => other?,
        };
        pointer.set_dva(0, dva);
        Ok(pointer)
    }

    /// Writes a log block: `block` is the room for its header, then its records. Durable after [`Zio::flush`].
    pub async fn write_log_block(
        &self,
        pointer: &BlockPointer,
        next: &BlockPointer,
        mut block: Vec<u8>,
    ) -> Result<(), DeviceError> {
        let used = block.len();
        let dva = pointer.dvas().next().ok_or(DeviceError::OutOfRange)?;
        let top = self.tree.top(dva.vdev).ok_or(DeviceError::Gone)?;
        block.resize(pointer.physical_size(), 0);
        next.encode(&mut block, NEXT_AT);
        put_u64(&mut block, USED_AT, used as u64);
        put_u64(&mut block, EMBEDDED_AT, EMBEDDED_MAGIC);
        for (index, word) in pointer.checksum().into_iter().enumerate() {
            put_u64(&mut block, EMBEDDED_AT + 8 + 8 * index, word);
        }
        let covered = used.next_multiple_of(CHECKED_GRAIN).min(block.len());
        let sum = ChecksumKind::Zilog2.compute(&[0; 32], &block[..covered]);
        for (index, word) in sum.into_iter().enumerate() {
            put_u64(&mut block, EMBEDDED_AT + 8 + 8 * index, word);
        }
        // Where a block lies as a whole only the part that is checked needs writing.
        let size = if top.places_blocks_alone() {
            block.len()
        } else {
            covered
        };
        self.write_dva(top, dva.offset, &block[..size]).await
    }
}

/// The next block's pointer and the range of the records, when the checksum is right.
fn parse(
    kind: ChecksumKind,
    pointer: &BlockPointer,
    data: &[u8],
) -> Option<(BlockPointer, core::ops::Range<usize>)> {
    match kind {
        ChecksumKind::Zilog2 => {
            let used = usize::try_from(data.u64_at(USED_AT)?).ok()?;
            let covered = used
                .checked_next_multiple_of(CHECKED_GRAIN)?
                .min(data.len());
            let valid = (HEADER_SIZE..=data.len()).contains(&used)
                && embedded_sum_is_valid(kind, pointer, data.get(..covered)?, EMBEDDED_AT);
            let next = BlockPointer::decode(data, NEXT_AT)?;
            valid.then_some((next, HEADER_SIZE..used))
        }
        ChecksumKind::Zilog => {
            let trailer = data.len().checked_sub(HEADER_SIZE)?;
            let used = usize::try_from(data.u64_at(trailer + USED_AT)?).ok()?;
            let embedded = data.len() - EMBEDDED_SIZE;
            let valid = used <= trailer && embedded_sum_is_valid(kind, pointer, data, embedded);
            let next = BlockPointer::decode(data, trailer + NEXT_AT)?;
            valid.then_some((next, 0..used))
        }
        _ => None,
    }
}

/// The sum is computed with the pointer's own checksum words in place of the stored ones.
fn embedded_sum_is_valid(
    kind: ChecksumKind,
    pointer: &BlockPointer,
    covered: &[u8],
    at: usize,
) -> bool {
    if covered.u64_at(at) != Some(EMBEDDED_MAGIC) {
        return false;
    }
    let stored: Option<Vec<u64>> = (0..4)
        .map(|index| covered.u64_at(at + 8 + 8 * index))
        .collect();
    let mut copy = Vec::from(covered);
    for (index, word) in pointer.checksum().into_iter().enumerate() {
        put_u64(&mut copy, at + 8 + 8 * index, word);
    }
    stored.is_some_and(|stored| stored == kind.compute(&[0; 32], &copy))
}
