//! Block checksums: which there are, how one is computed, and the embedded kind that labels use.
//!
//! ZFS calls this part `zio_checksum`. The algorithms are in the files beside; this one maps the format's numbers
//! to them and knows in which byte order each puts its digest into the four words of a block pointer.

mod edonr;
mod fletcher;
mod skein;

use sha2::{Digest, Sha256, Sha512_256};

use crate::error::{Error, Unsupported};
use crate::layout::{Fields, put_u64};

/// The four words of a block pointer's checksum.
pub type Checksum = [u64; 4];

/// The pool's secret that keys skein, edonr and blake3.
pub type Salt = [u8; 32];

/// How a block is checksummed, with the numbers of the format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChecksumKind {
    /// Not checked.
    Off = 2,
    /// SHA-256 embedded in the block: labels.
    Label = 3,
    /// SHA-256 embedded in the block: gang headers.
    GangHeader = 4,
    /// fletcher2 embedded at the block's end: old log blocks.
    Zilog = 5,
    /// Two sums over 64-bit words.
    Fletcher2 = 6,
    /// Four sums over 32-bit words: the default.
    Fletcher4 = 7,
    /// SHA-256.
    Sha256 = 8,
    /// fletcher4 over the used part of a log block.
    Zilog2 = 9,
    /// Not checked.
    NoParity = 10,
    /// SHA-512/256.
    Sha512 = 11,
    /// Skein-512 with 256 bits of output, keyed.
    Skein = 12,
    /// Edon-R 512, seeded.
    EdonR = 13,
    /// BLAKE3, keyed.
    Blake3 = 14,
}

impl ChecksumKind {
    /// The kind with this number in a block pointer.
    pub fn from_id(id: u8) -> Result<Self, Error> {
        Ok(match id {
            2 => ChecksumKind::Off,
            3 => ChecksumKind::Label,
            4 => ChecksumKind::GangHeader,
            5 => ChecksumKind::Zilog,
            6 => ChecksumKind::Fletcher2,
            7 => ChecksumKind::Fletcher4,
            8 => ChecksumKind::Sha256,
            9 => ChecksumKind::Zilog2,
            10 => ChecksumKind::NoParity,
            11 => ChecksumKind::Sha512,
            12 => ChecksumKind::Skein,
            13 => ChecksumKind::EdonR,
            14 => ChecksumKind::Blake3,
            _ => return Err(Error::Unsupported(Unsupported::Checksum(id))),
        })
    }

    /// The checksum of a block's physical bytes; all zero for the kinds that do not check.
    pub fn compute(self, salt: &Salt, data: &[u8]) -> Checksum {
        match self {
            ChecksumKind::Off | ChecksumKind::NoParity => [0; 4],
            ChecksumKind::Zilog | ChecksumKind::Fletcher2 => fletcher::fletcher2(data),
            ChecksumKind::Fletcher4 | ChecksumKind::Zilog2 => fletcher::fletcher4(data),
            ChecksumKind::Sha256 | ChecksumKind::Label | ChecksumKind::GangHeader => sha256(data),
            ChecksumKind::Sha512 => raw_words(&Sha512_256::digest(data)),
            ChecksumKind::Skein => raw_words(&skein::skein512_256(salt, data)),
            ChecksumKind::EdonR => raw_words(&edonr::edonr512_salted(salt, data)),
            ChecksumKind::Blake3 => raw_words(blake3::keyed_hash(salt, data).as_bytes()),
        }
    }

    /// Whether a block of this kind can be told from a damaged one.
    pub fn detects(self) -> bool {
        !matches!(self, ChecksumKind::Off | ChecksumKind::NoParity)
    }
}

/// SHA-256 in the word order of block pointers.
pub fn sha256(data: &[u8]) -> Checksum {
    big_endian_words(&Sha256::digest(data))
}

/// fletcher4 of a stream that arrives in pieces: send streams and logs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fletcher4(Checksum);

impl Fletcher4 {
    /// Adds bytes; a tail shorter than four bytes is not counted.
    pub fn update(&mut self, data: &[u8]) {
        self.0 = fletcher::fletcher4_continue(self.0, data);
    }

    /// The checksum of everything so far.
    pub fn value(&self) -> Checksum {
        self.0
    }
}

fn big_endian_words(digest: &[u8]) -> Checksum {
    raw_words(digest).map(u64::swap_bytes)
}

fn raw_words(digest: &[u8]) -> Checksum {
    let mut words = [0; 4];
    for (word, bytes) in words.iter_mut().zip(digest.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*bytes);
    }
    words
}

/// Marks an embedded checksum structure: `magic, checksum[4]` at the end of the area it covers.
pub const EMBEDDED_MAGIC: u64 = 0x0210_da7a_b10c_7a11;
/// Size of that structure.
pub const EMBEDDED_SIZE: usize = 40;

/// Whether an area with an embedded checksum is intact. `verifier` is what the checksum words hold while it is computed: the
/// area's address, so that a copy from elsewhere does not pass.
pub fn embedded_is_valid(area: &[u8], verifier: Checksum) -> bool {
    let Some(at) = area.len().checked_sub(EMBEDDED_SIZE) else {
        return false;
    };
    if area.u64_at(at) != Some(EMBEDDED_MAGIC) {
        return false;
    }
    let mut copy = alloc::vec::Vec::from(area);
    for (index, word) in verifier.iter().enumerate() {
        put_u64(&mut copy, at + 8 + 8 * index, *word);
    }
    raw_words(&area[at + 8..]) == sha256(&copy)
}

/// Sets the embedded checksum of an area whose last [`EMBEDDED_SIZE`] bytes are reserved for it.
pub fn embed(area: &mut [u8], verifier: Checksum) {
    let at = area.len() - EMBEDDED_SIZE;
    put_u64(area, at, EMBEDDED_MAGIC);
    put_words(area, at + 8, verifier);
    let checksum = sha256(area);
    put_words(area, at + 8, checksum);
}

fn put_words(area: &mut [u8], at: usize, words: Checksum) {
    for (index, word) in words.iter().enumerate() {
        put_u64(area, at + 8 * index, *word);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sha256_of_abc_is_in_big_endian_words() {
        assert_eq!(sha256(b"abc")[0], 0xba78_16bf_8f01_cfea);
    }

    #[test]
    fn an_embedded_checksum_passes_only_at_its_own_address() {
        let mut area = [7u8; 1024];
        embed(&mut area, [16384, 0, 0, 0]);
        assert!(embedded_is_valid(&area, [16384, 0, 0, 0]));
        assert!(!embedded_is_valid(&area, [32768, 0, 0, 0]));
        area[3] ^= 1;
        assert!(!embedded_is_valid(&area, [16384, 0, 0, 0]));
        assert!(!embedded_is_valid(&area[..16], [0; 4]));
    }

    #[test]
    fn fletcher4_in_pieces_equals_the_whole() {
        let data: alloc::vec::Vec<u8> = (0..4096u32).map(|number| (number * 7) as u8).collect();
        let mut sum = Fletcher4::default();
        sum.update(&data[..1024]);
        sum.update(&data[1024..]);
        assert_eq!(
            sum.value(),
            ChecksumKind::Fletcher4.compute(&[0; 32], &data)
        );
    }
}
