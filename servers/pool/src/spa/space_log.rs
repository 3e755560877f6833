//! Logs of transaction groups: with the feature log_spacemap a group appends all that it took and gave back to one map.
//!
//! Some metaslabs are flushed in each group, those that waited longest first: their own maps get what they lack.
//! A log goes when no metaslab needs it any more, so that import has a bounded number of them to read.

use alloc::format;
use alloc::vec::Vec;

use super::Spa;
use super::record::MetaslabPlace;
use crate::dmu::NewObject;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::metaslab::MetaslabChanges;
use crate::space_map::{
    Entry, LOG_SHIFT, LOGS, SpaceMapPhys, TOP_TABLE, UNFLUSHED_TXGS, encode_long,
};
use crate::zap::update;

const CORRUPT: Error = Error::Corrupt(Structure::SpaceMap);
/// In so many groups every metaslab is flushed once, which is about how many logs are kept: what import reads,
/// against what a group writes.
const FLUSH_ROUND: usize = 32;
/// With more ranges than this in memory, more metaslabs are flushed: about 10 MiB of them.
const RANGES_MAX: usize = 100_000;
/// Size of the blocks of the arrays that say when metaslabs were flushed.
const ARRAY_BLOCK: usize = 4096;
const WORD: u64 = 8;

/// Which metaslabs a group flushes.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum FlushExtent {
    /// The share of one group.
    #[default]
    Share,
    /// All that logs have changes of: who imports the pool next has no logs to read.
    All,
}

impl Spa {
    /// Prepares the log of a transaction group and gives its object; `None` when the pool has no such logs.
    pub(super) async fn begin_space_log(&self, txg: u64) -> Result<Option<u64>, Error> {
        let Some(table) = self.directory(LOGS) else {
            return Ok(None);
        };
        self.flush_metaslabs(txg, self.flush_extent.get()).await?;
        self.remove_old_logs(table).await?;
        let log = self.create_space_map().await?;
        update::update(self.mos(), table, format!("{txg:x}").as_bytes(), log).await?;
        Ok(Some(log))
    }

    async fn flush_metaslabs(&self, txg: u64, extent: FlushExtent) -> Result<(), Error> {
        let mut waiting: Vec<(u64, usize, MetaslabPlace)> = Vec::new();
        for place in self.metaslab_places() {
            let (since, ranges) = self.with_metaslab(place, |metaslab, _| {
                (metaslab.unflushed.since, metaslab.unflushed.ranges())
            });
            if since != 0 {
                waiting.push((since, ranges, place));
            }
        }
        waiting.sort_unstable();
        let share = waiting.len().div_ceil(FLUSH_ROUND);
        let mut ranges: usize = waiting.iter().map(|(_, ranges, _)| ranges).sum();
        for (count, (_, own_ranges, place)) in waiting.into_iter().enumerate() {
            if count >= share && ranges <= RANGES_MAX && extent == FlushExtent::Share {
                break;
            }
            ranges -= own_ranges;
            self.flush_metaslab(place, txg).await?;
        }
        Ok(())
    }

    /// Gives a metaslab's own map what only logs have.
    async fn flush_metaslab(&self, place: MetaslabPlace, txg: u64) -> Result<(), Error> {
        let changes = self.with_metaslab(place, |metaslab, _| metaslab.take_unflushed(txg));
        if !changes.entries.is_empty() {
            let map = self.own_map(place).await?;
            self.append_to_own_map(place, map, changes).await?;
        }
        self.store_since(place, txg).await
    }

    async fn store_since(&self, place: MetaslabPlace, txg: u64) -> Result<(), Error> {
        let array = match self.zio().allocator().tops_mut()[place.top].unflushed_array {
            0 => None,
            array => Some(array),
        };
        let array = match array {
            Some(array) => array,
            None => self.create_unflushed_array(place.top).await?,
        };
        self.mos()
            .write(array, place.index as u64 * WORD, &txg.to_le_bytes())
            .await
    }

    async fn create_unflushed_array(&self, position: usize) -> Result<u64, Error> {
        let vdev = self.zio().allocator().tops_mut()[position].vdev;
        let table = {
            let root = self.root.borrow();
            let top = root.children.get(vdev as usize);
            top.and_then(|top| top.nvlist.u64(TOP_TABLE))
        };
        let new = NewObject {
            object_type: ObjectType::UINT64_METADATA,
            block_size: ARRAY_BLOCK,
            bonus_type: ObjectType::NONE,
            bonus: Vec::new(),
        };
        let array = self.mos().allocate(new).await?;
        update::update(self.mos(), table.ok_or(CORRUPT)?, UNFLUSHED_TXGS, array).await?;
        self.zio().allocator().tops_mut()[position].unflushed_array = array;
        Ok(array)
    }

    /// Removes the logs that are older than any metaslab's flush.
    async fn remove_old_logs(&self, table: u64) -> Result<(), Error> {
        let places = self.metaslab_places();
        let sinces = places
            .into_iter()
            .map(|place| self.with_metaslab(place, |metaslab, _| metaslab.unflushed.since));
        let oldest = sinces.filter(|&since| since != 0).min().unwrap_or(u64::MAX);
        let logs = self.space_logs(table).await?;
        for (txg, log) in logs.into_iter().filter(|(txg, _)| *txg < oldest) {
            update::remove(self.mos(), table, format!("{txg:x}").as_bytes()).await?;
            self.free_space_map(log).await?;
        }
        Ok(())
    }

    /// Adds changes of a metaslab to what goes to the log of this group.
    pub(super) async fn log_changes(
        &self,
        place: MetaslabPlace,
        txg: u64,
        changes: &MetaslabChanges,
        logged: &mut Vec<Entry>,
    ) -> Result<(), Error> {
        let first = self.with_metaslab(place, |metaslab, vdev| {
            let start = metaslab.start();
            for (action, at, length) in &changes.entries {
                metaslab.unflushed.record(*action, start + at, *length)?;
                logged.push(Entry {
                    action: *action,
                    offset: (start + at) >> LOG_SHIFT,
                    run: length >> LOG_SHIFT,
                    vdev: Some(vdev),
                });
            }
            let first = metaslab.unflushed.since == 0;
            if first {
                metaslab.unflushed.since = txg;
            }
            Ok::<bool, Error>(first)
        })?;
        if first {
            self.store_since(place, txg).await?;
        }
        Ok(())
    }

    /// Appends changes of all vdevs to a log.
    pub(super) async fn append_to_log(&self, log: u64, entries: &[Entry]) -> Result<(), Error> {
        let mut phys = SpaceMapPhys::of(&self.mos().dnode(log).await?)?;
        let mut words = Vec::with_capacity(2 * entries.len());
        for entry in entries {
            phys.count(entry.action, entry.run << LOG_SHIFT);
            words.extend(encode_long(*entry).ok_or(CORRUPT)?);
        }
        self.append_words(log, phys, &words, None).await
    }
}
