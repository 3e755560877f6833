//! The headers of the records of a stream.

use alloc::string::String;

use super::{CORRUPT, HEADER_SIZE};
use crate::checksum::Checksum;
use crate::error::{Error, Unsupported};
use crate::layout::Fields;

pub(super) const MAGIC: u64 = 0x2_f5ba_cbac;
pub(super) const NAME_AT: usize = 56;
/// Bits of `versioninfo` below the features: what the stream is made of.
pub(super) const KIND_BITS: u32 = 2;
/// Features that are understood: spill, embedded, lz4, large blocks, resuming, compressed, large dnodes, raw, zstd,
/// holds, switch to large blocks, long names, large micro tables.
const FEATURES: [u32; 13] = [2, 16, 17, 19, 20, 22, 23, 24, 25, 26, 27, 28, 29];

/// Bits of the features that a stream uses.
pub mod feature {
    /// Blocks of attributes beside the dnode.
    pub const SA_SPILL: u64 = 1 << 2;
    /// Blocks in their pointers.
    pub const EMBEDDED: u64 = 1 << 16;
    /// Payloads compressed with LZ4.
    pub const LZ4: u64 = 1 << 17;
    /// Blocks above 128 KiB.
    pub const LARGE_BLOCKS: u64 = 1 << 19;
    /// It goes on where another one broke off.
    pub const RESUMING: u64 = 1 << 20;
    /// Payloads compressed as they are stored.
    pub const COMPRESSED: u64 = 1 << 22;
    /// Dnodes of several slots.
    pub const LARGE_DNODE: u64 = 1 << 23;
    /// Blocks as they are stored, still encrypted.
    pub const RAW: u64 = 1 << 24;
    /// Payloads compressed with zstd.
    pub const ZSTD: u64 = 1 << 25;
}

/// Bits of a BEGIN's flags.
pub mod begin_flag {
    /// The stream starts from a snapshot of another data set.
    pub const CLONE: u32 = 1;
    /// What is not there is said too.
    pub const FREE_RECORDS: u32 = 4;
    /// Every spill block is there, changed or not.
    pub const SPILL_BLOCKS: u32 = 8;
}

/// Bit of an OBJECT's flags: it has a spill block.
pub const OBJECT_HAS_SPILL: u8 = 4;

/// The start of a stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BeginRecord {
    /// Whether streams of several data sets follow inside.
    pub kind: StreamKind,
    /// Bits of the features it uses.
    pub features: u64,
    /// Seconds since 1970 of the snapshot.
    pub creation_time: u64,
    /// Kind of object set, as a number.
    pub objset_type: u32,
    /// Bits: clone, case-insensitive, free records, spill blocks.
    pub flags: u32,
    /// Guid of the snapshot.
    pub to_guid: u64,
    /// Guid of the snapshot it starts from, or 0.
    pub from_guid: u64,
    /// Name of the snapshot where it was sent.
    pub to_name: String,
}

/// What a BEGIN starts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StreamKind {
    /// One data set.
    Substream,
    /// A description of several, which follow.
    Compound,
}

/// An object's description.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRecord {
    /// Its number.
    pub object: u64,
    /// Its type.
    pub object_type: u32,
    /// Type of its bonus.
    pub bonus_type: u32,
    /// Bytes of a block.
    pub block_size: u32,
    /// Bytes of its bonus, which is the payload, padded to eight.
    pub bonus_length: u32,
    /// Bytes of the payload when the stream is raw, or 0.
    pub raw_bonus_length: u32,
    /// Checksum and compression, as numbers.
    pub checksum: u8,
    /// See `checksum`.
    pub compression: u8,
    /// Slots its dnode takes.
    pub slots: u8,
    /// Bits: 4 when it has a spill block.
    pub flags: u8,
}

/// A block of an object, which is the payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriteRecord {
    /// The object.
    pub object: u64,
    /// Byte offset in it.
    pub offset: u64,
    /// Bytes after decompression.
    pub logical_size: u64,
    /// Compression of the payload, as a number; 0 when there is none.
    pub compression: u8,
    /// Bytes of the payload when it is compressed.
    pub compressed_size: u64,
}

/// One record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Record {
    /// A stream starts; the payload is a packed list.
    Begin(BeginRecord),
    /// An object; the payload is its bonus.
    Object(ObjectRecord),
    /// These objects are not there.
    FreeObjects {
        /// The first.
        first: u64,
        /// How many numbers.
        count: u64,
    },
    /// A block; the payload is its data.
    Write(WriteRecord),
    /// A hole.
    Free {
        /// The object.
        object: u64,
        /// Where it starts, in bytes.
        offset: u64,
        /// Bytes; all ones to the end.
        length: u64,
    },
    /// The stream ends.
    End {
        /// Checksum of everything before.
        checksum: Checksum,
    },
    /// A spill block, which is the payload.
    Spill {
        /// The object.
        object: u64,
        /// Bytes.
        length: u64,
        /// Compression of the payload, as a number; 0 when there is none.
        compression: u8,
        /// Bytes of the payload when it is compressed, or 0.
        compressed_size: u64,
    },
    /// A block small enough to be in its pointer; the payload is compressed.
    WriteEmbedded {
        /// The object.
        object: u64,
        /// Byte offset in it.
        offset: u64,
        /// Bytes that it covers there.
        length: u64,
        /// Compression, as a number.
        compression: u8,
        /// What it holds, as a number; 0 is data.
        embedded_type: u8,
        /// Bytes after decompression.
        logical_size: u32,
        /// Bytes of the payload without padding.
        physical_size: u32,
    },
    /// Parameters for a range of encrypted dnodes.
    ObjectRange {
        /// First object.
        first: u64,
        /// Slots.
        slots: u64,
    },
}

impl Record {
    /// Bytes of payload after the header. Only a BEGIN says it in so many words; elsewhere it follows from what the record is.
    pub(super) fn payload_length(&self, stated: u32) -> u64 {
        match self {
            Record::Begin(_) => u64::from(stated),
            Record::Object(record) if record.raw_bonus_length != 0 => {
                u64::from(record.raw_bonus_length)
            }
            Record::Object(record) => u64::from(record.bonus_length).next_multiple_of(8),
            Record::Write(record) if record.compression != 0 => record.compressed_size,
            Record::Write(record) => record.logical_size,
            Record::Spill {
                compressed_size, ..
            } if *compressed_size != 0 => *compressed_size,
            Record::Spill { length, .. } => *length,
            Record::WriteEmbedded { physical_size, .. } => {
                u64::from(*physical_size).next_multiple_of(8)
            }
            Record::FreeObjects { .. }
            | Record::Free { .. }
            | Record::End { .. }
            | Record::ObjectRange { .. } => 0,
        }
    }

    /// Bytes of payload that this record's header announces.
    pub fn payload_size(&self, header: &[u8; HEADER_SIZE]) -> usize {
        let length = self.payload_length(header.u32_at(4).unwrap_or(0));
        usize::try_from(length).unwrap_or(usize::MAX)
    }

    /// Reads a header.
    pub fn decode(header: &[u8; HEADER_SIZE]) -> Result<Record, Error> {
        let long = |at: usize| header.u64_at(at).ok_or(CORRUPT);
        let word = |at: usize| header.u32_at(at).ok_or(CORRUPT);
        let byte = |at: usize| header.u8_at(at).ok_or(CORRUPT);
        Ok(match word(0)? {
            0 => Record::Begin(begin(header)?),
            1 => Record::Object(ObjectRecord {
                object: long(8)?,
                object_type: word(16)?,
                bonus_type: word(20)?,
                block_size: word(24)?,
                bonus_length: word(28)?,
                checksum: byte(32)?,
                compression: byte(33)?,
                slots: byte(34)?,
                flags: byte(35)?,
                raw_bonus_length: word(36)?,
            }),
            2 => Record::FreeObjects {
                first: long(8)?,
                count: long(16)?,
            },
            3 => Record::Write(WriteRecord {
                object: long(8)?,
                offset: long(24)?,
                logical_size: long(32)?,
                compression: byte(50)?,
                compressed_size: long(96)?,
            }),
            4 => Record::Free {
                object: long(8)?,
                offset: long(16)?,
                length: long(24)?,
            },
            5 => Record::End {
                checksum: [long(8)?, long(16)?, long(24)?, long(32)?],
            },
            7 => Record::Spill {
                object: long(8)?,
                length: long(16)?,
                compression: byte(33)?,
                compressed_size: long(40)?,
            },
            8 => Record::WriteEmbedded {
                object: long(8)?,
                offset: long(16)?,
                length: long(24)?,
                compression: byte(40)?,
                embedded_type: byte(41)?,
                logical_size: word(48)?,
                physical_size: word(52)?,
            },
            9 => Record::ObjectRange {
                first: long(8)?,
                slots: long(16)?,
            },
            _ => return Err(CORRUPT),
        })
    }
}

fn begin(header: &[u8; HEADER_SIZE]) -> Result<BeginRecord, Error> {
    let long = |at: usize| header.u64_at(at).ok_or(CORRUPT);
    let word = |at: usize| header.u32_at(at).ok_or(CORRUPT);
    match long(8)? {
        MAGIC => {}
        magic if magic == MAGIC.swap_bytes() => {
            return Err(Error::Unsupported(Unsupported::BigEndian));
        }
        _ => return Err(CORRUPT),
    }
    let version = long(16)?;
    let features = version >> KIND_BITS;
    let unknown =
        (0..u64::BITS - KIND_BITS).find(|bit| features >> bit & 1 == 1 && !FEATURES.contains(bit));
    if let Some(bit) = unknown {
        return Err(Error::Unsupported(Unsupported::StreamFeature(bit as u8)));
    }
    let kind = match version & ((1 << KIND_BITS) - 1) {
        1 => StreamKind::Substream,
        2 => StreamKind::Compound,
        _ => return Err(CORRUPT),
    };
    let name = header
        .name_at(NAME_AT, HEADER_SIZE - NAME_AT)
        .ok_or(CORRUPT)?;
    Ok(BeginRecord {
        kind,
        features,
        creation_time: long(24)?,
        objset_type: word(32)?,
        flags: word(36)?,
        to_guid: long(40)?,
        from_guid: long(48)?,
        to_name: String::from_utf8_lossy(name).into_owned(),
    })
}
