//! Transaction groups: everything that changed goes to new places, and one uberblock makes it the pool's state.
//!
//! Data sets are written first, then the MOS, which records the space that all of it took. Recording changes the MOS again, so it
//! is written in passes; from the second on, blocks of this group are overwritten in place, until a pass takes no more space.

use alloc::vec;
use alloc::vec::Vec;

use super::{Spa, SpaState};
use crate::checksum::ChecksumKind;
use crate::compress::Compression;
use crate::dmu::{NewObject, Rewrite, StoragePolicy, SyncPolicy};
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::put_u64;
use crate::metaslab::{HISTOGRAM_LENGTH, histogram};
use crate::nvlist::Value;
use crate::space_map::{Entry, SHORT_RUN_MAX, SpaceMapPhys, encode_short};
use crate::zap::update;
use crate::zio::Embedding;

/// Passes over the MOS before giving up; four are usual.
const MAX_PASSES: usize = 32;
/// Copies of the MOS's blocks.
const MOS_COPIES: usize = 3;
/// Size of a new space map's blocks.
const SPACE_MAP_BLOCK: usize = 4096;
/// Bonus of a space map: object, length, allocated, five words of padding, histogram.
const SPACE_MAP_BONUS: usize = 8 * (8 + HISTOGRAM_LENGTH);
const HISTOGRAM_AT: usize = 8 * 8;
const SPACEMAP_HISTOGRAM: &[u8] = b"com.delphix:spacemap_histogram";

const METADATA: StoragePolicy = StoragePolicy {
    compression: Compression::Lz4,
    checksum: ChecksumKind::Fletcher4,
    copies: MOS_COPIES,
};

impl Spa {
    /// The transaction group that changes made now will be part of.
    pub fn open_txg(&self) -> u64 {
        self.uberblock.get().txg + 1
    }

    /// Writes everything that changed as one transaction group. `now` is in seconds since 1970.
    pub async fn sync(&self, now: u64) -> Result<(), Error> {
        self.sync_group(now, Labels::Kept).await
    }

    /// [`Spa::sync`] that also writes the labels, because the configuration changed.
    pub async fn sync_with_labels(&self, now: u64) -> Result<(), Error> {
        self.write_config().await?;
        self.sync_group(now, Labels::Written).await
    }

    async fn sync_group(&self, now: u64, labels: Labels) -> Result<(), Error> {
        self.check_writable().await?;
        let done = self.write_group(now, labels).await;
        if done.is_err() {
            // What was to be written is partly gone from memory, and blocks of the log with it.
            self.state.set(SpaState::Suspended);
        }
        done
    }

    async fn write_group(&self, now: u64, labels: Labels) -> Result<(), Error> {
        let txg = self.open_txg();
        self.sync_datasets(txg).await?;
        self.write_errlog().await?;
        self.sync_mos(txg).await?;
        self.zio().send_queue().await?;
        self.zio().flush().await?;
        let mut uberblock = self.uberblock.get();
        uberblock.txg = txg;
        uberblock.timestamp = now;
        uberblock.rootbp = self.mos().pointer();
        self.commit(uberblock, labels).await?;
        self.uberblock.set(uberblock);
        self.zio().allocator().advance()?;
        self.renew_budgets().await
    }

    /// How blocks of data sets and the MOS are stored.
    pub(crate) fn sync_policy(&self, txg: u64, rewrite: Rewrite) -> SyncPolicy {
        SyncPolicy {
            txg,
            data: METADATA,
            metadata: METADATA,
            embedding: Embedding::Enabled,
            rewrite,
        }
    }

    async fn sync_mos(&self, txg: u64) -> Result<(), Error> {
        let mut rewrite = Rewrite::Never;
        for _ in 0..MAX_PASSES {
            let (_, ledger) = self.mos().sync(self.sync_policy(txg, rewrite)).await?;
            for pointer in &ledger.killed {
                self.zio().free(pointer)?;
            }
            rewrite = Rewrite::InPlace;
            if !self.record_space().await? {
                return Ok(());
            }
        }
        Err(Error::NoSpace)
    }

    /// Appends what was allocated and freed to the space maps; says whether there was anything.
    async fn record_space(&self) -> Result<bool, Error> {
        let mut changed = false;
        let tops: Vec<(u32, usize)> = self
            .zio()
            .allocator()
            .tops_mut()
            .iter()
            .map(|top| (top.vdev, top.metaslabs.len()))
            .collect();
        for (position, (vdev, count)) in tops.into_iter().enumerate() {
            for index in 0..count {
                let changes = {
                    let mut allocator = self.zio().allocator();
                    let metaslab = &mut allocator.tops_mut()[position].metaslabs[index];
                    if !metaslab.is_dirty() {
                        continue;
                    }
                    (metaslab.map_object, metaslab.take_changes()?)
                };
                changed = true;
                let (mut object, changes) = changes;
                if object == 0 {
                    object = self.create_space_map(vdev, index as u64).await?;
                    self.zio().allocator().tops_mut()[position].metaslabs[index].map_object =
                        object;
                }
                let shift = self
                    .zio()
                    .vdevs()
                    .top(vdev)
                    .map_or(9, |top| top.config.ashift);
                self.append_space_map(object, shift, changes).await?;
            }
        }
        Ok(changed)
    }

    async fn create_space_map(&self, vdev: u32, index: u64) -> Result<u64, Error> {
        let object = self
            .mos()
            .allocate(NewObject {
                object_type: ObjectType::SPACE_MAP,
                block_size: SPACE_MAP_BLOCK,
                bonus_type: ObjectType::SPACE_MAP_HEADER,
                bonus: vec![0; SPACE_MAP_BONUS],
            })
            .await?;
        let array = self
            .zio()
            .vdevs()
            .top(vdev)
            .and_then(|_| self.metaslab_array(vdev));
        let array = array.ok_or(Error::Corrupt(Structure::SpaceMap))?;
        self.mos()
            .write(array, index * 8, &object.to_le_bytes())
            .await?;
        let features = self.directory("features_for_write").unwrap_or(0);
        let counts = self.feature_counts().await?;
        let count = counts
            .iter()
            .find(|(guid, _)| guid.as_bytes() == SPACEMAP_HISTOGRAM);
        if let Some((_, count)) = count {
            update::update(self.mos(), features, SPACEMAP_HISTOGRAM, count + 1).await?;
        }
        Ok(object)
    }

    async fn append_space_map(
        &self,
        object: u64,
        shift: u32,
        changes: crate::metaslab::MetaslabChanges,
    ) -> Result<(), Error> {
        let dnode = self.mos().dnode(object).await?;
        let mut phys = SpaceMapPhys::of(&dnode)?;
        let mut words = Vec::new();
        for (action, offset, length) in changes.entries {
            let (mut offset, mut run) = (offset >> shift, length >> shift);
            phys.allocated += match action {
                crate::space_map::Action::Allocate => length as i64,
                crate::space_map::Action::Free => -(length as i64),
            };
            while run > 0 {
                let part = run.min(SHORT_RUN_MAX);
                let entry = Entry {
                    action,
                    offset,
                    run: part,
                    vdev: None,
                };
                words.extend(
                    encode_short(entry)
                        .ok_or(Error::Corrupt(Structure::SpaceMap))?
                        .to_le_bytes(),
                );
                offset += part;
                run -= part;
            }
        }
        self.mos().write(object, phys.length, &words).await?;
        phys.length += words.len() as u64;
        let mut bonus = dnode.phys.bonus.clone();
        put_u64(&mut bonus, 0, object);
        put_u64(&mut bonus, 8, phys.length);
        put_u64(&mut bonus, 16, phys.allocated as u64);
        if bonus.len() == SPACE_MAP_BONUS {
            for (bucket, count) in histogram(&changes.free_lengths, shift)
                .into_iter()
                .enumerate()
            {
                put_u64(&mut bonus, HISTOGRAM_AT + 8 * bucket, count);
            }
        }
        self.mos().set_bonus(object, bonus).await
    }

    /// Puts the configuration into its object of the MOS.
    async fn write_config(&self) -> Result<(), Error> {
        let root = self.root.borrow().encode();
        {
            let mut config = self.config.borrow_mut();
            config.set_u64("txg", self.open_txg());
            config.set("vdev_tree", Value::List(root));
        }
        let packed = self.config.borrow().encode();
        let object = self
            .directory("config")
            .ok_or(Error::Corrupt(Structure::Objset))?;
        self.mos().write(object, 0, &packed).await?;
        self.mos()
            .set_bonus(object, (packed.len() as u64).to_le_bytes().to_vec())
            .await
    }

    /// Sets a number in the MOS directory.
    pub(crate) async fn set_directory(&self, name: &str, value: u64) -> Result<(), Error> {
        self.directory.borrow_mut().insert(name.into(), value);
        update::update(
            self.mos(),
            super::mos::DIRECTORY_OBJECT,
            name.as_bytes(),
            value,
        )
        .await
    }

    /// Makes the array of space map objects of a top-level vdev.
    pub(super) async fn create_metaslab_array(&self, id: usize) -> Result<(), Error> {
        let object = self
            .mos()
            .allocate(NewObject {
                object_type: ObjectType::OBJECT_ARRAY,
                block_size: 512,
                bonus_type: ObjectType::NONE,
                bonus: Vec::new(),
            })
            .await?;
        let mut root = self.root.borrow_mut();
        let top = root.children.get_mut(id).ok_or(Error::InvalidArgument)?;
        top.metaslab_array = object;
        top.nvlist.set_u64("metaslab_array", object);
        Ok(())
    }

    fn metaslab_array(&self, vdev: u32) -> Option<u64> {
        let root = self.root.borrow();
        root.children
            .get(vdev as usize)
            .map(|top| top.metaslab_array)
            .filter(|&object| object != 0)
    }
}

/// Whether a transaction group writes the labels.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Labels {
    /// They stay as they are.
    Kept,
    /// They get the configuration anew.
    Written,
}
