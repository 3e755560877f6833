//! What an object has that it had not in an earlier transaction group: new blocks and new holes, in order.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use super::{Dnode, Objset};
use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::error::{Bookmark, Error, Structure};

/// Changes that callers ask for at a time: a few hundred kilobytes of pointers.
pub const BATCH: usize = 1024;

/// A new data block, or a run of holes that are new or may be.
#[derive(Clone, Copy, Debug)]
pub struct BlockChange {
    /// Number of the first block.
    pub first: u64,
    /// Blocks: 1, or the length of the hole.
    pub count: u64,
    /// The block; `None` for a hole.
    pub pointer: Option<BlockPointer>,
}

struct Walk<'a> {
    objset: &'a Objset,
    dnode: &'a Dnode,
    since: u64,
    from: u64,
    limit: usize,
    found: Vec<BlockChange>,
}

impl Objset {
    /// Stored blocks born after group `since`, and holes made since or never filled, from block `from` on: about `limit` of
    /// them. A hole that was never filled may be in place of another object's block, so it counts as new.
    pub async fn changed_blocks(
        &self,
        dnode: &Dnode,
        since: u64,
        from: u64,
        limit: usize,
    ) -> Result<Vec<BlockChange>, Error> {
        let mut walk = Walk {
            objset: self,
            dnode,
            since,
            from,
            limit,
            found: Vec::new(),
        };
        let top = dnode.phys.levels - 1;
        for (index, pointer) in dnode.phys.pointers.iter().enumerate() {
            walk.visit(*pointer, top, index as u64).await?;
        }
        Ok(walk.found)
    }
}

impl Walk<'_> {
    fn visit(
        &mut self,
        pointer: BlockPointer,
        level: u8,
        index: u64,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>> {
        Box::pin(async move {
            let shift = self.dnode.phys.fanout_shift();
            let span = u32::from(level) * shift;
            let first = index.checked_shl(span).unwrap_or(u64::MAX);
            let count = 1u64.checked_shl(span).unwrap_or(u64::MAX);
            let end = first.saturating_add(count);
            if self.found.len() >= self.limit || end <= self.from {
                return Ok(());
            }
            if pointer.is_hole() {
                // Tables are as large as they look; elsewhere nothing is beyond the last block.
                let phys = &self.dnode.phys;
                if first > phys.max_block && !phys.object_type.is_metadata() {
                    return Ok(());
                }
                if pointer.birth() == 0 || pointer.birth() > self.since {
                    self.add_hole(first.max(self.from), end);
                }
                return Ok(());
            }
            if pointer.birth() <= self.since {
                return Ok(());
            }
            if pointer.level() != level {
                return Err(Error::Corrupt(Structure::BlockPointer));
            }
            if level == 0 {
                self.found.push(BlockChange {
                    first,
                    count: 1,
                    pointer: Some(pointer),
                });
                return Ok(());
            }
            let bookmark = Bookmark {
                objset: self.objset.id,
                object: self.dnode.number,
                level: i64::from(level),
                block: index,
            };
            let data = self.objset.zio.read(&pointer, bookmark, None).await?;
            for slot in 0..data.len() / BLKPTR_SIZE {
                let child = BlockPointer::decode(&data, slot * BLKPTR_SIZE);
                let child = child.ok_or(Error::Corrupt(Structure::BlockPointer))?;
                self.visit(child, level - 1, (index << shift) + slot as u64)
                    .await?;
            }
            Ok(())
        })
    }

    /// Adds a hole, to the one before when they touch.
    fn add_hole(&mut self, first: u64, end: u64) {
        match self.found.last_mut() {
            Some(last) if last.pointer.is_none() && last.first + last.count == first => {
                last.count = end - last.first;
            }
            _ => self.found.push(BlockChange {
                first,
                count: end - first,
                pointer: None,
            }),
        }
    }
}
