//! Top-level vdevs that join a pool: `zpool add`.
//!
//! It is a change of the vdev tree like those of `topology`, but without anything to copy: new blocks go there from the next
//! transaction group on.

use alloc::vec::Vec;

use super::create::{self, NewVdev};
use super::{Spa, Topology, TopologyError};
use crate::dmu::NewObject;
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::nvlist::Value;
use crate::vdev::config::Purpose;
use crate::vdev::{DeviceSet, VdevConfig, VdevType};

/// Block size of a new array of space maps.
const ARRAY_BLOCK: usize = 512;

impl Spa {
    /// Plans to let top-level vdevs join. Each takes the place of a removed log, or a new one.
    ///
    /// # Errors
    /// `TooSmall` when a device has no room for a metaslab.
    pub async fn plan_add(
        &self,
        new: &[(NewVdev, Purpose)],
        random: &mut dyn FnMut() -> u64,
    ) -> Result<Topology, TopologyError> {
        self.check_writable().await?;
        let mut topology = self.same_topology();
        for (vdev, purpose) in new {
            let tops = &topology.root.children;
            let hole = tops.iter().position(|top| top.kind == VdevType::Hole);
            let place = hole.unwrap_or(tops.len());
            let mut devices = DeviceSet::new();
            let mut list = create::describe(vdev, place as u64, random, &mut devices)?;
            create::describe_top(&mut list, vdev, self.sector_shift(), *purpose)
                .map_err(|_| TopologyError::TooSmall)?;
            list.set_u64("create_txg", self.open_txg());
            list.set_u64("metaslab_array", self.new_metaslab_array().await?);
            let mut top = VdevConfig::decode(&list)?;
            self.give_top_tables(&mut top, random).await?;
            topology.joining.extend(devices.values().cloned());
            topology.devices.extend(devices);
            let mut lists: Vec<_> = tops.iter().map(VdevConfig::encode).collect();
            match hole {
                Some(place) => lists[place] = top.encode(),
                None => lists.push(top.encode()),
            }
            let mut root = topology.root.nvlist.clone();
            root.set("children", Value::ListArray(lists));
            topology.root = VdevConfig::decode(&root)?;
        }
        Ok(topology)
    }

    /// log2 of the largest sectors that the pool's vdevs have.
    fn sector_shift(&self) -> u32 {
        let root = self.root_vdev();
        let shifts = root.children.iter().map(|top| top.ashift);
        shifts.max().unwrap_or(0)
    }

    /// Makes an empty array of space maps.
    pub(super) async fn new_metaslab_array(&self) -> Result<u64, Error> {
        let array = NewObject {
            object_type: ObjectType::OBJECT_ARRAY,
            block_size: ARRAY_BLOCK,
            bonus_type: ObjectType::NONE,
            bonus: Vec::new(),
        };
        self.mos().allocate(array).await
    }
}
