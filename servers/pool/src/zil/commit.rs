//! Writing records: a commit packs them into blocks, each naming the next, and waits for one flush.

use alloc::vec;
use alloc::vec::Vec;

use super::chain::SEQUENCE_WORD;
use super::record::{COMMON_SIZE, WRITE_SIZE};
use super::{Change, IntentLog, Record};
use crate::blkptr::BlockPointer;
use crate::dmu::{Objset, SyncMode};
use crate::error::Error;
use crate::spa::Spa;
use crate::zio::LOG_HEADER_SIZE;

/// Bounds of a log block: the smallest holds any record but large writes and attributes, the largest is the largest block of old pools.
const MIN_BLOCK: usize = 8 << 10;
const MAX_BLOCK: usize = 128 << 10;
/// Sizes of log blocks are multiples of this.
const GRAIN: usize = 4 << 10;
/// A write is split rather than started with fewer bytes than this at the end of a block.
const MIN_PIECE: usize = 512;

/// Bytes of the records in a block of `size` bytes.
fn room(size: usize) -> usize {
    size - LOG_HEADER_SIZE
}

/// Records that are being packed into blocks.
struct Packer<'a> {
    spa: &'a Spa,
    log: &'a IntentLog,
    txg: u64,
    /// The block that is being filled.
    block: BlockPointer,
    filled: Vec<u8>,
    /// All bytes of this commit.
    total: usize,
}

impl Spa {
    /// Makes all that was changed in an object set durable before it returns: what fsync needs.
    ///
    /// # Errors
    /// Those of a transaction group, which stands in when there is no log to write to.
    pub async fn commit_log(&self, objset: &Objset, now: u64) -> Result<(), Error> {
        let log = objset.intent_log();
        if log.is_clean() || objset.settings().sync == SyncMode::Disabled {
            return Ok(());
        }
        self.check_writable().await?;
        let Some(block) = log
            .next
            .get()
            .filter(|_| log.state.get() == super::State::Open)
        else {
            if log.next.get().is_none() {
                self.start_log(objset, now)?;
            }
            return self.sync(now).await;
        };
        let changes = log.pending.take();
        let mut packer = Packer {
            spa: self,
            log,
            txg: self.open_txg(),
            block,
            filled: Vec::new(),
            total: 0,
        };
        match packer.pack(objset, changes).await {
            Ok(()) => Ok(()),
            // Without room for the log, or with a failing log device, the group itself is as good.
            Err(Error::NoSpace | Error::Device(_)) => self.sync(now).await,
            Err(error) => Err(error),
        }
    }

    /// Allocates the first block of a chain; the next transaction group makes it known.
    fn start_log(&self, objset: &Objset, now: u64) -> Result<(), Error> {
        // No two chains of a pool start in one data set and one group, so blocks of old chains never look like this one's.
        let identity = [self.guid() ^ self.open_txg(), now, objset.id(), 1];
        match self
            .zio()
            .allocate_log_block(MIN_BLOCK, identity, self.open_txg())
        {
            Ok(block) => objset.intent_log().start(Some(block)),
            // The group that follows does without.
            Err(Error::NoSpace) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

impl Packer<'_> {
    async fn pack(&mut self, objset: &Objset, changes: Vec<Change>) -> Result<(), Error> {
        for change in changes {
            match change {
                Change::Write {
                    object,
                    offset,
                    length,
                    ..
                } => self.add_write(objset, object, offset, length).await?,
                other => self.add(other).await?,
            }
        }
        if !self.filled.is_empty() {
            let expected = self.total.max(self.log.last_size.get());
            self.emit(expected).await?;
        }
        self.log.last_size.set(self.total);
        self.spa.zio().flush().await?;
        Ok(())
    }

    fn left(&self) -> usize {
        room(self.block.physical_size()) - self.filled.len()
    }

    /// Adds a record that is not split.
    async fn add(&mut self, change: Change) -> Result<(), Error> {
        let bytes = self.encode(change);
        if bytes.len() > room(MAX_BLOCK) {
            return Err(Error::NoSpace);
        }
        while bytes.len() > self.left() {
            self.emit(bytes.len()).await?;
        }
        self.filled.extend_from_slice(&bytes);
        self.total += bytes.len();
        Ok(())
    }

    /// Adds a write with the bytes that are there now, split over blocks as they come.
    async fn add_write(
        &mut self,
        objset: &Objset,
        object: u64,
        mut offset: u64,
        length: u64,
    ) -> Result<(), Error> {
        let dnode = match objset.dnode(object).await {
            Ok(dnode) => dnode,
            // Removed since, as a later record says.
            Err(Error::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        let end = offset.saturating_add(length);
        while offset < end {
            let remaining = (end - offset).min(MAX_BLOCK as u64) as usize;
            if self.left() < WRITE_SIZE + MIN_PIECE.min(remaining).next_multiple_of(8) {
                self.emit(WRITE_SIZE + remaining).await?;
                continue;
            }
            let piece = remaining.min((self.left() - WRITE_SIZE) & !7);
            let data = objset.read_vec(&dnode, offset, piece).await?;
            let bytes = self.encode(Change::Write {
                object,
                offset,
                length: piece as u64,
                pointer: None,
                data,
            });
            self.total += bytes.len();
            self.filled.extend_from_slice(&bytes);
            offset += piece as u64;
        }
        Ok(())
    }

    fn encode(&self, change: Change) -> Vec<u8> {
        let sequence = self.log.sequence.get() + 1;
        self.log.sequence.set(sequence);
        let record = Record {
            txg: self.txg,
            sequence,
            change,
        };
        let bytes = record.encode();
        debug_assert!(bytes.len() >= COMMON_SIZE, "a record has its common part");
        bytes
    }

    /// Writes the block and goes on with a new one in which `expected` bytes of records shall fit.
    async fn emit(&mut self, expected: usize) -> Result<(), Error> {
        let size = (LOG_HEADER_SIZE + expected)
            .next_multiple_of(GRAIN)
            .clamp(MIN_BLOCK, MAX_BLOCK);
        let mut identity = self.block.checksum();
        identity[SEQUENCE_WORD] += 1;
        let zio = self.spa.zio();
        let next = zio.allocate_log_block(size, identity, self.txg)?;
        let mut block = vec![0; LOG_HEADER_SIZE];
        block.append(&mut self.filled);
        let written = zio.write_log_block(&self.block, &next, block).await;
        // Whether or not the block got out, what it names is allocated and must be freed with it.
        self.log.written.borrow_mut().push(self.block);
        self.log.next.set(Some(next));
        self.block = next;
        Ok(written?)
    }
}
