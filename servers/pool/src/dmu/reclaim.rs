//! Giving objects the shape that a stream says they have.
//!
//! What was there before stays where it can: an incremental stream has only what changed. Everything here checks its arguments,
//! because they come from outside.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use super::dirty::{DirtyObject, Fate, NewObject};
use super::{OBJECTS_PER_BLOCK, Objset};
use crate::blkptr::{BLKPTR_SIZE, MAX_BLOCK_SIZE};
use crate::dnode::{CORE_SIZE, DNODE_SIZE, DnodePhys, ObjectType};
use crate::error::{Error, Structure};

/// Object numbers end here in the format.
pub const MAX_OBJECT: u64 = 1 << 48;
/// Bytes of one object end here.
const MAX_OFFSET: u64 = i64::MAX as u64;

const CORRUPT: Error = Error::Corrupt(Structure::Stream);

/// What an object is to be.
#[derive(Clone, Debug)]
pub struct ObjectShape {
    /// What it holds, its block size and its bonus.
    pub new: NewObject,
    /// Checksum of its blocks as a number; 0 inherits.
    pub checksum: u8,
    /// Compression of its blocks as a number; 0 inherits.
    pub compression: u8,
    /// Slots of its dnode.
    pub slots: u8,
    /// What becomes of a spill block that it has.
    pub spill: OldSpill,
}

/// What becomes of a spill block that an object had.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OldSpill {
    /// It stays until another one comes.
    Kept,
    /// It goes.
    Removed,
}

impl ObjectShape {
    fn check(&self, number: u64) -> Result<(), Error> {
        let slots = usize::from(self.slots);
        let inside = (number % OBJECTS_PER_BLOCK) as usize;
        let capacity = (slots * DNODE_SIZE).saturating_sub(CORE_SIZE + BLKPTR_SIZE);
        let size = self.new.block_size;
        let right = (1..MAX_OBJECT).contains(&number)
            && slots > 0
            && inside + slots <= OBJECTS_PER_BLOCK as usize
            && self.new.object_type != ObjectType::NONE
            && (512..=MAX_BLOCK_SIZE).contains(&size)
            && size.is_multiple_of(512)
            && self.new.bonus.len() <= capacity;
        if right { Ok(()) } else { Err(CORRUPT) }
    }

    fn describe(&self) -> DnodePhys {
        DnodePhys {
            checksum: self.checksum,
            compression: self.compression,
            slots: self.slots,
            ..self.new.describe()
        }
    }

    /// Whether the blocks of an object can stay.
    fn keeps_blocks(&self, old: &DnodePhys) -> bool {
        old.object_type == self.new.object_type
            && old.block_size == self.new.block_size
            && old.slots == self.slots
            && self.new.bonus.len() <= self.capacity_of(old)
    }

    fn capacity_of(&self, old: &DnodePhys) -> usize {
        match self.spill {
            OldSpill::Kept => old.bonus_capacity(),
            OldSpill::Removed => {
                old.bonus_capacity() + if old.spill.is_some() { BLKPTR_SIZE } else { 0 }
            }
        }
    }
}

impl Objset {
    /// Gives an object this shape, whatever had its number before.
    ///
    /// # Errors
    /// `Corrupt` for shapes that no object has, or a number inside the dnode of another object.
    pub async fn reshape(&self, number: u64, shape: &ObjectShape) -> Result<(), Error> {
        shape.check(number)?;
        let old = match self.dnode(number).await {
            Ok(dnode) => Some(dnode.phys),
            Err(Error::NotFound) => None,
            Err(error) => return Err(error),
        };
        match old {
            Some(old) if shape.keeps_blocks(&old) => return self.adapt(number, shape, &old).await,
            Some(_) => {}
            None if self.is_inside_another(number).await? => return Err(CORRUPT),
            None => {}
        }
        for inside in number + 1..number + u64::from(shape.slots) {
            match self.dnode(inside).await {
                Ok(_) => self.free_object(inside).await?,
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        self.dirty.borrow_mut().insert(
            number,
            DirtyObject {
                phys: Rc::new(shape.describe()),
                blocks: BTreeMap::new(),
                truncated: None,
                spill: None,
                fate: Fate::Replaced,
            },
        );
        Ok(())
    }

    /// Changes an object that keeps its blocks.
    async fn adapt(&self, number: u64, shape: &ObjectShape, old: &DnodePhys) -> Result<(), Error> {
        if shape.spill == OldSpill::Removed && old.spill.is_some() {
            self.set_spill(number, None).await?;
        }
        self.change(number, |object| {
            let phys = Rc::make_mut(&mut object.phys);
            phys.bonus_type = shape.new.bonus_type;
            phys.bonus = shape.new.bonus.clone();
            phys.checksum = shape.checksum;
            phys.compression = shape.compression;
        })
        .await
    }

    /// Whether a number is a slot inside the dnode of an earlier object.
    async fn is_inside_another(&self, number: u64) -> Result<bool, Error> {
        let first = number - number % OBJECTS_PER_BLOCK;
        for earlier in (first.max(1)..number).rev() {
            match self.dnode(earlier).await {
                Ok(dnode) => return Ok(earlier + u64::from(dnode.phys.slots) > number),
                Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Frees all objects with numbers in a range.
    pub async fn free_objects(&self, first: u64, count: u64) -> Result<(), Error> {
        let end = first.saturating_add(count).min(MAX_OBJECT);
        let first = first.max(1);
        if first >= end {
            return Ok(());
        }
        let mut numbers: Vec<u64> = Vec::new();
        let mut after = first - 1;
        while let Some(number) = self
            .next_object(after)
            .await?
            .filter(|&number| number < end)
        {
            numbers.push(number);
            after = number;
        }
        numbers.extend(
            self.dirty
                .borrow()
                .range(first..end)
                .map(|(number, _)| *number),
        );
        for number in numbers {
            match self.free_object(number).await {
                Ok(()) | Err(Error::NotFound) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes a block of a stream, which may be of another size than the object's blocks.
    ///
    /// # Errors
    /// `Corrupt` when no object can have it; `NoSpace` or `QuotaExceeded` when the budget is spent.
    pub async fn write_received(
        &self,
        number: u64,
        offset: u64,
        data: Vec<u8>,
    ) -> Result<(), Error> {
        let phys = match self.dnode(number).await {
            Err(Error::NotFound) => return Err(CORRUPT),
            dnode => dnode?.phys,
        };
        let size = phys.block_size as u64;
        let end = offset.checked_add(data.len() as u64);
        let end = end.filter(|&end| end <= MAX_OFFSET).ok_or(CORRUPT)?;
        if number >= MAX_OBJECT || end > size && !size.is_power_of_two() {
            return Err(CORRUPT);
        }
        if offset.is_multiple_of(size) && data.len() as u64 == size {
            self.spend(size)?;
            return self.set_block(number, offset / size, Rc::new(data)).await;
        }
        self.write(number, offset, &data).await
    }

    /// Makes a range of an object a hole; a length of `u64::MAX` is all to the end. An object that is not there has no range.
    pub async fn free_received(&self, number: u64, offset: u64, length: u64) -> Result<(), Error> {
        if number >= MAX_OBJECT {
            return Err(CORRUPT);
        }
        let end = match length {
            u64::MAX => u64::MAX,
            length => offset.saturating_add(length),
        };
        match self.dnode(number).await {
            Err(Error::NotFound) => Ok(()),
            Err(error) => Err(error),
            Ok(_) => self.cut(number, offset, end).await,
        }
    }

    /// Gives an object the spill block of a stream.
    ///
    /// # Errors
    /// `Corrupt` when the object is not there or its bonus leaves no room for the pointer.
    pub async fn spill_received(&self, number: u64, data: Vec<u8>) -> Result<(), Error> {
        let phys = match self.dnode(number).await {
            Err(Error::NotFound) => return Err(CORRUPT),
            dnode => dnode?.phys,
        };
        let needed = phys.bonus.len() + if phys.spill.is_some() { 0 } else { BLKPTR_SIZE };
        let sized = (512..=MAX_BLOCK_SIZE).contains(&data.len()) && data.len().is_multiple_of(512);
        if number >= MAX_OBJECT || !sized || needed > phys.bonus_capacity() {
            return Err(CORRUPT);
        }
        self.spend(data.len() as u64)?;
        self.set_spill(number, Some(Rc::new(data))).await
    }

    /// The data blocks of an object that hold bytes of a range, without holes; of those that are stored.
    pub(super) async fn blocks_between(
        &self,
        number: u64,
        from: u64,
        to: u64,
    ) -> Result<Vec<u64>, Error> {
        let dnode = self.dnode(number).await?;
        let mut found = vec![];
        let mut from = from;
        while from < to {
            let changes = self
                .changed_blocks(&dnode, 0, from, super::differences::BATCH)
                .await?;
            let Some(last) = changes.last() else {
                break;
            };
            from = last.first.saturating_add(last.count);
            let stored = changes.iter().filter(|change| change.pointer.is_some());
            found.extend(
                stored
                    .map(|change| change.first)
                    .filter(|&block| block < to),
            );
        }
        Ok(found)
    }
}
