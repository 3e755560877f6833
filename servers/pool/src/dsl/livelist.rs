//! Live lists: what a clone wrote since its origin, kept by OpenZFS so that destroying the clone need not read its tree.
//!
//! A clone need not have one. They are not kept up here: a clone loses its list when it is about to change, and is
//! destroyed by its tree.

use super::deadlist::Deadlist;
use crate::error::{Error, Structure};
use crate::spa::Spa;

/// Entry of a directory: its live list. The feature has the same name.
const LIVELIST: &str = "com.delphix:livelist";

impl Spa {
    /// Removes the live list of a directory's head, if it has one.
    pub(super) async fn drop_livelist(&self, dir: u64) -> Result<(), Error> {
        let Some(list) = self.extensions(dir).await?.remove(LIVELIST) else {
            return Ok(());
        };
        let list = list.u64().ok_or(Error::Corrupt(Structure::BlockList))?;
        Deadlist::open(self, list).await?.destroy().await?;
        self.remove_extension(dir, LIVELIST).await?;
        self.count_feature(LIVELIST, -1).await
    }
}
