//! Making directories, data sets and snapshots in the MOS.

use alloc::vec;

use super::dataset::DATASET_BONUS;
use super::deadlist::Deadlist;
use super::dir::DIR_BONUS;
use super::limits::Counted;
use super::{DslDataset, DslDatasetPhys, DslDir, DslDirPhys, OpenDataset};
use crate::bpobj;
use crate::dmu::{NewObject, ObjsetType};
use crate::dnode::ObjectType;
use crate::error::Error;
use crate::spa::Spa;
use crate::zap::{self, update};
use crate::zpl;

/// `flags` of a directory: the breakdown of its space is kept.
const FLAG_USED_BREAKDOWN: u64 = 1;
/// `flags` of a data set: `unique_bytes` is right.
const FLAG_UNIQUE_ACCURATE: u64 = 4;
/// Bits of an identity for file handles.
const FSID_MASK: u64 = (1 << 56) - 1;

/// What every new thing of the DSL needs to know.
pub struct Creation<'a> {
    /// The transaction group.
    pub txg: u64,
    /// Seconds since 1970.
    pub now: u64,
    /// Source of guids and salts.
    pub random: &'a mut dyn FnMut() -> u64,
}

impl Spa {
    /// The name tree of a new pool: its root file system and the directories the pool keeps for itself.
    pub(crate) async fn create_name_tree(
        &self,
        txg: u64,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let mut creation = Creation { txg, now, random };
        let root = self.create_dir(None, &mut creation).await?;
        self.set_directory("root_dataset", root.object).await?;
        for name in ["$MOS", "$FREE"] {
            self.create_dir(Some((&root, name)), &mut creation).await?;
        }
        for name in ["free_bpobj", "sync_bplist"] {
            let list = bpobj::create(self.mos()).await?;
            self.set_directory(name, list).await?;
        }
        let origin = self.create_origin(&root, &mut creation).await?;
        let root = self.dsl_dir(root.object).await?;
        let head = self.create_head(&root, &origin, &mut creation).await?;
        let objset = self
            .create_objset(head.object, ObjsetType::Filesystem, &mut creation)
            .await?;
        zpl::create(&objset, txg, now, creation.random).await?;
        self.add_open_dataset(OpenDataset {
            objset,
            dataset: head.object,
            dir: root.object,
        });
        Ok(())
    }

    /// Makes an empty directory, below a parent with a name or as the root.
    pub(super) async fn create_dir(
        &self,
        parent: Option<(&DslDir, &str)>,
        creation: &mut Creation<'_>,
    ) -> Result<DslDir, Error> {
        let mos = self.mos();
        let new = NewObject {
            object_type: ObjectType::DSL_DIR,
            block_size: 512,
            bonus_type: ObjectType::DSL_DIR,
            bonus: vec![0; DIR_BONUS],
        };
        let object = mos.allocate(new).await?;
        let phys = DslDirPhys {
            creation_time: creation.now,
            parent: parent.map_or(0, |(parent, _)| parent.object),
            child_dirs: update::create(mos, ObjectType::DSL_DIR_CHILD_MAP, (creation.random)())
                .await?,
            props: update::create(mos, ObjectType::DSL_PROPS, (creation.random)()).await?,
            flags: FLAG_USED_BREAKDOWN,
            ..DslDirPhys::default()
        };
        mos.set_bonus(object, phys.encode()).await?;
        if let Some((parent, name)) = parent {
            update::update(mos, parent.phys.child_dirs, name.as_bytes(), object).await?;
        }
        self.dsl_dir(object).await
    }

    /// The empty snapshot that everything starts from that is no clone.
    async fn create_origin(
        &self,
        root: &DslDir,
        creation: &mut Creation<'_>,
    ) -> Result<DslDataset, Error> {
        let dir = self.create_dir(Some((root, "$ORIGIN")), creation).await?;
        let deadlist = Deadlist::create(self, creation).await?.object();
        let head = self.create_dataset_object(&dir, deadlist, creation).await?;
        self.set_head(&dir, head.object).await?;
        // The very first snapshot is dated before the pool's first group.
        let mut early = Creation {
            txg: 1,
            now: creation.now,
            random: &mut *creation.random,
        };
        self.snapshot_head(&head, "$ORIGIN", &mut early).await
    }

    async fn set_head(&self, dir: &DslDir, head: u64) -> Result<(), Error> {
        let mut phys = self.dsl_dir(dir.object).await?.phys;
        phys.head_dataset = head;
        self.mos().set_bonus(dir.object, phys.encode()).await
    }

    async fn create_dataset_object(
        &self,
        dir: &DslDir,
        deadlist: u64,
        creation: &mut Creation<'_>,
    ) -> Result<DslDataset, Error> {
        let mos = self.mos();
        let new = NewObject {
            object_type: ObjectType::DSL_DATASET,
            block_size: 512,
            bonus_type: ObjectType::DSL_DATASET,
            bonus: vec![0; DATASET_BONUS],
        };
        let object = mos.allocate(new).await?;
        let phys = DslDatasetPhys {
            dir: dir.object,
            snapshot_names: update::create(mos, ObjectType::DSL_SNAP_MAP, (creation.random)())
                .await?,
            creation_time: creation.now,
            creation_txg: creation.txg,
            deadlist,
            fsid_guid: (creation.random)() & FSID_MASK,
            guid: (creation.random)(),
            flags: FLAG_UNIQUE_ACCURATE,
            ..DslDatasetPhys::default()
        };
        mos.set_bonus(object, phys.encode()).await?;
        self.dsl_dataset(object).await
    }

    /// Makes the head of a directory, starting from a snapshot.
    pub(super) async fn create_head(
        &self,
        dir: &DslDir,
        origin: &DslDataset,
        creation: &mut Creation<'_>,
    ) -> Result<DslDataset, Error> {
        // The head beside the origin has the keys of all snapshots that are still there.
        let beside = self.dsl_dir(origin.phys.dir).await?.phys.head_dataset;
        let keys = self.dsl_dataset(beside).await?.phys.deadlist;
        let deadlist = Deadlist::create_like(self, keys, origin.phys.creation_txg, creation)
            .await?
            .object();
        let head = self.create_dataset_object(dir, deadlist, creation).await?;
        let mos = self.mos();
        let mut phys = head.phys.clone();
        phys.previous_snapshot = origin.object;
        phys.previous_snapshot_txg = origin.phys.creation_txg;
        phys.referenced_bytes = origin.phys.referenced_bytes;
        phys.compressed_bytes = origin.phys.compressed_bytes;
        phys.uncompressed_bytes = origin.phys.uncompressed_bytes;
        phys.pointer = origin.phys.pointer;
        mos.set_bonus(head.object, phys.encode()).await?;
        let mut origin_phys = self.dsl_dataset(origin.object).await?.phys;
        origin_phys.children += 1;
        if origin_phys.next_clones == 0 {
            origin_phys.next_clones =
                update::create(mos, ObjectType::NEXT_CLONES, (creation.random)()).await?;
        }
        update::add_number(mos, origin_phys.next_clones, head.object).await?;
        mos.set_bonus(origin.object, origin_phys.encode()).await?;
        let mut origin_dir = self.dsl_dir(origin.phys.dir).await?.phys;
        if origin_dir.clones == 0 {
            origin_dir.clones =
                update::create(mos, ObjectType::DSL_CLONES, (creation.random)()).await?;
            mos.set_bonus(origin.phys.dir, origin_dir.encode()).await?;
        }
        update::add_number(mos, origin_dir.clones, head.object).await?;
        let mut dir_phys = self.dsl_dir(dir.object).await?.phys;
        dir_phys.head_dataset = head.object;
        dir_phys.origin = origin.object;
        mos.set_bonus(dir.object, dir_phys.encode()).await?;
        self.dsl_dataset(head.object).await
    }

    /// Makes a snapshot of a head as the last transaction group left it. Constant work: the head's pointer is copied, its dead list changes hands.
    pub(super) async fn snapshot_head(
        &self,
        head: &DslDataset,
        name: &str,
        creation: &mut Creation<'_>,
    ) -> Result<DslDataset, Error> {
        let mos = self.mos();
        self.drop_livelist(head.phys.dir).await?;
        self.count_limited(head.phys.dir, Counted::Snapshots, 1)
            .await?;
        let snapshot = self.create_snapshot_object(head, creation).await?;
        if head.phys.previous_snapshot != 0 {
            self.link_after_previous(head, &snapshot, creation).await?;
        }
        let mut phys = head.phys.clone();
        let mut deadlist =
            Deadlist::create_like(self, head.phys.deadlist, u64::MAX, creation).await?;
        deadlist.add_key(head.phys.previous_snapshot_txg).await?;
        phys.deadlist = deadlist.object();
        phys.previous_snapshot = snapshot.object;
        phys.previous_snapshot_txg = creation.txg;
        phys.unique_bytes = 0;
        mos.set_bonus(head.object, phys.encode()).await?;
        update::update(
            mos,
            head.phys.snapshot_names,
            name.as_bytes(),
            snapshot.object,
        )
        .await?;
        Ok(snapshot)
    }

    async fn create_snapshot_object(
        &self,
        head: &DslDataset,
        creation: &mut Creation<'_>,
    ) -> Result<DslDataset, Error> {
        let object = self
            .mos()
            .allocate(NewObject {
                object_type: ObjectType::DSL_DATASET,
                block_size: 512,
                bonus_type: ObjectType::DSL_DATASET,
                bonus: vec![0; DATASET_BONUS],
            })
            .await?;
        let phys = DslDatasetPhys {
            next_snapshot: head.object,
            snapshot_names: 0,
            children: 1,
            creation_time: creation.now,
            creation_txg: creation.txg,
            unique_bytes: 0,
            fsid_guid: (creation.random)() & FSID_MASK,
            guid: (creation.random)(),
            next_clones: 0,
            props: 0,
            user_references: 0,
            ..head.phys.clone()
        };
        self.mos().set_bonus(object, phys.encode()).await?;
        self.dsl_dataset(object).await
    }

    /// Puts a new snapshot between the one before and the head.
    async fn link_after_previous(
        &self,
        head: &DslDataset,
        snapshot: &DslDataset,
        creation: &mut Creation<'_>,
    ) -> Result<(), Error> {
        let mos = self.mos();
        let previous = self.dsl_dataset(head.phys.previous_snapshot).await?;
        let mut phys = previous.phys;
        if phys.next_snapshot == head.object {
            phys.next_snapshot = snapshot.object;
            return mos.set_bonus(previous.object, phys.encode()).await;
        }
        // The head is a clone of it, and so is its new snapshot, in place of the head.
        if phys.next_clones == 0 {
            phys.next_clones =
                update::create(mos, ObjectType::NEXT_CLONES, (creation.random)()).await?;
            mos.set_bonus(previous.object, phys.encode()).await?;
        } else {
            let key = alloc::format!("{:x}", head.object);
            update::remove(mos, phys.next_clones, key.as_bytes()).await?;
        }
        update::add_number(mos, phys.next_clones, snapshot.object).await
    }

    /// The empty snapshot of the pool.
    pub(super) async fn origin_snapshot(&self) -> Result<DslDataset, Error> {
        let children = zap::Zap::open(self.mos(), self.root_dir().await?.phys.child_dirs).await?;
        let dir = self.dsl_dir(children.lookup_u64("$ORIGIN").await?).await?;
        let head = self.dsl_dataset(dir.phys.head_dataset).await?;
        self.dsl_dataset(head.phys.previous_snapshot).await
    }
}
