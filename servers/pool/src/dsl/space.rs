//! How much space a data set may still use.

use alloc::boxed::Box;
use alloc::rc::Rc;
use alloc::vec::Vec;
use core::future::Future;
use core::pin::Pin;

use super::{DslDataset, DslDir, OpenDataset};
use crate::dmu::Budget;
use crate::error::Error;
use crate::layout::Fields;
use crate::spa::Spa;
use crate::vdev::config::Purpose;
use crate::vdev::{Vdev, VdevKind};
use crate::zap::Zap;

/// Part of the pool that is kept free so that freeing always has room: 1/32, within bounds.
const SLOP_SHIFT: u32 = 5;
const SLOP_MAX: u64 = 128 << 30;
const SLOP_MIN: u64 = 128 << 20;

impl Spa {
    /// Bytes of all metaslabs for data, without parity.
    pub async fn data_space(&self) -> Result<u64, Error> {
        let mut total = 0;
        for top in self.zio().vdevs().tops() {
            if self.holds_data(top).await? {
                total += top.deflated_space(top.metaslab_space());
            }
        }
        Ok(total)
    }

    async fn holds_data(&self, top: &Vdev) -> Result<bool, Error> {
        if top.config.purpose == Purpose::Log
            || matches!(top.kind, VdevKind::Absent | VdevKind::Indirect(_))
        {
            return Ok(false);
        }
        Ok(self
            .top_zap_entry(top, "org.zfsonlinux:allocation_bias")
            .await?
            .is_none())
    }

    async fn top_zap_entry(
        &self,
        top: &Vdev,
        name: &str,
    ) -> Result<Option<crate::zap::ZapValue>, Error> {
        match top.config.nvlist.u64("com.delphix:vdev_zap_top") {
            Some(object) => {
                Zap::open(self.mos(), object)
                    .await?
                    .lookup(name.as_bytes())
                    .await
            }
            None => Ok(None),
        }
    }

    /// Bytes that only the pool's checkpoint still holds.
    pub async fn checkpoint_space(&self) -> Result<u64, Error> {
        let mut total = 0;
        for top in self.zio().vdevs().tops() {
            let Some(object) = self
                .top_zap_entry(top, "com.delphix:pool_checkpoint_sm")
                .await?
            else {
                continue;
            };
            let map = self.mos().dnode(object.u64().unwrap_or(0)).await?;
            // The map lists frees that were held back, so its balance is negative.
            let balance = map.phys.bonus.u64_at(16).unwrap_or(0) as i64;
            total += top.deflated_space(balance.unsigned_abs());
        }
        Ok(total)
    }

    /// Bytes that data may take in the whole pool.
    async fn usable_space(&self) -> Result<u64, Error> {
        let space = self.data_space().await?;
        let slop = (space >> SLOP_SHIFT)
            .min(SLOP_MAX)
            .max((space >> 1).min(SLOP_MIN));
        Ok(space
            .saturating_sub(slop)
            .saturating_sub(self.checkpoint_space().await?))
    }

    /// Bytes that can still be used below a directory, by its quota and those above it.
    pub fn available<'a>(
        &'a self,
        dir: &'a DslDir,
    ) -> Pin<Box<dyn Future<Output = Result<u64, Error>> + 'a>> {
        Box::pin(async move {
            let phys = &dir.phys;
            let mut above = u64::MAX;
            let mut limit = if phys.quota != 0 {
                phys.quota
            } else {
                u64::MAX
            };
            if phys.parent == 0 {
                limit = limit.min(self.usable_space().await?);
            } else {
                above = self.available(&self.dsl_dir(phys.parent).await?).await?;
                // What is reserved here and not used is free for use here only.
                above = above.saturating_add(phys.reserved.saturating_sub(phys.used_bytes));
            }
            Ok(above.min(limit.saturating_sub(phys.used_bytes)))
        })
    }

    /// Says to all open heads what they may write until the next transaction group.
    pub(crate) async fn renew_budgets(&self) -> Result<(), Error> {
        let open: Vec<Rc<OpenDataset>> = self.datasets.borrow().values().cloned().collect();
        for open in open {
            open.objset.set_budget(self.budget_of(&open).await?);
        }
        Ok(())
    }

    /// What an open head may write, by quotas, reservations and the space of the pool.
    pub(super) async fn budget_of(&self, open: &OpenDataset) -> Result<Budget, Error> {
        let dir = self.dsl_dir(open.dir).await?;
        let head = self.dsl_dataset(open.dataset).await?;
        let left = self.dataset_available(&dir, &head).await?;
        let of_pool = self.available(&self.root_dir().await?).await?;
        Ok(Budget {
            left,
            refusal: match left < of_pool {
                true => Error::QuotaExceeded,
                false => Error::NoSpace,
            },
        })
    }

    /// Bytes that can still be used by a head itself.
    pub async fn dataset_available(&self, dir: &DslDir, head: &DslDataset) -> Result<u64, Error> {
        let reservation = self.own_number(dir, "refreservation").await?.unwrap_or(0);
        let quota = self.own_number(dir, "refquota").await?.unwrap_or(0);
        let mut available = self.available(dir).await?;
        available = available.saturating_add(reservation.saturating_sub(head.phys.unique_bytes));
        if quota != 0 {
            available = available.min(quota.saturating_sub(head.phys.referenced_bytes));
        }
        Ok(available)
    }
}
