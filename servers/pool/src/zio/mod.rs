//! Blocks: from a block pointer to its bytes and back.
//!
//! Reading goes from the copies on the vdevs, through gang headers, past the checksum, decryption and decompression into
//! the ARC. This layer knows nothing of objects; a [`Bookmark`] travels along so that an error can say what was hit.

mod gang;
mod log_block;
mod scrub;
mod write;

use alloc::collections::BTreeSet;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::cell::{Cell, RefCell};

pub use log_block::{HEADER_SIZE as LOG_HEADER_SIZE, LogBlock};
pub use write::{Embedding, Holes, PointerForms, WritePolicy};

use write::WriteQueue;

use crate::arc::{Arc, ArcStatistics, BlockKey, Buffer};
use crate::blkptr::{BlockPointer, Dva, Gang};
use crate::block_device::Access;
use crate::checksum::{Checksum, ChecksumKind, Salt};
use crate::compress::Compression;
use crate::crypt::DatasetKey;
use crate::dnode::ObjectType;
use crate::error::{Bookmark, DeviceError, Error, Structure};
use crate::metaslab::Allocator;
use crate::vdev::{ReadFailure, ReadRequest, Vdev, VdevTree};

/// The block layer of one open pool.
pub struct Zio {
    tree: VdevTree,
    salt: Cell<Salt>,
    arc: RefCell<Arc>,
    repair: Cell<Access>,
    allocator: RefCell<Allocator>,
    queue: RefCell<WriteQueue>,
    losses: RefCell<Losses>,
    /// Gang blocks that are to be freed: which pieces they have stands in their headers, which are still to be read.
    dead_gangs: RefCell<Vec<BlockPointer>>,
}

/// Blocks of which no copy was good.
#[derive(Default)]
struct Losses {
    all: BTreeSet<Bookmark>,
    /// Those that the pool's log does not have yet.
    new: BTreeSet<Bookmark>,
}

impl Losses {
    /// A block of which no copy is good any more, or never was: log blocks and probes without a place are nobody's loss.
    fn add(&mut self, bookmark: Bookmark) {
        /// Damage can be everywhere; what is remembered is bounded.
        const MAX: usize = 1 << 16;
        if bookmark.level >= -1 && self.all.len() < MAX && self.all.insert(bookmark) {
            self.new.insert(bookmark);
        }
    }
}

impl Zio {
    /// The block layer over a vdev tree, with a cache of `arc_limit` bytes.
    pub fn new(tree: VdevTree, arc_limit: usize, repair: Access) -> Self {
        Zio {
            tree,
            salt: Cell::new([0; 32]),
            arc: RefCell::new(Arc::new(arc_limit)),
            repair: Cell::new(repair),
            allocator: RefCell::default(),
            queue: RefCell::default(),
            losses: RefCell::default(),
            dead_gangs: RefCell::default(),
        }
    }

    /// The vdevs.
    pub fn vdevs(&self) -> &VdevTree {
        &self.tree
    }

    /// Gives the pool's salt, which skein, edonr and blake3 need.
    pub fn set_salt(&self, salt: Salt) {
        self.salt.set(salt);
    }

    /// Gives the free space, which writing needs.
    pub fn set_allocator(&self, allocator: Allocator) {
        self.allocator.replace(allocator);
    }

    /// The free space.
    pub fn allocator(&self) -> core::cell::RefMut<'_, Allocator> {
        self.allocator.borrow_mut()
    }

    /// Bytes that the cache may hold.
    pub fn arc_limit(&self) -> usize {
        self.arc.borrow().limit()
    }

    /// Counters of the cache.
    pub fn arc_statistics(&self) -> ArcStatistics {
        self.arc.borrow().statistics()
    }

    /// The logical bytes of a block that is not a hole.
    ///
    /// # Errors
    /// `Unreadable` when no copy passes its checksum, `KeyUnavailable` when it is encrypted and `key` is
    /// `None`, `Corrupt` and `Unsupported` when the pointer or the packing is wrong.
    pub async fn read(
        &self,
        pointer: &BlockPointer,
        bookmark: Bookmark,
        key: Option<&DatasetKey>,
    ) -> Result<Buffer, Error> {
        pointer.validate()?;
        if pointer.is_embedded() {
            let data = pointer
                .compression()?
                .decompress(&pointer.payload()?, pointer.logical_size())?;
            return Ok(Rc::new(data));
        }
        let first = pointer
            .dvas()
            .next()
            .ok_or(Error::Corrupt(Structure::BlockPointer))?;
        let cached = BlockKey {
            vdev: first.vdev,
            offset: first.offset,
            birth: pointer.physical_birth(),
        };
        if let Some(buffer) = self.arc.borrow_mut().get(cached)
            && buffer.len() == pointer.logical_size()
        {
            return Ok(buffer);
        }
        let mut data = self.read_physical(pointer, bookmark).await?;
        if pointer.is_encrypted()
            && pointer.level() == 0
            && ObjectType(pointer.object_type()).is_encrypted()
        {
            let key = key.ok_or(Error::KeyUnavailable)?;
            key.decrypt_block(pointer, &mut data)
                .map_err(|_| Error::Unreadable(bookmark))?;
        }
        if pointer.compression()? != Compression::Off {
            data = pointer
                .compression()?
                .decompress(&data, pointer.logical_size())?;
        } else if data.len() != pointer.logical_size() {
            return Err(Error::Corrupt(Structure::BlockPointer));
        }
        let buffer = Rc::new(data);
        self.arc.borrow_mut().insert(cached, buffer.clone());
        Ok(buffer)
    }

    /// The stored bytes of a block: checked, still compressed and encrypted.
    pub async fn read_physical(
        &self,
        pointer: &BlockPointer,
        bookmark: Bookmark,
    ) -> Result<Vec<u8>, Error> {
        pointer.validate()?;
        if !self.queue.borrow().is_empty() {
            // What is not in the cache may still wait here on its way to the devices.
            self.send_queue().await?;
        }
        let check = BlockCheck::of(pointer, self.salt.get())?;
        let mut repair_copies = Vec::new();
        for dva in pointer.dvas() {
            let verify = |data: &[u8]| check.passes(data);
            let read = match dva.gang {
                Gang::No => self.read_dva(dva, pointer.physical_size(), &verify).await,
                Gang::Header => self.read_gang(pointer, dva, &verify).await,
            };
            match read {
                Ok(data) => {
                    self.repair_copies(&repair_copies, &data).await;
                    return Ok(data);
                }
                Err(_) if dva.gang == Gang::No => repair_copies.push(dva),
                Err(_) => {}
            }
        }
        self.losses.borrow_mut().add(bookmark);
        Err(Error::Unreadable(bookmark))
    }

    /// Blocks that were found to be lost since the pool was opened.
    pub fn lost_blocks(&self) -> BTreeSet<Bookmark> {
        self.losses.borrow().all.clone()
    }

    /// Those of them that were not given here before.
    pub fn take_new_losses(&self) -> BTreeSet<Bookmark> {
        core::mem::take(&mut self.losses.borrow_mut().new)
    }

    /// Reads one copy, rounded up to whole sectors of its vdev and cut again.
    async fn read_dva(
        &self,
        dva: Dva,
        size: usize,
        verify: &dyn Fn(&[u8]) -> bool,
    ) -> Result<Vec<u8>, ReadFailure> {
        let top = self.tree.top(dva.vdev).ok_or(ReadFailure::BadAddress)?;
        let request = ReadRequest {
            offset: dva.offset,
            size: aligned(top, size),
            verify: &|data| verify(&data[..size]),
            prefer: 0,
            steps: 0,
            repair: self.repair.get(),
        };
        let mut data = top.read(&self.tree, request).await?;
        data.truncate(size);
        Ok(data)
    }

    /// Rewrites the other copies of a block, which were found bad, from the good one.
    async fn repair_copies(&self, bad: &[Dva], data: &[u8]) {
        if self.repair.get() == Access::ReadOnly {
            return;
        }
        for dva in bad {
            if let Some(top) = self.tree.top(dva.vdev) {
                // A repair that fails leaves the copy bad, which the counters show.
                let _ = self.write_dva(top, dva.offset, data).await;
            }
        }
    }

    /// Writes bytes at an address, padded with zeros to whole sectors.
    async fn write_dva(&self, top: &Vdev, offset: u64, data: &[u8]) -> Result<(), DeviceError> {
        let size = aligned(top, data.len());
        if size == data.len() {
            return top.write(&self.tree, offset, data).await;
        }
        let mut padded = Vec::from(data);
        padded.resize(size, 0);
        top.write(&self.tree, offset, &padded).await
    }
}

fn aligned(top: &Vdev, size: usize) -> usize {
    size.next_multiple_of(1 << top.config.ashift)
}

/// The test that a block's stored bytes must pass.
struct BlockCheck {
    kind: ChecksumKind,
    salt: Salt,
    wanted: Checksum,
    form: CheckForm,
}

/// How much of the pointer's checksum field is checksum.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CheckForm {
    /// All four words.
    Whole,
    /// Two words; the others are an authentication code.
    Truncated,
}

impl BlockCheck {
    fn of(pointer: &BlockPointer, salt: Salt) -> Result<BlockCheck, Error> {
        let truncated =
            pointer.is_encrypted() && ObjectType(pointer.object_type()) != ObjectType::OBJSET;
        Ok(BlockCheck {
            kind: pointer.checksum_kind()?,
            salt,
            wanted: pointer.checksum(),
            form: if truncated {
                CheckForm::Truncated
            } else {
                CheckForm::Whole
            },
        })
    }

    fn passes(&self, data: &[u8]) -> bool {
        if !self.kind.detects() {
            return true;
        }
        let found = self.kind.compute(&self.salt, data);
        if self.form == CheckForm::Whole {
            return found == self.wanted;
        }
        // Sums do not spread over all words as hashes do, so they are folded instead of cut.
        let fold = matches!(self.kind, ChecksumKind::Fletcher2 | ChecksumKind::Fletcher4);
        let [a, b, c, d] = found;
        let found = if fold { [a ^ c, b ^ d] } else { [a, b] };
        found == self.wanted[..2]
    }
}
