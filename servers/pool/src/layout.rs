//! Bounds-checked access to little-endian fields of on-disk bytes.
//!
//! Every parser of the pool goes through these, so that no offset that came from a disk can panic.
//! Writers use the `put` functions on buffers they sized themselves.

use alloc::vec::Vec;

/// Reads fields of a byte slice; `None` when the field is not wholly inside.
pub trait Fields {
    /// The byte at `at`.
    fn u8_at(&self, at: usize) -> Option<u8>;
    /// The little-endian 16-bit field at byte `at`.
    fn u16_at(&self, at: usize) -> Option<u16>;
    /// The little-endian 32-bit field at byte `at`.
    fn u32_at(&self, at: usize) -> Option<u32>;
    /// The little-endian 64-bit field at byte `at`.
    fn u64_at(&self, at: usize) -> Option<u64>;
    /// `length` bytes from `at`.
    fn bytes_at(&self, at: usize, length: usize) -> Option<&[u8]>;
    /// The bytes of a NUL-padded name field, without the padding.
    fn name_at(&self, at: usize, length: usize) -> Option<&[u8]>;
    /// All whole little-endian 64-bit words.
    fn words(&self) -> Vec<u64>;
}

impl Fields for [u8] {
    fn u8_at(&self, at: usize) -> Option<u8> {
        self.get(at).copied()
    }

    fn u16_at(&self, at: usize) -> Option<u16> {
        self.get(at..)?
            .first_chunk()
            .map(|bytes| u16::from_le_bytes(*bytes))
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        self.get(at..)?
            .first_chunk()
            .map(|bytes| u32::from_le_bytes(*bytes))
    }

    fn u64_at(&self, at: usize) -> Option<u64> {
        self.get(at..)?
            .first_chunk()
            .map(|bytes| u64::from_le_bytes(*bytes))
    }

    fn bytes_at(&self, at: usize, length: usize) -> Option<&[u8]> {
        self.get(at..at.checked_add(length)?)
    }

    fn name_at(&self, at: usize, length: usize) -> Option<&[u8]> {
        let field = self.bytes_at(at, length)?;
        let end = field.iter().position(|&byte| byte == 0).unwrap_or(length);
        field.get(..end)
    }

    fn words(&self) -> Vec<u64> {
        self.as_chunks::<8>()
            .0
            .iter()
            .map(|word| u64::from_le_bytes(*word))
            .collect()
    }
}

/// Writes a little-endian 16-bit field; the caller sized the buffer.
pub fn put_u16(buffer: &mut [u8], at: usize, value: u16) {
    buffer[at..at + 2].copy_from_slice(&value.to_le_bytes());
}

/// Writes a little-endian 32-bit field; the caller sized the buffer.
pub fn put_u32(buffer: &mut [u8], at: usize, value: u32) {
    buffer[at..at + 4].copy_from_slice(&value.to_le_bytes());
}

/// Writes a little-endian 64-bit field; the caller sized the buffer.
pub fn put_u64(buffer: &mut [u8], at: usize, value: u64) {
    buffer[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_beyond_the_end_are_none() {
        let bytes = [1u8, 2, 3, 4, 5, 6, 7, 8];
        assert_eq!(bytes.u64_at(0), Some(0x0807_0605_0403_0201));
        assert_eq!(bytes.u64_at(1), None);
        assert_eq!(bytes.u32_at(usize::MAX), None);
        assert_eq!(bytes.bytes_at(4, usize::MAX), None);
    }

    #[test]
    fn a_name_ends_at_the_first_nul_or_the_field() {
        let bytes = *b"abc\0def";
        assert_eq!(bytes.name_at(0, 7), Some(&b"abc"[..]));
        assert_eq!(bytes.name_at(4, 3), Some(&b"def"[..]));
    }
}
