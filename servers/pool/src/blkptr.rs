//! Block pointers: 128 bytes that say where a block is, how large, how packed, and what its checksum is.

use core::fmt;

use crate::checksum::{Checksum, ChecksumKind};
use crate::compress::Compression;
use crate::error::{Error, Structure, Unsupported};
use crate::layout::{Fields, put_u64};

/// Size of a block pointer on disk.
pub const BLKPTR_SIZE: usize = 128;
/// log2 of [`BLKPTR_SIZE`].
pub const BLKPTR_SHIFT: u32 = 7;
/// Copies a block pointer can name.
pub const DVAS: usize = 3;
/// The unit of sizes and offsets in a block pointer.
pub const SECTOR_SHIFT: u32 = 9;
/// The largest block of the format.
pub const MAX_BLOCK_SIZE: usize = 16 << 20;
/// The largest payload of an embedded block pointer.
pub const EMBEDDED_MAX: usize = 112;

/// Words of an embedded block pointer that hold payload, in order.
const PAYLOAD_WORDS: [usize; 14] = [0, 1, 2, 3, 4, 5, 7, 8, 9, 11, 12, 13, 14, 15];

const PROPERTIES: usize = 6;
const PHYSICAL_BIRTH: usize = 9;
const BIRTH: usize = 10;
const FILL: usize = 11;
const CHECKSUM: usize = 12;

const EMBEDDED_BIT: u32 = 39;
const ENCRYPTED_BIT: u32 = 61;
const DEDUP_BIT: u32 = 62;
const LITTLE_ENDIAN_BIT: u32 = 63;

/// A data virtual address: where one copy of a block is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Dva {
    /// Number of the top-level vdev.
    pub vdev: u32,
    /// Byte offset in the vdev's data area.
    pub offset: u64,
    /// Bytes allocated, including parity and padding.
    pub allocated: u64,
    /// Whether a gang header is there instead of the data.
    pub gang: Gang,
}

/// Whether an address holds the block itself or a header that names its pieces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Gang {
    /// The block.
    #[default]
    No,
    /// A gang header.
    Header,
}

impl Dva {
    fn from_words(first: u64, second: u64) -> Option<Dva> {
        if first == 0 && second == 0 {
            return None;
        }
        Some(Dva {
            vdev: (first >> 32) as u32 & 0xff_ffff,
            offset: (second & !(1 << 63)) << SECTOR_SHIFT,
            allocated: (first & 0xff_ffff) << SECTOR_SHIFT,
            gang: if second >> 63 == 1 {
                Gang::Header
            } else {
                Gang::No
            },
        })
    }

    fn to_words(self) -> [u64; 2] {
        let gang = u64::from(self.gang == Gang::Header) << 63;
        [
            self.allocated >> SECTOR_SHIFT | u64::from(self.vdev) << 32,
            self.offset >> SECTOR_SHIFT | gang,
        ]
    }
}

/// What a new block pointer says of its block besides its addresses.
#[derive(Clone, Copy, Debug)]
pub struct BlockShape {
    /// Bytes after decompression.
    pub logical_size: usize,
    /// Bytes on disk, a multiple of 512.
    pub physical_size: usize,
    /// How it is compressed.
    pub compression: Compression,
    /// How it is checksummed.
    pub checksum: ChecksumKind,
    /// DMU object type.
    pub object_type: u8,
    /// 0 for data, above for indirect blocks.
    pub level: u8,
}

/// A block pointer as its sixteen words.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct BlockPointer([u64; 16]);

impl fmt::Debug for BlockPointer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("BlockPointer")
            .field("dvas", &self.dvas().collect::<alloc::vec::Vec<_>>())
            .field("type", &self.object_type())
            .field("level", &self.level())
            .field("lsize", &self.logical_size())
            .field("psize", &self.physical_size())
            .field("birth", &self.birth())
            .finish()
    }
}

impl BlockPointer {
    /// A hole that was never written.
    pub const HOLE: BlockPointer = BlockPointer([0; 16]);

    /// Reads a block pointer; `None` when fewer than 128 bytes are at `at`.
    pub fn decode(bytes: &[u8], at: usize) -> Option<BlockPointer> {
        let bytes = bytes.bytes_at(at, BLKPTR_SIZE)?;
        let mut words = [0; 16];
        for (word, bytes) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
            *word = u64::from_le_bytes(*bytes);
        }
        Some(BlockPointer(words))
    }

    /// Writes the block pointer at `at` of a buffer that the caller sized.
    pub fn encode(&self, buffer: &mut [u8], at: usize) {
        for (index, word) in self.0.iter().enumerate() {
            put_u64(buffer, at + 8 * index, *word);
        }
    }

    /// A block pointer without addresses and checksum; both are set when the block is written.
    pub fn new(shape: BlockShape, birth: u64, fill: u64) -> BlockPointer {
        let mut pointer = BlockPointer::default();
        pointer.0[PROPERTIES] = (shape.logical_size as u64 >> SECTOR_SHIFT).wrapping_sub(1)
            & 0xffff
            | ((shape.physical_size as u64 >> SECTOR_SHIFT).wrapping_sub(1) & 0xffff) << 16
            | u64::from(shape.compression.id()) << 32
            | u64::from(shape.checksum as u8) << 40
            | u64::from(shape.object_type) << 48
            | u64::from(shape.level) << 56
            | 1 << LITTLE_ENDIAN_BIT;
        pointer.0[BIRTH] = birth;
        pointer.0[FILL] = fill;
        pointer
    }

    /// A hole that remembers when it was made; `hole_birth` needs its size, type and level.
    pub fn hole(shape: BlockShape, birth: u64) -> BlockPointer {
        let mut pointer = BlockPointer::default();
        pointer.0[PROPERTIES] = (shape.logical_size as u64 >> SECTOR_SHIFT).wrapping_sub(1)
            & 0xffff
            | u64::from(shape.object_type) << 48
            | u64::from(shape.level) << 56;
        pointer.0[BIRTH] = birth;
        pointer
    }

    /// A block pointer that holds its block's (compressed) bytes itself. `payload` is at most
    /// [`EMBEDDED_MAX`] bytes.
    pub fn embedded(shape: BlockShape, payload: &[u8], birth: u64) -> BlockPointer {
        let mut pointer = BlockPointer::default();
        let mut padded = [0; EMBEDDED_MAX];
        padded[..payload.len()].copy_from_slice(payload);
        for (word, bytes) in PAYLOAD_WORDS.iter().zip(padded.as_chunks::<8>().0) {
            pointer.0[*word] = u64::from_le_bytes(*bytes);
        }
        pointer.0[PROPERTIES] = (shape.logical_size as u64 - 1) & 0x1ff_ffff
            | (payload.len() as u64 - 1) << 25
            | u64::from(shape.compression.id()) << 32
            | 1 << EMBEDDED_BIT
            | u64::from(shape.object_type) << 48
            | u64::from(shape.level) << 56
            | 1 << LITTLE_ENDIAN_BIT;
        pointer.0[BIRTH] = birth;
        pointer
    }

    fn properties(&self, shift: u32, bits: u32) -> u64 {
        self.0[PROPERTIES] >> shift & ((1 << bits) - 1)
    }

    /// Whether the payload is in the pointer itself.
    pub fn is_embedded(&self) -> bool {
        self.properties(EMBEDDED_BIT, 1) == 1
    }

    /// Whether there is no block: it reads as zeros.
    pub fn is_hole(&self) -> bool {
        !self.is_embedded() && self.0[0] == 0 && self.0[1] == 0
    }

    /// Whether the block is encrypted or, above level 0, authenticated.
    pub fn is_encrypted(&self) -> bool {
        self.properties(ENCRYPTED_BIT, 1) == 1
    }

    /// Whether the block is in the deduplication table.
    pub fn is_dedup(&self) -> bool {
        self.properties(DEDUP_BIT, 1) == 1
    }

    /// The addresses of the copies.
    pub fn dvas(&self) -> impl Iterator<Item = Dva> + '_ {
        // Encrypted blocks keep their salt and nonce where the third address would be.
        let count = match (self.is_embedded(), self.is_encrypted()) {
            (true, _) => 0,
            (false, true) => DVAS - 1,
            (false, false) => DVAS,
        };
        (0..count).filter_map(|index| Dva::from_words(self.0[2 * index], self.0[2 * index + 1]))
    }

    /// Sets the address of copy `index`.
    pub fn set_dva(&mut self, index: usize, dva: Dva) {
        let [first, second] = dva.to_words();
        self.0[2 * index] = first;
        self.0[2 * index + 1] = second;
    }

    /// Bytes after decompression.
    pub fn logical_size(&self) -> usize {
        if self.is_embedded() {
            self.properties(0, 25) as usize + 1
        } else {
            (self.properties(0, 16) as usize + 1) << SECTOR_SHIFT
        }
    }

    /// Bytes before decompression, as stored.
    pub fn physical_size(&self) -> usize {
        if self.is_embedded() {
            self.properties(25, 7) as usize + 1
        } else {
            (self.properties(16, 16) as usize + 1) << SECTOR_SHIFT
        }
    }

    /// Bytes allocated over all copies.
    pub fn allocated_size(&self) -> u64 {
        self.dvas().map(|dva| dva.allocated).sum()
    }

    /// How the block is compressed.
    pub fn compression(&self) -> Result<Compression, Error> {
        Compression::from_id(self.properties(32, 7) as u8)
    }

    /// How the block is checksummed.
    pub fn checksum_kind(&self) -> Result<ChecksumKind, Error> {
        ChecksumKind::from_id(self.properties(40, 8) as u8)
    }

    /// The kind of an embedded payload; 0 is plain data.
    pub fn embedded_type(&self) -> u8 {
        self.properties(40, 8) as u8
    }

    /// DMU object type of the block.
    pub fn object_type(&self) -> u8 {
        self.properties(48, 8) as u8
    }

    /// 0 for data, above for indirect blocks.
    pub fn level(&self) -> u8 {
        self.properties(56, 5) as u8
    }

    /// The transaction group that wrote the pointer.
    pub fn birth(&self) -> u64 {
        self.0[BIRTH]
    }

    /// The transaction group that allocated the block: differs for deduplicated and cloned blocks.
    pub fn physical_birth(&self) -> u64 {
        match (self.is_embedded(), self.0[PHYSICAL_BIRTH]) {
            (false, birth) if birth != 0 => birth,
            _ => self.birth(),
        }
    }

    /// Blocks below that are not holes; for dnode blocks, allocated dnodes.
    pub fn fill(&self) -> u64 {
        match (self.is_embedded(), self.is_encrypted() && self.level() == 0) {
            (true, _) => 1,
            (false, true) => self.0[FILL] & 0xffff_ffff,
            (false, false) => self.0[FILL],
        }
    }

    /// The same pointer with another fill count.
    pub fn with_fill(mut self, fill: u64) -> BlockPointer {
        self.0[FILL] = fill;
        self
    }

    /// The checksum of the stored bytes.
    pub fn checksum(&self) -> Checksum {
        [
            self.0[CHECKSUM],
            self.0[CHECKSUM + 1],
            self.0[CHECKSUM + 2],
            self.0[CHECKSUM + 3],
        ]
    }

    /// Sets the checksum of the stored bytes.
    pub fn set_checksum(&mut self, checksum: Checksum) {
        self.0[CHECKSUM..].copy_from_slice(&checksum);
    }

    /// Salt and nonce of an encrypted block.
    pub fn crypt_parameters(&self) -> ([u8; 8], [u8; 12]) {
        let mut nonce = [0; 12];
        nonce[..8].copy_from_slice(&self.0[5].to_le_bytes());
        nonce[8..].copy_from_slice(&((self.0[FILL] >> 32) as u32).to_le_bytes());
        (self.0[4].to_le_bytes(), nonce)
    }

    /// Authentication code of an encrypted block.
    pub fn crypt_mac(&self) -> [u8; 16] {
        let mut mac = [0; 16];
        mac[..8].copy_from_slice(&self.0[14].to_le_bytes());
        mac[8..].copy_from_slice(&self.0[15].to_le_bytes());
        mac
    }

    /// The payload of an embedded pointer, of its physical size.
    pub fn payload(&self) -> Result<alloc::vec::Vec<u8>, Error> {
        let mut bytes = alloc::vec::Vec::with_capacity(EMBEDDED_MAX);
        for word in PAYLOAD_WORDS {
            bytes.extend(self.0[word].to_le_bytes());
        }
        if self.physical_size() > bytes.len() {
            return Err(Error::Corrupt(Structure::BlockPointer));
        }
        bytes.truncate(self.physical_size());
        Ok(bytes)
    }

    /// Refuses what cannot be read: foreign byte order, sizes beyond the format's.
    pub fn validate(&self) -> Result<(), Error> {
        if self.properties(LITTLE_ENDIAN_BIT, 1) == 0 {
            return Err(Error::Unsupported(Unsupported::BigEndian));
        }
        if self.logical_size() > MAX_BLOCK_SIZE || self.physical_size() > MAX_BLOCK_SIZE {
            return Err(Error::Corrupt(Structure::BlockPointer));
        }
        if self.is_embedded() && self.embedded_type() != 0 {
            return Err(Error::Unsupported(Unsupported::EmbeddedType(
                self.embedded_type(),
            )));
        }
        Ok(())
    }

    /// The raw property word, which authentication codes cover.
    pub fn property_word(&self) -> u64 {
        self.0[PROPERTIES]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: BlockShape = BlockShape {
        logical_size: 131_072,
        physical_size: 4096,
        compression: Compression::Lz4,
        checksum: ChecksumKind::Fletcher4,
        object_type: 19,
        level: 0,
    };

    #[test]
    fn fields_survive_encoding() {
        let mut pointer = BlockPointer::new(SHAPE, 77, 1);
        let dva = Dva {
            vdev: 3,
            offset: 0x1234_5600,
            allocated: 8192,
            gang: Gang::Header,
        };
        pointer.set_dva(0, dva);
        pointer.set_checksum([1, 2, 3, 4]);
        let mut bytes = [0; 140];
        pointer.encode(&mut bytes, 12);
        let back = BlockPointer::decode(&bytes, 12).unwrap();
        assert_eq!(back, pointer);
        assert_eq!(back.dvas().next(), Some(dva));
        assert_eq!(
            (
                back.logical_size(),
                back.physical_size(),
                back.birth(),
                back.fill()
            ),
            (131_072, 4096, 77, 1)
        );
        assert_eq!(
            (back.object_type(), back.level(), back.checksum()),
            (19, 0, [1, 2, 3, 4])
        );
        assert_eq!(BlockPointer::decode(&bytes, 13), None);
    }

    #[test]
    fn an_embedded_pointer_gives_its_payload_back() {
        let payload: alloc::vec::Vec<u8> = (0..101).collect();
        let pointer = BlockPointer::embedded(SHAPE, &payload, 5);
        assert!(pointer.is_embedded() && !pointer.is_hole());
        assert_eq!(pointer.payload(), Ok(payload));
        assert_eq!(
            (
                pointer.logical_size(),
                pointer.birth(),
                pointer.dvas().count()
            ),
            (131_072, 5, 0)
        );
    }

    #[test]
    fn a_hole_keeps_its_birth() {
        let hole = BlockPointer::hole(SHAPE, 9);
        assert!(hole.is_hole());
        assert_eq!((hole.birth(), hole.logical_size()), (9, 131_072));
    }
}
