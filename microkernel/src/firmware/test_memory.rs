//! Physical memory for tests: an array of bytes that begins at some address.

use std::vec::Vec;

use super::PhysicalMemory;

/// Bytes at a physical address.
pub struct TestMemory {
    /// Address of the first byte.
    pub base: u64,
    /// The bytes.
    pub bytes: Vec<u8>,
}

impl PhysicalMemory for TestMemory {
    fn read(&self, address: u64, bytes: &mut [u8]) -> Option<()> {
        let start = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let end = start.checked_add(bytes.len())?;
        bytes.copy_from_slice(self.bytes.get(start..end)?);
        Some(())
    }
}

impl TestMemory {
    /// `size` zero bytes at `base`.
    pub fn zeroed(base: u64, size: usize) -> Self {
        Self {
            base,
            bytes: std::vec![0; size],
        }
    }

    /// Writes `bytes` at a physical address.
    pub fn put(&mut self, address: u64, bytes: &[u8]) {
        let start = (address - self.base) as usize;
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
    }
}
