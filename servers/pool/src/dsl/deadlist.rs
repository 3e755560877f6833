//! Dead lists: the blocks that a data set no longer has but the snapshot before it does, by when they were born.
//!
//! The list with key T has what was born after T and up to the next key. Keys are the groups in which snapshots were made, so that
//! destroying a snapshot frees or joins whole lists.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::create::Creation;
use crate::blkptr::BlockPointer;
use crate::bpobj;
use crate::dmu::BlockSums;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};
use crate::spa::Spa;
use crate::zap::{entries_or_none, update};

const CORRUPT: Error = Error::Corrupt(Structure::BlockList);
/// Bonus of a dead list: used, compressed, uncompressed and padding.
const BONUS_SIZE: usize = 320;

/// Entry of the MOS directory: the list that OpenZFS gives to all keys without pointers.
const EMPTY_LIST: &str = "empty_bpobj";
const EMPTY_LIST_FEATURE: &str = "com.delphix:empty_bpobj";

/// An open dead list.
pub(super) struct Deadlist<'a> {
    spa: &'a Spa,
    object: u64,
    lists: BTreeMap<u64, u64>,
}

impl<'a> Deadlist<'a> {
    /// Opens the dead list in an object.
    pub async fn open(spa: &'a Spa, object: u64) -> Result<Deadlist<'a>, Error> {
        let mut lists = BTreeMap::new();
        for entry in entries_or_none(spa.mos(), object).await? {
            let start = u64::from_str_radix(&entry.text(), 16).map_err(|_| CORRUPT)?;
            lists.insert(start, entry.value.u64().ok_or(CORRUPT)?);
        }
        Ok(Deadlist { spa, object, lists })
    }

    /// Makes an empty one without keys.
    pub async fn create(spa: &'a Spa, creation: &mut Creation<'_>) -> Result<Deadlist<'a>, Error> {
        let object = update::create_with_bonus(
            spa.mos(),
            ObjectType::DEADLIST,
            ObjectType::DEADLIST_HEADER,
            alloc::vec![0; BONUS_SIZE],
            (creation.random)(),
        )
        .await?;
        Ok(Deadlist {
            spa,
            object,
            lists: BTreeMap::new(),
        })
    }

    /// An empty one with the same keys below `end`.
    pub async fn create_like(
        spa: &'a Spa,
        from: u64,
        end: u64,
        creation: &mut Creation<'_>,
    ) -> Result<Deadlist<'a>, Error> {
        let keys = Deadlist::open(spa, from).await?.lists;
        let mut new = Deadlist::create(spa, creation).await?;
        for key in keys.into_keys().filter(|&key| key < end) {
            new.add_key(key).await?;
        }
        Ok(new)
    }

    /// Its object in the MOS.
    pub fn object(&self) -> u64 {
        self.object
    }

    /// Adds an empty list for what is born after `key`.
    pub async fn add_key(&mut self, key: u64) -> Result<(), Error> {
        let list = bpobj::create(self.spa.mos()).await?;
        update::update(
            self.spa.mos(),
            self.object,
            format!("{key:x}").as_bytes(),
            list,
        )
        .await?;
        self.lists.insert(key, list);
        Ok(())
    }

    async fn forget_key(&mut self, key: u64) -> Result<u64, Error> {
        let list = self.lists.remove(&key).ok_or(CORRUPT)?;
        update::remove(self.spa.mos(), self.object, format!("{key:x}").as_bytes()).await?;
        Ok(list)
    }

    /// Joins the list of a key to the one before it: the snapshot that set them apart is gone.
    pub async fn remove_key(&mut self, key: u64) -> Result<(), Error> {
        if !self.lists.contains_key(&key) {
            return Ok(());
        }
        let list = self.forget_key(key).await?;
        let (&before, _) = self.lists.range(..key).next_back().ok_or(CORRUPT)?;
        self.join(before, list).await
    }

    /// The list of a key, to be appended to: the list that all empty ones share is replaced by one of its own.
    async fn own_list(&mut self, key: u64) -> Result<u64, Error> {
        let list = *self.lists.get(&key).ok_or(CORRUPT)?;
        if Some(list) != self.spa.directory(EMPTY_LIST) {
            return Ok(list);
        }
        self.spa.release_empty_list().await?;
        self.add_key(key).await?;
        self.lists.get(&key).copied().ok_or(CORRUPT)
    }

    /// Joins a list that has no key any more to that of a key.
    async fn join(&mut self, key: u64, list: u64) -> Result<(), Error> {
        if Some(list) == self.spa.directory(EMPTY_LIST) {
            return self.spa.release_empty_list().await;
        }
        let own = self.own_list(key).await?;
        bpobj::join(self.spa.mos(), own, list).await
    }

    /// Sums of everything in it.
    pub async fn sums(&self) -> Result<BlockSums, Error> {
        let dnode = self.spa.mos().dnode(self.object).await?;
        let word = |index: usize| dnode.phys.bonus.u64_at(8 * index).ok_or(CORRUPT);
        Ok(BlockSums {
            used: word(0)?,
            compressed: word(1)?,
            uncompressed: word(2)?,
        })
    }

    async fn set_sums(&self, sums: BlockSums) -> Result<(), Error> {
        let mut bonus = self.spa.mos().dnode(self.object).await?.phys.bonus.clone();
        for (index, word) in [sums.used, sums.compressed, sums.uncompressed]
            .into_iter()
            .enumerate()
        {
            put_u64(&mut bonus, 8 * index, word);
        }
        self.spa.mos().set_bonus(self.object, bonus).await
    }

    /// Sums of the lists with keys in `range`.
    pub async fn range_sums(&self, range: core::ops::Range<u64>) -> Result<BlockSums, Error> {
        let mut sums = BlockSums::default();
        for list in self.lists.range(range).map(|(_, list)| *list) {
            sums += bpobj::sums(self.spa.mos(), list).await?;
        }
        Ok(sums)
    }

    /// Adds blocks.
    pub async fn insert(&mut self, pointers: &[BlockPointer]) -> Result<BlockSums, Error> {
        let mut by_key: BTreeMap<u64, Vec<BlockPointer>> = BTreeMap::new();
        for pointer in pointers {
            let (key, _) = self
                .lists
                .range(..pointer.birth())
                .next_back()
                .ok_or(CORRUPT)?;
            by_key.entry(*key).or_default().push(*pointer);
        }
        let mut added = BlockSums::default();
        for (key, pointers) in by_key {
            let list = self.own_list(key).await?;
            added += bpobj::append(self.spa.mos(), self.spa.zio(), list, &pointers).await?;
        }
        let mut sums = self.sums().await?;
        sums += added;
        self.set_sums(sums).await?;
        Ok(added)
    }

    /// Takes everything out that was born after `key`, with the keys from there on; gives the blocks.
    pub async fn take_from(&mut self, key: u64) -> Result<Vec<BlockPointer>, Error> {
        let mut sums = self.sums().await?;
        let mut all = Vec::new();
        let keys: Vec<u64> = self.lists.range(key..).map(|(key, _)| *key).collect();
        for key in keys {
            let list = self.forget_key(key).await?;
            sums -= bpobj::sums(self.spa.mos(), list).await?;
            all.extend(self.spa.destroy_list(list).await?);
        }
        self.set_sums(sums).await?;
        Ok(all)
    }

    /// Takes over everything that another one has, which is gone after that.
    pub async fn merge(&mut self, mut other: Deadlist<'a>) -> Result<(), Error> {
        let mut sums = self.sums().await?;
        sums += other.sums().await?;
        for (key, list) in core::mem::take(&mut other.lists) {
            let (&own, _) = self.lists.range(..=key).next_back().ok_or(CORRUPT)?;
            self.join(own, list).await?;
        }
        self.set_sums(sums).await?;
        self.spa.mos().free_object(other.object).await
    }

    /// Removes it; the blocks in it are somebody else's to free.
    pub async fn destroy(self) -> Result<(), Error> {
        for list in self.lists.into_values() {
            self.spa.destroy_list(list).await?;
        }
        self.spa.mos().free_object(self.object).await
    }
}

impl Spa {
    /// Removes a list that a dead list had; gives its pointers.
    async fn destroy_list(&self, list: u64) -> Result<Vec<BlockPointer>, Error> {
        if Some(list) == self.directory(EMPTY_LIST) {
            self.release_empty_list().await?;
            return Ok(Vec::new());
        }
        bpobj::destroy(self.mos(), list).await
    }

    /// One dead list less uses the list that all empty ones share, which goes with the last.
    async fn release_empty_list(&self) -> Result<(), Error> {
        self.count_feature(EMPTY_LIST_FEATURE, -1).await?;
        let counts = self.feature_counts().await?;
        if counts
            .get(EMPTY_LIST_FEATURE)
            .is_some_and(|count| *count > 0)
        {
            return Ok(());
        }
        if let Some(list) = self.remove_directory(EMPTY_LIST).await? {
            self.mos().free_object(list).await?;
        }
        Ok(())
    }
}
