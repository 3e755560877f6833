//! Writing an object set's changes: data first, then what points to it, up to the object set's own block.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use super::dirty::{DirtyObject, Fate};
use super::ledger::{Ledger, Rewrite, StoragePolicy, SyncPolicy};
use super::usage::Usage;
use super::{Dnode, HeaderState, OBJECTS_PER_BLOCK, Objset, dnode_size};
use crate::arc::Buffer;
use crate::blkptr::{BLKPTR_SIZE, BlockPointer, BlockShape};
use crate::checksum::ChecksumKind;
use crate::compress::Compression;
use crate::dnode::{DNODE_BLOCK_SIZE, DNODE_SIZE, DnodePhys, FLAG_USED_BYTES, ObjectType};
use crate::error::{Bookmark, Error, Structure};
use crate::zio::{WritePolicy, Zio};

/// A pass in progress.
struct Pass<'a> {
    objset: &'a Objset,
    policy: SyncPolicy,
    ledger: Ledger,
    usage: Usage,
}

/// New pointers of one level, by block number.
type Pointers = BTreeMap<u64, BlockPointer>;

impl Objset {
    /// Writes all changes and gives the new pointer of the object set, with what changed.
    ///
    /// # Errors
    /// `NoSpace`, and those of reading the blocks that lead to the changed ones.
    pub async fn sync(&self, policy: SyncPolicy) -> Result<(BlockPointer, Ledger), Error> {
        let mut dirty = self.dirty.borrow_mut().split_off(&0);
        self.header.set(HeaderState::Stored);
        let mut pass = Pass {
            objset: self,
            policy,
            ledger: Ledger::default(),
            usage: Usage::default(),
        };
        let mut dnodes: BTreeMap<u64, Option<Rc<DnodePhys>>> = BTreeMap::new();
        // What owners use is known when their files are written; the tables of that come second.
        for _ in 0..2 {
            for (number, object) in dirty {
                let written = pass.counted_object(number, object).await?;
                dnodes.insert(number, written);
                if self.zio.queue_is_full() {
                    self.zio.send_queue().await?;
                }
            }
            self.apply_usage(core::mem::take(&mut pass.usage)).await?;
            dirty = self.dirty.borrow_mut().split_off(&0);
        }
        pass.dnodes(dnodes).await?;
        let pointer = pass.root()?;
        Ok((pointer, pass.ledger))
    }
}

impl Pass<'_> {
    fn zio(&self) -> &Zio {
        &self.objset.zio
    }

    fn storage(&self, object_type: ObjectType, level: u8) -> StoragePolicy {
        if level > 0 || object_type.is_metadata() {
            self.policy.metadata
        } else {
            self.policy.data
        }
    }

    /// Writes one block in place of `old`.
    fn put(
        &mut self,
        old: &BlockPointer,
        data: &Buffer,
        object_type: ObjectType,
        level: u8,
        fill: u64,
    ) -> Result<BlockPointer, Error> {
        let in_place = self.policy.rewrite == Rewrite::InPlace;
        let own = old.birth() == self.policy.txg && !old.is_hole() && !old.is_embedded();
        if in_place
            && own
            && old.physical_size() == data.len()
            && old.compression()? == Compression::Off
        {
            return Ok(self.zio().rewrite(old, data, fill));
        }
        let storage = self.storage(object_type, level);
        let policy = WritePolicy {
            compression: if in_place {
                Compression::Off
            } else {
                storage.compression
            },
            checksum: storage.checksum,
            copies: storage.copies,
            object_type,
            level,
            fill,
            forms: self.policy.forms,
        };
        let new = self.zio().write(data, policy, self.policy.txg)?;
        self.kill(old);
        if !new.is_hole() {
            self.ledger.born.add(&self.objset.zio, &new);
        }
        Ok(new)
    }

    fn kill(&mut self, old: &BlockPointer) {
        if !old.is_hole() {
            self.ledger.killed.push(*old);
        }
    }

    /// [`Pass::object`], counted for its owner before and after.
    async fn counted_object(
        &mut self,
        number: u64,
        object: DirtyObject,
    ) -> Result<Option<Rc<DnodePhys>>, Error> {
        let counted = self.objset.counted();
        if counted == 0 || super::accounting_index(number).is_some() {
            return self.object(number, object).await;
        }
        if let Some(before) = self.objset.stored_dnode(number).await? {
            self.usage.subtract(&before);
        }
        let mut after = self.object(number, object).await?;
        if let Some(after) = &mut after {
            self.usage.add(Rc::make_mut(after), counted);
        }
        Ok(after)
    }

    /// Writes one object's blocks; gives its new description, or `None` when it is gone.
    async fn object(
        &mut self,
        number: u64,
        object: DirtyObject,
    ) -> Result<Option<Rc<DnodePhys>>, Error> {
        let mut stored = self.objset.stored_dnode(number).await?;
        if object.fate != Fate::Kept
            && let Some(phys) = stored.take()
        {
            self.kill_all(&Dnode { number, phys }).await?;
        }
        if object.fate == Fate::Freed {
            return Ok(None);
        }
        let killed_before = self.ledger.killed.len();
        let used_before = self.ledger.born.used;
        let mut blocks = object.blocks;
        if let (Some(from), Some(stored)) = (object.truncated, &stored) {
            let dnode = Dnode {
                number,
                phys: stored.clone(),
            };
            for (block, _) in self.objset.data_blocks(&dnode, from).await? {
                blocks.entry(block).or_insert(None);
            }
        }
        let mut phys = DnodePhys::clone(&object.phys);
        self.blocks(number, &mut phys, blocks).await?;
        if let Some(spill) = object.spill {
            let before = stored.and_then(|stored| stored.spill);
            phys.spill = self.spill(before.unwrap_or(BlockPointer::HOLE), spill)?;
        }
        let born = self.ledger.born.used - used_before;
        let killed = &self.ledger.killed[killed_before..];
        let killed: u64 = killed
            .iter()
            .map(|pointer| self.objset.zio.deflated_size(pointer))
            .sum();
        phys.used = (phys.used_bytes() + born).saturating_sub(killed);
        phys.flags |= FLAG_USED_BYTES;
        Ok(Some(Rc::new(phys)))
    }

    /// Writes a changed spill block.
    fn spill(
        &mut self,
        before: BlockPointer,
        spill: Option<Buffer>,
    ) -> Result<Option<BlockPointer>, Error> {
        match spill {
            Some(data) => self
                .put(&before, &data, ObjectType::SYSTEM_ATTRIBUTES, 0, 1)
                .map(Some),
            None => {
                self.kill(&before);
                Ok(None)
            }
        }
    }

    /// Writes changed data blocks and the indirect blocks above them.
    async fn blocks(
        &mut self,
        number: u64,
        phys: &mut DnodePhys,
        blocks: BTreeMap<u64, Option<Buffer>>,
    ) -> Result<(), Error> {
        let old = Dnode {
            number,
            phys: Rc::new(phys.clone()),
        };
        let mut levels: Vec<Pointers> = grow(phys);
        for (block, data) in blocks {
            let before = self.objset.stored_pointer(&old, block, 0).await?;
            let after = match data {
                Some(data) => {
                    let fill = if phys.object_type == ObjectType::DNODE {
                        allocated_dnodes(&data)
                    } else {
                        1
                    };
                    self.put(&before, &data, phys.object_type, 0, fill)?
                }
                None => self.hole(&before, phys, 0),
            };
            levels[0].insert(block, after);
        }
        for level in 1..phys.levels {
            let children = core::mem::take(&mut levels[usize::from(level) - 1]);
            let parents = self.indirect_level(&old, phys, level, children).await?;
            levels[usize::from(level)].extend(parents);
        }
        for (index, pointer) in core::mem::take(&mut levels[usize::from(phys.levels) - 1]) {
            let slot = usize::try_from(index)
                .ok()
                .and_then(|index| phys.pointers.get_mut(index));
            *slot.ok_or(Error::Corrupt(Structure::Dnode))? = pointer;
        }
        Ok(())
    }

    fn hole(&mut self, before: &BlockPointer, phys: &DnodePhys, level: u8) -> BlockPointer {
        self.kill(before);
        let size = if level == 0 {
            phys.block_size
        } else {
            1 << phys.indirect_shift
        };
        let shape = BlockShape {
            logical_size: size,
            physical_size: size,
            compression: Compression::Off,
            checksum: ChecksumKind::Off,
            object_type: phys.object_type.0,
            level,
        };
        self.policy.forms.holes.pointer(shape, self.policy.txg)
    }

    /// Writes the indirect blocks of `level` above changed children.
    async fn indirect_level(
        &mut self,
        old: &Dnode,
        phys: &DnodePhys,
        level: u8,
        children: Pointers,
    ) -> Result<Pointers, Error> {
        let shift = phys.fanout_shift();
        let mut groups: BTreeMap<u64, Vec<(u64, BlockPointer)>> = BTreeMap::new();
        for (block, pointer) in children {
            groups
                .entry(block >> shift)
                .or_default()
                .push((block & ((1 << shift) - 1), pointer));
        }
        let mut parents = Pointers::new();
        for (index, group) in groups {
            let below = index << (u32::from(level) * shift);
            let before = match level < old.phys.levels {
                true => self.objset.stored_pointer(old, below, level).await?,
                false => BlockPointer::HOLE,
            };
            let mut data = match before.is_hole() {
                true => vec![0; 1 << phys.indirect_shift],
                false => {
                    let bookmark = Bookmark {
                        objset: self.objset.id,
                        object: old.number,
                        level: i64::from(level),
                        block: index,
                    };
                    Vec::clone(&*self.objset.zio.read(&before, bookmark, None).await?)
                }
            };
            for (slot, pointer) in group {
                pointer.encode(&mut data, slot as usize * BLKPTR_SIZE);
            }
            let pointers =
                (0..1 << shift).filter_map(|slot| BlockPointer::decode(&data, slot * BLKPTR_SIZE));
            let fill: u64 = pointers
                .filter(|pointer| !pointer.is_hole())
                .map(|pointer| pointer.fill())
                .sum();
            let after = match fill {
                0 => self.hole(&before, phys, level),
                _ => self.put(&before, &Rc::new(data), phys.object_type, level, fill)?,
            };
            parents.insert(index, after);
        }
        Ok(parents)
    }

    /// Kills every block of an object, indirect ones and spill included.
    async fn kill_all(&mut self, dnode: &Dnode) -> Result<(), Error> {
        for (_, pointer) in self.objset.data_blocks(dnode, 0).await? {
            self.kill(&pointer);
        }
        for pointer in self.objset.indirect_blocks(dnode).await? {
            self.kill(&pointer);
        }
        if let Some(spill) = dnode.phys.spill {
            self.kill(&spill);
        }
        Ok(())
    }

    /// Puts changed descriptions into the blocks of dnodes and writes those.
    async fn dnodes(&mut self, dnodes: BTreeMap<u64, Option<Rc<DnodePhys>>>) -> Result<(), Error> {
        let metadnode = self.objset.metadnode();
        let mut blocks: BTreeMap<u64, Option<Buffer>> = BTreeMap::new();
        let mut accounting = Vec::new();
        let mut ordered: Vec<_> = dnodes.into_iter().collect();
        // A large dnode may take the slots of freed ones, so those are cleared first.
        ordered.sort_by_key(|(_, phys)| phys.is_some());
        for (number, phys) in ordered {
            if let Some(index) = super::accounting_index(number) {
                accounting.push((index, phys));
                continue;
            }
            let block = number / OBJECTS_PER_BLOCK;
            let data = match blocks.remove(&block).flatten() {
                Some(data) => Some(data),
                None if block <= metadnode.phys.max_block => {
                    self.objset.block(&metadnode, block).await?
                }
                None => None,
            };
            let mut data = data.unwrap_or_else(|| Rc::new(vec![0; DNODE_BLOCK_SIZE]));
            let slot = (number % OBJECTS_PER_BLOCK) as usize;
            put_dnode(
                Rc::<Vec<u8>>::make_mut(&mut data).as_mut_slice(),
                slot,
                phys.as_deref(),
            );
            blocks.insert(block, Some(data));
        }
        let mut phys = DnodePhys::clone(&metadnode.phys);
        if let Some((&last, _)) = blocks.last_key_value() {
            phys.max_block = phys.max_block.max(last);
        }
        self.blocks(0, &mut phys, blocks).await?;
        let mut root = self.objset.phys.borrow_mut();
        root.metadnode = Rc::new(phys);
        for (index, phys) in accounting {
            root.accounting[index] = phys.map(|phys| DnodePhys::clone(&phys));
        }
        Ok(())
    }

    /// Writes the object set's own block.
    fn root(&mut self) -> Result<BlockPointer, Error> {
        let (data, fill) = {
            let phys = self.objset.phys.borrow();
            let fill = phys
                .metadnode
                .pointers
                .iter()
                .filter(|pointer| !pointer.is_hole());
            (Rc::new(phys.encode()), fill.map(BlockPointer::fill).sum())
        };
        let old = self.objset.pointer.get();
        let new = self.put(&old, &data, ObjectType::OBJSET, 0, fill)?;
        self.objset.pointer.set(new);
        Ok(new)
    }
}

/// Adds levels until the largest block can be reached. What the old pointers pointed to moves one level down, as
/// changes of that level.
fn grow(phys: &mut DnodePhys) -> Vec<Pointers> {
    let mut moved: Vec<(usize, Pointers)> = Vec::new();
    while phys.ancestor(phys.max_block, phys.levels - 1) >= phys.pointers.len() as u64 {
        let old = phys
            .pointers
            .iter()
            .enumerate()
            .filter(|(_, pointer)| !pointer.is_hole());
        let old: Pointers = old
            .map(|(index, pointer)| (index as u64, *pointer))
            .collect();
        moved.push((usize::from(phys.levels) - 1, old));
        phys.pointers.fill(BlockPointer::HOLE);
        phys.levels += 1;
    }
    let mut levels = vec![Pointers::new(); usize::from(phys.levels)];
    for (level, pointers) in moved {
        levels[level].extend(pointers);
    }
    levels
}

/// Dnodes in a block of them.
fn allocated_dnodes(block: &[u8]) -> u64 {
    let mut count = 0;
    let mut at = 0;
    while at < block.len() {
        count += u64::from(block[at] != 0);
        at += dnode_size(&block[at..]);
    }
    count
}

fn put_dnode(block: &mut [u8], slot: usize, phys: Option<&DnodePhys>) {
    let at = slot * DNODE_SIZE;
    // What was there may have had more slots.
    let end = (at + dnode_size(&block[at..])).min(block.len());
    block[at..end].fill(0);
    if let Some(phys) = phys {
        let bytes = phys.encode();
        block[at..at + bytes.len()].copy_from_slice(&bytes);
    }
}
