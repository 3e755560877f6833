//! Walking all stored blocks of an object.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use super::{Dnode, OBJECTS_PER_BLOCK, Objset};
use crate::arc::Buffer;
use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::dnode::{DNODE_SIZE, DnodePhys};
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
            since: 0,
            data: Vec::new(),
            indirect: Vec::new(),
        };
        found.run().await?;
        Ok(found.data)
    }

    /// Offset of the first block with data at or after `from`; `None` when only holes follow. Costs a few reads, however large
    /// the holes are.
    pub async fn next_data(&self, dnode: &Dnode, from: u64) -> Result<Option<u64>, Error> {
        let size = dnode.phys.block_size as u64;
        let first = from / size;
        let (changed, end) = match self.dirty.borrow().get(&dnode.number) {
            Some(object) => {
                let mut changed = object
                    .blocks
                    .range(first..)
                    .filter(|(_, data)| data.is_some());
                let next = changed.next().map(|(block, _)| *block);
                (next, object.truncated.unwrap_or(u64::MAX))
            }
            None => (None, u64::MAX),
        };
        let end = end.min(dnode.phys.max_block.saturating_add(1));
        let mut stored = None;
        let mut block = first;
        while block < end && stored.is_none() {
            match self.hole_at(dnode, block).await? {
                None => stored = Some(block),
                Some(level) => {
                    // Nothing is below a hole: on to what the next pointer of its level leads to.
                    let span = u32::from(level) * dnode.phys.fanout_shift();
                    let next = (block.checked_shr(span).unwrap_or(0) + 1).checked_shl(span);
                    block = next.filter(|&next| next > block).unwrap_or(end);
                }
            }
        }
        let found = [changed, stored].into_iter().flatten().min();
        Ok(found.map(|block| (block * size).max(from)))
    }

    /// The highest level at which there is a hole above a block, or is the block itself.
    async fn hole_at(&self, dnode: &Dnode, block: u64) -> Result<Option<u8>, Error> {
        for level in (0..dnode.phys.levels).rev() {
            if self.stored_pointer(dnode, block, level).await?.is_hole() {
                return Ok(Some(level));
            }
        }
        Ok(None)
    }

    /// The indirect blocks of an object.
    pub async fn indirect_blocks(&self, dnode: &Dnode) -> Result<Vec<BlockPointer>, Error> {
        let mut found = Walk {
            objset: self,
            dnode,
            from: 0,
            since: 0,
            data: Vec::new(),
            indirect: Vec::new(),
        };
        found.run().await?;
        Ok(found
            .indirect
            .into_iter()
            .map(|(_, pointer)| pointer)
            .collect())
    }
}

impl Objset {
    /// Every stored block of the object set that was born after `txg`, its own one included. What is older leads to nothing newer.
    pub async fn blocks_since(&self, txg: u64) -> Result<Vec<BlockPointer>, Error> {
        let mut all = Vec::new();
        let root = self.pointer.get();
        if root.is_hole() || root.birth() <= txg {
            return Ok(all);
        }
        all.push(root);
        let (metadnode, accounting) = {
            let phys = self.phys.borrow();
            (phys.metadnode.clone(), phys.accounting.clone())
        };
        let dnodes = Dnode {
            number: 0,
            phys: metadnode,
        };
        for (block, pointer) in self.young_blocks(&dnodes, txg, &mut all).await? {
            let Some(data) = self.stored_block(&dnodes, block, &pointer).await? else {
                continue;
            };
            let mut at = 0;
            while at < data.len() {
                let number = block * OBJECTS_PER_BLOCK + (at / DNODE_SIZE) as u64;
                if let Some(phys) = DnodePhys::decode(&data[at..])? {
                    self.young_object(number, phys, txg, &mut all).await?;
                }
                at += super::dnode_size(&data[at..]);
            }
        }
        for (index, phys) in accounting.into_iter().enumerate() {
            if let Some(phys) = phys {
                self.young_object(u64::MAX - index as u64, phys, txg, &mut all)
                    .await?;
            }
        }
        Ok(all)
    }

    /// The blocks of one object born after `txg`, indirect ones and spill included, with their numbers within their levels.
    ///
    /// # Errors
    /// `NotFound` when the object is not there.
    pub async fn object_blocks_since(&self, number: u64, txg: u64) -> Result<Found, Error> {
        let phys = self.stored_dnode(number).await?.ok_or(Error::NotFound)?;
        self.numbered_blocks(&Dnode { number, phys }, txg).await
    }

    /// The same of the object set's own block, its blocks of dnodes and the objects that count space.
    pub async fn own_blocks_since(&self, txg: u64) -> Result<Found, Error> {
        let root = self.pointer.get();
        if root.is_hole() || root.birth() <= txg {
            return Ok(Found::new());
        }
        let mut all = Found::from([(0, root)]);
        all.extend(self.numbered_blocks(&self.metadnode(), txg).await?);
        let accounting = self.phys.borrow().accounting.clone();
        for (index, phys) in accounting.into_iter().enumerate() {
            if let Some(phys) = phys {
                let dnode = Dnode {
                    number: u64::MAX - index as u64,
                    phys: phys.into(),
                };
                all.extend(self.numbered_blocks(&dnode, txg).await?);
            }
        }
        Ok(all)
    }

    async fn numbered_blocks(&self, dnode: &Dnode, txg: u64) -> Result<Found, Error> {
        let mut found = Walk {
            objset: self,
            dnode,
            from: 0,
            since: txg,
            data: Vec::new(),
            indirect: Vec::new(),
        };
        found.run().await?;
        let mut all = found.indirect;
        all.append(&mut found.data);
        let spill = dnode.phys.spill;
        let spill = spill.filter(|spill| !spill.is_hole() && spill.birth() > txg);
        all.extend(spill.map(|spill| (u64::MAX, spill)));
        Ok(all)
    }

    async fn young_object(
        &self,
        number: u64,
        phys: DnodePhys,
        txg: u64,
        all: &mut Vec<BlockPointer>,
    ) -> Result<(), Error> {
        let spill = phys.spill;
        let dnode = Dnode {
            number,
            phys: phys.into(),
        };
        self.young_blocks(&dnode, txg, all).await?;
        all.extend(spill.filter(|spill| !spill.is_hole() && spill.birth() > txg));
        Ok(())
    }

    /// Adds an object's blocks born after `txg`; gives those with data.
    async fn young_blocks(
        &self,
        dnode: &Dnode,
        txg: u64,
        all: &mut Vec<BlockPointer>,
    ) -> Result<Found, Error> {
        let mut found = Walk {
            objset: self,
            dnode,
            from: 0,
            since: txg,
            data: Vec::new(),
            indirect: Vec::new(),
        };
        found.run().await?;
        all.extend(found.data.iter().map(|(_, pointer)| *pointer));
        all.extend(found.indirect.iter().map(|(_, pointer)| *pointer));
        Ok(found.data)
    }

    async fn stored_block(
        &self,
        dnode: &Dnode,
        block: u64,
        pointer: &BlockPointer,
    ) -> Result<Option<Buffer>, Error> {
        let bookmark = Bookmark {
            objset: self.id,
            object: dnode.number,
            level: 0,
            block,
        };
        let data = self
            .zio
            .read(pointer, bookmark, self.key.as_deref())
            .await?;
        Ok(Some(data).filter(|data| data.len() == dnode.phys.block_size))
    }
}

struct Walk<'a> {
    objset: &'a Objset,
    dnode: &'a Dnode,
    from: u64,
    /// Blocks born in this group or before are passed over with all below them.
    since: u64,
    data: Found,
    indirect: Found,
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
            if pointer.is_hole() || end <= self.from || pointer.birth() <= self.since {
                return Ok(());
            }
            if pointer.level() != level {
                return Err(Error::Corrupt(Structure::BlockPointer));
            }
            if level == 0 {
                self.data.push((index, pointer));
                return Ok(());
            }
            self.indirect.push((index, pointer));
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
