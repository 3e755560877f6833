//! What users and groups use of a file system: kept by object set, from the owners and sizes of its files.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::{GROUPUSED_OBJECT, NewObject, Objset, ObjsetType, USERUSED_OBJECT};
use crate::dnode::{DNODE_SIZE, DnodePhys, FLAG_USERUSED_ACCOUNTED, ObjectType};
use crate::error::Error;
use crate::layout::Fields;
use crate::zap::{Zap, update};

/// `flags` of an object set: the counts of users and groups are complete.
pub(super) const FLAG_COMPLETE: u64 = 1;
/// Packed attributes start with this.
const ATTRIBUTES_MAGIC: u32 = 0x002f_505a;
/// Places of owner and group after the header of packed attributes, the same in all layouts.
const UID_AT: usize = 24;
const GID_AT: usize = 32;

/// Changes of what owners use.
#[derive(Default)]
pub(super) struct Usage {
    users: BTreeMap<u64, i64>,
    groups: BTreeMap<u64, i64>,
}

/// User and group of a file.
fn owners(phys: &DnodePhys) -> Option<(u64, u64)> {
    let bonus = &phys.bonus;
    if phys.bonus_type != ObjectType::SYSTEM_ATTRIBUTES || bonus.u32_at(0)? != ATTRIBUTES_MAGIC {
        return None;
    }
    let header = usize::from(bonus.u16_at(4)? >> 10) * 8;
    Some((
        bonus.u64_at(header + UID_AT)?,
        bonus.u64_at(header + GID_AT)?,
    ))
}

impl Usage {
    /// A file that was counted changes or goes.
    pub fn subtract(&mut self, phys: &DnodePhys) {
        if phys.flags & FLAG_USERUSED_ACCOUNTED != 0 {
            self.count(phys, -1);
        }
    }

    /// A file is as it is now; it is marked as counted.
    pub fn add(&mut self, phys: &mut DnodePhys) {
        if self.count(phys, 1) {
            phys.flags |= FLAG_USERUSED_ACCOUNTED;
        }
    }

    fn count(&mut self, phys: &DnodePhys, sign: i64) -> bool {
        let Some((user, group)) = owners(phys) else {
            return false;
        };
        let bytes = sign * (phys.used_bytes() + DNODE_SIZE as u64) as i64;
        *self.users.entry(user).or_default() += bytes;
        *self.groups.entry(group).or_default() += bytes;
        true
    }
}

impl Objset {
    /// Whether users and groups are counted here.
    pub(super) fn counts_usage(&self) -> bool {
        let phys = self.phys.borrow();
        phys.kind == ObjsetType::Filesystem
            && phys.flags & FLAG_COMPLETE != 0
            && phys.has_accounting()
    }

    /// Puts changes into the tables of users and groups.
    pub(super) async fn apply_usage(&self, usage: Usage) -> Result<(), Error> {
        for (object, changes) in [
            (USERUSED_OBJECT, usage.users),
            (GROUPUSED_OBJECT, usage.groups),
        ] {
            for (owner, change) in changes.into_iter().filter(|(_, change)| *change != 0) {
                self.change_usage(object, owner, change).await?;
            }
        }
        Ok(())
    }

    async fn change_usage(&self, object: u64, owner: u64, change: i64) -> Result<(), Error> {
        if matches!(self.dnode(object).await, Err(Error::NotFound)) {
            let new = NewObject {
                object_type: ObjectType::USERGROUP_USED,
                block_size: update::FIRST_SIZE,
                bonus_type: ObjectType::NONE,
                bonus: Vec::new(),
            };
            self.allocate_at(object, new).await?;
            update::initialize(self, object, object ^ self.id()).await?;
        }
        let key = format!("{owner:x}");
        let old = Zap::open(self, object)
            .await?
            .lookup(key.as_bytes())
            .await?;
        let old = old.and_then(|value| value.u64()).unwrap_or(0);
        match old.saturating_add_signed(change) {
            0 if old == 0 => Ok(()),
            0 => update::remove(self, object, key.as_bytes()).await,
            used => update::update(self, object, key.as_bytes(), used).await,
        }
    }
}
