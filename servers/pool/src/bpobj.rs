//! Lists of block pointers: what is to be freed, and what snapshots keep alive.

use alloc::vec;
use alloc::vec::Vec;

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

/// Appends pointers to a list and gives what they count for.
pub async fn append(
    mos: &Objset,
    zio: &Zio,
    list: u64,
    pointers: &[BlockPointer],
) -> Result<BlockSums, Error> {
    let dnode = mos.dnode(list).await?;
    let mut bonus = dnode.phys.bonus.clone();
    let count = bonus.u64_at(0).ok_or(CORRUPT)?;
    let mut sums = BlockSums::default();
    let mut bytes = vec![0; pointers.len() * BLKPTR_SIZE];
    for (index, pointer) in pointers.iter().enumerate() {
        pointer.encode(&mut bytes, index * BLKPTR_SIZE);
        sums.add(zio, pointer);
    }
    let offset = count.checked_mul(BLKPTR_SIZE as u64).ok_or(CORRUPT)?;
    mos.write(list, offset, &bytes).await?;
    put_u64(&mut bonus, 0, count + pointers.len() as u64);
    for (index, added) in [sums.used, sums.compressed, sums.uncompressed]
        .into_iter()
        .enumerate()
    {
        let at = 8 * (index + 1);
        // The oldest lists end before the last two sums.
        if let Some(old) = bonus.u64_at(at) {
            put_u64(&mut bonus, at, old.wrapping_add(added));
        }
    }
    mos.set_bonus(list, bonus).await?;
    Ok(sums)
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
