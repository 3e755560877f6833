//! Partitions: parts of a device that are devices themselves, found in a GUID partition table.
//!
//! A disk given whole to ZFS gets such a table with the pool in the first partition.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::future::ready;

use crate::block_device::{Access, BlockDevice, DeviceFuture};
use crate::error::{DeviceError, Error, Structure};
use crate::layout::Fields;

/// Sector sizes that a table is looked for with.
const SECTOR_SIZES: [usize; 2] = [512, 4096];
const SIGNATURE: &[u8] = b"EFI PART";
/// Entries read at most; tables have 128.
const MAX_ENTRIES: usize = 1024;
/// Bounds of an entry's size.
const ENTRY_SIZE: core::ops::RangeInclusive<usize> = 128..=4096;

/// A part of another device.
pub struct Partition {
    device: Rc<dyn BlockDevice>,
    start: u64,
    length: u64,
}

impl Partition {
    /// The part of `device` from `start`.
    ///
    /// # Errors
    /// `Corrupt` when it does not lie within the device.
    pub fn new(device: Rc<dyn BlockDevice>, start: u64, length: u64) -> Result<Partition, Error> {
        match start.checked_add(length) {
            Some(end) if end <= device.length() => Ok(Partition {
                device,
                start,
                length,
            }),
            _ => Err(Error::Corrupt(Structure::PartitionTable)),
        }
    }

    fn locate(&self, offset: u64, length: u64) -> Result<u64, DeviceError> {
        match offset.checked_add(length) {
            Some(end) if end <= self.length => Ok(self.start + offset),
            _ => Err(DeviceError::OutOfRange),
        }
    }
}

impl BlockDevice for Partition {
    fn length(&self) -> u64 {
        self.length
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> DeviceFuture<'a> {
        match self.locate(offset, buffer.len() as u64) {
            Ok(at) => self.device.read(at, buffer),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn write<'a>(&'a self, offset: u64, parts: &'a [&'a [u8]]) -> DeviceFuture<'a> {
        let length = parts.iter().map(|part| part.len() as u64).sum();
        match self.locate(offset, length) {
            Ok(at) => self.device.write(at, parts),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn flush(&self) -> DeviceFuture<'_> {
        self.device.flush()
    }

    fn discard(&self, offset: u64, length: u64) -> DeviceFuture<'_> {
        match self.locate(offset, length) {
            Ok(at) => self.device.discard(at, length),
            Err(error) => Box::pin(ready(Err(error))),
        }
    }

    fn access(&self) -> Access {
        self.device.access()
    }
}

/// The partitions of a device; none when it has no table. Entries that do not fit the device are left out.
pub async fn partitions(device: &Rc<dyn BlockDevice>) -> Vec<Partition> {
    for sector in SECTOR_SIZES {
        let mut header = vec![0; sector];
        if device.read(sector as u64, &mut header).await.is_ok()
            && let Some(found) = read_table(device, &header, sector).await
        {
            return found;
        }
    }
    Vec::new()
}

async fn read_table(
    device: &Rc<dyn BlockDevice>,
    header: &[u8],
    sector: usize,
) -> Option<Vec<Partition>> {
    if header.bytes_at(0, SIGNATURE.len())? != SIGNATURE {
        return None;
    }
    let at = header.u64_at(72)?.checked_mul(sector as u64)?;
    let count = header.u32_at(80)? as usize;
    let size = header.u32_at(84)? as usize;
    if count > MAX_ENTRIES || !ENTRY_SIZE.contains(&size) {
        return None;
    }
    let mut table = vec![0; (count * size).next_multiple_of(sector)];
    device.read(at, &mut table).await.ok()?;
    let entries = table.chunks_exact(size).take(count).filter_map(|entry| {
        let used = entry.bytes_at(0, 16)?.iter().any(|&byte| byte != 0);
        let (first, last) = (entry.u64_at(32)?, entry.u64_at(40)?);
        let sectors = last.checked_sub(first)?.checked_add(1).filter(|_| used)?;
        let start = first.checked_mul(sector as u64)?;
        Partition::new(device.clone(), start, sectors.checked_mul(sector as u64)?).ok()
    });
    Some(entries.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block_device::MemoryDevice;
    use crate::future::block_on;
    use crate::layout::{put_u32, put_u64};

    fn disk() -> Rc<dyn BlockDevice> {
        let disk = MemoryDevice::new(1 << 20);
        let mut header = [0; 512];
        header[..8].copy_from_slice(SIGNATURE);
        put_u64(&mut header, 72, 2);
        put_u32(&mut header, 80, 4);
        put_u32(&mut header, 84, 128);
        disk.poke(512, &header).unwrap();
        let mut entry = [1; 128];
        put_u64(&mut entry, 32, 100);
        put_u64(&mut entry, 40, 199);
        disk.poke(1024, &entry).unwrap();
        put_u64(&mut entry, 40, 1 << 40);
        disk.poke(1152, &entry).unwrap();
        Rc::new(disk)
    }

    #[test]
    fn a_partition_is_a_device_of_its_own() {
        let disk = disk();
        let found = block_on(partitions(&disk));
        assert_eq!(found.len(), 1, "the entry beyond the disk is left out");
        assert_eq!(found[0].length(), 100 * 512);
        block_on(found[0].write(512, &[&[7; 512]])).unwrap();
        let mut back = [0; 512];
        block_on(disk.read(101 * 512, &mut back)).unwrap();
        assert_eq!(back, [7; 512]);
        assert_eq!(
            block_on(found[0].read(99 * 512, &mut [0; 1024])),
            Err(DeviceError::OutOfRange)
        );
    }

    #[test]
    fn a_device_without_a_table_has_no_partitions() {
        let disk: Rc<dyn BlockDevice> = Rc::new(MemoryDevice::new(1 << 20));
        assert!(block_on(partitions(&disk)).is_empty());
    }
}
