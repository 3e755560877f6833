//! Dnodes: the descriptions of objects, 512 bytes or a multiple, in arrays of 16 KiB blocks.

use alloc::vec;
use alloc::vec::Vec;

use crate::blkptr::{BLKPTR_SHIFT, BLKPTR_SIZE, BlockPointer, MAX_BLOCK_SIZE, SECTOR_SHIFT};
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u16, put_u64};

/// Size of one slot; a large dnode takes several.
pub const DNODE_SIZE: usize = 512;
/// Where the block pointers start.
pub const CORE_SIZE: usize = 64;
/// Block pointers in a dnode at most.
pub const MAX_POINTERS: usize = 3;
/// Slots of one dnode at most: a whole block of them.
pub const MAX_SLOTS: usize = DNODE_BLOCK_SIZE / DNODE_SIZE;
/// Bytes of a block of dnodes.
pub const DNODE_BLOCK_SIZE: usize = 16 << 10;
/// Levels at most: a 64-bit block number with the smallest indirect blocks needs no more.
const MAX_LEVELS: u8 = 12;
/// Bounds of an indirect block's size as log2.
const INDIRECT_SHIFT: core::ops::RangeInclusive<u8> = 10..=24;

const CORRUPT: Error = Error::Corrupt(Structure::Dnode);

/// `used` counts bytes, not sectors.
pub const FLAG_USED_BYTES: u8 = 1;
/// The object is in the user accounting.
pub const FLAG_USERUSED_ACCOUNTED: u8 = 2;
/// A spill block pointer is at the dnode's end.
pub const FLAG_SPILL: u8 = 4;
/// The object is in the accounting of object counts.
pub const FLAG_USEROBJ_ACCOUNTED: u8 = 8;

/// What kind of data an object or a bonus holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectType(pub u8);

impl ObjectType {
    /// No object.
    pub const NONE: ObjectType = ObjectType(0);
    /// The MOS directory.
    pub const OBJECT_DIRECTORY: ObjectType = ObjectType(1);
    /// An array of object numbers: metaslab arrays.
    pub const OBJECT_ARRAY: ObjectType = ObjectType(2);
    /// A packed name-value list.
    pub const PACKED_NVLIST: ObjectType = ObjectType(3);
    /// Bonus: the size of a packed list.
    pub const PACKED_NVLIST_SIZE: ObjectType = ObjectType(4);
    /// A list of block pointers.
    pub const BPOBJ: ObjectType = ObjectType(5);
    /// Bonus of such a list.
    pub const BPOBJ_HEADER: ObjectType = ObjectType(6);
    /// Bonus of a space map.
    pub const SPACE_MAP_HEADER: ObjectType = ObjectType(7);
    /// A space map.
    pub const SPACE_MAP: ObjectType = ObjectType(8);
    /// Blocks of the intent log.
    pub const INTENT_LOG: ObjectType = ObjectType(9);
    /// Blocks of dnodes.
    pub const DNODE: ObjectType = ObjectType(10);
    /// An object set's own block.
    pub const OBJSET: ObjectType = ObjectType(11);
    /// A DSL directory.
    pub const DSL_DIR: ObjectType = ObjectType(12);
    /// Names of child directories.
    pub const DSL_DIR_CHILD_MAP: ObjectType = ObjectType(13);
    /// Names of snapshots.
    pub const DSL_SNAP_MAP: ObjectType = ObjectType(14);
    /// Properties.
    pub const DSL_PROPS: ObjectType = ObjectType(15);
    /// A data set.
    pub const DSL_DATASET: ObjectType = ObjectType(16);
    /// Bonus: a file's attributes, before system attributes.
    pub const ZNODE: ObjectType = ObjectType(17);
    /// File contents.
    pub const PLAIN_FILE: ObjectType = ObjectType(19);
    /// Directory entries.
    pub const DIRECTORY: ObjectType = ObjectType(20);
    /// Root of a file system's objects.
    pub const MASTER_NODE: ObjectType = ObjectType(21);
    /// Files that were unlinked while open.
    pub const UNLINKED_SET: ObjectType = ObjectType(22);
    /// Contents of a volume.
    pub const ZVOL: ObjectType = ObjectType(23);
    /// Properties of a volume.
    pub const ZVOL_PROP: ObjectType = ObjectType(24);
    /// Blocks that were lost.
    pub const ERROR_LOG: ObjectType = ObjectType(28);
    /// History of the pool.
    pub const SPA_HISTORY: ObjectType = ObjectType(29);
    /// Bonus of the history.
    pub const SPA_HISTORY_OFFSETS: ObjectType = ObjectType(30);
    /// Properties of the pool.
    pub const POOL_PROPS: ObjectType = ObjectType(31);
    /// Clones of a snapshot.
    pub const NEXT_CLONES: ObjectType = ObjectType(37);
    /// Data sets that a scrub has yet to visit.
    pub const SCAN_QUEUE: ObjectType = ObjectType(38);
    /// Space used by users and groups.
    pub const USERGROUP_USED: ObjectType = ObjectType(39);
    /// Quotas of users, groups and projects.
    pub const USERGROUP_QUOTA: ObjectType = ObjectType(40);
    /// Holds of a snapshot.
    pub const USER_REFERENCES: ObjectType = ObjectType(41);
    /// Bonus or spill: system attributes.
    pub const SYSTEM_ATTRIBUTES: ObjectType = ObjectType(44);
    /// Root of the system attributes' description.
    pub const SA_MASTER: ObjectType = ObjectType(45);
    /// Names of system attributes.
    pub const SA_REGISTRATION: ObjectType = ObjectType(46);
    /// Layouts of system attributes.
    pub const SA_LAYOUTS: ObjectType = ObjectType(47);
    /// A dead list.
    pub const DEADLIST: ObjectType = ObjectType(50);
    /// Bonus of a dead list.
    pub const DEADLIST_HEADER: ObjectType = ObjectType(51);
    /// Clones below a directory.
    pub const DSL_CLONES: ObjectType = ObjectType(52);
    /// Sublists of a list of block pointers.
    pub const BPOBJ_SUBOBJ: ObjectType = ObjectType(53);
    /// New style: a ZAP of metadata.
    pub const ZAP_METADATA: ObjectType = ObjectType(0xc4);
    /// An array of numbers that the pool keeps for itself.
    pub const UINT64_METADATA: ObjectType = ObjectType(0xc3);

    /// New-style types say what they are in bits.
    const NEW_STYLE: u8 = 0x80;
    const NEW_STYLE_METADATA: u8 = 0x40;
    const NEW_STYLE_ENCRYPTED: u8 = 0x20;

    /// Whether blocks of this type are encrypted in an encrypted data set (others are only authenticated).
    pub fn is_encrypted(self) -> bool {
        if self.0 & Self::NEW_STYLE != 0 {
            return self.0 & Self::NEW_STYLE_ENCRYPTED != 0;
        }
        matches!(self.0, 9 | 10 | 17..=20 | 22..=27 | 33..=36 | 39 | 40 | 44..=47)
    }

    /// Whether it is metadata, which gets more copies and always a checksum.
    pub fn is_metadata(self) -> bool {
        if self.0 & Self::NEW_STYLE != 0 {
            return self.0 & Self::NEW_STYLE_METADATA != 0;
        }
        !matches!(self.0, 0 | 19 | 23 | 25 | 26)
    }
}

/// A dnode as it is on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnodePhys {
    /// What the object holds.
    pub object_type: ObjectType,
    /// log2 of the size of indirect blocks.
    pub indirect_shift: u8,
    /// Levels of blocks; 1 when the pointers are to data.
    pub levels: u8,
    /// What the bonus holds.
    pub bonus_type: ObjectType,
    /// Checksum of its blocks; 0 inherits.
    pub checksum: u8,
    /// Compression of its blocks; 0 inherits.
    pub compression: u8,
    /// `FLAG_…`.
    pub flags: u8,
    /// Slots it takes, at least 1.
    pub slots: u8,
    /// Bytes of a data block.
    pub block_size: usize,
    /// Largest data block number that was ever written.
    pub max_block: u64,
    /// Space used on disk: bytes or sectors, by the flags.
    pub used: u64,
    /// The pointers of the highest level.
    pub pointers: Vec<BlockPointer>,
    /// Attributes beside the data.
    pub bonus: Vec<u8>,
    /// More attributes, when the bonus is too small.
    pub spill: Option<BlockPointer>,
}

impl DnodePhys {
    /// Reads the dnode at the start of `slots`, which reaches to the end of its block. A free slot is `None`.
    pub fn decode(slots: &[u8]) -> Result<Option<DnodePhys>, Error> {
        let bytes = |at: usize| slots.u8_at(at).ok_or(CORRUPT);
        if bytes(0)? == 0 {
            return Ok(None);
        }
        let count = usize::from(bytes(12)?) + 1;
        let dnode = slots.bytes_at(0, count * DNODE_SIZE).ok_or(CORRUPT)?;
        let pointers = usize::from(bytes(3)?);
        let bonus_size = usize::from(dnode.u16_at(10).ok_or(CORRUPT)?);
        let flags = bytes(7)?;
        let bonus_at = CORE_SIZE + pointers * BLKPTR_SIZE;
        let spill_at = dnode.len() - BLKPTR_SIZE;
        let end = if flags & FLAG_SPILL != 0 {
            spill_at
        } else {
            dnode.len()
        };
        if !(1..=MAX_POINTERS).contains(&pointers) || bonus_at + bonus_size > end {
            return Err(CORRUPT);
        }
        let decoded = DnodePhys {
            object_type: ObjectType(bytes(0)?),
            indirect_shift: bytes(1)?,
            levels: bytes(2)?,
            bonus_type: ObjectType(bytes(4)?),
            checksum: bytes(5)?,
            compression: bytes(6)?,
            flags,
            slots: count as u8,
            block_size: usize::from(dnode.u16_at(8).ok_or(CORRUPT)?) << SECTOR_SHIFT,
            max_block: dnode.u64_at(16).ok_or(CORRUPT)?,
            used: dnode.u64_at(24).ok_or(CORRUPT)?,
            pointers: (0..pointers)
                .map(|index| {
                    BlockPointer::decode(dnode, CORE_SIZE + index * BLKPTR_SIZE).ok_or(CORRUPT)
                })
                .collect::<Result<_, _>>()?,
            bonus: Vec::from(&dnode[bonus_at..bonus_at + bonus_size]),
            spill: if end == spill_at {
                BlockPointer::decode(dnode, spill_at)
            } else {
                None
            },
        };
        decoded.check().map(|()| Some(decoded))
    }

    fn check(&self) -> Result<(), Error> {
        let right = (1..=MAX_LEVELS).contains(&self.levels)
            && INDIRECT_SHIFT.contains(&self.indirect_shift)
            && self.block_size > 0
            && self.block_size <= MAX_BLOCK_SIZE
            && (self.max_block == 0 || self.block_size.is_power_of_two());
        if right { Ok(()) } else { Err(CORRUPT) }
    }

    /// The dnode as bytes, all its slots.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; usize::from(self.slots) * DNODE_SIZE];
        bytes[0] = self.object_type.0;
        bytes[1] = self.indirect_shift;
        bytes[2] = self.levels;
        bytes[3] = self.pointers.len() as u8;
        bytes[4] = self.bonus_type.0;
        bytes[5] = self.checksum;
        bytes[6] = self.compression;
        bytes[7] = self.flags;
        put_u16(&mut bytes, 8, (self.block_size >> SECTOR_SHIFT) as u16);
        put_u16(&mut bytes, 10, self.bonus.len() as u16);
        bytes[12] = self.slots - 1;
        put_u64(&mut bytes, 16, self.max_block);
        put_u64(&mut bytes, 24, self.used);
        for (index, pointer) in self.pointers.iter().enumerate() {
            pointer.encode(&mut bytes, CORE_SIZE + index * BLKPTR_SIZE);
        }
        let bonus_at = CORE_SIZE + self.pointers.len() * BLKPTR_SIZE;
        bytes[bonus_at..bonus_at + self.bonus.len()].copy_from_slice(&self.bonus);
        if let Some(spill) = &self.spill {
            let at = bytes.len() - BLKPTR_SIZE;
            spill.encode(&mut bytes, at);
        }
        bytes
    }

    /// log2 of the pointers in an indirect block.
    pub fn fanout_shift(&self) -> u32 {
        u32::from(self.indirect_shift) - BLKPTR_SHIFT
    }

    /// The number of the block at `level` that leads to data block `block`.
    pub fn ancestor(&self, block: u64, level: u8) -> u64 {
        block
            .checked_shr(u32::from(level) * self.fanout_shift())
            .unwrap_or(0)
    }

    /// Space used on disk in bytes.
    pub fn used_bytes(&self) -> u64 {
        if self.flags & FLAG_USED_BYTES != 0 {
            self.used
        } else {
            self.used << SECTOR_SHIFT
        }
    }

    /// Bytes a bonus of this dnode can have.
    pub fn bonus_capacity(&self) -> usize {
        let spill = if self.spill.is_some() { BLKPTR_SIZE } else { 0 };
        usize::from(self.slots) * DNODE_SIZE - CORE_SIZE - self.pointers.len() * BLKPTR_SIZE - spill
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sample() -> DnodePhys {
        DnodePhys {
            object_type: ObjectType::PLAIN_FILE,
            indirect_shift: 17,
            levels: 2,
            bonus_type: ObjectType::SYSTEM_ATTRIBUTES,
            checksum: 0,
            compression: 0,
            flags: FLAG_USED_BYTES | FLAG_SPILL,
            slots: 2,
            block_size: 131_072,
            max_block: 9,
            used: 4096,
            pointers: vec![BlockPointer::HOLE],
            bonus: vec![5; 300],
            spill: Some(BlockPointer::HOLE),
        }
    }

    #[test]
    fn a_dnode_survives_encoding() {
        assert_eq!(DnodePhys::decode(&sample().encode()), Ok(Some(sample())));
    }

    #[test]
    fn a_bonus_that_reaches_into_the_spill_pointer_is_refused() {
        let mut bytes = sample().encode();
        put_u16(&mut bytes, 10, 1024 - 64 - 128 - 100);
        assert_eq!(DnodePhys::decode(&bytes), Err(CORRUPT));
    }

    #[test]
    fn a_large_dnode_cut_off_by_its_block_is_refused() {
        assert_eq!(DnodePhys::decode(&sample().encode()[..512]), Err(CORRUPT));
    }

    proptest! {
        #[test]
        fn random_dnodes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
            if let Ok(Some(dnode)) = DnodePhys::decode(&bytes) {
                prop_assert_eq!(DnodePhys::decode(&dnode.encode()).unwrap().unwrap().bonus, dnode.bonus);
            }
        }
    }
}
