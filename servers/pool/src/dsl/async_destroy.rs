//! Destroying heads in the background: a destroyed head's blocks are freed over as many transaction groups as it takes.
//!
//! What waits counts in the pool's own directory `$FREE`, which is what the property `freeing` shows.

use super::DatasetEntry;
use super::account::{SpaceChange, UsedBy};
use crate::bptree::{self, DeadTree};
use crate::dmu::BlockSums;
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::Zap;

/// Entry of the MOS directory: the list of trees.
const TREES: &str = "bptree_obj";
const ASYNC_DESTROY: &str = "com.delphix:async_destroy";

impl Spa {
    /// Bytes that destroyed file systems and volumes still take.
    pub async fn freeing(&self) -> Result<u64, Error> {
        Ok(self.dsl_dir(self.free_dir().await?).await?.phys.used_bytes)
    }

    async fn free_dir(&self) -> Result<u64, Error> {
        let children = self.root_dir().await?.phys.child_dirs;
        Zap::open(self.mos(), children)
            .await?
            .lookup_u64("$FREE")
            .await
    }

    /// Leaves a head's own blocks to later; `false` when the pool does not know how.
    pub(super) async fn free_later(&self, entry: &DatasetEntry) -> Result<bool, Error> {
        if !self.feature_counts().await?.contains_key(ASYNC_DESTROY) {
            return Ok(false);
        }
        let list = match self.directory(TREES) {
            Some(list) => list,
            None => {
                let list = bptree::create(self.mos()).await?;
                self.set_directory(TREES, list).await?;
                self.count_feature(ASYNC_DESTROY, 1).await?;
                list
            }
        };
        let head = self.dsl_dataset(entry.dataset.object).await?.phys;
        let dir = self.dsl_dir(entry.dir.object).await?.phys;
        let sums = BlockSums {
            used: dir.used_bytes,
            compressed: dir.compressed_bytes,
            uncompressed: dir.uncompressed_bytes,
        };
        let tree = DeadTree {
            pointer: head.pointer,
            since: head.previous_snapshot_txg,
            place: None,
        };
        bptree::append(self.mos(), list, &tree, sums).await?;
        self.count_space(entry.dir.object, UsedBy::Head, SpaceChange::minus(sums))
            .await?;
        self.count_space(
            self.free_dir().await?,
            UsedBy::Head,
            SpaceChange::plus(sums),
        )
        .await?;
        Ok(true)
    }

    /// Frees as many blocks as one transaction group should.
    pub(crate) async fn free_some(&self) -> Result<(), Error> {
        let Some(list) = self.directory(TREES) else {
            return Ok(());
        };
        let mut limit = self.free_limit.get();
        let mut header = bptree::Header::of(self.mos(), list).await?;
        let mut freed = BlockSums::default();
        while header.begin < header.end && limit > 0 {
            let mut tree = bptree::get(self.mos(), list, header.begin).await?;
            let portion = bptree::walk(self.zio(), &tree, limit).await?;
            for pointer in &portion.blocks {
                freed.add(self.zio(), pointer);
                self.zio().free(pointer)?;
            }
            limit -= portion.blocks.len();
            tree.place = portion.next;
            match tree.place {
                Some(_) => {
                    bptree::put(self.mos(), list, header.begin, &tree).await?;
                    break;
                }
                None => header.begin += 1,
            }
        }
        header.sums -= freed;
        self.count_space(
            self.free_dir().await?,
            UsedBy::Head,
            SpaceChange::minus(freed),
        )
        .await?;
        if header.begin < header.end {
            return header.store(self.mos(), list).await;
        }
        self.remove_directory(TREES).await?;
        self.mos().free_object(list).await?;
        self.count_feature(ASYNC_DESTROY, -1).await
    }

    /// Sets how many blocks of destroyed data sets a transaction group frees at most.
    pub fn set_free_limit(&self, blocks: usize) {
        self.free_limit.set(blocks.max(1));
    }
}
