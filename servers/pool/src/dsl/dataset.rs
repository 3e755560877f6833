//! Data sets: heads and snapshots.

use alloc::rc::Rc;
use alloc::vec;
use alloc::vec::Vec;

use crate::blkptr::BlockPointer;
use crate::crypt::DatasetKey;
use crate::dmu::{Dnode, Objset};
use crate::dnode::ObjectType;
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};
use crate::spa::Spa;
use crate::zap::ZapValue;

const CORRUPT: Error = Error::Corrupt(Structure::Dataset);
const POINTER_AT: usize = 128;

/// A data set as it is on disk.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DslDatasetPhys {
    /// Its directory.
    pub dir: u64,
    /// The snapshot before it; the origin, for a clone's first.
    pub previous_snapshot: u64,
    /// When that was made.
    pub previous_snapshot_txg: u64,
    /// For a snapshot, the next newer one or the head; 0 for a head.
    pub next_snapshot: u64,
    /// ZAP of snapshot names, in heads.
    pub snapshot_names: u64,
    /// For a snapshot, one more than its clones; 0 for a head.
    pub children: u64,
    /// Seconds since 1970.
    pub creation_time: u64,
    /// Transaction group it was made in.
    pub creation_txg: u64,
    /// Blocks of the snapshot before that this one no longer has.
    pub deadlist: u64,
    /// Bytes it reaches.
    pub referenced_bytes: u64,
    /// The same before parity, after compression.
    pub compressed_bytes: u64,
    /// The same before compression.
    pub uncompressed_bytes: u64,
    /// Bytes that only it reaches.
    pub unique_bytes: u64,
    /// Identity for file handles.
    pub fsid_guid: u64,
    /// Identity, kept by send and receive for snapshots.
    pub guid: u64,
    /// Bits of the format.
    pub flags: u64,
    /// Its object set.
    pub pointer: BlockPointer,
    /// ZAP of clones, in snapshots.
    pub next_clones: u64,
    /// ZAP of properties, in snapshots.
    pub props: u64,
    /// ZAP of holds, in snapshots.
    pub user_references: u64,
}

impl DslDatasetPhys {
    /// Reads the bonus of a data set's object.
    pub fn decode(bonus: &[u8]) -> Result<DslDatasetPhys, Error> {
        let word = |index: usize| bonus.u64_at(8 * index).ok_or(CORRUPT);
        Ok(DslDatasetPhys {
            dir: word(0)?,
            previous_snapshot: word(1)?,
            previous_snapshot_txg: word(2)?,
            next_snapshot: word(3)?,
            snapshot_names: word(4)?,
            children: word(5)?,
            creation_time: word(6)?,
            creation_txg: word(7)?,
            deadlist: word(8)?,
            referenced_bytes: word(9)?,
            compressed_bytes: word(10)?,
            uncompressed_bytes: word(11)?,
            unique_bytes: word(12)?,
            fsid_guid: word(13)?,
            guid: word(14)?,
            flags: word(15)?,
            pointer: BlockPointer::decode(bonus, POINTER_AT).ok_or(CORRUPT)?,
            next_clones: word(32)?,
            props: word(33)?,
            user_references: word(34)?,
        })
    }
}

/// Bytes of a data set's bonus.
pub(super) const DATASET_BONUS: usize = 320;

impl DslDatasetPhys {
    /// The bonus again.
    pub fn encode(&self) -> Vec<u8> {
        let words = [
            self.dir,
            self.previous_snapshot,
            self.previous_snapshot_txg,
            self.next_snapshot,
            self.snapshot_names,
            self.children,
            self.creation_time,
            self.creation_txg,
            self.deadlist,
            self.referenced_bytes,
            self.compressed_bytes,
            self.uncompressed_bytes,
            self.unique_bytes,
            self.fsid_guid,
            self.guid,
            self.flags,
        ];
        let mut bonus = vec![0; DATASET_BONUS];
        for (index, word) in words.into_iter().enumerate() {
            put_u64(&mut bonus, 8 * index, word);
        }
        self.pointer.encode(&mut bonus, POINTER_AT);
        for (index, word) in [self.next_clones, self.props, self.user_references]
            .into_iter()
            .enumerate()
        {
            put_u64(&mut bonus, 8 * (32 + index), word);
        }
        bonus
    }
}

/// A data set that was looked up.
#[derive(Clone, Debug)]
pub struct DslDataset {
    /// Its object in the MOS.
    pub object: u64,
    /// Its fields.
    pub phys: DslDatasetPhys,
    dnode: Dnode,
}

impl DslDataset {
    /// Whether it is a snapshot.
    pub fn is_snapshot(&self) -> bool {
        self.phys.children != 0
    }
}

impl Spa {
    /// Looks up a data set by its object.
    pub async fn dsl_dataset(&self, object: u64) -> Result<DslDataset, Error> {
        let dnode = self.mos().dnode(object).await?;
        if dnode.phys.bonus_type != ObjectType::DSL_DATASET {
            return Err(CORRUPT);
        }
        Ok(DslDataset {
            object,
            phys: DslDatasetPhys::decode(&dnode.phys.bonus)?,
            dnode,
        })
    }

    /// An entry that features keep in a data set, such as the object of its bookmarks.
    pub async fn dataset_extension(
        &self,
        dataset: &DslDataset,
        name: &str,
    ) -> Result<Option<ZapValue>, Error> {
        self.extension(&dataset.dnode, name).await
    }

    /// Opens a data set's objects; those of a head that is open for writing are shared. Without the key, an encrypted one opens, but its data gives `KeyUnavailable`.
    pub async fn open_objset(
        &self,
        dataset: &DslDataset,
        key: Option<Rc<DatasetKey>>,
    ) -> Result<Rc<Objset>, Error> {
        if let Some(open) = self.datasets.borrow().get(&dataset.object) {
            return Ok(open.objset.clone());
        }
        let pointer = &dataset.phys.pointer;
        let objset = Objset::open(self.zio().clone(), dataset.object, pointer, key).await?;
        Ok(Rc::new(objset))
    }
}
