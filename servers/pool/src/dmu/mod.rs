//! The DMU: object sets, which are arrays of objects made of blocks.
//!
//! An object set is read through its block pointer. Objects are looked up by number and read by byte range or by block;
//! holes read as zeros. What an object means is the business of the layers above.

pub mod differences;
mod dirty;
mod ledger;
mod objset_phys;
mod reclaim;
mod settings;
mod sync;
mod traverse;
mod usage;

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

pub use dirty::{DirtyObject, Fate, NewObject};
pub use ledger::{BlockSums, Ledger, Rewrite, StoragePolicy, SyncPolicy};
pub use objset_phys::{ObjsetPhys, ObjsetType, ZilHeader};
pub use reclaim::{MAX_OBJECT, ObjectShape, OldSpill};
pub use settings::{AccessTimes, AttributePlace, Budget, Settings, SyncMode};
pub use usage::Accounting;

use crate::arc::Buffer;
use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::crypt::DatasetKey;
use crate::dnode::{DNODE_BLOCK_SIZE, DNODE_SIZE, DnodePhys};
use crate::error::{Bookmark, Error, Structure};
use crate::zil::{Change, IntentLog};
use crate::zio::Zio;

/// Number of the object that counts the space of each user. It and the next two are in the object set's own block.
pub const USERUSED_OBJECT: u64 = u64::MAX;
/// The same for groups.
pub const GROUPUSED_OBJECT: u64 = u64::MAX - 1;
/// The same for projects.
pub const PROJECTUSED_OBJECT: u64 = u64::MAX - 2;

/// Number of objects in one block of dnodes.
pub const OBJECTS_PER_BLOCK: u64 = (DNODE_BLOCK_SIZE / DNODE_SIZE) as u64;

/// One object, as it was when it was looked up.
#[derive(Clone, Debug)]
pub struct Dnode {
    /// Its number in the object set.
    pub number: u64,
    /// Its description.
    pub phys: Rc<DnodePhys>,
}

/// An open object set.
pub struct Objset {
    zio: Rc<Zio>,
    id: u64,
    phys: RefCell<ObjsetPhys>,
    key: Option<Rc<DatasetKey>>,
    /// Where its own block is, as of the last transaction group.
    pointer: Cell<BlockPointer>,
    dirty: RefCell<BTreeMap<u64, DirtyObject>>,
    /// Numbers below this were given out or passed over.
    cursor: Cell<u64>,
    log: IntentLog,
    settings: Cell<Settings>,
    budget: Cell<Budget>,
    /// Whether its own block changed although no object did.
    header: Cell<HeaderState>,
    /// Objects that users have open, with how often: they stay although nothing leads to them any more.
    held: RefCell<BTreeMap<u64, usize>>,
}

/// Whether the object set's own block is as on disk.
#[derive(Clone, Copy, PartialEq, Eq)]
enum HeaderState {
    Stored,
    Changed,
}

impl Objset {
    /// Opens the object set that a block pointer leads to. `id` is the data set's object number, 0 for the MOS.
    ///
    /// # Errors
    /// Those of reading its block; `Corrupt` when it is no object set.
    pub async fn open(
        zio: Rc<Zio>,
        id: u64,
        pointer: &BlockPointer,
        key: Option<Rc<DatasetKey>>,
    ) -> Result<Objset, Error> {
        let phys = if pointer.is_hole() {
            return Err(Error::Corrupt(Structure::Objset));
        } else {
            let block = zio.read(pointer, Bookmark::root(id), None).await?;
            ObjsetPhys::decode(&block)?
        };
        Ok(Objset::with_phys(zio, id, *pointer, phys, key))
    }

    /// A new object set that is nowhere on disk yet.
    pub fn create(zio: Rc<Zio>, id: u64, kind: ObjsetType) -> Objset {
        Objset::with_phys(zio, id, BlockPointer::HOLE, ObjsetPhys::new(kind), None)
    }

    fn with_phys(
        zio: Rc<Zio>,
        id: u64,
        pointer: BlockPointer,
        phys: ObjsetPhys,
        key: Option<Rc<DatasetKey>>,
    ) -> Objset {
        Objset {
            zio,
            id,
            log: IntentLog::continued(phys.zil.log),
            phys: RefCell::new(phys),
            key,
            pointer: Cell::new(pointer),
            dirty: RefCell::default(),
            cursor: Cell::new(1),
            settings: Cell::default(),
            budget: Cell::default(),
            header: Cell::new(HeaderState::Stored),
            held: RefCell::default(),
        }
    }

    /// The intent log.
    pub fn intent_log(&self) -> &IntentLog {
        &self.log
    }

    /// Keeps a change for the intent log.
    pub fn log(&self, change: Change) {
        self.log.record(change);
    }

    /// Says that a change has no record.
    pub fn log_needs_group(&self) {
        self.log.need_group();
    }

    /// Forgets the chain of the log on disk, whose blocks the caller frees.
    pub fn reset_log(&self) {
        self.log.start(None);
        self.set_log_header(BlockPointer::HOLE);
    }

    /// Ends the chain of the log with the next transaction group.
    ///
    /// # Errors
    /// `Corrupt` when a block of it was free already.
    pub fn end_log(&self) -> Result<(), Error> {
        self.log.end(&self.zio)?;
        self.retire_log()
    }

    /// Prepares the log for the transaction group that writes all that it has.
    ///
    /// # Errors
    /// As [`Objset::end_log`].
    pub fn retire_log(&self) -> Result<(), Error> {
        let next = self.log.retire(&self.zio)?;
        if self.zil_header().log != next {
            self.set_log_header(next);
        }
        Ok(())
    }

    fn set_log_header(&self, log: BlockPointer) {
        self.phys.borrow_mut().zil = ZilHeader {
            log,
            ..ZilHeader::default()
        };
        self.header.set(HeaderState::Changed);
    }

    /// Somebody opens an object.
    pub fn hold(&self, object: u64) {
        *self.held.borrow_mut().entry(object).or_default() += 1;
    }

    /// Somebody closes an object; gives how many have it open still.
    pub fn release(&self, object: u64) -> usize {
        let mut held = self.held.borrow_mut();
        let left = held.get(&object).map_or(0, |count| count.saturating_sub(1));
        match left {
            0 => held.remove(&object),
            left => held.insert(object, left),
        };
        left
    }

    /// Whether somebody has an object open.
    pub fn is_held(&self, object: u64) -> bool {
        self.held.borrow().contains_key(&object)
    }

    /// How its blocks are stored.
    pub fn settings(&self) -> Settings {
        self.settings.get()
    }

    /// Changes how blocks written from now on are stored.
    pub fn set_settings(&self, settings: Settings) {
        self.settings.set(settings);
    }

    /// Sets how much may be written until the next transaction group.
    pub fn set_budget(&self, budget: Budget) {
        self.budget.set(budget);
    }

    /// Takes bytes that are to be written from the budget.
    fn spend(&self, bytes: u64) -> Result<(), Error> {
        let mut budget = self.budget.get();
        budget.left = budget.left.checked_sub(bytes).ok_or(budget.refusal)?;
        self.budget.set(budget);
        Ok(())
    }

    /// Largest block of a new file.
    pub fn record_size(&self) -> usize {
        self.settings.get().record_size
    }

    /// Where its own block is, as of the last transaction group.
    pub fn pointer(&self) -> BlockPointer {
        self.pointer.get()
    }

    /// The data set's object number, 0 for the MOS.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// The block layer.
    pub fn zio(&self) -> &Rc<Zio> {
        &self.zio
    }

    /// What the object set is for.
    pub fn kind(&self) -> ObjsetType {
        self.phys.borrow().kind
    }

    /// Where its intent log starts.
    pub fn zil_header(&self) -> ZilHeader {
        self.phys.borrow().zil
    }

    /// The key, when it is encrypted and unlocked.
    pub fn key(&self) -> Option<&DatasetKey> {
        self.key.as_deref()
    }

    /// Looks up an object.
    ///
    /// # Errors
    /// `NotFound` when the number is free or inside a large dnode.
    pub async fn dnode(&self, number: u64) -> Result<Dnode, Error> {
        if let Some(object) = self.dirty.borrow().get(&number) {
            return match object.fate {
                Fate::Kept | Fate::Replaced => Ok(Dnode {
                    number,
                    phys: object.phys.clone(),
                }),
                Fate::Freed => Err(Error::NotFound),
            };
        }
        let phys = self.stored_dnode(number).await?.ok_or(Error::NotFound)?;
        Ok(Dnode { number, phys })
    }

    /// An object's description as of the last transaction group; `None` for a free number.
    async fn stored_dnode(&self, number: u64) -> Result<Option<Rc<DnodePhys>>, Error> {
        if let Some(index) = accounting_index(number) {
            return Ok(self.phys.borrow().accounting[index].clone().map(Rc::new));
        }
        let metadnode = self.metadnode();
        let block = number / OBJECTS_PER_BLOCK;
        if number == 0 || block > metadnode.phys.max_block {
            return Ok(None);
        }
        let Some(data) = self.block(&metadnode, block).await? else {
            return Ok(None);
        };
        let wanted = (number % OBJECTS_PER_BLOCK) as usize * DNODE_SIZE;
        let mut at = 0;
        // Slots inside a large dnode look like dnodes but are not, so the block is walked from its start.
        while at < wanted {
            at += dnode_size(&data[at..]);
        }
        if at != wanted {
            return Ok(None);
        }
        Ok(DnodePhys::decode(&data[at..])?.map(Rc::new))
    }

    /// The next allocated object number above `after` as of the last transaction group; `None` at the end.
    pub async fn next_object(&self, after: u64) -> Result<Option<u64>, Error> {
        let metadnode = self.metadnode();
        let mut number = after.saturating_add(1);
        // Numbers may be far apart, so that holes are passed over as a whole.
        while let Some(offset) = number
            .checked_mul(DNODE_SIZE as u64)
            .filter(|_| number / OBJECTS_PER_BLOCK <= metadnode.phys.max_block)
        {
            let Some(found) = self.next_data(&metadnode, offset).await? else {
                return Ok(None);
            };
            let block = found / DNODE_BLOCK_SIZE as u64;
            if let Some(data) = self.block(&metadnode, block).await? {
                let mut at = 0;
                while at < data.len() {
                    let candidate = block * OBJECTS_PER_BLOCK + (at / DNODE_SIZE) as u64;
                    if candidate >= number && data[at] != 0 {
                        return Ok(Some(candidate));
                    }
                    at += dnode_size(&data[at..]);
                }
            }
            number = (block + 1) * OBJECTS_PER_BLOCK;
        }
        Ok(None)
    }

    /// Reads data of an object; what is beyond its blocks or in holes is zero.
    pub async fn read(&self, dnode: &Dnode, offset: u64, buffer: &mut [u8]) -> Result<(), Error> {
        let size = dnode.phys.block_size;
        let mut done = 0;
        while done < buffer.len() {
            let at = offset + done as u64;
            let (block, inside) = (at / size as u64, (at % size as u64) as usize);
            let part = (size - inside).min(buffer.len() - done);
            let target = &mut buffer[done..done + part];
            match self.block(dnode, block).await? {
                Some(data) => target.copy_from_slice(&data[inside..inside + part]),
                None => target.fill(0),
            }
            done += part;
        }
        Ok(())
    }

    /// [`Objset::read`] into a new vector. `size` comes from trusted places or is bounded by the caller.
    pub async fn read_vec(
        &self,
        dnode: &Dnode,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, Error> {
        let mut buffer = vec![0; size];
        self.read(dnode, offset, &mut buffer).await?;
        Ok(buffer)
    }

    /// A whole data block; `None` for a hole.
    pub async fn block(&self, dnode: &Dnode, block: u64) -> Result<Option<Buffer>, Error> {
        if let Some(object) = self.dirty.borrow().get(&dnode.number) {
            if let Some(data) = object.blocks.get(&block) {
                return Ok(data.clone());
            }
            if object.truncated.is_some_and(|from| block >= from) {
                return Ok(None);
            }
        }
        let pointer = self.stored_pointer(dnode, block, 0).await?;
        if pointer.is_hole() {
            return Ok(None);
        }
        let bookmark = Bookmark {
            objset: self.id,
            object: dnode.number,
            level: 0,
            block,
        };
        let data = self
            .zio
            .read(&pointer, bookmark, self.key.as_deref())
            .await?;
        if data.len() != dnode.phys.block_size {
            return Err(Error::Corrupt(Structure::Dnode));
        }
        Ok(Some(data))
    }

    /// The pointer to the block of `level` that leads to or is data block `block`, as of the last transaction group.
    pub async fn stored_pointer(
        &self,
        dnode: &Dnode,
        block: u64,
        level: u8,
    ) -> Result<BlockPointer, Error> {
        let phys = &dnode.phys;
        let mut at_level = phys.levels - 1;
        let index = phys.ancestor(block, at_level);
        let Some(mut pointer) = usize::try_from(index)
            .ok()
            .and_then(|index| phys.pointers.get(index))
            .copied()
        else {
            return Ok(BlockPointer::HOLE);
        };
        while at_level > level && !pointer.is_hole() {
            check_level(&pointer, at_level)?;
            let above = phys.ancestor(block, at_level);
            let bookmark = Bookmark {
                objset: self.id,
                object: dnode.number,
                level: i64::from(at_level),
                block: above,
            };
            let data = self
                .zio
                .read(&pointer, bookmark, self.key.as_deref())
                .await?;
            at_level -= 1;
            let slot = phys.ancestor(block, at_level) & ((1 << phys.fanout_shift()) - 1);
            pointer = BlockPointer::decode(&data, slot as usize * BLKPTR_SIZE)
                .ok_or(Error::Corrupt(Structure::Dnode))?;
        }
        if !pointer.is_hole() {
            check_level(&pointer, level)?;
        }
        Ok(pointer)
    }

    /// The spill block's bytes, when the object has one.
    pub async fn spill(&self, dnode: &Dnode) -> Result<Option<Buffer>, Error> {
        if let Some(object) = self.dirty.borrow().get(&dnode.number)
            && let Some(spill) = &object.spill
        {
            return Ok(spill.clone());
        }
        let Some(pointer) = dnode.phys.spill.filter(|pointer| !pointer.is_hole()) else {
            return Ok(None);
        };
        // The spill block has a place of its own outside the data blocks.
        let bookmark = Bookmark {
            objset: self.id,
            object: dnode.number,
            level: 0,
            block: u64::MAX,
        };
        self.zio
            .read(&pointer, bookmark, self.key.as_deref())
            .await
            .map(Some)
    }

    /// The object whose data are the dnodes.
    pub(crate) fn metadnode(&self) -> Dnode {
        Dnode {
            number: 0,
            phys: self.phys.borrow().metadnode.clone(),
        }
    }
}

/// Place in the object set's own block of an object that counts space.
fn accounting_index(number: u64) -> Option<usize> {
    u64::MAX
        .checked_sub(number)
        .filter(|&index| index < 3)
        .map(|index| index as usize)
}

/// Bytes of the dnode or free slot at the start of `slots`.
fn dnode_size(slots: &[u8]) -> usize {
    if slots[0] == 0 {
        DNODE_SIZE
    } else {
        (usize::from(slots[12]) + 1) * DNODE_SIZE
    }
}

fn check_level(pointer: &BlockPointer, level: u8) -> Result<(), Error> {
    if pointer.level() == level {
        Ok(())
    } else {
        Err(Error::Corrupt(Structure::BlockPointer))
    }
}
