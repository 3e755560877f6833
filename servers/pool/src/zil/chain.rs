//! Following the chain of log blocks on disk.

use alloc::vec::Vec;

use super::decode::decode_all;
use super::record::Record;
use crate::blkptr::BlockPointer;
use crate::dmu::ZilHeader;
use crate::error::Error;
use crate::zio::Zio;

/// Word of a log block's checksum field that is its number in the chain.
pub(super) const SEQUENCE_WORD: usize = 3;
/// Blocks of a chain at most, against cycles that a damaged pool could have; a full transaction group needs far fewer.
const MAX_BLOCKS: usize = 1 << 20;

/// What was found of a log.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// All blocks, the last of which was never written whole.
    pub blocks: Vec<BlockPointer>,
    /// The records in order.
    pub records: Vec<Record>,
}

impl Chain {
    /// Reads a chain from its start to the first block that was not written.
    ///
    /// # Errors
    /// Those of records that contradict themselves in a block with the right checksum.
    pub async fn read(zio: &Zio, header: &ZilHeader) -> Result<Chain, Error> {
        let mut chain = Chain::default();
        let mut next = header.log;
        while !next.is_hole() && chain.blocks.len() < MAX_BLOCKS {
            chain.blocks.push(next);
            let Some(block) = zio.read_log_block(&next).await else {
                break;
            };
            let mut wanted = next.checksum();
            wanted[SEQUENCE_WORD] = wanted[SEQUENCE_WORD].wrapping_add(1);
            if block.next.checksum() != wanted {
                break;
            }
            let records = decode_all(&block.data[block.records.clone()])?;
            chain.records.extend(
                records
                    .into_iter()
                    .filter(|record| record.sequence > header.replay_sequence),
            );
            next = block.next;
        }
        Ok(chain)
    }

    /// Whether anything was logged.
    pub fn is_empty(&self) -> bool {
        self.blocks.len() <= 1
    }
}
