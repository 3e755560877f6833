//! Dirty time logs: the transaction groups that a device was not there to take.
//!
//! A device with such a log is stale: it is read last, and a resilver rewrites what it lacks. The log is a space map over
//! groups, named by the device's configuration.

use alloc::vec::Vec;

use super::Spa;
use crate::error::Error;
use crate::space_map::{Action, SpaceMapPhys};
use crate::vdev::VdevConfig;
use crate::vdev::config::MISSED_GROUPS;

/// Finds a vdev of a configuration to change it.
pub(super) fn find_mut(vdev: &mut VdevConfig, guid: u64) -> Option<&mut VdevConfig> {
    if vdev.guid == guid {
        return Some(vdev);
    }
    vdev.children
        .iter_mut()
        .find_map(|child| find_mut(child, guid))
}

impl Spa {
    /// Notes a group for every device that is not there to take it. Says whether the configuration changed.
    pub(super) async fn note_missed(&self, txg: u64) -> Result<bool, Error> {
        let leaves = self.zio().vdevs().leaves();
        let absent: Vec<u64> = leaves
            .into_iter()
            .filter(|leaf| leaf.device().is_none())
            .map(|leaf| leaf.config.guid)
            .collect();
        let mut changed = false;
        for guid in absent {
            let known = find_mut(&mut self.root.borrow_mut(), guid)
                .and_then(|leaf| leaf.nvlist.u64(MISSED_GROUPS))
                .filter(|&log| log != 0);
            let log = match known {
                Some(log) => log,
                None => {
                    changed = true;
                    let log = self.create_space_map().await?;
                    if let Some(leaf) = find_mut(&mut self.root.borrow_mut(), guid) {
                        leaf.nvlist.set_u64(MISSED_GROUPS, log);
                    }
                    log
                }
            };
            self.add_missed(log, txg, 1).await?;
        }
        Ok(changed)
    }

    /// Adds a range of groups to such a log.
    pub(super) async fn add_missed(&self, log: u64, first: u64, count: u64) -> Result<(), Error> {
        let mut phys = SpaceMapPhys::of(&self.mos().dnode(log).await?)?;
        phys.count(Action::Allocate, count);
        let mut words = Vec::new();
        super::record::append_short(&mut words, Action::Allocate, first, count)?;
        self.append_words(log, phys, &words, None).await
    }

    /// Drops the logs of all devices that are there: a resilver gave them what they lacked. Says whether there were any.
    pub(super) async fn forget_missed(&self) -> Result<bool, Error> {
        let leaves = self.zio().vdevs().leaves();
        let there: Vec<u64> = leaves
            .into_iter()
            .filter(|leaf| leaf.device().is_some())
            .map(|leaf| leaf.config.guid)
            .collect();
        let mut dropped = false;
        for guid in there {
            let log = find_mut(&mut self.root.borrow_mut(), guid)
                .and_then(|leaf| leaf.nvlist.remove(MISSED_GROUPS));
            if let Some(crate::nvlist::Value::Uint64(log)) = log
                && log != 0
            {
                self.free_space_map(log).await?;
                dropped = true;
            }
        }
        Ok(dropped)
    }
}
