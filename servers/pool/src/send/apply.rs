//! One data set's part of a stream, record by record into the objects that receive it.

use alloc::vec::Vec;

use super::record::{OBJECT_HAS_SPILL, begin_flag, feature};
use super::{BeginRecord, CORRUPT, ObjectRecord, Record, RecordReader, WriteRecord};
use crate::blkptr::MAX_BLOCK_SIZE;
use crate::compress::Compression;
use crate::dmu::{NewObject, ObjectShape, Objset, OldSpill};
use crate::dnode::ObjectType;
use crate::dsl::create::Creation;
use crate::dsl::{ReceiveState, Receiving};
use crate::error::{Error, Unsupported};
use crate::spa::Spa;

/// Bytes in memory after which a transaction group writes them.
const GROUP_SIZE: u64 = 32 << 20;
/// What an object takes in memory besides its blocks, about.
const OBJECT_SIZE: u64 = 1024;
/// Largest block without the feature for larger ones.
pub(super) const OLD_BLOCK_MAX: usize = 128 << 10;
/// Number that stands for the spill block, as a multiple of its size, when it comes as an embedded block.
const SPILL_BLOCK: u64 = u64::MAX - 1;
/// Highest checksum and compression numbers of the format.
const CHECKSUM_MAX: u8 = 14;
const COMPRESSION_MAX: u8 = 16;
/// Highest number of an old-style object type; new-style ones have the highest bit.
const OLD_TYPE_MAX: u8 = 53;
const NEW_STYLE: u8 = 0x80;

/// A receive that is under way.
pub(super) struct Applier<'a> {
    pub spa: &'a Spa,
    pub receiving: &'a Receiving,
    pub begin: &'a BeginRecord,
    /// How far it came, if that is to be kept.
    pub state: Option<ReceiveState>,
    /// Bytes that no transaction group has written.
    pending: u64,
    /// Bytes of the stream when the state was kept last.
    counted: u64,
}

impl<'a> Applier<'a> {
    /// Nothing was received yet.
    pub fn new(
        spa: &'a Spa,
        receiving: &'a Receiving,
        begin: &'a BeginRecord,
        state: Option<ReceiveState>,
    ) -> Self {
        Applier {
            spa,
            receiving,
            begin,
            state,
            pending: 0,
            counted: 0,
        }
    }

    fn objset(&self) -> &'a Objset {
        &self.receiving.objset
    }

    /// Takes records up to the END.
    pub async fn run(
        &mut self,
        reader: &mut RecordReader<'_>,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        self.counted = reader.bytes();
        while let Some((record, payload)) = reader.next().await? {
            if matches!(record, Record::End { .. }) {
                return Ok(());
            }
            self.apply(record, payload).await?;
            if self.pending > GROUP_SIZE {
                self.commit(reader.bytes(), creation).await?;
            }
        }
        Err(CORRUPT)
    }

    /// Writes what was received so far, with how far that is.
    pub async fn commit(&mut self, bytes: u64, creation: &mut Creation<'_>) -> Result<(), Error> {
        if let Some(state) = &mut self.state {
            state.bytes += bytes - self.counted;
            self.counted = bytes;
            creation.txg = self.spa.open_txg();
            self.spa
                .keep_receive_state(self.receiving, state, creation)
                .await?;
        }
        self.pending = 0;
        self.spa.sync(creation.now).await
    }

    async fn apply(&mut self, record: Record, payload: Vec<u8>) -> Result<(), Error> {
        self.pending += payload.len() as u64;
        match record {
            Record::Object(record) => self.object(&record, payload).await,
            Record::FreeObjects { first, count } => self.objset().free_objects(first, count).await,
            Record::Write(record) => self.write(&record, payload).await,
            Record::Free {
                object,
                offset,
                length,
            } => self.objset().free_received(object, offset, length).await,
            Record::Spill {
                object,
                length,
                compression,
                ..
            } => {
                let data = expand(compression, payload, length)?;
                self.objset().spill_received(object, data).await
            }
            Record::WriteEmbedded {
                object,
                offset,
                length,
                compression,
                embedded_type,
                logical_size,
                physical_size,
            } => {
                if embedded_type != 0 || u64::from(logical_size) != length {
                    return Err(CORRUPT);
                }
                let packed = payload.get(..physical_size as usize).ok_or(CORRUPT)?;
                let data = expand(compression, Vec::from(packed), length)?;
                if length.wrapping_mul(SPILL_BLOCK) == offset {
                    return self.objset().spill_received(object, data).await;
                }
                self.position(object, offset);
                self.objset().write_received(object, offset, data).await
            }
            Record::ObjectRange { .. } => Err(Error::Unsupported(Unsupported::RawStream)),
            Record::Begin(_) | Record::End { .. } => Err(CORRUPT),
        }
    }

    fn position(&mut self, object: u64, offset: u64) {
        if let Some(state) = &mut self.state {
            (state.object, state.offset) = (object, offset);
        }
    }

    async fn object(&mut self, record: &ObjectRecord, mut bonus: Vec<u8>) -> Result<(), Error> {
        self.pending += OBJECT_SIZE;
        if record.raw_bonus_length != 0 {
            return Err(Error::Unsupported(Unsupported::RawStream));
        }
        let block_size = record.block_size as usize;
        let largest = match self.begin.features & feature::LARGE_BLOCKS {
            0 => OLD_BLOCK_MAX,
            _ => MAX_BLOCK_SIZE,
        };
        if block_size > largest
            || record.checksum > CHECKSUM_MAX
            || record.compression > COMPRESSION_MAX
        {
            return Err(CORRUPT);
        }
        bonus.truncate(record.bonus_length as usize);
        let all_spills = self.begin.flags & begin_flag::SPILL_BLOCKS != 0;
        let shape = ObjectShape {
            new: NewObject {
                object_type: object_type(record.object_type)?,
                block_size,
                bonus_type: match record.bonus_type {
                    0 => ObjectType::NONE,
                    other => object_type(other)?,
                },
                bonus,
            },
            checksum: record.checksum,
            compression: record.compression,
            slots: record.slots.max(1),
            spill: match all_spills && record.flags & OBJECT_HAS_SPILL == 0 {
                true => OldSpill::Removed,
                false => OldSpill::Kept,
            },
        };
        self.check_growth(record.object, block_size).await?;
        self.objset().reshape(record.object, &shape).await
    }

    /// A stream that has blocks of 128 KiB where large ones are, or the other way round, lacks the blocks that did not change.
    async fn check_growth(&self, object: u64, block_size: usize) -> Result<(), Error> {
        if self.begin.from_guid == 0 {
            return Ok(());
        }
        let old = match self.objset().dnode(object).await {
            Ok(dnode) => dnode.phys,
            Err(Error::NotFound) => return Ok(()),
            Err(error) => return Err(error),
        };
        let grows =
            block_size > OLD_BLOCK_MAX && old.block_size == OLD_BLOCK_MAX && old.max_block > 0;
        let large = self.begin.features & feature::LARGE_BLOCKS != 0;
        let shrinks = old.block_size > OLD_BLOCK_MAX && !large;
        match grows || shrinks {
            true => Err(Error::StreamMismatch),
            false => Ok(()),
        }
    }

    async fn write(&mut self, record: &WriteRecord, payload: Vec<u8>) -> Result<(), Error> {
        let data = expand(record.compression, payload, record.logical_size)?;
        self.position(record.object, record.offset);
        self.objset()
            .write_received(record.object, record.offset, data)
            .await
    }
}

/// The bytes of a payload before it was compressed.
fn expand(compression: u8, payload: Vec<u8>, size: u64) -> Result<Vec<u8>, Error> {
    let size = usize::try_from(size).map_err(|_| CORRUPT)?;
    if size > MAX_BLOCK_SIZE {
        return Err(CORRUPT);
    }
    match compression {
        0 if payload.len() == size => Ok(payload),
        0 => Err(CORRUPT),
        id => Compression::from_id(id)?.decompress(&payload, size),
    }
}

fn object_type(number: u32) -> Result<ObjectType, Error> {
    match u8::try_from(number) {
        Ok(id @ 1..=OLD_TYPE_MAX) => Ok(ObjectType(id)),
        Ok(id) if id & NEW_STYLE != 0 => Ok(ObjectType(id)),
        _ => Err(CORRUPT),
    }
}
