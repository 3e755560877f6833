//! Changing the pool itself: features, properties, export.

use super::Spa;
use super::feature::{Compatibility, FEATURES};
use super::space_log::FlushExtent;
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::zap::{Zap, ZapValue, entries_or_none, update};

/// The state in labels of a pool that is in nobody's use.
const EXPORTED: u64 = 1;
/// Features that can be enabled: what is written with them is kept up.
const ENABLED_BY_USER: [&str; 9] = [
    "async_destroy",
    "large_blocks",
    "large_dnode",
    "bookmarks",
    "sha512",
    "skein",
    "edonr",
    "blake3",
    "zstd_compress",
];
/// Longest comment.
const MAX_COMMENT: usize = 32;

impl Spa {
    /// Writes the labels so that other hosts may import the pool without asking, after a last transaction group.
    pub async fn export(&self, now: u64) -> Result<(), Error> {
        self.config.borrow_mut().set_u64("state", EXPORTED);
        self.flush_extent.set(FlushExtent::All);
        self.sync_with_labels(now).await
    }

    /// Enables a feature by its short name and commits that. A feature that is enabled already stays so.
    ///
    /// # Errors
    /// `NotFound` when none has the name, `Unsupported` for features whose structures are only read.
    pub async fn enable_feature(&self, name: &str, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let feature = FEATURES
            .iter()
            .find(|feature| feature.name == name)
            .ok_or(Error::NotFound)?;
        let counts = self.feature_counts().await?;
        if counts.contains_key(feature.guid) {
            return Ok(());
        }
        if !ENABLED_BY_USER.contains(&name) {
            return Err(Error::Unsupported(crate::error::Unsupported::Writing));
        }
        let table = match feature.compatibility {
            Compatibility::ReadOnly => "features_for_write",
            Compatibility::None => "features_for_read",
        };
        for (table, value) in [(table, 0), ("feature_enabled_txg", self.open_txg())] {
            let table = self.directory(table).ok_or(Error::FeatureDisabled)?;
            update::update(self.mos(), table, feature.guid.as_bytes(), value).await?;
        }
        self.sync(now).await
    }

    /// Sets the pool's comment and commits it.
    pub async fn set_comment(&self, comment: &str, now: u64) -> Result<(), Error> {
        self.check_writable().await?;
        let printable = comment.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        if !printable || comment.len() > MAX_COMMENT {
            return Err(Error::InvalidArgument);
        }
        let table = match self.directory("pool_props") {
            Some(table) => table,
            None => {
                let table = update::create(self.mos(), ObjectType::POOL_PROPS, self.guid()).await?;
                self.set_directory("pool_props", table).await?;
                table
            }
        };
        let value = ZapValue {
            integer_size: 1,
            bytes: comment.bytes().chain([0]).collect(),
        };
        update::set(self.mos(), table, b"comment", &value).await?;
        self.config.borrow_mut().set_string("comment", comment);
        self.sync_with_labels(now).await
    }

    /// The pool's comment.
    pub async fn comment(&self) -> Result<Option<alloc::string::String>, Error> {
        let Some(table) = self.directory("pool_props") else {
            return Ok(None);
        };
        if entries_or_none(self.mos(), table).await?.is_empty() {
            return Ok(None);
        }
        let value = Zap::open(self.mos(), table)
            .await?
            .lookup(b"comment")
            .await?;
        Ok(value.and_then(|value| value.string()))
    }
}
