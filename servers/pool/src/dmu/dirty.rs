//! Changes to objects that no transaction group has written yet.
//!
//! A changed object has its new description and its new blocks in memory. Reads look here first.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use super::{Dnode, HeaderState, OBJECTS_PER_BLOCK, Objset};
use crate::arc::Buffer;
use crate::blkptr::BlockPointer;
use crate::dnode::{DNODE_SIZE, DnodePhys, FLAG_SPILL, FLAG_USED_BYTES, ObjectType};
use crate::error::{Error, Structure};

/// log2 of the size of new objects' indirect blocks.
const INDIRECT_SHIFT: u8 = 17;
/// Bonus bytes of a dnode of one slot with one block pointer.
pub const BONUS_MAX: usize = 320;

/// An object with changes.
#[derive(Clone, Debug)]
pub struct DirtyObject {
    /// Its description; the pointers are those of the last transaction group.
    pub phys: Rc<DnodePhys>,
    /// Changed data blocks; `None` became a hole.
    pub blocks: BTreeMap<u64, Option<Buffer>>,
    /// Blocks from this one on that were there before are gone.
    pub truncated: Option<u64>,
    /// A changed spill block; inside, `None` removes it.
    pub spill: Option<Option<Buffer>>,
    /// What becomes of the object.
    pub fate: Fate,
}

/// What becomes of a changed object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It stays.
    Kept,
    /// It stays; what had its number before is freed with all its blocks.
    Replaced,
    /// It is freed with all its blocks.
    Freed,
}

/// What a new object is.
#[derive(Clone, Debug)]
pub struct NewObject {
    /// What it holds.
    pub object_type: ObjectType,
    /// Bytes of a data block.
    pub block_size: usize,
    /// What its bonus holds.
    pub bonus_type: ObjectType,
    /// The bonus.
    pub bonus: Vec<u8>,
}

impl NewObject {
    /// The description of a new object.
    pub fn describe(&self) -> DnodePhys {
        DnodePhys {
            object_type: self.object_type,
            indirect_shift: INDIRECT_SHIFT,
            levels: 1,
            bonus_type: self.bonus_type,
            checksum: 0,
            compression: 0,
            flags: FLAG_USED_BYTES,
            slots: 1,
            block_size: self.block_size,
            max_block: 0,
            used: 0,
            pointers: vec![BlockPointer::HOLE],
            bonus: self.bonus.clone(),
            spill: None,
        }
    }
}

impl Objset {
    /// Whether anything waits to be written.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.borrow().is_empty()
            || self.header.get() == HeaderState::Changed
            || self.log.is_dirty()
    }

    /// Forgets all changes that no transaction group has written.
    pub fn discard_changes(&self) {
        self.dirty.borrow_mut().clear();
        self.header.set(HeaderState::Stored);
    }

    /// Makes a new object and gives its number.
    pub async fn allocate(&self, new: NewObject) -> Result<u64, Error> {
        if new.bonus.len() > BONUS_MAX {
            return Err(Error::InvalidArgument);
        }
        let number = self.free_number().await?;
        self.place(number, &new);
        Ok(number)
    }

    /// Makes a new object with a given number, as replaying a log needs it.
    ///
    /// # Errors
    /// `AlreadyExists` when another object has the number.
    pub async fn allocate_at(&self, number: u64, new: NewObject) -> Result<u64, Error> {
        if new.bonus.len() > BONUS_MAX {
            return Err(Error::InvalidArgument);
        }
        match self.dnode(number).await {
            Err(Error::NotFound) => {}
            Ok(_) => return Err(Error::AlreadyExists),
            Err(error) => return Err(error),
        }
        self.place(number, &new);
        Ok(number)
    }

    fn place(&self, number: u64, new: &NewObject) {
        let mut dirty = self.dirty.borrow_mut();
        let fate = match dirty.remove(&number) {
            Some(_) => Fate::Replaced,
            None => Fate::Kept,
        };
        dirty.insert(
            number,
            DirtyObject {
                phys: Rc::new(new.describe()),
                blocks: BTreeMap::new(),
                truncated: None,
                spill: None,
                fate,
            },
        );
    }

    /// The next number that no object has.
    async fn free_number(&self) -> Result<u64, Error> {
        let metadnode = self.metadnode();
        let mut number = self.cursor.get().max(1);
        loop {
            let block = number / OBJECTS_PER_BLOCK;
            let data = if block <= metadnode.phys.max_block {
                self.block(&metadnode, block).await?
            } else {
                None
            };
            let mut at = 0;
            while at < OBJECTS_PER_BLOCK {
                let candidate = block * OBJECTS_PER_BLOCK + at;
                let slots = data
                    .as_ref()
                    .map_or(1, |data| used_slots(&data[at as usize * DNODE_SIZE..]));
                let free = data
                    .as_ref()
                    .is_none_or(|data| data[at as usize * DNODE_SIZE] == 0);
                if candidate >= number && free && !self.dirty.borrow().contains_key(&candidate) {
                    self.cursor.set(candidate + 1);
                    return Ok(candidate);
                }
                at += slots;
            }
            number = (block + 1) * OBJECTS_PER_BLOCK;
        }
    }

    /// Frees an object with all its blocks.
    pub async fn free_object(&self, number: u64) -> Result<(), Error> {
        self.change(number, |object| {
            object.fate = Fate::Freed;
            object.blocks.clear();
            object.truncated = Some(0);
            object.spill = None;
        })
        .await?;
        Ok(())
    }

    /// Gives an object a new spill block, or none. The bonus must leave room for the pointer to it.
    pub async fn set_spill(&self, number: u64, spill: Option<Buffer>) -> Result<(), Error> {
        self.change(number, |object| {
            let phys = Rc::make_mut(&mut object.phys);
            match &spill {
                Some(_) => {
                    phys.flags |= FLAG_SPILL;
                    phys.spill = Some(phys.spill.unwrap_or(BlockPointer::HOLE));
                }
                None => {
                    phys.flags &= !FLAG_SPILL;
                    phys.spill = None;
                }
            }
            object.spill = Some(spill);
        })
        .await
    }

    /// Changes the description or blocks of an object in memory.
    pub async fn change<T>(
        &self,
        number: u64,
        change: impl FnOnce(&mut DirtyObject) -> T,
    ) -> Result<T, Error> {
        if !self.dirty.borrow().contains_key(&number) {
            let phys = self.dnode(number).await?.phys;
            let object = DirtyObject {
                phys,
                blocks: BTreeMap::new(),
                truncated: None,
                spill: None,
                fate: Fate::Kept,
            };
            self.dirty.borrow_mut().entry(number).or_insert(object);
        }
        let mut dirty = self.dirty.borrow_mut();
        let object = dirty
            .get_mut(&number)
            .ok_or(Error::Corrupt(Structure::Dnode))?;
        Ok(change(object))
    }

    /// Gives an object a new bonus.
    pub async fn set_bonus(&self, number: u64, bonus: Vec<u8>) -> Result<(), Error> {
        let capacity = self.dnode(number).await?.phys.bonus_capacity();
        if bonus.len() > capacity {
            return Err(Error::InvalidArgument);
        }
        self.change(number, |object| {
            Rc::make_mut(&mut object.phys).bonus = bonus
        })
        .await
    }

    /// Replaces a whole data block.
    pub async fn set_block(&self, number: u64, block: u64, data: Buffer) -> Result<(), Error> {
        self.change(number, |object| {
            if data.len() != object.phys.block_size {
                return Err(Error::InvalidArgument);
            }
            let phys = Rc::make_mut(&mut object.phys);
            phys.max_block = phys.max_block.max(block);
            object.blocks.insert(block, Some(data));
            Ok(())
        })
        .await?
    }

    /// Changes the block size of an object that has at most block 0, whose data is kept and padded.
    pub async fn set_block_size(&self, number: u64, size: usize) -> Result<(), Error> {
        let dnode = self.dnode(number).await?;
        if dnode.phys.block_size == size {
            return Ok(());
        }
        if dnode.phys.max_block > 0 || size < dnode.phys.block_size {
            return Err(Error::InvalidArgument);
        }
        let old = self.block(&dnode, 0).await?;
        self.change(number, |object| {
            Rc::make_mut(&mut object.phys).block_size = size;
            if let Some(old) = old {
                let mut data = Vec::clone(&old);
                data.resize(size, 0);
                object.blocks.insert(0, Some(Rc::new(data)));
            }
        })
        .await
    }

    /// Gives an object of one block another block size and other blocks.
    pub async fn replace_blocks(
        &self,
        number: u64,
        size: usize,
        blocks: Vec<Buffer>,
    ) -> Result<(), Error> {
        let dnode = self.dnode(number).await?;
        if dnode.phys.max_block > 0 || blocks.iter().any(|block| block.len() != size) {
            return Err(Error::InvalidArgument);
        }
        self.change(number, |object| {
            let phys = Rc::make_mut(&mut object.phys);
            phys.block_size = size;
            phys.max_block = (blocks.len() as u64).saturating_sub(1);
            object.blocks = (0..).zip(blocks.into_iter().map(Some)).collect();
        })
        .await
    }

    /// Writes a range; the object's block size stays.
    ///
    /// # Errors
    /// `NoSpace` or `QuotaExceeded` when the budget is spent.
    pub async fn write(&self, number: u64, offset: u64, data: &[u8]) -> Result<(), Error> {
        self.spend(data.len() as u64)?;
        let mut done = 0;
        while done < data.len() {
            let dnode = self.dnode(number).await?;
            let size = dnode.phys.block_size;
            let at = offset.checked_add(done as u64).ok_or(Error::OutOfRange)?;
            let (block, inside) = (at / size as u64, (at % size as u64) as usize);
            let part = (size - inside).min(data.len() - done);
            let source = &data[done..done + part];
            let mut new = if part == size {
                Vec::new()
            } else {
                self.block_copy(&dnode, block).await?
            };
            if part == size {
                new.extend_from_slice(source);
            } else {
                new[inside..inside + part].copy_from_slice(source);
            }
            self.set_block(number, block, Rc::new(new)).await?;
            done += part;
        }
        Ok(())
    }

    async fn block_copy(&self, dnode: &Dnode, block: u64) -> Result<Vec<u8>, Error> {
        Ok(match self.block(dnode, block).await? {
            Some(data) => Vec::clone(&data),
            None => vec![0; dnode.phys.block_size],
        })
    }

    /// Makes the bytes of a range zero: whole blocks become holes. A range to `u64::MAX` is a truncation.
    pub async fn cut(&self, number: u64, from: u64, to: u64) -> Result<(), Error> {
        let dnode = self.dnode(number).await?;
        let size = dnode.phys.block_size as u64;
        let (first, inside) = (from / size, from % size);
        if inside != 0 {
            let end = size.min(to.saturating_sub(first * size));
            self.zero_part(&dnode, first, inside..end).await?;
        }
        let start = from.div_ceil(size);
        if to == u64::MAX {
            return self.truncate(number, start).await;
        }
        let end = to / size;
        if !to.is_multiple_of(size) && end >= start {
            self.zero_part(&dnode, end, 0..to % size).await?;
        }
        let stored = self.blocks_between(number, start, end).await?;
        self.change(number, |object| {
            let known: Vec<u64> = object
                .blocks
                .range(start..end.max(start))
                .map(|(block, _)| *block)
                .collect();
            for block in stored.into_iter().chain(known) {
                object.blocks.insert(block, None);
            }
        })
        .await
    }

    async fn zero_part(
        &self,
        dnode: &Dnode,
        block: u64,
        range: core::ops::Range<u64>,
    ) -> Result<(), Error> {
        let Some(data) = self.block(dnode, block).await? else {
            return Ok(());
        };
        let mut data = Vec::clone(&data);
        data[range.start as usize..range.end as usize].fill(0);
        self.set_block(dnode.number, block, Rc::new(data)).await
    }

    /// Makes everything from `block` on a hole.
    pub async fn truncate(&self, number: u64, block: u64) -> Result<(), Error> {
        self.change(number, |object| {
            object.blocks.split_off(&block);
            object.truncated = Some(object.truncated.map_or(block, |old| old.min(block)));
        })
        .await
    }
}

/// Slots of the dnode or free slot at the start.
fn used_slots(slots: &[u8]) -> u64 {
    if slots[0] == 0 {
        1
    } else {
        u64::from(slots[12]) + 1
    }
}
