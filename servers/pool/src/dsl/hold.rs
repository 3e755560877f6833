//! Holds on snapshots, and making and removing bookmarks.

use super::DslDataset;
use super::bookmark::BOOKMARKS;
use super::create::Creation;
use super::open::valid_name;
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::{Zap, ZapValue, entries_or_none, update};

/// Longest tag of a hold.
const MAX_TAG: usize = 255;

impl Spa {
    async fn find_snapshot(&self, name: &str) -> Result<DslDataset, Error> {
        let dataset = self.find_dataset(name).await?.dataset;
        if dataset.is_snapshot() {
            Ok(dataset)
        } else {
            Err(Error::InvalidArgument)
        }
    }

    /// Keeps a snapshot from being destroyed, under a tag, and commits that.
    ///
    /// # Errors
    /// `AlreadyExists` when the tag is on it.
    pub async fn hold(
        &self,
        tag: &str,
        snapshot: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        self.check_writable().await?;
        if tag.is_empty() || tag.len() > MAX_TAG {
            return Err(Error::NameTooLong);
        }
        let dataset = self.find_snapshot(snapshot).await?;
        let mut phys = dataset.phys.clone();
        if phys.user_references == 0 {
            phys.user_references =
                update::create(self.mos(), ObjectType::USER_REFERENCES, random()).await?;
            self.mos().set_bonus(dataset.object, phys.encode()).await?;
        }
        let table = Zap::open(self.mos(), phys.user_references).await?;
        if table.lookup(tag.as_bytes()).await?.is_some() {
            return Err(Error::AlreadyExists);
        }
        update::update(self.mos(), phys.user_references, tag.as_bytes(), now).await?;
        self.sync(now).await
    }

    /// Takes a hold away and commits that; a snapshot whose destruction waited for it goes.
    ///
    /// # Errors
    /// `NotFound` without such a hold.
    pub async fn release(&self, tag: &str, snapshot: &str, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let dataset = self.find_snapshot(snapshot).await?;
        if dataset.phys.user_references == 0 {
            return Err(Error::NotFound);
        }
        update::remove(self.mos(), dataset.phys.user_references, tag.as_bytes()).await?;
        self.destroy_if_deferred(dataset.object).await?;
        self.sync(now).await
    }

    /// Makes a bookmark (`path#name`) of a snapshot and commits it.
    ///
    /// # Errors
    /// `FeatureDisabled` when the pool has no bookmarks, `InvalidArgument` when the two are of different data sets.
    pub async fn bookmark(
        &self,
        snapshot: &str,
        bookmark: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        self.check_writable().await?;
        let (path, name) = bookmark.split_once('#').ok_or(Error::InvalidName)?;
        valid_name(name)?;
        let dataset = self.find_snapshot(snapshot).await?;
        let head = self.find_dataset(path).await?.dataset;
        if head.phys.dir != dataset.phys.dir {
            return Err(Error::InvalidArgument);
        }
        let known = self
            .dataset_extension(&head, BOOKMARKS)
            .await?
            .and_then(|value| value.u64());
        let table = match known {
            Some(table) => table,
            None => {
                self.count_feature(BOOKMARKS, 1).await?;
                let table = update::create(self.mos(), ObjectType::ZAP_METADATA, random()).await?;
                let mut creation = Creation {
                    txg: self.open_txg(),
                    now,
                    random,
                };
                self.set_extension(head.object, BOOKMARKS, table, &mut creation)
                    .await?;
                table
            }
        };
        if Zap::open(self.mos(), table)
            .await?
            .lookup(name.as_bytes())
            .await?
            .is_some()
        {
            return Err(Error::AlreadyExists);
        }
        let words = [
            dataset.phys.guid,
            dataset.phys.creation_txg,
            dataset.phys.creation_time,
        ];
        let value = ZapValue {
            integer_size: 8,
            bytes: words.iter().flat_map(|word| word.to_be_bytes()).collect(),
        };
        update::set(self.mos(), table, name.as_bytes(), &value).await?;
        self.sync(now).await
    }

    /// Removes a bookmark and commits that.
    pub async fn destroy_bookmark(&self, bookmark: &str, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let (path, name) = bookmark.split_once('#').ok_or(Error::InvalidName)?;
        let head = self.find_dataset(path).await?.dataset;
        let known = self
            .dataset_extension(&head, BOOKMARKS)
            .await?
            .and_then(|value| value.u64());
        let table = known.ok_or(Error::NotFound)?;
        let bookmarks = entries_or_none(self.mos(), table).await?;
        let found = bookmarks
            .iter()
            .find(|bookmark| bookmark.name == name.as_bytes());
        self.release_bookmark(found.ok_or(Error::NotFound)?).await?;
        update::remove(self.mos(), table, name.as_bytes()).await?;
        if entries_or_none(self.mos(), table).await?.is_empty() {
            self.mos().free_object(table).await?;
            self.remove_extension(head.object, BOOKMARKS).await?;
            self.count_feature(BOOKMARKS, -1).await?;
        }
        self.sync(now).await
    }
}
