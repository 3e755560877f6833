//! Uberblocks: the roots of the pool, one for each recent transaction group, in a ring in every label.

use alloc::vec;
use alloc::vec::Vec;

use crate::blkptr::BlockPointer;
use crate::checksum::{embed, embedded_is_valid};
use crate::error::{Error, Structure, Unsupported};
use crate::layout::{Fields, put_u64};

const MAGIC: u64 = 0x00ba_b10c;
const MMP_MAGIC: u64 = 0xa11c_ea11;
const ROOTBP_AT: usize = 40;
/// Bytes of an uberblock that carry fields.
const FIELDS_SIZE: usize = 216;
/// Bounds of a ring slot's size as log2.
const SLOT_SHIFT_MIN: u32 = 10;
const SLOT_SHIFT_MAX: u32 = 13;

/// One uberblock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uberblock {
    /// On-disk version of the pool.
    pub version: u64,
    /// The transaction group whose state it is.
    pub txg: u64,
    /// Sum of the guids of all vdevs.
    pub guid_sum: u64,
    /// Seconds since 1970 when it was written.
    pub timestamp: u64,
    /// The meta object set.
    pub rootbp: BlockPointer,
    /// Version of the writer.
    pub software_version: u64,
    /// Multihost activity: magic, delay in ns, configuration; zero when not used.
    pub mmp: [u64; 3],
    /// Transaction group of the pool's checkpoint, or 0.
    pub checkpoint_txg: u64,
    /// State of a raidz expansion, or 0.
    pub raidz_reflow: u64,
}

impl Uberblock {
    /// Bytes of a ring slot on a vdev with this ashift.
    pub fn slot_size(ashift: u32) -> usize {
        1 << ashift.clamp(SLOT_SHIFT_MIN, SLOT_SHIFT_MAX)
    }

    /// Reads the fields, without looking at a checksum.
    pub fn decode(bytes: &[u8]) -> Result<Uberblock, Error> {
        let corrupt = Error::Corrupt(Structure::Uberblock);
        let word = |index: usize| bytes.u64_at(8 * index).ok_or(corrupt);
        match word(0)? {
            MAGIC => {}
            magic if magic == MAGIC.swap_bytes() => {
                return Err(Error::Unsupported(Unsupported::BigEndian));
            }
            _ => return Err(corrupt),
        }
        Ok(Uberblock {
            version: word(1)?,
            txg: word(2)?,
            guid_sum: word(3)?,
            timestamp: word(4)?,
            rootbp: BlockPointer::decode(bytes, ROOTBP_AT).ok_or(corrupt)?,
            software_version: word(21)?,
            mmp: [word(22)?, word(23)?, word(24)?],
            checkpoint_txg: word(25)?,
            raidz_reflow: word(26)?,
        })
    }

    /// Reads one slot of a ring; `None` when its checksum is wrong. `offset` is the slot's place on the device.
    pub fn decode_slot(slot: &[u8], offset: u64) -> Option<Result<Uberblock, Error>> {
        embedded_is_valid(slot, [offset, 0, 0, 0]).then(|| Uberblock::decode(slot))
    }

    /// The slot of this uberblock, with its checksum for this place on the device.
    pub fn encode_slot(&self, size: usize, offset: u64) -> Vec<u8> {
        let mut slot = vec![0; size];
        slot[..FIELDS_SIZE].copy_from_slice(&self.encode());
        embed(&mut slot, [offset, 0, 0, 0]);
        slot
    }

    /// The fields as bytes: also the form of a checkpoint's uberblock in the MOS.
    pub fn encode(&self) -> [u8; FIELDS_SIZE] {
        let mut bytes = [0; FIELDS_SIZE];
        for (index, word) in [MAGIC, self.version, self.txg, self.guid_sum, self.timestamp]
            .into_iter()
            .enumerate()
        {
            put_u64(&mut bytes, 8 * index, word);
        }
        self.rootbp.encode(&mut bytes, ROOTBP_AT);
        let [mmp_magic, mmp_delay, mmp_config] = self.mmp;
        let tail = [
            self.software_version,
            mmp_magic,
            mmp_delay,
            mmp_config,
            self.checkpoint_txg,
            self.raidz_reflow,
        ];
        for (index, word) in tail.into_iter().enumerate() {
            put_u64(&mut bytes, 8 * (21 + index), word);
        }
        bytes
    }

    /// What decides between two valid uberblocks: the later one is the greater.
    pub fn rank(&self) -> (u64, u64, u64) {
        // With multihost on, the sequence in the configuration orders writes of one second.
        let sequence = if self.mmp[0] == MMP_MAGIC {
            self.mmp[2] >> 32 & 0xffff
        } else {
            0
        };
        (self.txg, self.timestamp, sequence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Uberblock {
        Uberblock {
            version: 5000,
            txg: 12,
            guid_sum: 99,
            timestamp: 1_700_000_000,
            rootbp: BlockPointer::HOLE,
            software_version: 5000,
            mmp: [MMP_MAGIC, 0, 0],
            checkpoint_txg: 0,
            raidz_reflow: 0,
        }
    }

    #[test]
    fn a_slot_is_valid_only_where_it_was_written() {
        let slot = sample().encode_slot(4096, 0x20000);
        assert_eq!(Uberblock::decode_slot(&slot, 0x20000), Some(Ok(sample())));
        assert_eq!(Uberblock::decode_slot(&slot, 0x21000), None);
    }

    #[test]
    fn a_byte_swapped_magic_is_refused_by_name() {
        let mut bytes = sample().encode();
        bytes[..8].reverse();
        assert_eq!(
            Uberblock::decode(&bytes),
            Err(Error::Unsupported(Unsupported::BigEndian))
        );
    }

    #[test]
    fn slots_follow_the_sector_size_within_bounds() {
        assert_eq!([9, 12, 16].map(Uberblock::slot_size), [1024, 4096, 8192]);
    }
}
