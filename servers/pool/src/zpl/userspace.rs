//! What users, groups and projects use of a file system.

use alloc::string::String;
use alloc::vec::Vec;

use super::Zpl;
use super::permission::{QuotaKind, quota_table};
use crate::dmu::{GROUPUSED_OBJECT, PROJECTUSED_OBJECT, USERUSED_OBJECT};
use crate::error::Error;
use crate::zap::{Zap, entries_or_none};

/// Whose use is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AccountingKind {
    /// Of users.
    User,
    /// Of groups.
    Group,
    /// Of projects.
    Project,
}

impl AccountingKind {
    /// The object that counts the use.
    pub(super) fn table(self) -> u64 {
        match self {
            AccountingKind::User => USERUSED_OBJECT,
            AccountingKind::Group => GROUPUSED_OBJECT,
            AccountingKind::Project => PROJECTUSED_OBJECT,
        }
    }
}

/// The use of one user, group or project.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpaceUse {
    /// Its number.
    pub id: u64,
    /// Bytes used.
    pub used: u64,
    /// Bytes allowed; 0 when there is no limit.
    pub quota: u64,
    /// Objects used.
    pub objects: u64,
    /// Objects allowed; 0 when there is no limit.
    pub object_quota: u64,
}

/// Prefix of the entries that count objects.
const OBJECTS_PREFIX: &str = "obj-";

impl Zpl {
    /// The use of every user, group or project that has any or has a quota, by number.
    pub async fn space_use(&self, kind: AccountingKind) -> Result<Vec<SpaceUse>, Error> {
        let quota = quota_table(kind, QuotaKind::Space);
        let object_quota = quota_table(kind, QuotaKind::Objects);
        let mut all = alloc::collections::BTreeMap::<u64, SpaceUse>::new();
        let mut add = |name: &str, set: &dyn Fn(&mut SpaceUse)| {
            if let Ok(id) = u64::from_str_radix(name, 16) {
                set(all.entry(id).or_insert(SpaceUse {
                    id,
                    ..SpaceUse::default()
                }));
            }
        };
        for (name, value) in self.accounting(kind.table()).await? {
            match name.strip_prefix(OBJECTS_PREFIX) {
                Some(name) => add(name, &|entry| entry.objects = value),
                None => add(&name, &|entry| entry.used = value),
            }
        }
        for entry in entries_or_none(&self.objset, self.master_number(quota).unwrap_or(0)).await? {
            let value = entry.value.u64().unwrap_or(0);
            add(&entry.text(), &|entry| entry.quota = value);
        }
        for entry in
            entries_or_none(&self.objset, self.master_number(object_quota).unwrap_or(0)).await?
        {
            let value = entry.value.u64().unwrap_or(0);
            add(&entry.text(), &|entry| entry.object_quota = value);
        }
        Ok(all.into_values().collect())
    }

    async fn accounting(&self, object: u64) -> Result<Vec<(String, u64)>, Error> {
        match Zap::open(&self.objset, object).await {
            Ok(zap) => zap.numbers().await,
            Err(Error::NotFound) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }
}
