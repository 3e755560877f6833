//! DSL directories.

use alloc::vec;
use alloc::vec::Vec;

use crate::dmu::Dnode;
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};
use crate::spa::Spa;
use crate::zap::{Zap, ZapValue};

const CORRUPT: Error = Error::Corrupt(Structure::Dataset);

/// Space below a directory, by what uses it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct UsedBreakdown {
    /// The head data set.
    pub head: u64,
    /// Its snapshots.
    pub snapshots: u64,
    /// Child directories.
    pub children: u64,
    /// What children have reserved and do not use.
    pub child_reservations: u64,
    /// What `refreservation` holds.
    pub reference_reservation: u64,
}

/// A directory as it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DslDirPhys {
    /// Seconds since 1970.
    pub creation_time: u64,
    /// The head data set; 0 for internal directories without one.
    pub head_dataset: u64,
    /// The parent directory; 0 at the root.
    pub parent: u64,
    /// The snapshot it was cloned from; 0 when it is no clone.
    pub origin: u64,
    /// ZAP of child directories.
    pub child_dirs: u64,
    /// Bytes used here and below.
    pub used_bytes: u64,
    /// Bytes before parity, after compression.
    pub compressed_bytes: u64,
    /// Bytes before compression.
    pub uncompressed_bytes: u64,
    /// Quota in bytes; 0 is none.
    pub quota: u64,
    /// Reservation in bytes.
    pub reserved: u64,
    /// ZAP of properties.
    pub props: u64,
    /// ZAP of delegated permissions.
    pub delegation: u64,
    /// Bits of the format.
    pub flags: u64,
    /// `used_bytes` by what uses it.
    pub used: UsedBreakdown,
    /// ZAP of clones of snapshots here.
    pub clones: u64,
}

impl DslDirPhys {
    /// Reads the bonus of a directory's object.
    pub fn decode(bonus: &[u8]) -> Result<DslDirPhys, Error> {
        let word = |index: usize| bonus.u64_at(8 * index).ok_or(CORRUPT);
        Ok(DslDirPhys {
            creation_time: word(0)?,
            head_dataset: word(1)?,
            parent: word(2)?,
            origin: word(3)?,
            child_dirs: word(4)?,
            used_bytes: word(5)?,
            compressed_bytes: word(6)?,
            uncompressed_bytes: word(7)?,
            quota: word(8)?,
            reserved: word(9)?,
            props: word(10)?,
            delegation: word(11)?,
            flags: word(12)?,
            used: UsedBreakdown {
                head: word(13)?,
                snapshots: word(14)?,
                children: word(15)?,
                child_reservations: word(16)?,
                reference_reservation: word(17)?,
            },
            clones: word(18)?,
        })
    }
}

/// Bytes of a directory's bonus.
pub(super) const DIR_BONUS: usize = 256;

impl DslDirPhys {
    /// The bonus again.
    pub fn encode(&self) -> Vec<u8> {
        let words = [
            self.creation_time,
            self.head_dataset,
            self.parent,
            self.origin,
            self.child_dirs,
            self.used_bytes,
            self.compressed_bytes,
            self.uncompressed_bytes,
            self.quota,
            self.reserved,
            self.props,
            self.delegation,
            self.flags,
            self.used.head,
            self.used.snapshots,
            self.used.children,
            self.used.child_reservations,
            self.used.reference_reservation,
            self.clones,
        ];
        let mut bonus = vec![0; DIR_BONUS];
        for (index, word) in words.into_iter().enumerate() {
            put_u64(&mut bonus, 8 * index, word);
        }
        bonus
    }
}

/// A directory that was looked up.
#[derive(Clone, Debug)]
pub struct DslDir {
    /// Its object in the MOS.
    pub object: u64,
    /// Its fields.
    pub phys: DslDirPhys,
    dnode: Dnode,
}

impl Spa {
    /// Looks up a directory by its object.
    pub async fn dsl_dir(&self, object: u64) -> Result<DslDir, Error> {
        let dnode = self.mos().dnode(object).await?;
        if dnode.phys.bonus_type != ObjectType::DSL_DIR {
            return Err(CORRUPT);
        }
        Ok(DslDir {
            object,
            phys: DslDirPhys::decode(&dnode.phys.bonus)?,
            dnode,
        })
    }

    /// An entry that features keep in a directory, such as the object of its keys.
    pub async fn dir_extension(&self, dir: &DslDir, name: &str) -> Result<Option<ZapValue>, Error> {
        self.extension(&dir.dnode, name).await
    }

    /// An entry of a directory or data set that was made extensible.
    pub(super) async fn extension(
        &self,
        dnode: &Dnode,
        name: &str,
    ) -> Result<Option<ZapValue>, Error> {
        if dnode.phys.object_type != ObjectType::ZAP_METADATA {
            return Ok(None);
        }
        Zap::of_dnode(self.mos(), dnode.clone())
            .await?
            .lookup(name.as_bytes())
            .await
    }
}
