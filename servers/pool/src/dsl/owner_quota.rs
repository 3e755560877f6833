//! Quotas of users, groups and projects, which are set like properties: `userquota@1000=10M`.

use super::prop_value::{PropertyError, parse_size};
use crate::error::Error;
use crate::spa::Spa;
use crate::zpl::{AccountingKind, QuotaKind, Zpl};

/// Whose quota of what a property is.
pub(super) struct OwnerQuota {
    owner: AccountingKind,
    id: u64,
    kind: QuotaKind,
}

impl OwnerQuota {
    /// Reads a property's name; `None` when it is another one. Owners are numbers here: who knows names is above.
    pub fn parse(property: &str) -> Option<OwnerQuota> {
        let (what, id) = property.split_once('@')?;
        let (owner, kind) = match what {
            "userquota" => (AccountingKind::User, QuotaKind::Space),
            "groupquota" => (AccountingKind::Group, QuotaKind::Space),
            "projectquota" => (AccountingKind::Project, QuotaKind::Space),
            "userobjquota" => (AccountingKind::User, QuotaKind::Objects),
            "groupobjquota" => (AccountingKind::Group, QuotaKind::Objects),
            "projectobjquota" => (AccountingKind::Project, QuotaKind::Objects),
            _ => return None,
        };
        let id = id.parse().ok()?;
        Some(OwnerQuota { owner, id, kind })
    }
}

impl Spa {
    /// Sets a quota of a file system's owner and commits it. 0 and `none` are no limit.
    pub(super) async fn set_owner_quota(
        &self,
        name: &str,
        quota: OwnerQuota,
        text: &str,
        now: u64,
    ) -> Result<(), PropertyError> {
        let value = parse_size(text).ok_or(Error::InvalidArgument)?;
        let zpl = Zpl::open(self.open_head(name).await?).await?;
        zpl.set_quota(quota.owner, quota.id, quota.kind, value)
            .await?;
        Ok(self.sync(now).await?)
    }
}
