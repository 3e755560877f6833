//! Writing blocks: compress, place, checksum, queue.
//!
//! A write decides everything at once and only queues the bytes. The queue goes to the devices in order of address, neighbours together,
//! when the transaction group says so; until then the blocks are read from here.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use super::Zio;
use crate::arc::{BlockKey, Buffer};
use crate::blkptr::{BlockPointer, BlockShape, EMBEDDED_MAX, Gang};
use crate::checksum::ChecksumKind;
use crate::compress::Compression;
use crate::dnode::ObjectType;
use crate::error::{DeviceError, Error};
use crate::future::join_all;
use crate::metaslab::AllocationClass;

/// How a block is to be stored.
#[derive(Clone, Copy, Debug)]
pub struct WritePolicy {
    /// Compression to try.
    pub compression: Compression,
    /// Checksum.
    pub checksum: ChecksumKind,
    /// Copies, 1 to 3.
    pub copies: usize,
    /// Type of the object.
    pub object_type: ObjectType,
    /// Level in the object.
    pub level: u8,
    /// Blocks below that are not holes.
    pub fill: u64,
    /// What the pool's features let pointers be like.
    pub forms: PointerForms,
}

/// What the features of a pool let pointers be like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PointerForms {
    /// Whether small blocks go into their pointer.
    pub embedding: Embedding,
    /// Whether holes say what they are.
    pub holes: Holes,
}

/// Whether holes say since when they are there: the feature `hole_birth`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holes {
    /// They do.
    Dated,
    /// They are zeros.
    Blank,
}

impl Holes {
    /// The pointer of a hole of a shape, made in group `txg`.
    pub fn pointer(self, shape: BlockShape, txg: u64) -> BlockPointer {
        match self {
            Holes::Dated => BlockPointer::hole(shape, txg),
            Holes::Blank => BlockPointer::HOLE,
        }
    }
}

/// Whether blocks that fit are put into their pointers: the feature `embedded_data`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Embedding {
    /// They are.
    Enabled,
    /// They are not.
    Disabled,
}

/// Bytes that wait for the devices, by vdev and offset.
#[derive(Default)]
pub struct WriteQueue {
    pending: BTreeMap<(u32, u64), Buffer>,
    bytes: usize,
}

/// What is queued before it goes out although the transaction group goes on.
const QUEUE_LIMIT: usize = 32 << 20;
/// Neighbouring writes are joined up to this size.
const AGGREGATION_LIMIT: usize = 1 << 20;

impl WriteQueue {
    fn push(&mut self, vdev: u32, offset: u64, data: Buffer) {
        self.bytes += data.len();
        if let Some(old) = self.pending.insert((vdev, offset), data) {
            self.bytes -= old.len();
        }
    }

    /// Whether it should go out.
    pub fn is_full(&self) -> bool {
        self.bytes > QUEUE_LIMIT
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Takes everything, neighbours joined.
    fn take(&mut self) -> Vec<(u32, u64, Vec<Buffer>)> {
        self.bytes = 0;
        let mut runs: Vec<(u32, u64, Vec<Buffer>)> = Vec::new();
        let mut end = 0;
        let mut size = 0;
        for ((vdev, offset), data) in core::mem::take(&mut self.pending) {
            let length = data.len();
            match runs.last_mut() {
                Some((last, _, parts))
                    if *last == vdev && end == offset && size + length <= AGGREGATION_LIMIT =>
                {
                    parts.push(data);
                    size += length;
                }
                _ => {
                    runs.push((vdev, offset, Vec::from([data])));
                    size = length;
                }
            }
            end = offset + length as u64;
        }
        runs
    }
}

impl Zio {
    /// Stores a block in transaction group `txg` and gives its pointer. All zeros become a hole.
    ///
    /// # Errors
    /// `NoSpace`.
    pub fn write(
        &self,
        data: &Buffer,
        policy: WritePolicy,
        txg: u64,
    ) -> Result<BlockPointer, Error> {
        let mut shape = BlockShape {
            logical_size: data.len(),
            physical_size: data.len(),
            compression: Compression::Off,
            checksum: policy.checksum,
            object_type: policy.object_type.0,
            level: policy.level,
        };
        let mut stored = data.clone();
        if policy.compression != Compression::Off {
            if data.iter().all(|&byte| byte == 0) {
                return Ok(policy.forms.holes.pointer(shape, txg));
            }
            if let Some(packed) = policy
                .compression
                .compress(data, data.len() - data.len() / 8)
            {
                shape.compression = policy.compression;
                // Blocks whose fill counts are more than one cannot be told inside a pointer.
                let filled = matches!(policy.object_type, ObjectType::DNODE | ObjectType::OBJSET);
                let embeddable = packed.len() <= EMBEDDED_MAX && policy.level == 0 && !filled;
                if embeddable && policy.forms.embedding == Embedding::Enabled {
                    return Ok(BlockPointer::embedded(shape, &packed, txg));
                }
                let size = packed.len().next_multiple_of(self.smallest_allocation());
                if size < data.len() {
                    shape.physical_size = size;
                    let mut packed = packed;
                    packed.resize(size, 0);
                    stored = Rc::new(packed);
                } else {
                    shape.compression = Compression::Off;
                }
            }
        }
        let mut pointer = BlockPointer::new(shape, txg, policy.fill);
        for copy in 0..policy.copies {
            let size = stored.len() as u64;
            let size_on = |vdev| {
                self.tree
                    .top(vdev)
                    .map_or(size, |top| top.allocated_size(size))
            };
            let dva =
                self.allocator
                    .borrow_mut()
                    .allocate(AllocationClass::Normal, copy, &size_on)?;
            pointer.set_dva(copy, dva);
        }
        self.put(&mut pointer, data, stored);
        Ok(pointer)
    }

    /// Stores new contents in the place of a block that this transaction group wrote uncompressed.
    pub fn rewrite(&self, pointer: &BlockPointer, data: &Buffer, fill: u64) -> BlockPointer {
        let mut new = pointer.with_fill(fill);
        self.put(&mut new, data, data.clone());
        new
    }

    fn put(&self, pointer: &mut BlockPointer, data: &Buffer, stored: Buffer) {
        if let Ok(kind) = pointer.checksum_kind() {
            pointer.set_checksum(kind.compute(&self.salt.get(), &stored));
        }
        let padded = self.padded(pointer, stored);
        for (copy, dva) in pointer.dvas().enumerate() {
            self.queue
                .borrow_mut()
                .push(dva.vdev, dva.offset, padded.clone());
            if copy == 0 {
                let key = BlockKey {
                    vdev: dva.vdev,
                    offset: dva.offset,
                    birth: pointer.physical_birth(),
                };
                let mut arc = self.arc.borrow_mut();
                arc.remove(key);
                arc.insert(key, data.clone());
            }
        }
    }

    /// Padded to the sectors of the vdev with the largest ones.
    fn padded(&self, pointer: &BlockPointer, stored: Buffer) -> Buffer {
        let shifts = pointer
            .dvas()
            .filter_map(|dva| self.tree.top(dva.vdev))
            .map(|top| top.config.ashift);
        let size = stored
            .len()
            .next_multiple_of(1 << shifts.max().unwrap_or(9));
        if size == stored.len() {
            return stored;
        }
        let mut padded = Vec::clone(&stored);
        padded.resize(size, 0);
        Rc::new(padded)
    }

    fn smallest_allocation(&self) -> usize {
        let shifts = self
            .tree
            .tops()
            .iter()
            .map(|top| top.config.ashift)
            .filter(|&shift| shift > 0);
        1 << shifts.min().unwrap_or(9)
    }

    /// Gives the space of a block back; that of a gang block with [`Zio::free_gangs`].
    pub fn free(&self, pointer: &BlockPointer) -> Result<(), Error> {
        if pointer.dvas().any(|dva| dva.gang == Gang::Header) {
            self.dead_gangs.borrow_mut().push(*pointer);
            return Ok(());
        }
        for (copy, dva) in pointer.dvas().enumerate() {
            self.allocator.borrow_mut().free(dva)?;
            self.queue
                .borrow_mut()
                .pending
                .remove(&(dva.vdev, dva.offset));
            if copy == 0 {
                let birth = pointer.physical_birth();
                self.arc.borrow_mut().remove(BlockKey {
                    vdev: dva.vdev,
                    offset: dva.offset,
                    birth,
                });
            }
        }
        Ok(())
    }

    /// Bytes that a block counts for in accounting: allocated, without parity.
    pub fn deflated_size(&self, pointer: &BlockPointer) -> u64 {
        pointer
            .dvas()
            .map(|dva| {
                self.tree
                    .top(dva.vdev)
                    .map_or(0, |top| top.deflated_space(dva.allocated))
            })
            .sum()
    }

    /// Whether the queue should go to the devices now.
    pub fn queue_is_full(&self) -> bool {
        self.queue.borrow().is_full()
    }

    /// Sends everything queued to the devices and waits for it; durable after [`Zio::flush`].
    pub async fn send_queue(&self) -> Result<(), DeviceError> {
        let runs = self.queue.borrow_mut().take();
        let writes = runs.iter().map(|(vdev, offset, parts)| {
            let write: core::pin::Pin<Box<dyn Future<Output = Result<(), DeviceError>> + '_>> =
                Box::pin(self.write_run(*vdev, *offset, parts));
            write
        });
        join_all(writes.collect()).await.into_iter().collect()
    }

    async fn write_run(&self, vdev: u32, offset: u64, parts: &[Buffer]) -> Result<(), DeviceError> {
        let top = self.tree.top(vdev).ok_or(DeviceError::Gone)?;
        match parts {
            [single] => top.write(&self.tree, offset, single).await,
            // A raidz block is striped by itself, and a gather list saves the copy only on leaves.
            _ if top.places_blocks_alone() => {
                let mut at = offset;
                for part in parts {
                    top.write(&self.tree, at, part).await?;
                    at += part.len() as u64;
                }
                Ok(())
            }
            _ => {
                let joined: Vec<u8> = parts.iter().flat_map(|part| part.iter().copied()).collect();
                top.write(&self.tree, offset, &joined).await
            }
        }
    }

    /// Makes everything that was sent durable on every leaf.
    pub async fn flush(&self) -> Result<(), DeviceError> {
        let leaves = self.tree.leaves();
        let devices: Vec<_> = leaves.iter().filter_map(|leaf| leaf.device()).collect();
        join_all(devices.iter().map(|device| device.flush()).collect())
            .await
            .into_iter()
            .collect()
    }
}
