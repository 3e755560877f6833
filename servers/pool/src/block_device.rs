//! The devices under a pool, and a device made of memory.
//!
//! The pool knows nothing of controllers or files. It has bytes at offsets, a flush that makes earlier
//! writes durable, and a discard that gives up a range. Partitions are devices too (`partition`).

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::{Future, ready};
use core::pin::Pin;

use crate::error::DeviceError;

/// The answer of a device: ready when the bytes were copied or are on their way no more.
pub type DeviceFuture<'a> = Pin<Box<dyn Future<Output = Result<(), DeviceError>> + 'a>>;

/// A disk, a partition, a file or memory. Offsets and lengths are in bytes and multiples of the
/// device's sector size, which is at most 2^ashift of the vdev it serves.
pub trait BlockDevice {
    /// Size in bytes.
    fn length(&self) -> u64;

    /// Fills `buffer` from `offset`.
    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> DeviceFuture<'a>;

    /// Writes the parts one after the other from `offset`. It is durable only after `flush`.
    fn write<'a>(&'a self, offset: u64, parts: &'a [&'a [u8]]) -> DeviceFuture<'a>;

    /// Completes when every write that completed before is on stable storage.
    fn flush(&self) -> DeviceFuture<'_>;

    /// Tells the device that the range holds nothing of value. It may read as anything after.
    fn discard(&self, offset: u64, length: u64) -> DeviceFuture<'_>;

    /// Whether writes are refused.
    fn access(&self) -> Access {
        Access::ReadWrite
    }
}

/// What a device or a pool may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Reads only; nothing is repaired or replayed on disk.
    ReadOnly,
    /// Reads and writes.
    ReadWrite,
}

/// Granule of [`MemoryDevice`]: large enough to keep the map small, small enough for sparse images.
const CHUNK: usize = 64 * 1024;

/// A device in memory that stores only the chunks that were written.
pub struct MemoryDevice {
    length: u64,
    access: Access,
    chunks: RefCell<BTreeMap<u64, Box<[u8]>>>,
}

impl MemoryDevice {
    /// An empty device of `length` bytes, all zero.
    pub fn new(length: u64) -> Self {
        MemoryDevice {
            length,
            access: Access::ReadWrite,
            chunks: RefCell::default(),
        }
    }

    /// The same device, refusing writes from now on.
    pub fn read_only(mut self) -> Self {
        self.access = Access::ReadOnly;
        self
    }

    /// Copies out of the device.
    pub fn peek(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        self.check(offset, buffer.len())?;
        let chunks = self.chunks.borrow();
        for_each_chunk(offset, buffer.len(), |chunk, inside, range| {
            match chunks.get(&chunk) {
                Some(bytes) => {
                    let length = range.len();
                    buffer[range].copy_from_slice(&bytes[inside..inside + length]);
                }
                None => buffer[range].fill(0),
            }
        });
        Ok(())
    }

    /// Copies into the device, whatever its access; tests damage disks with it.
    pub fn poke(&self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        self.check(offset, bytes.len())?;
        let mut chunks = self.chunks.borrow_mut();
        for_each_chunk(offset, bytes.len(), |chunk, inside, range| {
            let part = &bytes[range];
            if !chunks.contains_key(&chunk) && part.iter().all(|&byte| byte == 0) {
                return;
            }
            let stored = chunks
                .entry(chunk)
                .or_insert_with(|| alloc::vec![0; CHUNK].into());
            stored[inside..inside + part.len()].copy_from_slice(part);
        });
        Ok(())
    }

    fn check(&self, offset: u64, length: usize) -> Result<(), DeviceError> {
        match offset.checked_add(length as u64) {
            Some(end) if end <= self.length => Ok(()),
            _ => Err(DeviceError::OutOfRange),
        }
    }

    fn write_parts(&self, mut offset: u64, parts: &[&[u8]]) -> Result<(), DeviceError> {
        if self.access == Access::ReadOnly {
            return Err(DeviceError::ReadOnly);
        }
        for part in parts {
            self.poke(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

/// Calls `each(chunk number, offset inside the chunk, range of the caller's bytes)`.
fn for_each_chunk(
    offset: u64,
    length: usize,
    mut each: impl FnMut(u64, usize, core::ops::Range<usize>),
) {
    let mut done = 0;
    while done < length {
        let at = offset + done as u64;
        let inside = (at % CHUNK as u64) as usize;
        let part = (CHUNK - inside).min(length - done);
        each(at / CHUNK as u64, inside, done..done + part);
        done += part;
    }
}

impl BlockDevice for MemoryDevice {
    fn length(&self) -> u64 {
        self.length
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(ready(self.peek(offset, buffer)))
    }

    fn write<'a>(&'a self, offset: u64, parts: &'a [&'a [u8]]) -> DeviceFuture<'a> {
        Box::pin(ready(self.write_parts(offset, parts)))
    }

    fn flush(&self) -> DeviceFuture<'_> {
        Box::pin(ready(Ok(())))
    }

    fn discard(&self, offset: u64, length: u64) -> DeviceFuture<'_> {
        let end = offset.saturating_add(length).min(self.length) / CHUNK as u64;
        let whole: Vec<u64> = self
            .chunks
            .borrow()
            .range(offset.div_ceil(CHUNK as u64)..end.max(offset.div_ceil(CHUNK as u64)))
            .map(|(&chunk, _)| chunk)
            .collect();
        for chunk in whole {
            self.chunks.borrow_mut().remove(&chunk);
        }
        Box::pin(ready(Ok(())))
    }

    fn access(&self) -> Access {
        self.access
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::future::block_on;

    #[test]
    fn what_was_written_across_chunks_is_read_back() {
        let device = MemoryDevice::new(1 << 20);
        let data: Vec<u8> = (0..200_000u32).map(|number| number as u8).collect();
        block_on(device.write(60_000, &[&data[..1000], &data[1000..]])).unwrap();
        let mut back = alloc::vec![0; data.len()];
        block_on(device.read(60_000, &mut back)).unwrap();
        assert_eq!(back, data);
    }

    #[test]
    fn a_request_past_the_end_is_refused_and_writes_nothing() {
        let device = MemoryDevice::new(4096);
        assert_eq!(
            block_on(device.write(4000, &[&[1; 100]])),
            Err(DeviceError::OutOfRange)
        );
        assert!(device.chunks.borrow().is_empty());
    }

    #[test]
    fn a_read_only_device_refuses_writes() {
        let device = MemoryDevice::new(4096).read_only();
        assert_eq!(
            block_on(device.write(0, &[&[1; 512]])),
            Err(DeviceError::ReadOnly)
        );
    }
}
