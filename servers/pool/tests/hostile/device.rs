//! A device over a golden image: what is written stays in memory, and a case has only so many reads.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::future::ready;
use std::rc::Rc;

use pool::block_device::{BlockDevice, DeviceFuture};
use pool::error::DeviceError;
use pool::future::block_on;

const SECTOR: usize = 512;

/// An image with changes that can be forgotten at once.
pub struct Overlay {
    base: Rc<dyn BlockDevice>,
    changed: RefCell<BTreeMap<u64, [u8; SECTOR]>>,
    /// Requests that are still answered, shared by the devices of a pool: what would loop for ever runs out of them.
    requests_left: Rc<Cell<u64>>,
}

impl Overlay {
    pub fn new(base: Rc<dyn BlockDevice>, requests_left: &Rc<Cell<u64>>) -> Self {
        Overlay {
            base,
            changed: RefCell::default(),
            requests_left: requests_left.clone(),
        }
    }

    /// The image is as it was.
    pub fn reset(&self) {
        self.changed.borrow_mut().clear();
    }

    fn take_request(&self) -> Result<(), DeviceError> {
        let left = self.requests_left.get().checked_sub(1);
        self.requests_left.set(left.ok_or(DeviceError::Gone)?);
        Ok(())
    }

    pub fn peek(&self, offset: u64, buffer: &mut [u8]) -> Result<(), DeviceError> {
        block_on(self.base.read(offset, buffer))?;
        let end = offset + buffer.len() as u64;
        let first = offset / SECTOR as u64 * SECTOR as u64;
        for (&at, sector) in self.changed.borrow().range(first..end) {
            let from = at.max(offset);
            let to = (at + SECTOR as u64).min(end);
            buffer[(from - offset) as usize..(to - offset) as usize]
                .copy_from_slice(&sector[(from - at) as usize..(to - at) as usize]);
        }
        Ok(())
    }

    pub fn poke(&self, offset: u64, bytes: &[u8]) -> Result<(), DeviceError> {
        let end = offset.checked_add(bytes.len() as u64);
        if end.is_none_or(|end| end > self.length()) {
            return Err(DeviceError::OutOfRange);
        }
        let mut done = 0;
        while done < bytes.len() {
            let at = offset + done as u64;
            let inside = (at % SECTOR as u64) as usize;
            let part = (SECTOR - inside).min(bytes.len() - done);
            let mut sector = [0; SECTOR];
            let start = at - inside as u64;
            self.peek(start, &mut sector)?;
            sector[inside..inside + part].copy_from_slice(&bytes[done..done + part]);
            self.changed.borrow_mut().insert(start, sector);
            done += part;
        }
        Ok(())
    }

    fn write_parts(&self, mut offset: u64, parts: &[&[u8]]) -> Result<(), DeviceError> {
        self.take_request()?;
        for part in parts {
            self.poke(offset, part)?;
            offset += part.len() as u64;
        }
        Ok(())
    }
}

impl BlockDevice for Overlay {
    fn length(&self) -> u64 {
        self.base.length()
    }

    fn read<'a>(&'a self, offset: u64, buffer: &'a mut [u8]) -> DeviceFuture<'a> {
        let done = self.take_request();
        Box::pin(ready(done.and_then(|()| self.peek(offset, buffer))))
    }

    fn write<'a>(&'a self, offset: u64, parts: &'a [&'a [u8]]) -> DeviceFuture<'a> {
        Box::pin(ready(self.write_parts(offset, parts)))
    }

    fn flush(&self) -> DeviceFuture<'_> {
        Box::pin(ready(Ok(())))
    }

    fn discard(&self, _offset: u64, _length: u64) -> DeviceFuture<'_> {
        Box::pin(ready(Ok(())))
    }
}
