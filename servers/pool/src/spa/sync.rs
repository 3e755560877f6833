//! Transaction groups: everything that changed goes to new places, and one uberblock makes it the pool's state.
//!
//! Data sets are written first, then the MOS, which records the space that all of it took. Recording changes the MOS again, so it
//! is written in passes; from the second on, blocks of this group are overwritten in place, until a pass takes no more space.

use super::{Spa, SpaState};
use crate::checksum::ChecksumKind;
use crate::compress::Compression;
use crate::dmu::{Rewrite, StoragePolicy, SyncPolicy};
use crate::error::{Error, Structure};
use crate::nvlist::Value;
use crate::zap::update;

/// Passes over the MOS before giving up; four are usual.
const MAX_PASSES: usize = 32;
/// Copies of the MOS's blocks.
const MOS_COPIES: usize = 3;
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
        let mut labels = labels;
        if self.note_missed(txg).await? {
            self.write_config().await?;
            labels = Labels::Written;
        }
        self.sync_datasets(txg).await?;
        self.write_errlog().await?;
        self.free_some().await?;
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
        let metadata = self.stored_as(METADATA);
        SyncPolicy {
            txg,
            data: metadata,
            metadata,
            forms: self.block_forms.get().pointers,
            rewrite,
        }
    }

    /// How blocks are stored that should be stored like this, with what the pool's features allow.
    pub(crate) fn stored_as(&self, wanted: StoragePolicy) -> StoragePolicy {
        match wanted.compression {
            Compression::Lz4 => StoragePolicy {
                compression: self.block_forms.get().fast_compression,
                ..wanted
            },
            _ => wanted,
        }
    }

    async fn sync_mos(&self, txg: u64) -> Result<(), Error> {
        let mut rewrite = Rewrite::Never;
        let log = self.begin_space_log(txg).await?;
        // What the data sets took is recorded before the first pass, so that most of it is written compressed.
        self.zio().free_gangs().await?;
        self.record_space(txg, log).await?;
        for _ in 0..MAX_PASSES {
            let (_, ledger) = self.mos().sync(self.sync_policy(txg, rewrite)).await?;
            for pointer in &ledger.killed {
                self.zio().free(pointer)?;
            }
            self.zio().free_gangs().await?;
            rewrite = Rewrite::InPlace;
            if !self.record_space(txg, log).await? {
                return Ok(());
            }
        }
        Err(Error::NoSpace)
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

    /// Removes a number from the MOS directory and gives it.
    pub(crate) async fn remove_directory(&self, name: &str) -> Result<Option<u64>, Error> {
        let value = self.directory.borrow_mut().remove(name);
        if value.is_some() {
            update::remove(self.mos(), super::mos::DIRECTORY_OBJECT, name.as_bytes()).await?;
        }
        Ok(value)
    }

    /// Makes the array of space map objects of a top-level vdev.
    pub(super) async fn create_metaslab_array(&self, id: usize) -> Result<(), Error> {
        let object = self.new_metaslab_array().await?;
        let mut root = self.root.borrow_mut();
        let top = root.children.get_mut(id).ok_or(Error::InvalidArgument)?;
        top.metaslab_array = object;
        top.nvlist.set_u64("metaslab_array", object);
        Ok(())
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
