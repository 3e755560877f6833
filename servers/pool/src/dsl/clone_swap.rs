//! A head and a clone of its latest snapshot change places, as ZFS calls a clone swap: how what was received becomes the data set.
//!
//! Owns what that moves: contents, dead lists, and the sums that count them.

use core::mem::swap;

use super::DslDatasetPhys;
use super::account::{SpaceChange, UsedBy};
use super::deadlist::Deadlist;
use crate::dmu::BlockSums;
use crate::error::Error;
use crate::spa::Spa;

impl Spa {
    /// Lets a head and a clone of its latest snapshot have each other's contents and dead lists.
    pub(super) async fn change_places(&self, head: u64, clone: u64) -> Result<(), Error> {
        let mut own = self.dsl_dataset(head).await?.phys;
        let mut new = self.dsl_dataset(clone).await?.phys;
        let own_list = Deadlist::open(self, own.deadlist).await?;
        let new_list = Deadlist::open(self, new.deadlist).await?;
        let whole = |phys: &DslDatasetPhys, dead: BlockSums| SpaceChange {
            used: (phys.referenced_bytes + dead.used) as i64,
            compressed: (phys.compressed_bytes + dead.compressed) as i64,
            uncompressed: (phys.uncompressed_bytes + dead.uncompressed) as i64,
        };
        let before = whole(&own, own_list.sums().await?);
        let after = whole(&new, new_list.sums().await?);
        let change = after.and(before.times(-1));
        self.use_reference_reservation(own.dir, own.unique_bytes, change)
            .await?;
        self.count_space(new.dir, UsedBy::Head, change.times(-1))
            .await?;
        let since = self.origin_txg(own.dir).await?..u64::MAX;
        let to_snapshots = new_list.range_sums(since.clone()).await?.used as i64
            - own_list.range_sums(since).await?.used as i64;
        self.move_space(own.dir, UsedBy::Head, UsedBy::Snapshots, to_snapshots)
            .await?;
        let mut previous = self.dsl_dataset(new.previous_snapshot).await?.phys;
        let only_there = previous.previous_snapshot_txg..u64::MAX;
        previous.unique_bytes = new_list.range_sums(only_there).await?.used;
        self.mos()
            .set_bonus(new.previous_snapshot, previous.encode())
            .await?;
        swap(&mut own.pointer, &mut new.pointer);
        swap(&mut own.referenced_bytes, &mut new.referenced_bytes);
        swap(&mut own.compressed_bytes, &mut new.compressed_bytes);
        swap(&mut own.uncompressed_bytes, &mut new.uncompressed_bytes);
        swap(&mut own.unique_bytes, &mut new.unique_bytes);
        swap(&mut own.deadlist, &mut new.deadlist);
        self.mos().set_bonus(head, own.encode()).await?;
        self.mos().set_bonus(clone, new.encode()).await
    }
}
