//! Leaves: the vdevs that are devices.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;
use core::cell::RefCell;

use super::config::Mark;
use super::{LABEL_START_SIZE, ReadFailure, ReadRequest, Vdev, VdevState, count};
use crate::block_device::BlockDevice;
use crate::error::DeviceError;

/// The device of a leaf, when it was found.
pub struct Leaf {
    device: RefCell<Option<Rc<dyn BlockDevice>>>,
    mark: Mark,
}

impl Leaf {
    /// A leaf with its device; an offline or faulted leaf keeps it but does not use it.
    pub fn new(device: Option<Rc<dyn BlockDevice>>, mark: Mark) -> Self {
        Leaf {
            device: RefCell::new(device),
            mark,
        }
    }

    /// The device, when it may be used.
    pub fn device(&self) -> Option<Rc<dyn BlockDevice>> {
        match self.mark {
            Mark::Normal => self.device.borrow().clone(),
            Mark::Offline | Mark::Faulted | Mark::Removed => None,
        }
    }

    /// The device, used or not.
    pub fn held(&self) -> Option<Rc<dyn BlockDevice>> {
        self.device.borrow().clone()
    }

    /// Stops using the device, as when it was pulled out.
    pub fn close(&self) {
        self.device.replace(None);
    }

    /// Whether the device can be used, or why not.
    pub fn state(&self) -> VdevState {
        match self.mark {
            Mark::Offline => VdevState::Offline,
            Mark::Faulted => VdevState::Faulted,
            Mark::Removed => VdevState::Removed,
            Mark::Normal if self.device.borrow().is_some() => VdevState::Online,
            Mark::Normal => VdevState::Unavailable,
        }
    }
}

impl Vdev {
    /// Reads raw bytes of the data area, without a check.
    pub(super) async fn fetch(
        &self,
        leaf: &Leaf,
        offset: u64,
        size: usize,
    ) -> Result<Vec<u8>, DeviceError> {
        let device = leaf.device().ok_or(DeviceError::Gone)?;
        let at = offset
            .checked_add(LABEL_START_SIZE)
            .ok_or(DeviceError::OutOfRange)?;
        if at
            .checked_add(size as u64)
            .is_none_or(|end| end > device.length())
        {
            return Err(DeviceError::OutOfRange);
        }
        let mut data = vec![0; size];
        let result = device.read(at, &mut data).await;
        if result.is_err() {
            count(&self.statistics.read_errors);
        }
        result.map(|()| data)
    }

    pub(super) async fn read_leaf(
        &self,
        leaf: &Leaf,
        request: ReadRequest<'_>,
    ) -> Result<Vec<u8>, ReadFailure> {
        let data = self
            .fetch(leaf, request.offset, request.size)
            .await
            .map_err(ReadFailure::Device)?;
        if (request.verify)(&data) {
            return Ok(data);
        }
        count(&self.statistics.checksum_errors);
        Err(ReadFailure::WrongData)
    }

    pub(super) async fn write_leaf(
        &self,
        leaf: &Leaf,
        offset: u64,
        data: &[u8],
    ) -> Result<(), DeviceError> {
        let device = leaf.device().ok_or(DeviceError::Gone)?;
        let result = device.write(offset + LABEL_START_SIZE, &[data]).await;
        if result.is_err() {
            count(&self.statistics.write_errors);
        }
        result
    }
}
