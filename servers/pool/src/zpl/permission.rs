//! What properties and quotas of owners let users do with a file system.

use alloc::format;

use super::{AccountingKind, Owner, Zpl};
use crate::block_device::Access;
use crate::dmu::AccessTimes;
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::zap::{Zap, update};

/// With relative access times, one that is older than this is set anew.
const RELATIVE_AGE: u64 = 24 * 60 * 60;
/// Prefix of the entries that count objects.
const OBJECTS_PREFIX: &str = "obj-";

/// What a quota limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuotaKind {
    /// Bytes.
    Space,
    /// Files, directories and links.
    Objects,
}

/// Entry of the master node: the table of quotas.
pub(super) fn quota_table(owner: AccountingKind, kind: QuotaKind) -> &'static str {
    match (owner, kind) {
        (AccountingKind::User, QuotaKind::Space) => "userquota@",
        (AccountingKind::Group, QuotaKind::Space) => "groupquota@",
        (AccountingKind::Project, QuotaKind::Space) => "projectquota@",
        (AccountingKind::User, QuotaKind::Objects) => "userobjquota@",
        (AccountingKind::Group, QuotaKind::Objects) => "groupobjquota@",
        (AccountingKind::Project, QuotaKind::Objects) => "projectobjquota@",
    }
}

impl Zpl {
    /// Refuses changes of a file system with `readonly=on`.
    ///
    /// # Errors
    /// `ReadOnly`.
    pub(super) fn check_changeable(&self) -> Result<(), Error> {
        match self.objset.settings().access {
            Access::ReadWrite => Ok(()),
            Access::ReadOnly => Err(Error::ReadOnly),
        }
    }

    /// Notes that a file was read, as far as `atime` and `relatime` ask for it.
    pub async fn accessed(&self, object: u64, now: [u64; 2]) -> Result<(), Error> {
        let settings = self.objset.settings();
        let wanted = match settings.access_times {
            AccessTimes::Off => false,
            AccessTimes::On => true,
            AccessTimes::Relative => {
                let znode = self.znode(object).await?;
                let changed = znode.mtime.max(znode.ctime);
                znode.atime <= changed || znode.atime[0].saturating_add(RELATIVE_AGE) <= now[0]
            }
        };
        if wanted && settings.access == Access::ReadWrite {
            self.touch(object, now).await?;
        }
        Ok(())
    }

    /// Refuses more for owners who use all that they may. As in OpenZFS, what counts is the last transaction group.
    ///
    /// # Errors
    /// `QuotaExceeded`.
    pub(super) async fn check_quota(
        &self,
        owner: Owner,
        project: u64,
        kind: QuotaKind,
    ) -> Result<(), Error> {
        for (whose, id) in [
            (AccountingKind::User, owner.uid),
            (AccountingKind::Group, owner.gid),
            (AccountingKind::Project, project),
        ] {
            let Some(table) = self.master_number(quota_table(whose, kind)) else {
                continue;
            };
            let number = async |table: u64, key: &str| match Zap::open(&self.objset, table).await {
                Ok(zap) => Ok(zap
                    .lookup(key.as_bytes())
                    .await?
                    .and_then(|value| value.u64())),
                Err(Error::NotFound) => Ok(None),
                Err(error) => Err(error),
            };
            let Some(quota) = number(table, &format!("{id:x}")).await? else {
                continue;
            };
            let key = match kind {
                QuotaKind::Space => format!("{id:x}"),
                QuotaKind::Objects => format!("{OBJECTS_PREFIX}{id:x}"),
            };
            let used = number(whose.table(), &key).await?.unwrap_or(0);
            if quota != 0 && used >= quota {
                return Err(Error::QuotaExceeded);
            }
        }
        Ok(())
    }

    /// [`Zpl::check_quota`] of space for the owner of a file.
    pub(super) async fn check_space_quota(&self, object: u64) -> Result<(), Error> {
        let owners = [
            AccountingKind::User,
            AccountingKind::Group,
            AccountingKind::Project,
        ];
        let limited = |owner| {
            self.master_number(quota_table(owner, QuotaKind::Space))
                .is_some()
        };
        if !owners.into_iter().any(limited) {
            return Ok(());
        }
        let znode = self.znode(object).await?;
        let owner = Owner {
            uid: znode.uid,
            gid: znode.gid,
        };
        self.check_quota(owner, znode.project.unwrap_or(0), QuotaKind::Space)
            .await
    }

    /// Sets what an owner may use; 0 is no limit. Who has the file system open already sees a first quota of a kind
    /// after opening it again.
    pub async fn set_quota(
        &self,
        owner: AccountingKind,
        id: u64,
        kind: QuotaKind,
        quota: u64,
    ) -> Result<(), Error> {
        let name = quota_table(owner, kind);
        let master = Zap::open(&self.objset, super::MASTER_NODE).await?;
        let known = master.lookup(name.as_bytes()).await?;
        let table = match known.and_then(|table| table.u64()) {
            Some(table) => table,
            None => {
                let salt = self.objset.id() ^ self.root;
                let table = update::create(&self.objset, ObjectType::USERGROUP_QUOTA, salt).await?;
                update::update(&self.objset, super::MASTER_NODE, name.as_bytes(), table).await?;
                table
            }
        };
        let key = format!("{id:x}");
        if quota != 0 {
            return update::update(&self.objset, table, key.as_bytes(), quota).await;
        }
        match update::remove(&self.objset, table, key.as_bytes()).await {
            Err(Error::NotFound) => Ok(()),
            removed => removed,
        }
    }
}
