//! Tables of vdevs in the MOS: each top-level vdev and each device has one, for what features keep of it.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use super::Spa;
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::nvlist::{Nvlist, Value};
use crate::space_map::TOP_TABLE;
use crate::vdev::VdevConfig;
use crate::zap::update;

/// Entry of the MOS directory: the table of all these tables.
const ALL_TABLES: &str = "com.delphix:vdev_zap_map";
/// Pair of the configuration: these tables are there.
const HAS_TABLES: &str = "com.delphix:has_per_vdev_zaps";
/// Pair of a device's configuration: its table.
const LEAF_TABLE: &str = "com.delphix:vdev_zap_leaf";

impl Spa {
    /// Makes the tables of all vdevs of a new pool.
    pub(super) async fn create_vdev_tables(
        &self,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let all = update::create(self.mos(), ObjectType::ZAP_METADATA, random()).await?;
        self.set_directory(ALL_TABLES, all).await?;
        let mut tops: Vec<VdevConfig> = core::mem::take(&mut self.root.borrow_mut().children);
        for top in &mut tops {
            let table = self.create_vdev_table(all, random).await?;
            top.nvlist.set_u64(TOP_TABLE, table);
            self.create_leaf_tables(top, all, random).await?;
        }
        self.root.borrow_mut().children = tops;
        self.config.borrow_mut().set(HAS_TABLES, Value::Boolean);
        Ok(())
    }

    /// Makes the tables of a top-level vdev that joins and of its devices, in pools that have such tables.
    pub(super) async fn give_top_tables(
        &self,
        top: &mut VdevConfig,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        if let Some(all) = self.directory(ALL_TABLES).filter(|&all| all != 0) {
            let table = self.create_vdev_table(all, random).await?;
            top.nvlist.set_u64(TOP_TABLE, table);
            self.create_leaf_tables(top, all, random).await?;
        }
        Ok(())
    }

    /// Makes the table of a device that joins, in pools that have such tables.
    pub(super) async fn give_leaf_table(
        &self,
        leaf: &mut Nvlist,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        if let Some(all) = self.directory(ALL_TABLES).filter(|&all| all != 0) {
            leaf.set_u64(LEAF_TABLE, self.create_vdev_table(all, random).await?);
        }
        Ok(())
    }

    /// Removes the table of a device that leaves.
    pub(super) async fn take_leaf_table(&self, leaf: &Nvlist) -> Result<(), Error> {
        let all = self.directory(ALL_TABLES).filter(|&all| all != 0);
        if let (Some(all), Some(table)) = (all, leaf.u64(LEAF_TABLE)) {
            let key = alloc::format!("{table:x}");
            update::remove(self.mos(), all, key.as_bytes()).await?;
            self.mos().free_object(table).await?;
        }
        Ok(())
    }

    fn create_leaf_tables<'a>(
        &'a self,
        vdev: &'a mut VdevConfig,
        all: u64,
        random: &'a mut dyn FnMut() -> u64,
    ) -> Pin<Box<dyn Future<Output = Result<(), Error>> + 'a>> {
        Box::pin(async move {
            if vdev.kind.is_leaf() {
                let table = self.create_vdev_table(all, random).await?;
                vdev.nvlist.set_u64(LEAF_TABLE, table);
            }
            for child in &mut vdev.children {
                self.create_leaf_tables(child, all, &mut *random).await?;
            }
            Ok(())
        })
    }

    async fn create_vdev_table(
        &self,
        all: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<u64, Error> {
        let table = update::create(self.mos(), ObjectType::ZAP_METADATA, random()).await?;
        update::add_number(self.mos(), all, table).await?;
        Ok(table)
    }
}
