//! From the bytes of a log block to its records. The bytes come from a disk: nothing in them is trusted.

use alloc::vec::Vec;

use super::record::{
    AttributeChanges, COMMON_SIZE, Change, Creation, Making, Record, Renaming, WRITE_SIZE, mask,
};
use crate::blkptr::{BLKPTR_SIZE, BlockPointer};
use crate::error::{Error, Structure, Unsupported};
use crate::layout::Fields;

const CORRUPT: Error = Error::Corrupt(Structure::IntentLog);

/// Case-insensitive names have this bit in their record's type.
const CASE_INSENSITIVE: u64 = 1 << 63;
/// The lower bits of an object's number; above them is how many dnode slots it has, less one.
const OBJECT_BITS: u32 = 56;
/// Bytes of a creation before its name.
const CREATE_SIZE: usize = 104;
/// Bytes of what describes an access list in a creation.
const ACL_HEADER: usize = 40;
/// Fixed part of the optional attributes: size of the bit map and its first word; then times and flags.
const OPTIONAL_SIZE: usize = 8;
const OPTIONAL_TAIL: usize = 56;

/// Splits the records of a log block.
///
/// # Errors
/// `Corrupt` when a record does not fit into the block or its own length.
pub fn decode_all(mut bytes: &[u8]) -> Result<Vec<Record>, Error> {
    let mut records = Vec::new();
    while !bytes.is_empty() {
        let length = bytes
            .u64_at(8)
            .and_then(|length| usize::try_from(length).ok())
            .ok_or(CORRUPT)?;
        let record = bytes
            .get(..length)
            .filter(|_| length >= COMMON_SIZE)
            .ok_or(CORRUPT)?;
        records.push(decode(record)?);
        bytes = &bytes[length..];
    }
    Ok(records)
}

fn decode(record: &[u8]) -> Result<Record, Error> {
    let reader = Reader(record);
    let change = match reader.word(0)? & !CASE_INSENSITIVE {
        kind @ (1..=4 | 14..=19) => Change::Create(reader.creation(kind)?),
        5 => Change::Remove {
            directory: reader.word(32)?,
            name: reader.name(40)?,
        },
        6 => Change::RemoveDirectory {
            directory: reader.word(32)?,
            name: reader.name(40)?,
        },
        7 => Change::Link {
            directory: reader.word(32)?,
            object: reader.word(40)?,
            name: reader.name(48)?,
        },
        8 => reader.rename(Renaming::Replace, 48)?,
        22 => reader.rename(Renaming::Exchange, 48)?,
        // The whiteout's own attributes are before the names.
        23 => reader.rename(Renaming::Whiteout, 112)?,
        9 => reader.write()?,
        10 => Change::Truncate {
            object: reader.object(32)?,
            offset: reader.word(40)?,
            length: reader.word(48)?,
        },
        11 => reader.attributes()?,
        12 => reader.old_acl()?,
        13 => Change::Acl {
            object: reader.object(32)?,
            count: reader.word(40)?,
            entries: reader.bytes(80, reader.word(64)?)?,
        },
        20 => Change::Nothing,
        21 => reader.extended_attribute()?,
        24 => reader.clone_range()?,
        _ => return Err(Error::Unsupported(Unsupported::LogRecord)),
    };
    Ok(Record {
        txg: reader.word(16)?,
        sequence: reader.word(24)?,
        change,
    })
}

/// Fields of one record.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn word(&self, at: usize) -> Result<u64, Error> {
        self.0.u64_at(at).ok_or(CORRUPT)
    }

    fn object(&self, at: usize) -> Result<u64, Error> {
        Ok(self.word(at)? & ((1 << OBJECT_BITS) - 1))
    }

    fn bytes(&self, at: usize, length: u64) -> Result<Vec<u8>, Error> {
        let length = usize::try_from(length).map_err(|_| CORRUPT)?;
        self.0.bytes_at(at, length).map(Vec::from).ok_or(CORRUPT)
    }

    /// A name that ends with a zero byte.
    fn name(&self, at: usize) -> Result<Vec<u8>, Error> {
        let rest = self.0.get(at..).ok_or(CORRUPT)?;
        let end = rest.iter().position(|&byte| byte == 0).ok_or(CORRUPT)?;
        Ok(rest[..end].into())
    }

    fn creation(&self, kind: u64) -> Result<Creation, Error> {
        let (making, with_acl, with_optional) = match kind {
            1 => (Making::File, false, false),
            2 => (Making::Directory, false, false),
            3 => (Making::AttributeDirectory, false, false),
            4 => (Making::Symlink, false, false),
            14 => (Making::File, true, false),
            15 => (Making::File, false, true),
            16 => (Making::File, true, true),
            17 => (Making::Directory, true, false),
            18 => (Making::Directory, false, true),
            _ => (Making::Directory, true, true),
        };
        let mut at = CREATE_SIZE;
        let mut acl = None;
        if with_acl {
            let (count, identities) = (self.word(at)?, self.word(at + 16)?);
            let length = self.word(at + 24)?;
            at += ACL_HEADER
                + if with_optional {
                    self.optional_size(at + ACL_HEADER)?
                } else {
                    0
                };
            acl = Some((count, self.bytes(at, length)?));
            let identities = identities
                .checked_mul(8)
                .and_then(|size| usize::try_from(size).ok());
            let length = usize::try_from(length)
                .map_err(|_| CORRUPT)?
                .next_multiple_of(8);
            at = at
                .checked_add(length)
                .and_then(|at| at.checked_add(identities?))
                .ok_or(CORRUPT)?;
        } else if with_optional {
            at += self.optional_size(at)?;
        }
        let name = self.name(at)?;
        let target = match making {
            Making::Symlink => self.name(at + name.len() + 1)?,
            _ => Vec::new(),
        };
        Ok(Creation {
            making,
            directory: self.word(32)?,
            object: self.object(40)?,
            mode: self.word(48)?,
            uid: self.word(56)?,
            gid: self.word(64)?,
            generation: self.word(72)?,
            created: [self.word(80)?, self.word(88)?],
            rdev: self.word(96)?,
            acl,
            name,
            target,
        })
    }

    /// Bytes of optional attributes, which say how many words their bit map has.
    fn optional_size(&self, at: usize) -> Result<usize, Error> {
        /// Far more words than there are attributes.
        const MAX_WORDS: usize = 64;
        let words = self.0.u32_at(at).ok_or(CORRUPT)? as usize;
        if !(1..=MAX_WORDS).contains(&words) {
            return Err(CORRUPT);
        }
        Ok((OPTIONAL_SIZE + 4 * (words - 1)).next_multiple_of(8) + OPTIONAL_TAIL)
    }

    fn rename(&self, renaming: Renaming, names_at: usize) -> Result<Change, Error> {
        let from = self.name(names_at)?;
        let to = self.name(names_at + from.len() + 1)?;
        Ok(Change::Rename {
            directories: [self.word(32)?, self.word(40)?],
            names: [from, to],
            renaming,
        })
    }

    fn write(&self) -> Result<Change, Error> {
        let length = self.word(48)?;
        // A record without data leaves them in a block.
        let indirect = self.0.len() == WRITE_SIZE;
        let pointer = BlockPointer::decode(self.0, 64).filter(|_| indirect);
        let data = if indirect {
            Vec::new()
        } else {
            self.bytes(WRITE_SIZE, length)?
        };
        Ok(Change::Write {
            object: self.object(32)?,
            offset: self.word(40)?,
            length,
            pointer,
            data,
        })
    }

    fn attributes(&self) -> Result<Change, Error> {
        let given = self.word(40)?;
        let word =
            |bit: u64, at: usize| Ok::<_, Error>(Some(self.word(at)?).filter(|_| given & bit != 0));
        let time = |bit: u64, at: usize| {
            let time = [self.word(at)?, self.word(at + 8)?];
            Ok::<_, Error>(Some(time).filter(|_| given & bit != 0))
        };
        Ok(Change::Attributes {
            object: self.object(32)?,
            changes: AttributeChanges {
                mode: word(mask::MODE, 48)?,
                uid: word(mask::UID, 56)?,
                gid: word(mask::GID, 64)?,
                size: word(mask::SIZE, 72)?,
                atime: time(mask::ATIME, 80)?,
                mtime: time(mask::MTIME, 96)?,
            },
        })
    }

    /// The oldest access lists have 12-byte entries; they become 8-byte ones, with 8 more for a named identity.
    fn old_acl(&self) -> Result<Change, Error> {
        /// Owner, group and everybody need no identity.
        const SPECIAL: u16 = 0x7000;
        let count = self.word(40)?;
        let old = self.bytes(48, count.checked_mul(12).ok_or(CORRUPT)?)?;
        let mut entries = Vec::new();
        for entry in old.as_chunks::<12>().0 {
            let [a, b, c, d, e, f, g, h, flags0, flags1, kind0, kind1] = *entry;
            entries.extend([kind0, kind1, flags0, flags1, e, f, g, h]);
            if u16::from_le_bytes([flags0, flags1]) & SPECIAL == 0 {
                entries.extend(u64::from(u32::from_le_bytes([a, b, c, d])).to_le_bytes());
            }
        }
        Ok(Change::Acl {
            object: self.object(32)?,
            count,
            entries,
        })
    }

    fn extended_attribute(&self) -> Result<Change, Error> {
        let name = self.name(48)?;
        Ok(Change::ExtendedAttribute {
            object: self.object(32)?,
            value: self.bytes(49 + name.len(), self.word(40)?)?,
            name,
        })
    }

    fn clone_range(&self) -> Result<Change, Error> {
        let count = usize::try_from(self.word(64)?).map_err(|_| CORRUPT)?;
        if count > self.0.len() / BLKPTR_SIZE {
            return Err(CORRUPT);
        }
        let pointers =
            (0..count).map(|index| BlockPointer::decode(self.0, 72 + index * BLKPTR_SIZE));
        Ok(Change::CloneRange {
            object: self.object(32)?,
            offset: self.word(40)?,
            length: self.word(48)?,
            block_size: self.word(56)?,
            pointers: pointers.collect::<Option<_>>().ok_or(CORRUPT)?,
        })
    }
}
