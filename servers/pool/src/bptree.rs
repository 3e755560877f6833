//! Trees of blocks that are to be freed: what the feature async_destroy keeps of destroyed data sets.
//!
//! An entry is the pointer to an object set and how far freeing it came. The walk is that of OpenZFS, children before
//! parents, so that either can go on from where the other stopped.

mod walk;

use alloc::vec;
use alloc::vec::Vec;

pub use walk::{Place, Portion, walk};

use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::dmu::{BlockSums, NewObject, Objset};
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};

const CORRUPT: Error = Error::Corrupt(Structure::BlockList);
/// Bytes of the list's blocks.
const BLOCK_SIZE: usize = 128 << 10;
/// An entry: the pointer, the time from which on blocks go, and four words of the place where the walk stopped.
const ENTRY_SIZE: usize = BLKPTR_SIZE + 8 * 5;
/// The object set in such a place: none.
const NO_OBJSET: u64 = u64::MAX;

/// The bonus of the list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// First entry that is left.
    pub begin: u64,
    /// The entry after the last.
    pub end: u64,
    /// What the entries count for.
    pub sums: BlockSums,
}

impl Header {
    /// Reads it.
    pub async fn of(mos: &Objset, list: u64) -> Result<Header, Error> {
        let bonus = &mos.dnode(list).await?.phys.bonus;
        let word = |index: usize| bonus.u64_at(8 * index).ok_or(CORRUPT);
        Ok(Header {
            begin: word(0)?,
            end: word(1)?,
            sums: BlockSums {
                used: word(2)?,
                compressed: word(3)?,
                uncompressed: word(4)?,
            },
        })
    }

    /// Stores it.
    pub async fn store(&self, mos: &Objset, list: u64) -> Result<(), Error> {
        let sums = &self.sums;
        let words = [
            self.begin,
            self.end,
            sums.used,
            sums.compressed,
            sums.uncompressed,
        ];
        let bonus = words.into_iter().flat_map(u64::to_le_bytes).collect();
        mos.set_bonus(list, bonus).await
    }
}

/// An object set whose blocks go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadTree {
    /// Its own block.
    pub pointer: BlockPointer,
    /// Blocks go that were born after this group; snapshots have the others.
    pub since: u64,
    /// The first place whose block was not freed yet.
    pub place: Option<Place>,
}

impl DeadTree {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![0; ENTRY_SIZE];
        self.pointer.encode(&mut bytes, 0);
        put_u64(&mut bytes, BLKPTR_SIZE, self.since);
        if let Some(place) = self.place {
            let words = [NO_OBJSET, place.object, place.level as u64, place.block];
            for (index, word) in words.into_iter().enumerate() {
                put_u64(&mut bytes, BLKPTR_SIZE + 8 * (index + 1), word);
            }
        }
        bytes
    }

    fn decode(bytes: &[u8]) -> Option<DeadTree> {
        let word = |index: usize| bytes.u64_at(BLKPTR_SIZE + 8 * index);
        let place = [word(1)?, word(2)?, word(3)?, word(4)?];
        Some(DeadTree {
            pointer: BlockPointer::decode(bytes, 0)?,
            since: word(0)?,
            place: (place != [0; 4]).then_some(Place {
                object: place[1],
                level: place[2] as i64,
                block: place[3],
            }),
        })
    }
}

/// Makes an empty list.
pub async fn create(mos: &Objset) -> Result<u64, Error> {
    mos.allocate(NewObject {
        object_type: ObjectType::UINT64_METADATA,
        block_size: BLOCK_SIZE,
        bonus_type: ObjectType::UINT64_METADATA,
        bonus: vec![0; 8 * 5],
    })
    .await
}

/// Appends a tree, which counts for `sums`.
pub async fn append(
    mos: &Objset,
    list: u64,
    tree: &DeadTree,
    sums: BlockSums,
) -> Result<(), Error> {
    let mut header = Header::of(mos, list).await?;
    put(mos, list, header.end, tree).await?;
    header.end += 1;
    header.sums += sums;
    header.store(mos, list).await
}

/// Stores an entry.
pub async fn put(mos: &Objset, list: u64, index: u64, tree: &DeadTree) -> Result<(), Error> {
    let offset = index.checked_mul(ENTRY_SIZE as u64).ok_or(CORRUPT)?;
    mos.write(list, offset, &tree.encode()).await
}

/// Reads an entry.
pub async fn get(mos: &Objset, list: u64, index: u64) -> Result<DeadTree, Error> {
    let offset = index.checked_mul(ENTRY_SIZE as u64).ok_or(CORRUPT)?;
    let dnode = mos.dnode(list).await?;
    let bytes = mos.read_vec(&dnode, offset, ENTRY_SIZE).await?;
    DeadTree::decode(&bytes).ok_or(CORRUPT)
}
