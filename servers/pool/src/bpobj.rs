//! Lists of block pointers: what is to be freed, and what snapshots keep alive.
//!
//! A list has pointers of its own and, in another object, lists that were joined to it whole.

use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::dmu::{BlockSums, NewObject, Objset};
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};
use crate::zio::Zio;

const CORRUPT: Error = Error::Corrupt(Structure::BlockList);

/// Bytes of a list's blocks.
const BLOCK_SIZE: usize = 128 << 10;
/// Bonus: pointers, bytes, compressed, uncompressed, object of sublists and their number.
const BONUS_SIZE: usize = 48;
const SUBLISTS_AT: usize = 32;
const SUBLIST_COUNT_AT: usize = 40;
/// A list with at most this many pointers is copied rather than joined: one block of them.
const COPIED_MAX: u64 = (BLOCK_SIZE / BLKPTR_SIZE) as u64;
/// Lists joined within lists at most; copying keeps OpenZFS's and ours far below.
const MAX_DEPTH: usize = 32;

/// What a list's bonus says.
struct Header {
    count: u64,
    sums: BlockSums,
    sublists: u64,
    sublist_count: u64,
}

impl Header {
    async fn of(mos: &Objset, list: u64) -> Result<Header, Error> {
        let dnode = mos.dnode(list).await?;
        let bonus = &dnode.phys.bonus;
        // The oldest lists end before the last two sums, those after them before the sublists.
        let word = |at: usize| bonus.u64_at(at).unwrap_or(0);
        Ok(Header {
            count: bonus.u64_at(0).ok_or(CORRUPT)?,
            sums: BlockSums {
                used: word(8),
                compressed: word(16),
                uncompressed: word(24),
            },
            sublists: word(SUBLISTS_AT),
            sublist_count: word(SUBLIST_COUNT_AT),
        })
    }

    async fn store(&self, mos: &Objset, list: u64) -> Result<(), Error> {
        let mut bonus = mos.dnode(list).await?.phys.bonus.clone();
        bonus.resize(bonus.len().max(BONUS_SIZE), 0);
        let words = [
            self.count,
            self.sums.used,
            self.sums.compressed,
            self.sums.uncompressed,
            self.sublists,
            self.sublist_count,
        ];
        for (index, word) in words.into_iter().enumerate() {
            put_u64(&mut bonus, 8 * index, word);
        }
        mos.set_bonus(list, bonus).await
    }
}

/// Makes an empty list.
pub async fn create(mos: &Objset) -> Result<u64, Error> {
    mos.allocate(NewObject {
        object_type: ObjectType::BPOBJ,
        block_size: BLOCK_SIZE,
        bonus_type: ObjectType::BPOBJ_HEADER,
        bonus: vec![0; BONUS_SIZE],
    })
    .await
}

/// What all pointers of a list count for, sublists included.
pub async fn sums(mos: &Objset, list: u64) -> Result<BlockSums, Error> {
    Ok(Header::of(mos, list).await?.sums)
}

/// Appends pointers to a list and gives what they count for.
pub async fn append(
    mos: &Objset,
    zio: &Zio,
    list: u64,
    pointers: &[BlockPointer],
) -> Result<BlockSums, Error> {
    let mut sums = BlockSums::default();
    for pointer in pointers {
        sums.add(zio, pointer);
    }
    let mut header = Header::of(mos, list).await?;
    write_pointers(mos, list, &mut header, pointers).await?;
    header.sums += sums;
    header.store(mos, list).await?;
    Ok(sums)
}

async fn write_pointers(
    mos: &Objset,
    list: u64,
    header: &mut Header,
    pointers: &[BlockPointer],
) -> Result<(), Error> {
    let mut bytes = vec![0; pointers.len() * BLKPTR_SIZE];
    for (index, pointer) in pointers.iter().enumerate() {
        pointer.encode(&mut bytes, index * BLKPTR_SIZE);
    }
    let offset = header
        .count
        .checked_mul(BLKPTR_SIZE as u64)
        .ok_or(CORRUPT)?;
    mos.write(list, offset, &bytes).await?;
    header.count += pointers.len() as u64;
    Ok(())
}

/// Joins `other` to a list; it is not to be used by itself any more. What is small is copied, so that lists stay flat.
pub async fn join(mos: &Objset, list: u64, other: u64) -> Result<(), Error> {
    let mut header = Header::of(mos, list).await?;
    let mut joined = Header::of(mos, other).await?;
    header.sums += joined.sums;
    let inner = sublists(mos, &joined).await?;
    for sublist in inner {
        add_sublist(mos, &mut header, sublist).await?;
    }
    if joined.sublists != 0 {
        mos.free_object(joined.sublists).await?;
        (joined.sublists, joined.sublist_count) = (0, 0);
    }
    if joined.count <= COPIED_MAX {
        let own = pointers(mos, other).await?;
        write_pointers(mos, list, &mut header, &own).await?;
        mos.free_object(other).await?;
    } else {
        // Its sums are now those of its own pointers alone, which nobody asks for apart from the joined list's.
        joined.store(mos, other).await?;
        add_sublist(mos, &mut header, other).await?;
    }
    header.store(mos, list).await
}

async fn add_sublist(mos: &Objset, header: &mut Header, sublist: u64) -> Result<(), Error> {
    if header.sublists == 0 {
        let new = NewObject {
            object_type: ObjectType::BPOBJ_SUBOBJ,
            block_size: BLOCK_SIZE,
            bonus_type: ObjectType::NONE,
            bonus: Vec::new(),
        };
        header.sublists = mos.allocate(new).await?;
    }
    let offset = header.sublist_count.checked_mul(8).ok_or(CORRUPT)?;
    mos.write(header.sublists, offset, &sublist.to_le_bytes())
        .await?;
    header.sublist_count += 1;
    Ok(())
}

async fn sublists(mos: &Objset, header: &Header) -> Result<Vec<u64>, Error> {
    if header.sublists == 0 {
        return Ok(Vec::new());
    }
    let dnode = mos.dnode(header.sublists).await?;
    let size = header
        .sublist_count
        .checked_mul(8)
        .filter(|&size| size <= crate::spa::stored_bytes(&dnode));
    let bytes = mos
        .read_vec(&dnode, 0, size.ok_or(CORRUPT)? as usize)
        .await?;
    Ok(bytes.words())
}

/// The pointers in a list itself, without its sublists.
pub async fn pointers(mos: &Objset, list: u64) -> Result<Vec<BlockPointer>, Error> {
    let dnode = mos.dnode(list).await?;
    let count = dnode.phys.bonus.u64_at(0).ok_or(CORRUPT)?;
    let size = count
        .checked_mul(BLKPTR_SIZE as u64)
        .filter(|&size| size <= crate::spa::stored_bytes(&dnode));
    let bytes = mos
        .read_vec(&dnode, 0, size.ok_or(CORRUPT)? as usize)
        .await?;
    let all = (0..bytes.len() / BLKPTR_SIZE)
        .map(|index| BlockPointer::decode(&bytes, index * BLKPTR_SIZE));
    all.collect::<Option<_>>().ok_or(CORRUPT)
}

/// Removes a list with all its sublists; gives their pointers.
///
/// # Errors
/// `Corrupt` when lists are nested beyond all reason.
pub async fn destroy(mos: &Objset, list: u64) -> Result<Vec<BlockPointer>, Error> {
    let mut all = Vec::new();
    destroy_nested(mos, list, 0, &mut all).await?;
    Ok(all)
}

fn destroy_nested<'a>(
    mos: &'a Objset,
    list: u64,
    depth: usize,
    all: &'a mut Vec<BlockPointer>,
) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>> {
    Box::pin(async move {
        if depth > MAX_DEPTH {
            return Err(CORRUPT);
        }
        let header = Header::of(mos, list).await?;
        all.extend(pointers(mos, list).await?);
        for sublist in sublists(mos, &header).await? {
            destroy_nested(mos, sublist, depth + 1, all).await?;
        }
        if header.sublists != 0 {
            mos.free_object(header.sublists).await?;
        }
        mos.free_object(list).await
    })
}
