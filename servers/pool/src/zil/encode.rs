//! From records to the bytes of a log block.

use alloc::vec;
use alloc::vec::Vec;

use super::record::{AttributeChanges, COMMON_SIZE, Change, Making, Record, Renaming, mask};
use crate::blkptr::BLKPTR_SIZE;
use crate::layout::put_u64;

impl Record {
    /// The record's bytes, a multiple of 8. Access lists are not written, nor are pointers.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, words, tail) = fields(&self.change);
        let length = (COMMON_SIZE + 8 * words.len() + tail.len()).next_multiple_of(8);
        let mut bytes = vec![0; length];
        for (index, word) in [kind, length as u64, self.txg, self.sequence]
            .into_iter()
            .chain(words.iter().copied())
            .enumerate()
        {
            put_u64(&mut bytes, 8 * index, word);
        }
        let at = COMMON_SIZE + 8 * words.len();
        bytes[at..at + tail.len()].copy_from_slice(&tail);
        bytes
    }
}

/// A record's type, its fields and what follows them.
fn fields(change: &Change) -> (u64, Vec<u64>, Vec<u8>) {
    let names = |names: &[&[u8]]| {
        names
            .iter()
            .flat_map(|name| name.iter().copied().chain([0]))
            .collect()
    };
    match change {
        Change::Create(new) => {
            let kind = match new.making {
                Making::File => 1,
                Making::Directory => 2,
                Making::AttributeDirectory => 3,
                Making::Symlink => 4,
            };
            let words = vec![
                new.directory,
                new.object,
                new.mode,
                new.uid,
                new.gid,
                new.generation,
                new.created[0],
                new.created[1],
                new.rdev,
            ];
            let tail = match new.making {
                Making::Symlink => names(&[&new.name, &new.target]),
                _ => names(&[&new.name]),
            };
            (kind, words, tail)
        }
        Change::Remove { directory, name } => (5, vec![*directory], names(&[name])),
        Change::RemoveDirectory { directory, name } => (6, vec![*directory], names(&[name])),
        Change::Link {
            directory,
            object,
            name,
        } => (7, vec![*directory, *object], names(&[name])),
        Change::Rename {
            directories,
            names: [from, to],
            renaming,
        } => {
            let kind = match renaming {
                Renaming::Replace | Renaming::Whiteout => 8,
                Renaming::Exchange => 22,
            };
            (kind, directories.to_vec(), names(&[from, to]))
        }
        Change::Write {
            object,
            offset,
            length,
            data,
            ..
        } => {
            let mut words = vec![*object, *offset, *length, 0];
            words.resize(4 + BLKPTR_SIZE / 8, 0);
            (9, words, data.clone())
        }
        Change::Truncate {
            object,
            offset,
            length,
        } => (10, vec![*object, *offset, *length], Vec::new()),
        Change::Attributes { object, changes } => {
            (11, attribute_words(*object, changes), Vec::new())
        }
        Change::ExtendedAttribute {
            object,
            name,
            value,
        } => {
            let mut tail: Vec<u8> = names(&[name]);
            tail.extend_from_slice(value);
            (21, vec![*object, value.len() as u64], tail)
        }
        // Nobody logs these here; a type that replaying skips keeps the log readable.
        Change::Acl { .. } | Change::CloneRange { .. } | Change::Nothing => {
            (20, vec![0; 20], Vec::new())
        }
    }
}

fn attribute_words(object: u64, changes: &AttributeChanges) -> Vec<u64> {
    let bits = [
        (mask::MODE, changes.mode.is_some()),
        (mask::UID, changes.uid.is_some()),
        (mask::GID, changes.gid.is_some()),
        (mask::SIZE, changes.size.is_some()),
        (mask::ATIME, changes.atime.is_some()),
        (mask::MTIME, changes.mtime.is_some()),
    ];
    let given = bits
        .iter()
        .filter(|(_, given)| *given)
        .map(|(bit, _)| bit)
        .sum();
    let [atime, mtime] = [changes.atime, changes.mtime].map(Option::unwrap_or_default);
    let words =
        [changes.mode, changes.uid, changes.gid, changes.size].map(Option::unwrap_or_default);
    [&[object, given][..], &words, &atime, &mtime].concat()
}

#[cfg(test)]
mod tests {
    use super::super::decode::decode_all;
    use super::super::record::Creation;
    use super::*;
    use proptest::prelude::*;

    fn survives(change: Change) {
        let record = Record {
            txg: 7,
            sequence: 9,
            change,
        };
        let bytes = record.encode();
        assert_eq!(bytes.len() % 8, 0);
        assert_eq!(decode_all(&bytes), Ok(vec![record]));
    }

    #[test]
    fn records_survive_encoding() {
        survives(Change::Create(Creation {
            making: Making::Symlink,
            directory: 34,
            object: 55,
            mode: 0o120777,
            uid: 1,
            gid: 2,
            generation: 3,
            created: [4, 5],
            rdev: 0,
            acl: None,
            name: b"sym".into(),
            target: b"over there".into(),
        }));
        survives(Change::RemoveDirectory {
            directory: 3,
            name: b"x".into(),
        });
        survives(Change::Link {
            directory: 3,
            object: 4,
            name: b"hard".into(),
        });
        survives(Change::Rename {
            directories: [1, 2],
            names: [b"one".into(), b"another".into()],
            renaming: Renaming::Replace,
        });
        survives(Change::Write {
            object: 9,
            offset: 70,
            length: 3,
            pointer: None,
            data: b"abc".into(),
        });
        survives(Change::Attributes {
            object: 8,
            changes: AttributeChanges {
                mode: Some(0o600),
                mtime: Some([1, 2]),
                ..AttributeChanges::default()
            },
        });
        survives(Change::ExtendedAttribute {
            object: 8,
            name: b"user.a".into(),
            value: b"v".into(),
        });
    }

    proptest! {
        #[test]
        fn random_records_never_panic(kind in 0u64..30, mut bytes in proptest::collection::vec(any::<u8>(), 32..400)) {
            let length = bytes.len() as u64;
            put_u64(&mut bytes, 0, kind);
            put_u64(&mut bytes, 8, length);
            let _ = decode_all(&bytes);
        }
    }
}
