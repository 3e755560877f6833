//! Counts of the file systems and snapshots below a directory, which limits on them need.
//!
//! A directory has the counts once a limit was set at it or above it; a directory without them ends the way up.

use super::create::Creation;
use crate::error::{Error, Structure};
use crate::spa::Spa;
use crate::zap::update;

/// What is counted, by the entry of a directory that has the count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// File systems and volumes below the directory.
    Filesystems,
    /// Snapshots of its head and of those below.
    Snapshots,
}

impl Counted {
    fn entry(self) -> &'static str {
        match self {
            Counted::Filesystems => "com.joyent:filesystem_count",
            Counted::Snapshots => "com.joyent:snapshot_count",
        }
    }
}

impl Spa {
    /// The count of a directory, when it keeps one.
    pub(super) async fn limited_count(
        &self,
        dir: u64,
        counted: Counted,
    ) -> Result<Option<u64>, Error> {
        let count = self.extensions(dir).await?.remove(counted.entry());
        count
            .map(|count| count.u64().ok_or(Error::Corrupt(Structure::Dataset)))
            .transpose()
    }

    /// Counts a change in a directory and all above it.
    pub(super) async fn count_limited(
        &self,
        dir: u64,
        counted: Counted,
        change: i64,
    ) -> Result<(), Error> {
        let mut dir = dir;
        while dir != 0 {
            let Some(count) = self.limited_count(dir, counted).await? else {
                return Ok(());
            };
            let count = count.saturating_add_signed(change);
            update::update(self.mos(), dir, counted.entry().as_bytes(), count).await?;
            dir = self.dsl_dir(dir).await?.phys.parent;
        }
        Ok(())
    }

    /// Counts a new directory, which has counts of its own where its parent has.
    pub(super) async fn count_new_dir(
        &self,
        parent: u64,
        dir: u64,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        for counted in [Counted::Filesystems, Counted::Snapshots] {
            if self.limited_count(parent, counted).await?.is_some() {
                self.set_extension(dir, counted.entry(), 0, creation)
                    .await?;
            }
        }
        self.count_limited(parent, Counted::Filesystems, 1).await
    }

    /// Moves what a directory counts, and itself, from one parent to another.
    pub(super) async fn move_counts(&self, dir: u64, from: u64, to: u64) -> Result<(), Error> {
        for (counted, own) in [(Counted::Filesystems, 1), (Counted::Snapshots, 0)] {
            let below = self.limited_count(dir, counted).await?.unwrap_or(0);
            let moved = below as i64 + own;
            self.count_limited(from, counted, -moved).await?;
            self.count_limited(to, counted, moved).await?;
        }
        Ok(())
    }
}
