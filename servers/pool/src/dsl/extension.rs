//! Entries that features keep in a directory or data set: its object becomes a table too.

use alloc::collections::BTreeMap;

use super::create::Creation;
use crate::dmu::Objset;
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::{Zap, ZapValue, entries_or_none, update};

const EXTENSIBLE_DATASET: &str = "com.delphix:extensible_dataset";

impl Spa {
    /// Sets an entry of a directory or data set.
    ///
    /// # Errors
    /// `FeatureDisabled` when the pool has no extensible data sets.
    pub(super) async fn set_extension(
        &self,
        object: u64,
        name: &str,
        value: u64,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        if self.mos().dnode(object).await?.phys.object_type != ObjectType::ZAP_METADATA {
            self.count_feature(EXTENSIBLE_DATASET, 1).await?;
            make_table(self.mos(), object, (creation.random)()).await?;
        }
        update::update(self.mos(), object, name.as_bytes(), value).await
    }

    /// Removes an entry that is there.
    pub(super) async fn remove_extension(&self, object: u64, name: &str) -> Result<(), Error> {
        update::remove(self.mos(), object, name.as_bytes()).await
    }

    /// All entries of a directory or data set that are numbers.
    pub(super) async fn extensions(
        &self,
        object: u64,
    ) -> Result<BTreeMap<alloc::string::String, ZapValue>, Error> {
        if self.mos().dnode(object).await?.phys.object_type != ObjectType::ZAP_METADATA {
            return Ok(BTreeMap::new());
        }
        let entries = entries_or_none(self.mos(), object).await?;
        Ok(entries
            .into_iter()
            .map(|entry| (entry.text(), entry.value))
            .collect())
    }

    /// Frees the object of a directory or data set.
    pub(super) async fn free_extensible(&self, object: u64) -> Result<(), Error> {
        if self.mos().dnode(object).await?.phys.object_type == ObjectType::ZAP_METADATA {
            self.count_feature(EXTENSIBLE_DATASET, -1).await?;
        }
        self.mos().free_object(object).await
    }

    /// Changes how often a feature is in use.
    ///
    /// # Errors
    /// `FeatureDisabled` when the pool does not have it.
    pub(crate) async fn count_feature(&self, guid: &str, change: i64) -> Result<(), Error> {
        for directory in ["features_for_read", "features_for_write"] {
            let table = self.directory(directory).unwrap_or(0);
            if table == 0 {
                continue;
            }
            if let Some(count) = Zap::open(self.mos(), table)
                .await?
                .lookup(guid.as_bytes())
                .await?
            {
                let count = count.u64().unwrap_or(0).saturating_add_signed(change);
                return update::update(self.mos(), table, guid.as_bytes(), count).await;
            }
        }
        Err(Error::FeatureDisabled)
    }
}

/// Makes an object with only a bonus a table with that bonus.
async fn make_table(mos: &Objset, object: u64, salt: u64) -> Result<(), Error> {
    mos.change(object, |object| {
        alloc::rc::Rc::make_mut(&mut object.phys).object_type = ObjectType::ZAP_METADATA;
    })
    .await?;
    update::initialize(mos, object, salt).await
}
