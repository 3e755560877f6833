//! Writing records: headers, payloads and the running checksum.

use alloc::vec;
use alloc::vec::Vec;

use super::record::{KIND_BITS, MAGIC, NAME_AT};
use super::{CHECKSUM_AT, HEADER_SIZE, StreamKind, StreamWriter};
use crate::blkptr::BlockPointer;
use crate::checksum::{ChecksumKind, Fletcher4};
use crate::dnode::DnodePhys;
use crate::error::Error;
use crate::layout::{put_u32, put_u64};

/// Types of records.
mod kind {
    pub const BEGIN: u32 = 0;
    pub const OBJECT: u32 = 1;
    pub const FREE_OBJECTS: u32 = 2;
    pub const WRITE: u32 = 3;
    pub const FREE: u32 = 4;
    pub const END: u32 = 5;
    pub const SPILL: u32 = 7;
    pub const WRITE_EMBEDDED: u32 = 8;
}

/// Bit of a WRITE's flags: its checksum is good enough to deduplicate by.
const FLAG_DEDUP_CHECKSUM: u8 = 1;
/// Bit of a SPILL's flags: the block did not change.
const FLAG_SPILL_UNMODIFIED: u8 = 4;

/// What a BEGIN says.
#[derive(Clone, Debug)]
pub struct BeginFields<'a> {
    /// Whether several data sets follow.
    pub kind: StreamKind,
    /// Bits of features.
    pub features: u64,
    /// Seconds since 1970 of the snapshot.
    pub creation_time: u64,
    /// Kind of object set, as a number.
    pub objset_type: u32,
    /// Bits: see `begin_flag`.
    pub flags: u32,
    /// Guid of the snapshot.
    pub to_guid: u64,
    /// Guid of the snapshot it starts from, or 0.
    pub from_guid: u64,
    /// Name of the snapshot.
    pub to_name: &'a str,
}

/// A block as it goes into a WRITE.
pub struct WriteBlock<'a> {
    /// The object.
    pub object: u64,
    /// Its type.
    pub object_type: u8,
    /// Byte offset in it.
    pub offset: u64,
    /// Bytes before compression.
    pub logical_size: usize,
    /// Compression of the payload as a number, or 0.
    pub compression: u8,
    /// Where it is stored; `None` for a part of it.
    pub pointer: Option<&'a BlockPointer>,
}

/// Whether a spill block changed since the snapshot that the stream starts from.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum SpillChange {
    /// It did, or there is no such snapshot.
    Changed,
    /// It did not.
    Unchanged,
}

/// What was freed and may be joined to what is freed next.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pending {
    Nothing,
    Blocks {
        object: u64,
        offset: u64,
        length: u64,
    },
    Objects {
        first: u64,
        count: u64,
    },
}

/// A stream that is being written.
pub struct RecordWriter<'a> {
    writer: &'a mut dyn StreamWriter,
    sum: Fletcher4,
    to_guid: u64,
    pending: Pending,
    bytes: u64,
}

fn header(kind: u32) -> Vec<u8> {
    let mut header = vec![0; HEADER_SIZE];
    put_u32(&mut header, 0, kind);
    header
}

impl<'a> RecordWriter<'a> {
    /// A stream without records.
    pub fn new(writer: &'a mut dyn StreamWriter) -> Self {
        RecordWriter {
            writer,
            sum: Fletcher4::default(),
            to_guid: 0,
            pending: Pending::Nothing,
            bytes: 0,
        }
    }

    /// Bytes written.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    async fn put(&mut self, mut header: Vec<u8>, payload: &[u8]) -> Result<(), Error> {
        let (fields, _) = header.split_at(CHECKSUM_AT);
        self.sum.update(fields);
        for (index, word) in self.sum.value().into_iter().enumerate() {
            put_u64(&mut header, CHECKSUM_AT + 8 * index, word);
        }
        self.sum.update(&header[CHECKSUM_AT..]);
        self.sum.update(payload);
        self.send(&header, payload).await
    }

    async fn send(&mut self, header: &[u8], payload: &[u8]) -> Result<(), Error> {
        self.bytes += (header.len() + payload.len()) as u64;
        self.writer.write(header).await?;
        if !payload.is_empty() {
            self.writer.write(payload).await?;
        }
        Ok(())
    }

    /// Starts a stream or a part of one.
    pub async fn begin(&mut self, fields: &BeginFields<'_>, payload: &[u8]) -> Result<(), Error> {
        let name = fields.to_name.as_bytes();
        if name.len() >= HEADER_SIZE - NAME_AT {
            return Err(Error::NameTooLong);
        }
        let mut header = header(kind::BEGIN);
        // Only a BEGIN says how long its payload is; elsewhere that follows from the record.
        put_u32(&mut header, 4, payload.len() as u32);
        put_u64(&mut header, 8, MAGIC);
        let kind = match fields.kind {
            StreamKind::Substream => 1,
            StreamKind::Compound => 2,
        };
        put_u64(&mut header, 16, fields.features << KIND_BITS | kind);
        put_u64(&mut header, 24, fields.creation_time);
        put_u32(&mut header, 32, fields.objset_type);
        put_u32(&mut header, 36, fields.flags);
        put_u64(&mut header, 40, fields.to_guid);
        put_u64(&mut header, 48, fields.from_guid);
        header[NAME_AT..NAME_AT + name.len()].copy_from_slice(name);
        self.to_guid = fields.to_guid;
        self.sum = Fletcher4::default();
        self.sum.update(&header);
        self.sum.update(payload);
        self.send(&header, payload).await
    }

    /// Ends a stream or a part of one.
    pub async fn end(&mut self) -> Result<(), Error> {
        self.settle().await?;
        let mut header = header(kind::END);
        for (index, word) in self.sum.value().into_iter().enumerate() {
            put_u64(&mut header, 8 + 8 * index, word);
        }
        put_u64(&mut header, 40, self.to_guid);
        self.put(header, &[]).await
    }

    /// Ends the description at the start of a compound stream, which has no running checksums.
    pub async fn end_description(&mut self) -> Result<(), Error> {
        let mut header = header(kind::END);
        for (index, word) in self.sum.value().into_iter().enumerate() {
            put_u64(&mut header, 8 + 8 * index, word);
        }
        self.send(&header, &[]).await
    }

    /// Ends a compound stream.
    pub async fn end_all(&mut self) -> Result<(), Error> {
        self.send(&header(kind::END), &[]).await
    }

    /// An object with its bonus. `block_size` is that of the stream, which may be smaller than its own.
    pub async fn object(
        &mut self,
        object: u64,
        phys: &DnodePhys,
        block_size: usize,
        flags: u8,
    ) -> Result<(), Error> {
        self.settle().await?;
        let mut bonus = phys.bonus.clone();
        bonus.resize(bonus.len().next_multiple_of(8), 0);
        let mut header = header(kind::OBJECT);
        put_u64(&mut header, 8, object);
        put_u32(&mut header, 16, phys.object_type.0.into());
        put_u32(&mut header, 20, phys.bonus_type.0.into());
        put_u32(&mut header, 24, block_size as u32);
        put_u32(&mut header, 28, phys.bonus.len() as u32);
        header[32] = phys.checksum;
        header[33] = phys.compression;
        header[34] = phys.slots;
        header[35] = flags;
        put_u64(&mut header, 40, self.to_guid);
        self.put(header, &bonus).await
    }

    /// A block.
    pub async fn write(&mut self, block: &WriteBlock<'_>, payload: &[u8]) -> Result<(), Error> {
        self.settle().await?;
        let mut header = header(kind::WRITE);
        put_u64(&mut header, 8, block.object);
        put_u32(&mut header, 16, block.object_type.into());
        put_u64(&mut header, 24, block.offset);
        put_u64(&mut header, 32, block.logical_size as u64);
        put_u64(&mut header, 40, self.to_guid);
        header[48] = ChecksumKind::Off as u8;
        header[50] = block.compression;
        if let Some(pointer) = block.pointer.filter(|pointer| !pointer.is_embedded()) {
            put_key(&mut header, pointer)?;
        }
        if block.compression != 0 {
            put_u64(&mut header, 96, payload.len() as u64);
        }
        self.put(header, payload).await
    }

    /// A block that is in its pointer.
    pub async fn write_embedded(
        &mut self,
        object: u64,
        offset: u64,
        pointer: &BlockPointer,
    ) -> Result<(), Error> {
        self.settle().await?;
        let mut payload = pointer.payload()?;
        let physical_size = payload.len();
        payload.resize(physical_size.next_multiple_of(8), 0);
        let mut header = header(kind::WRITE_EMBEDDED);
        put_u64(&mut header, 8, object);
        put_u64(&mut header, 16, offset);
        put_u64(&mut header, 24, pointer.logical_size() as u64);
        put_u64(&mut header, 32, self.to_guid);
        header[40] = pointer.compression()?.id();
        header[41] = pointer.embedded_type();
        put_u32(&mut header, 48, pointer.logical_size() as u32);
        put_u32(&mut header, 52, physical_size as u32);
        self.put(header, &payload).await
    }

    /// An object's spill block.
    pub async fn spill(
        &mut self,
        object: u64,
        data: &[u8],
        change: SpillChange,
    ) -> Result<(), Error> {
        self.settle().await?;
        let mut header = header(kind::SPILL);
        put_u64(&mut header, 8, object);
        put_u64(&mut header, 16, data.len() as u64);
        put_u64(&mut header, 24, self.to_guid);
        if change == SpillChange::Unchanged {
            header[32] = FLAG_SPILL_UNMODIFIED;
        }
        self.put(header, data).await
    }

    /// A hole. Neighbours are joined; one to the end, of length `u64::MAX`, stands alone.
    pub async fn free(&mut self, object: u64, offset: u64, length: u64) -> Result<(), Error> {
        if let Pending::Blocks {
            object: same,
            offset: start,
            length: before,
        } = &mut self.pending
            && *same == object
            && *before != u64::MAX
            && start.saturating_add(*before) == offset
        {
            *before = before.saturating_add(length);
            return Ok(());
        }
        self.settle().await?;
        self.pending = Pending::Blocks {
            object,
            offset,
            length,
        };
        Ok(())
    }

    /// Objects that are not there. Neighbours are joined.
    pub async fn free_objects(&mut self, first: u64, count: u64) -> Result<(), Error> {
        if let Pending::Objects {
            first: start,
            count: before,
        } = &mut self.pending
            && *start + *before == first
        {
            *before += count;
            return Ok(());
        }
        self.settle().await?;
        self.pending = Pending::Objects { first, count };
        Ok(())
    }

    /// Writes what was freed last.
    async fn settle(&mut self) -> Result<(), Error> {
        let header = match core::mem::replace(&mut self.pending, Pending::Nothing) {
            Pending::Nothing => return Ok(()),
            Pending::Blocks {
                object,
                offset,
                length,
            } => {
                let mut header = header(kind::FREE);
                put_u64(&mut header, 8, object);
                put_u64(&mut header, 16, offset);
                put_u64(&mut header, 24, length);
                put_u64(&mut header, 32, self.to_guid);
                header
            }
            Pending::Objects { first, count } => {
                let mut header = header(kind::FREE_OBJECTS);
                put_u64(&mut header, 8, first);
                put_u64(&mut header, 16, count);
                put_u64(&mut header, 24, self.to_guid);
                header
            }
        };
        self.put(header, &[]).await
    }
}

/// What tells a block from others: its checksum, sizes and compression.
fn put_key(header: &mut [u8], pointer: &BlockPointer) -> Result<(), Error> {
    let kind = pointer.checksum_kind()?;
    header[48] = kind as u8;
    let deduplicates = matches!(
        kind,
        ChecksumKind::Sha256 | ChecksumKind::Sha512 | ChecksumKind::Skein | ChecksumKind::Blake3
    );
    if deduplicates {
        header[49] = FLAG_DEDUP_CHECKSUM;
    }
    for (index, word) in pointer.checksum().into_iter().enumerate() {
        put_u64(header, 56 + 8 * index, word);
    }
    let sectors = |size: usize| (size as u64 >> 9).wrapping_sub(1) & 0xffff;
    let properties = sectors(pointer.logical_size())
        | sectors(pointer.physical_size()) << 16
        | u64::from(pointer.compression()?.id()) << 32
        | u64::from(pointer.is_encrypted()) << 39;
    put_u64(header, 88, properties);
    Ok(())
}
