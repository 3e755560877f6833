//! The last step of a transaction group: labels and the uberblock.

use alloc::vec;
use alloc::vec::Vec;

use super::Spa;
use super::sync::Labels;
use crate::block_device::BlockDevice;
use crate::checksum::embed;
use crate::error::{DeviceError, Error, Structure};
use crate::nvlist::{Nvlist, Value};
use crate::uberblock::Uberblock;
use crate::vdev::label::{
    CONFIG_AT, CONFIG_SIZE, LABEL_SIZE, LABELS, RING_AT, RING_SIZE, label_offset,
};
use crate::vdev::{Vdev, VdevConfig};

/// Bytes of the area for boot loaders before the configuration, checksummed like it.
const BOOT_AT: u64 = 8 << 10;
const BOOT_SIZE: usize = 8 << 10;

impl Spa {
    /// Writes an uberblock to every label, and the labels' configurations around it when asked: half of them before, half
    /// after, so that a power cut leaves a pair that agrees.
    pub(super) async fn commit(&self, uberblock: Uberblock, labels: Labels) -> Result<(), Error> {
        if labels == Labels::Written {
            self.write_labels([0, 2], uberblock.txg).await?;
            self.zio().flush().await?;
        }
        let mut written = 0;
        for top in self.zio().vdevs().tops() {
            for leaf in top.leaves() {
                written += usize::from(
                    write_uberblock(leaf, top.config.ashift, &uberblock)
                        .await
                        .is_ok(),
                );
            }
        }
        if written == 0 {
            return Err(Error::Device(DeviceError::Failed));
        }
        self.zio().flush().await?;
        if labels == Labels::Written {
            self.write_labels([1, 3], uberblock.txg).await?;
            self.zio().flush().await?;
        }
        Ok(())
    }

    /// Overwrites the labels of all devices with zeros, so that nothing of an older pool is found.
    pub(super) async fn clear_labels(&self) -> Result<(), Error> {
        for leaf in self.zio().vdevs().leaves() {
            if let Some(device) = leaf.device() {
                clear_device(device.as_ref()).await?;
            }
        }
        Ok(())
    }

    async fn write_labels(&self, indices: [u64; 2], txg: u64) -> Result<(), Error> {
        let root = self.root.borrow().clone();
        for (top, config) in self.zio().vdevs().tops().iter().zip(&root.children) {
            for leaf in top.leaves() {
                let label = self.label(config, leaf.config.guid, txg);
                for index in indices {
                    write_label(leaf, index, &label).await?;
                }
            }
        }
        Ok(())
    }

    /// The configuration in the labels of one leaf.
    fn label(&self, top: &VdevConfig, guid: u64, txg: u64) -> Nvlist {
        let mut label = self.config.borrow().clone();
        label.set_u64("txg", txg);
        label.set_u64("top_guid", top.guid);
        label.set_u64("guid", guid);
        label.set("vdev_tree", Value::List(top.encode()));
        label
    }
}

/// Overwrites the labels of a device with zeros.
pub(super) async fn clear_device(device: &dyn BlockDevice) -> Result<(), Error> {
    let zeros = vec![0; LABEL_SIZE as usize];
    for index in 0..LABELS {
        let offset = label_offset(device.length(), index).ok_or(Error::InvalidArgument)?;
        device.write(offset, &[&zeros]).await?;
    }
    Ok(())
}

async fn write_label(leaf: &Vdev, index: u64, label: &Nvlist) -> Result<(), Error> {
    let Some(device) = leaf.device() else {
        return Ok(());
    };
    let offset = label_offset(device.length(), index).ok_or(Error::InvalidArgument)?;
    let mut area: Vec<u8> = label.encode();
    if area.len() > CONFIG_SIZE - crate::checksum::EMBEDDED_SIZE {
        return Err(Error::Corrupt(Structure::Label));
    }
    area.resize(CONFIG_SIZE, 0);
    let at = offset + CONFIG_AT as u64;
    embed(&mut area, [at, 0, 0, 0]);
    device.write(at, &[&area]).await?;
    let mut boot = vec![0; BOOT_SIZE];
    embed(&mut boot, [offset + BOOT_AT, 0, 0, 0]);
    device.write(offset + BOOT_AT, &[&boot]).await?;
    Ok(())
}

async fn write_uberblock(
    leaf: &Vdev,
    ashift: u32,
    uberblock: &Uberblock,
) -> Result<(), DeviceError> {
    let device = leaf.device().ok_or(DeviceError::Gone)?;
    let size = Uberblock::slot_size(ashift);
    let slots = (RING_SIZE / size) as u64;
    for index in 0..LABELS {
        let label = label_offset(device.length(), index).ok_or(DeviceError::OutOfRange)?;
        let at = label + RING_AT as u64 + uberblock.txg % slots * size as u64;
        device
            .write(at, &[&uberblock.encode_slot(size, at)])
            .await?;
    }
    Ok(())
}
