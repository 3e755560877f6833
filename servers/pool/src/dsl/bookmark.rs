//! Bookmarks: what is left of a snapshot to start an incremental send from, after its blocks were freed.

use alloc::string::String;
use alloc::vec::Vec;

use super::DslDataset;
use crate::error::{Error, Structure};
use crate::spa::Spa;
use crate::zap::entries_or_none;

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
}
