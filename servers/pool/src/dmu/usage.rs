//! What users, groups and projects use of a file system: kept by object set, from the owners and sizes of its files.

use alloc::collections::BTreeMap;
use alloc::format;
use alloc::vec::Vec;

use super::{GROUPUSED_OBJECT, NewObject, Objset, ObjsetType, PROJECTUSED_OBJECT, USERUSED_OBJECT};
use crate::dnode::{
    DNODE_SIZE, DnodePhys, FLAG_USEROBJ_ACCOUNTED, FLAG_USERUSED_ACCOUNTED, ObjectType,
};
use crate::error::Error;
use crate::layout::Fields;
use crate::zap::{Zap, update};

/// `flags` of an object set: the counts of bytes of users and groups are complete.
pub(super) const FLAG_COMPLETE: u64 = 1;
/// `flags` of an object set: the counts of objects are complete.
const FLAG_OBJECTS_COMPLETE: u64 = 2;
/// `flags` of an object set: the counts of projects are complete.
const FLAG_PROJECTS_COMPLETE: u64 = 4;
/// Packed attributes start with this.
const ATTRIBUTES_MAGIC: u32 = 0x002f_505a;
/// Places of attributes after the header of packed attributes, the same in all layouts.
const UID_AT: usize = 24;
const GID_AT: usize = 32;
const FLAGS_AT: usize = 48;
const PROJECT_AT: usize = 128;
/// `ZPL_FLAGS`: the file has a project; files without one belong to project 0.
const FLAG_PROJECT: u64 = 0x8000 << 32;
/// Prefix of the entries that count objects.
const OBJECTS_PREFIX: &str = "obj-";

/// Whose use is counted, in the order of the object set's tables.
const TABLES: [u64; 3] = [USERUSED_OBJECT, GROUPUSED_OBJECT, PROJECTUSED_OBJECT];

/// What an object set counts beside the bytes of users and groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accounting {
    /// Their objects.
    Objects,
    /// Bytes of projects, and their objects with [`Accounting::Objects`].
    Projects,
}

/// A change of what one owner uses.
#[derive(Clone, Copy, Default)]
struct Change {
    bytes: i64,
    objects: i64,
}

/// Changes of what owners use, of users, groups and projects.
#[derive(Default)]
pub(super) struct Usage([BTreeMap<u64, Change>; 3]);

/// User, group and project of a file.
fn owners(phys: &DnodePhys) -> Option<[u64; 3]> {
    let bonus = &phys.bonus;
    if phys.bonus_type != ObjectType::SYSTEM_ATTRIBUTES || bonus.u32_at(0)? != ATTRIBUTES_MAGIC {
        return None;
    }
    let header = usize::from(bonus.u16_at(4)? >> 10) * 8;
    let word = |at: usize| bonus.u64_at(header + at);
    let project = match word(FLAGS_AT)? & FLAG_PROJECT {
        0 => 0,
        _ => word(PROJECT_AT)?,
    };
    Some([word(UID_AT)?, word(GID_AT)?, project])
}

impl Usage {
    /// A file that was counted changes or goes.
    pub fn subtract(&mut self, phys: &DnodePhys) {
        self.count(phys, phys.flags, -1);
    }

    /// A file is as it is now. `flags` say what is counted of it, which is marked.
    pub fn add(&mut self, phys: &mut DnodePhys, flags: u8) {
        if self.count(phys, flags, 1) {
            phys.flags |= flags;
        }
    }

    fn count(&mut self, phys: &DnodePhys, flags: u8, sign: i64) -> bool {
        let Some(owners) = owners(phys) else {
            return false;
        };
        for (changes, owner) in self.0.iter_mut().zip(owners) {
            let change = changes.entry(owner).or_default();
            if flags & FLAG_USERUSED_ACCOUNTED != 0 {
                change.bytes += sign * (phys.used_bytes() + DNODE_SIZE as u64) as i64;
            }
            if flags & FLAG_USEROBJ_ACCOUNTED != 0 {
                change.objects += sign;
            }
        }
        true
    }
}

impl Objset {
    /// What of files is counted here, as flags of their descriptions.
    pub(super) fn counted(&self) -> u8 {
        let phys = self.phys.borrow();
        if phys.kind != ObjsetType::Filesystem || !phys.has_accounting() {
            return 0;
        }
        let mut flags = 0;
        if phys.flags & FLAG_COMPLETE != 0 {
            flags |= FLAG_USERUSED_ACCOUNTED;
        }
        if phys.flags & FLAG_OBJECTS_COMPLETE != 0 {
            flags |= FLAG_USEROBJ_ACCOUNTED;
        }
        flags
    }

    /// Counts more than bytes of users and groups, in a file system without files.
    pub fn account_for(&self, accounting: Accounting) {
        let mut phys = self.phys.borrow_mut();
        match accounting {
            Accounting::Objects => phys.flags |= FLAG_OBJECTS_COMPLETE,
            Accounting::Projects => {
                phys.flags |= FLAG_PROJECTS_COMPLETE;
                phys.make_room_for_projects();
            }
        }
    }

    /// Puts changes into the tables.
    pub(super) async fn apply_usage(&self, usage: Usage) -> Result<(), Error> {
        let projects = self.phys.borrow().flags & FLAG_PROJECTS_COMPLETE != 0;
        let tables = if projects { &TABLES[..] } else { &TABLES[..2] };
        for (&table, changes) in tables.iter().zip(usage.0) {
            for (owner, change) in changes {
                let bytes = format!("{owner:x}");
                self.change_usage(table, &bytes, change.bytes).await?;
                let objects = format!("{OBJECTS_PREFIX}{owner:x}");
                self.change_usage(table, &objects, change.objects).await?;
            }
        }
        Ok(())
    }

    async fn change_usage(&self, table: u64, key: &str, change: i64) -> Result<(), Error> {
        if change == 0 {
            return Ok(());
        }
        if matches!(self.dnode(table).await, Err(Error::NotFound)) {
            let new = NewObject {
                object_type: ObjectType::USERGROUP_USED,
                block_size: update::FIRST_SIZE,
                bonus_type: ObjectType::NONE,
                bonus: Vec::new(),
            };
            self.allocate_at(table, new).await?;
            update::initialize(self, table, table ^ self.id()).await?;
        }
        let old = Zap::open(self, table).await?.lookup(key.as_bytes()).await?;
        let old = old.and_then(|value| value.u64()).unwrap_or(0);
        match old.saturating_add_signed(change) {
            0 if old == 0 => Ok(()),
            0 => update::remove(self, table, key.as_bytes()).await,
            used => update::update(self, table, key.as_bytes(), used).await,
        }
    }
}
