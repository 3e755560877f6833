//! The vdev tree of an open pool, built from a configuration and the devices that were found.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use super::indirect::Indirect;
use super::{Leaf, Statistics, Vdev, VdevConfig, VdevKind, VdevType};
use crate::block_device::BlockDevice;
use crate::error::{Error, Structure};

/// Devices by the guid of the leaf that they are.
pub type DeviceSet = BTreeMap<u64, Rc<dyn BlockDevice>>;

/// The top-level vdevs of a pool, at their numbers.
pub struct VdevTree {
    tops: Vec<Vdev>,
}

impl VdevTree {
    /// Builds the tree of a root configuration.
    pub fn build(root: &VdevConfig, devices: &DeviceSet) -> Result<VdevTree, Error> {
        let tops: Result<Vec<Vdev>, Error> = root
            .children
            .iter()
            .map(|config| build(config, devices, config.ashift))
            .collect();
        Ok(VdevTree { tops: tops? })
    }

    /// The top-level vdev with this number.
    pub fn top(&self, number: u32) -> Option<&Vdev> {
        self.tops.get(number as usize)
    }

    /// All top-level vdevs in the order of their numbers.
    pub fn tops(&self) -> &[Vdev] {
        &self.tops
    }

    /// Every leaf of the pool.
    pub fn leaves(&self) -> Vec<&Vdev> {
        self.tops.iter().flat_map(Vdev::leaves).collect()
    }
}

fn build(config: &VdevConfig, devices: &DeviceSet, ashift: u32) -> Result<Vdev, Error> {
    let kind = match config.kind {
        VdevType::Disk | VdevType::File => {
            VdevKind::Leaf(Leaf::new(devices.get(&config.guid).cloned(), config.mark))
        }
        VdevType::Mirror | VdevType::Replacing | VdevType::Spare => VdevKind::Mirror,
        VdevType::Raidz => VdevKind::Raidz(config.parity),
        VdevType::Indirect => VdevKind::Indirect(Indirect::default()),
        VdevType::Hole | VdevType::Missing | VdevType::Draid => VdevKind::Absent,
        VdevType::Root => return Err(Error::Corrupt(Structure::VdevTree)),
    };
    let children: Result<Vec<Vdev>, Error> = config
        .children
        .iter()
        .map(|child| build(child, devices, ashift))
        .collect();
    let mut config = config.clone();
    config.ashift = ashift;
    Ok(Vdev {
        config,
        kind,
        children: children?,
        statistics: Statistics::default(),
    })
}
