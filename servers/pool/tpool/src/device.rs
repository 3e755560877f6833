//! Image files and block devices of the host as devices of the pool.

use std::fs::{File, OpenOptions};
use std::future::ready;
use std::io::{Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::rc::Rc;

use pool::block_device::{Access, BlockDevice, DeviceFuture};
use pool::error::DeviceError;
use pool::future::block_on;
use pool::partition::partitions;

use crate::failure::Failure;

/// A file or block device of the host.
pub struct FileDevice {
    file: File,
    length: u64,
    access: Access,
}

impl FileDevice {
    /// Opens a path.
    pub fn open(path: &str, access: Access) -> std::io::Result<FileDevice> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            .open(path)?;
        // The metadata of a block device says 0; its end can be sought.
        let length = file.seek(SeekFrom::End(0))?;
        Ok(FileDevice {
            file,
            length,
            access,
        })
    }

    fn write_parts(&self, mut offset: u64, parts: &[&[u8]]) -> Result<(), DeviceError> {
        for part in parts {
            self.file
                .write_all_at(part, offset)
                .map_err(|_| DeviceError::Failed)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl BlockDevice for FileDevice {
    fn length(&self) -> u64 {
        self.length
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> DeviceFuture<'a> {
        Box::pin(ready(
            self.file
                .read_exact_at(buffer, offset)
                .map_err(|_| DeviceError::Failed),
        ))
    }

    fn write<'a>(&'a self, offset: u64, parts: &'a [&'a [u8]]) -> DeviceFuture<'a> {
        let end = parts
            .iter()
            .fold(offset, |end, part| end.saturating_add(part.len() as u64));
        let result = match self.access {
            Access::ReadOnly => Err(DeviceError::ReadOnly),
            Access::ReadWrite if end > self.length => Err(DeviceError::OutOfRange),
            Access::ReadWrite => self.write_parts(offset, parts),
        };
        Box::pin(ready(result))
    }

    fn flush(&self) -> DeviceFuture<'_> {
        Box::pin(ready(
            self.file.sync_data().map_err(|_| DeviceError::Failed),
        ))
    }

    fn discard(&self, _offset: u64, _length: u64) -> DeviceFuture<'_> {
        // Standard Rust has no way to punch a hole; keeping the bytes is allowed.
        Box::pin(ready(Ok(())))
    }

    fn access(&self) -> Access {
        self.access
    }
}

/// Opens every path, and every partition in it.
pub fn open_all(paths: &[String], access: Access) -> Result<Vec<Rc<dyn BlockDevice>>, Failure> {
    let mut devices: Vec<Rc<dyn BlockDevice>> = Vec::new();
    for path in paths {
        let device =
            FileDevice::open(path, access).map_err(|error| Failure::Host(path.clone(), error))?;
        let device: Rc<dyn BlockDevice> = Rc::new(device);
        for partition in block_on(partitions(&device)) {
            devices.push(Rc::new(partition));
        }
        devices.push(device);
    }
    Ok(devices)
}
