//! The registry and layouts of new file systems, and packing attributes by them.

use alloc::vec;
use alloc::vec::Vec;

use super::MAGIC;
use crate::error::{Error, Structure};
use crate::layout::{put_u16, put_u32};

/// An attribute of the registry, with the number it has in new file systems.
#[derive(Clone, Copy, Debug)]
pub struct Registered {
    /// Its name.
    pub name: &'static str,
    /// Its number.
    pub number: u16,
    /// Bytes; 0 when each value has its own length.
    pub length: u16,
    /// How a foreign machine swaps its bytes: 0 for 64-bit words, 3 for single bytes, 4 for ACLs.
    pub byteswap: u8,
}

impl Registered {
    /// The value in the registry.
    pub fn encode(&self) -> u64 {
        u64::from(self.length) << 24 | u64::from(self.byteswap) << 16 | u64::from(self.number)
    }
}

const fn words(name: &'static str, number: u16, count: u16) -> Registered {
    Registered {
        name,
        number,
        length: 8 * count,
        byteswap: 0,
    }
}

const fn bytes(name: &'static str, number: u16, length: u16) -> Registered {
    Registered {
        name,
        number,
        length,
        byteswap: 3,
    }
}

const fn acl(name: &'static str, number: u16, length: u16) -> Registered {
    Registered {
        name,
        number,
        length,
        byteswap: 4,
    }
}

/// All attributes of new file systems.
pub const REGISTERED: [Registered; 22] = [
    words("ZPL_ATIME", 0, 2),
    words("ZPL_MTIME", 1, 2),
    words("ZPL_CTIME", 2, 2),
    words("ZPL_CRTIME", 3, 2),
    words("ZPL_GEN", 4, 1),
    words("ZPL_MODE", 5, 1),
    words("ZPL_SIZE", 6, 1),
    words("ZPL_PARENT", 7, 1),
    words("ZPL_LINKS", 8, 1),
    words("ZPL_XATTR", 9, 1),
    words("ZPL_RDEV", 10, 1),
    words("ZPL_FLAGS", 11, 1),
    words("ZPL_UID", 12, 1),
    words("ZPL_GID", 13, 1),
    words("ZPL_PAD", 14, 4),
    acl("ZPL_ZNODE_ACL", 15, 88),
    words("ZPL_DACL_COUNT", 16, 1),
    bytes("ZPL_SYMLINK", 17, 0),
    bytes("ZPL_SCANSTAMP", 18, 32),
    acl("ZPL_DACL_ACES", 19, 0),
    bytes("ZPL_DXATTR", 20, 0),
    words("ZPL_PROJID", 21, 1),
];

/// Number of the first layout that a file system registers; the two below are the old fixed structures.
pub const FIRST_LAYOUT: u16 = 2;
/// Packs values, which follow the layout's order, with the header that says which layout it is. `variable` says of each value whether its length is its own.
pub fn pack(layout: u16, values: &[(Vec<u8>, Length)]) -> Result<Vec<u8>, Error> {
    let lengths: Vec<usize> = values
        .iter()
        .filter(|(_, length)| *length == Length::Own)
        .map(|(value, _)| value.len())
        .collect();
    let header = (super::LENGTHS_AT + 2 * lengths.len()).next_multiple_of(8);
    let mut buffer = vec![0; header];
    put_u32(&mut buffer, 0, MAGIC);
    put_u16(&mut buffer, 4, layout | ((header / 8) as u16) << 10);
    for (index, length) in lengths.into_iter().enumerate() {
        let length =
            u16::try_from(length).map_err(|_| Error::Corrupt(Structure::SystemAttributes))?;
        put_u16(&mut buffer, super::LENGTHS_AT + 2 * index, length);
    }
    for (value, _) in values {
        buffer.extend_from_slice(value);
        buffer.resize(buffer.len().next_multiple_of(8), 0);
    }
    Ok(buffer)
}

/// Whether all values of an attribute are of one length.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// They are.
    Fixed,
    /// Each has its own, in the header.
    Own,
}
