//! Bookmarks: what is left of a snapshot to start an incremental send from, after its blocks were freed.

use alloc::string::String;
use alloc::vec::Vec;

use super::DslDataset;
use crate::blkptr::BlockPointer;
use crate::dmu::BlockSums;
use crate::error::{Error, Structure};
use crate::spa::Spa;
use crate::zap::{ZapEntry, ZapValue, entries_or_none, update};

/// Entry of a head: the table of its bookmarks. The feature has the same name.
pub(super) const BOOKMARKS: &str = "com.delphix:bookmarks";
/// Counts bookmarks with more than the first three words.
const LONG_BOOKMARKS: &str = "com.datto:bookmark_v2";
/// Counts bookmarks that know what was freed after them.
const WRITTEN_BOOKMARKS: &str = "com.delphix:bookmark_written";
/// Words of the oldest bookmarks: guid, group and time of the snapshot.
const SHORT_WORDS: usize = 3;
const CREATION_TXG: usize = 1;
const FLAGS: usize = 4;
/// Used, compressed and uncompressed bytes that the head freed since, up to the next snapshot.
const FREED: core::ops::Range<usize> = 8..11;
/// The words of [`FREED`] are kept.
const FLAG_FREED: u64 = 1;
/// The snapshot is still there.
const FLAG_SNAPSHOT: u64 = 2;

/// One bookmark of a data set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bookmark {
    /// Name after the `#`.
    pub name: String,
    /// Guid of the snapshot it was made from.
    pub guid: u64,
    /// When that snapshot was made.
    pub creation_txg: u64,
    /// The same in seconds since 1970.
    pub creation_time: u64,
    /// What the snapshot referenced, when the bookmark says.
    pub referenced_bytes: Option<u64>,
}

impl Spa {
    /// The bookmarks of a head, oldest first.
    pub async fn bookmarks(&self, head: &DslDataset) -> Result<Vec<Bookmark>, Error> {
        let object = self
            .dataset_extension(head, "com.delphix:bookmarks")
            .await?;
        let mut bookmarks = Vec::new();
        for entry in entries_or_none(
            self.mos(),
            object.and_then(|value| value.u64()).unwrap_or(0),
        )
        .await?
        {
            let words = entry.value.integers();
            let [guid, creation_txg, creation_time] = *words
                .first_chunk()
                .ok_or(Error::Corrupt(Structure::Dataset))?;
            bookmarks.push(Bookmark {
                name: entry.text(),
                guid,
                creation_txg,
                creation_time,
                referenced_bytes: words.get(5).copied(),
            });
        }
        bookmarks.sort_by_key(|bookmark| bookmark.creation_txg);
        Ok(bookmarks)
    }

    /// Tags and times of the holds on a snapshot.
    pub async fn holds(&self, snapshot: &DslDataset) -> Result<Vec<(String, u64)>, Error> {
        let entries = entries_or_none(self.mos(), snapshot.phys.user_references).await?;
        Ok(entries
            .iter()
            .filter_map(|entry| Some((entry.text(), entry.value.u64()?)))
            .collect())
    }

    /// Adds what a head no longer has to its bookmarks that are newer than its last snapshot.
    pub(super) async fn count_written(
        &self,
        head: &DslDataset,
        killed: &[BlockPointer],
    ) -> Result<(), Error> {
        let newest = head.phys.previous_snapshot_txg;
        let change = |words: &mut [u64]| {
            let txg = words[CREATION_TXG];
            if txg < newest || words[FLAGS] & FLAG_FREED == 0 || words.len() < FREED.end {
                return;
            }
            let mut sums = BlockSums::default();
            for pointer in killed.iter().filter(|pointer| pointer.birth() <= txg) {
                sums.add(self.zio(), pointer);
            }
            let sums = [sums.used, sums.compressed, sums.uncompressed];
            for (word, sum) in words[FREED].iter_mut().zip(sums) {
                *word = word.saturating_add(sum);
            }
        };
        self.change_bookmarks(head, change).await
    }

    /// A snapshot goes, so that other blocks were freed before the next one. Bookmarks need not know how many, and
    /// those since the snapshot before forget it.
    pub(super) async fn forget_written(&self, snapshot: &DslDataset) -> Result<(), Error> {
        let head = self.dsl_dir(snapshot.phys.dir).await?.phys.head_dataset;
        let head = self.dsl_dataset(head).await?;
        let own = snapshot.phys.creation_txg;
        let since = snapshot.phys.previous_snapshot_txg..=own;
        self.forget_written_since(&head, since).await?;
        let change = |words: &mut [u64]| {
            if words[CREATION_TXG] == own {
                words[FLAGS] &= !FLAG_SNAPSHOT;
            }
        };
        self.change_bookmarks(&head, change).await
    }

    /// Lets the bookmarks of some groups forget what was freed after them.
    pub(super) async fn forget_written_since(
        &self,
        head: &DslDataset,
        groups: core::ops::RangeInclusive<u64>,
    ) -> Result<(), Error> {
        let mut forgotten = 0;
        let change = |words: &mut [u64]| {
            if groups.contains(&words[CREATION_TXG]) && words[FLAGS] & FLAG_FREED != 0 {
                words[FLAGS] &= !FLAG_FREED;
                forgotten += 1;
            }
        };
        self.change_bookmarks(head, change).await?;
        match forgotten {
            0 => Ok(()),
            count => self.count_feature(WRITTEN_BOOKMARKS, -count).await,
        }
    }

    /// Changes the words of those bookmarks of a head that have flags.
    async fn change_bookmarks(
        &self,
        head: &DslDataset,
        mut change: impl FnMut(&mut [u64]),
    ) -> Result<(), Error> {
        let table = self.dataset_extension(head, BOOKMARKS).await?;
        let table = table.and_then(|table| table.u64()).unwrap_or(0);
        for entry in entries_or_none(self.mos(), table).await? {
            let mut words = entry.value.integers();
            if words.len() <= FLAGS {
                continue;
            }
            change(&mut words);
            let value = ZapValue {
                integer_size: 8,
                bytes: words.iter().flat_map(|word| word.to_be_bytes()).collect(),
            };
            if value != entry.value {
                update::set(self.mos(), table, &entry.name, &value).await?;
            }
        }
        Ok(())
    }

    /// Counts the features of a bookmark that goes down.
    pub(super) async fn release_bookmark(&self, bookmark: &ZapEntry) -> Result<(), Error> {
        let words = bookmark.value.integers();
        if words.len() > SHORT_WORDS {
            self.count_feature(LONG_BOOKMARKS, -1).await?;
        }
        if words
            .get(FLAGS)
            .is_some_and(|flags| flags & FLAG_FREED != 0)
        {
            self.count_feature(WRITTEN_BOOKMARKS, -1).await?;
        }
        Ok(())
    }
}
