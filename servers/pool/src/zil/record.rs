//! Records of the intent log: what each says.
//!
//! On disk a record is 32 bytes of type, length, transaction group and sequence, then fields by type, then names and data;
//! `decode` and `encode` know which.

use alloc::vec::Vec;

use crate::blkptr::BlockPointer;

/// Bytes before the fields of a type.
pub const COMMON_SIZE: usize = 32;
/// Bytes of a write's record before its data.
pub const WRITE_SIZE: usize = 192;

/// Bits of the mask of set attributes, as Linux has them.
pub(super) mod mask {
    pub const MODE: u64 = 0x1;
    pub const UID: u64 = 0x2;
    pub const GID: u64 = 0x4;
    pub const SIZE: u64 = 0x8;
    pub const ATIME: u64 = 0x10;
    pub const MTIME: u64 = 0x20;
}

/// What is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Making {
    /// A file of any kind but the following.
    File,
    /// A directory.
    Directory,
    /// The hidden directory of a file's extended attributes.
    AttributeDirectory,
    /// A symbolic link.
    Symlink,
}

/// A creation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Creation {
    /// What is made.
    pub making: Making,
    /// The directory it is made in; of an attribute directory, the file.
    pub directory: u64,
    /// Its object.
    pub object: u64,
    /// POSIX mode with the type.
    pub mode: u64,
    /// Owner.
    pub uid: u64,
    /// Group.
    pub gid: u64,
    /// Transaction group it was made in.
    pub generation: u64,
    /// Seconds and nanoseconds.
    pub created: [u64; 2],
    /// Device number of device files.
    pub rdev: u64,
    /// Its access list, when it has one of its own: entries and their number.
    pub acl: Option<(u64, Vec<u8>)>,
    /// Its name.
    pub name: Vec<u8>,
    /// Target of a symbolic link.
    pub target: Vec<u8>,
}

/// Attributes that are set; `None` stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AttributeChanges {
    /// POSIX mode; its type bits are ignored.
    pub mode: Option<u64>,
    /// Owner.
    pub uid: Option<u64>,
    /// Group.
    pub gid: Option<u64>,
    /// Bytes of a regular file.
    pub size: Option<u64>,
    /// Seconds and nanoseconds of the last access.
    pub atime: Option<[u64; 2]>,
    /// The same of the last change of data.
    pub mtime: Option<[u64; 2]>,
}

/// How names change places.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renaming {
    /// The new name replaces what was there.
    Replace,
    /// The two names change places.
    Exchange,
    /// A character device 0, 0 stays at the old name: it hides what a lower layer of an overlay has there.
    Whiteout,
}

/// What a record does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a file, directory or link.
    Create(Creation),
    /// Removes the name of a file.
    Remove {
        /// Directory.
        directory: u64,
        /// Name.
        name: Vec<u8>,
    },
    /// Removes an empty directory.
    RemoveDirectory {
        /// Its parent.
        directory: u64,
        /// Name.
        name: Vec<u8>,
    },
    /// Gives a file another name.
    Link {
        /// Directory.
        directory: u64,
        /// The file.
        object: u64,
        /// Name.
        name: Vec<u8>,
    },
    /// Moves a name.
    Rename {
        /// Directory of the old name and of the new one.
        directories: [u64; 2],
        /// Old and new name.
        names: [Vec<u8>; 2],
        /// How.
        renaming: Renaming,
    },
    /// Writes bytes.
    Write {
        /// The file, or a volume's data.
        object: u64,
        /// Where.
        offset: u64,
        /// How many.
        length: u64,
        /// The block with the bytes, when they are not in the record.
        pointer: Option<BlockPointer>,
        /// The bytes in the record.
        data: Vec<u8>,
    },
    /// Makes a range a hole.
    Truncate {
        /// The file, or a volume's data.
        object: u64,
        /// Where.
        offset: u64,
        /// How many bytes; 0 is all that follow.
        length: u64,
    },
    /// Sets attributes.
    Attributes {
        /// The file.
        object: u64,
        /// Which.
        changes: AttributeChanges,
    },
    /// Replaces an access list.
    Acl {
        /// The file.
        object: u64,
        /// Number of entries.
        count: u64,
        /// The entries.
        entries: Vec<u8>,
    },
    /// Sets or removes an extended attribute.
    ExtendedAttribute {
        /// The file.
        object: u64,
        /// Its name.
        name: Vec<u8>,
        /// Its value; empty removes it.
        value: Vec<u8>,
    },
    /// Writes blocks that another file has.
    CloneRange {
        /// The file.
        object: u64,
        /// Where.
        offset: u64,
        /// How many bytes.
        length: u64,
        /// Bytes of a block.
        block_size: u64,
        /// The blocks.
        pointers: Vec<BlockPointer>,
    },
    /// Nothing that replaying needs.
    Nothing,
}

/// A record with its place in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// Transaction group that would have made it durable.
    pub txg: u64,
    /// Its number in the log.
    pub sequence: u64,
    /// What it does.
    pub change: Change,
}
