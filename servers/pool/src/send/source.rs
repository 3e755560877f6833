//! One snapshot's part of a stream: its objects and blocks that an earlier snapshot does not have, in order.

use super::apply::OLD_BLOCK_MAX;
use super::encode::{RecordWriter, SpillChange, WriteBlock};
use super::record::{OBJECT_HAS_SPILL, feature};
use crate::blkptr::BlockPointer;
use crate::compress::Compression;
use crate::dmu::differences::{BATCH, BlockChange};
use crate::dmu::{Dnode, OBJECTS_PER_BLOCK, Objset};
use crate::dnode::{DNODE_SIZE, DnodePhys, FLAG_SPILL};
use crate::error::{Bookmark, Error, Structure};

/// The place in a part from which a resuming stream goes on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ResumePlace {
    /// The object.
    pub object: u64,
    /// Byte offset in it.
    pub offset: u64,
}

/// A snapshot that is being sent.
pub struct Source<'a> {
    /// Its objects.
    pub objset: &'a Objset,
    /// Blocks born in this group or before are not sent.
    pub since: u64,
    /// Bits of the features that the stream uses.
    pub features: u64,
    /// Where to start.
    pub resume: ResumePlace,
}

impl Source<'_> {
    fn has(&self, bit: u64) -> bool {
        self.features & bit != 0
    }

    /// Writes all records between BEGIN and END.
    pub async fn send(&self, out: &mut RecordWriter<'_>) -> Result<(), Error> {
        let metadnode = self.objset.metadnode();
        let end = metadnode.phys.max_block + 1;
        let mut from = self.resume.object / OBJECTS_PER_BLOCK;
        loop {
            let changes = self
                .objset
                .changed_blocks(&metadnode, self.since, from, BATCH)
                .await?;
            for change in changes.iter().filter(|change| change.first < end) {
                match change.pointer {
                    Some(_) => self.dnode_block(&metadnode, change.first, out).await?,
                    None => {
                        let last = (change.first + change.count).min(end);
                        let count = (last - change.first) * OBJECTS_PER_BLOCK;
                        self.free_objects(change.first * OBJECTS_PER_BLOCK, count, out)
                            .await?;
                    }
                }
            }
            match next(&changes).filter(|&next| next < end) {
                Some(next) => from = next,
                None => return Ok(()),
            }
        }
    }

    async fn free_objects(
        &self,
        first: u64,
        count: u64,
        out: &mut RecordWriter<'_>,
    ) -> Result<(), Error> {
        // Object 0 is the dnodes themselves.
        let start = first.max(self.resume.object).max(1);
        match (first + count).checked_sub(start) {
            None | Some(0) => Ok(()),
            Some(count) => out.free_objects(start, count).await,
        }
    }

    async fn dnode_block(
        &self,
        metadnode: &Dnode,
        block: u64,
        out: &mut RecordWriter<'_>,
    ) -> Result<(), Error> {
        let data = self.objset.block(metadnode, block).await?;
        let data = data.ok_or(Error::Corrupt(Structure::Objset))?;
        let mut at = 0;
        while at < data.len() {
            let number = block * OBJECTS_PER_BLOCK + (at / DNODE_SIZE) as u64;
            match DnodePhys::decode(&data[at..])? {
                None => {
                    self.free_objects(number, 1, out).await?;
                    at += DNODE_SIZE;
                }
                Some(phys) => {
                    at += usize::from(phys.slots) * DNODE_SIZE;
                    if number >= self.resume.object {
                        let phys = phys.into();
                        self.object(&Dnode { number, phys }, out).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn object(&self, dnode: &Dnode, out: &mut RecordWriter<'_>) -> Result<(), Error> {
        let phys = &dnode.phys;
        let sent_size = match self.has(feature::LARGE_BLOCKS) {
            true => phys.block_size,
            false => phys.block_size.min(OLD_BLOCK_MAX),
        };
        let spill = phys.spill.filter(|_| phys.flags & FLAG_SPILL != 0);
        let flags = if spill.is_some() { OBJECT_HAS_SPILL } else { 0 };
        out.object(dnode.number, phys, sent_size, flags).await?;
        let size = phys.block_size as u64;
        let end = phys.max_block.saturating_add(1).saturating_mul(size);
        out.free(dnode.number, end, u64::MAX).await?;
        let changed = spill.is_some_and(|spill| spill.birth() > self.since);
        if spill.is_some() && !changed {
            self.spill(dnode, SpillChange::Unchanged, out).await?;
        }
        let mut from = match self.resume.object == dnode.number {
            true => self.resume.offset / size,
            false => 0,
        };
        loop {
            let changes = self
                .objset
                .changed_blocks(dnode, self.since, from, BATCH)
                .await?;
            for change in &changes {
                let offset = change.first.saturating_mul(size);
                match &change.pointer {
                    Some(pointer) => self.block(dnode, change.first, pointer, out).await?,
                    None => {
                        let length = change.count.saturating_mul(size);
                        out.free(dnode.number, offset, length).await?;
                    }
                }
            }
            match next(&changes) {
                Some(next) if changes.len() >= BATCH => from = next,
                _ => break,
            }
        }
        if changed {
            self.spill(dnode, SpillChange::Changed, out).await?;
        }
        Ok(())
    }

    async fn spill(
        &self,
        dnode: &Dnode,
        change: SpillChange,
        out: &mut RecordWriter<'_>,
    ) -> Result<(), Error> {
        match self.objset.spill(dnode).await? {
            Some(data) => out.spill(dnode.number, &data, change).await,
            None => Ok(()),
        }
    }

    async fn block(
        &self,
        dnode: &Dnode,
        block: u64,
        pointer: &BlockPointer,
        out: &mut RecordWriter<'_>,
    ) -> Result<(), Error> {
        let size = dnode.phys.block_size;
        let offset = block.saturating_mul(size as u64);
        if pointer.is_embedded() && self.sends_embedded(pointer)? {
            return out.write_embedded(dnode.number, offset, pointer).await;
        }
        let split = size > OLD_BLOCK_MAX && !self.has(feature::LARGE_BLOCKS);
        let mut write = WriteBlock {
            object: dnode.number,
            object_type: dnode.phys.object_type.0,
            offset,
            logical_size: size,
            compression: 0,
            pointer: Some(pointer),
        };
        if !split && self.sends_compressed(pointer)? {
            let bookmark = Bookmark {
                objset: self.objset.id(),
                object: dnode.number,
                level: 0,
                block,
            };
            let data = self.objset.zio().read_physical(pointer, bookmark).await?;
            write.compression = pointer.compression()?.id();
            return out.write(&write, &data).await;
        }
        let data = self.objset.block(dnode, block).await?;
        let data = data.ok_or(Error::Corrupt(Structure::BlockPointer))?;
        if !split {
            return out.write(&write, &data).await;
        }
        write.pointer = None;
        for part in data.chunks(OLD_BLOCK_MAX) {
            write.logical_size = part.len();
            out.write(&write, part).await?;
            write.offset += part.len() as u64;
        }
        Ok(())
    }

    fn knows(&self, compression: Compression) -> bool {
        match compression {
            Compression::Zstd(_) => self.has(feature::ZSTD),
            Compression::Lz4 => self.has(feature::LZ4),
            _ => true,
        }
    }

    fn sends_embedded(&self, pointer: &BlockPointer) -> Result<bool, Error> {
        Ok(self.has(feature::EMBEDDED)
            && pointer.embedded_type() == 0
            && self.knows(pointer.compression()?))
    }

    fn sends_compressed(&self, pointer: &BlockPointer) -> Result<bool, Error> {
        let compression = pointer.compression()?;
        Ok(self.has(feature::COMPRESSED)
            && !pointer.is_embedded()
            && !pointer.is_encrypted()
            && compression != Compression::Off
            && self.knows(compression))
    }
}

/// The block after the last change.
fn next(changes: &[BlockChange]) -> Option<u64> {
    changes
        .last()
        .map(|last| last.first.saturating_add(last.count))
}
