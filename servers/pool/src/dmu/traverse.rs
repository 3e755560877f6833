//! Walking all stored blocks of an object.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use super::{Dnode, Objset};
use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::error::{Bookmark, Error, Structure};

/// Blocks with their numbers within their level.
type Found = Vec<(u64, BlockPointer)>;

impl Objset {
    /// The data blocks of an object from number `from` on, without holes.
    pub async fn data_blocks(&self, dnode: &Dnode, from: u64) -> Result<Found, Error> {
        let mut found = Walk {
            objset: self,
            dnode,
            from,
            data: Vec::new(),
            indirect: Vec::new(),
        };
        found.run().await?;
        Ok(found.data)
    }

    /// The indirect blocks of an object.
    pub async fn indirect_blocks(&self, dnode: &Dnode) -> Result<Vec<BlockPointer>, Error> {
        let mut found = Walk {
            objset: self,
            dnode,
            from: 0,
            data: Vec::new(),
            indirect: Vec::new(),
        };
        found.run().await?;
        Ok(found.indirect)
    }
}

struct Walk<'a> {
    objset: &'a Objset,
    dnode: &'a Dnode,
    from: u64,
    data: Found,
    indirect: Vec<BlockPointer>,
}

impl Walk<'_> {
    async fn run(&mut self) -> Result<(), Error> {
        let top = self.dnode.phys.levels - 1;
        for (index, pointer) in self.dnode.phys.pointers.clone().into_iter().enumerate() {
            self.visit(pointer, top, index as u64).await?;
        }
        Ok(())
    }

    fn visit(
        &mut self,
        pointer: BlockPointer,
        level: u8,
        index: u64,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + '_>> {
        Box::pin(async move {
            let shift = self.dnode.phys.fanout_shift();
            let end = (index + 1)
                .checked_shl(u32::from(level) * shift)
                .unwrap_or(u64::MAX);
            if pointer.is_hole() || end <= self.from {
                return Ok(());
            }
            if pointer.level() != level {
                return Err(Error::Corrupt(Structure::BlockPointer));
            }
            if level == 0 {
                self.data.push((index, pointer));
                return Ok(());
            }
            self.indirect.push(pointer);
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
}
