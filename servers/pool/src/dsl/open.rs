//! Data sets that are open for writing, and their part of a transaction group.

use alloc::collections::BTreeMap;
use alloc::rc::Rc;
use alloc::vec::Vec;

use super::create::Creation;
use super::{DslDataset, DslDirPhys};
use crate::blkptr::BlockPointer;
use crate::bpobj;
use crate::dmu::{BlockSums, Ledger, Objset, ObjsetType, Rewrite, StoragePolicy, SyncPolicy};
use crate::error::{Error, Structure};
use crate::layout::{Fields, put_u64};
use crate::spa::Spa;
use crate::zap::{Zap, entries_or_none};
use crate::zpl;

/// Longest name of a data set or snapshot, without its path.
const MAX_NAME: usize = 49;

/// A head whose objects may change.
pub struct OpenDataset {
    /// Its objects.
    pub objset: Rc<Objset>,
    /// Its object in the MOS.
    pub dataset: u64,
    /// Its directory's.
    pub dir: u64,
}

/// Changes of space to count in a directory and those above it.
#[derive(Clone, Copy, Debug, Default)]
struct SpaceChange {
    head: i64,
    snapshots: i64,
    compressed: i64,
    uncompressed: i64,
}

fn valid_name(name: &str) -> Result<(), Error> {
    let allowed = |letter: char| letter.is_ascii_alphanumeric() || "-_.: ".contains(letter);
    match name.len() {
        0 => Err(Error::InvalidName),
        length if length > MAX_NAME => Err(Error::NameTooLong),
        _ if name.chars().all(allowed) => Ok(()),
        _ => Err(Error::InvalidName),
    }
}

impl Spa {
    pub(crate) fn add_open_dataset(&self, open: OpenDataset) {
        self.datasets
            .borrow_mut()
            .insert(open.dataset, Rc::new(open));
    }

    /// Opens a head for reading and writing. All openers share its objects.
    pub async fn open_head(&self, name: &str) -> Result<Rc<Objset>, Error> {
        let entry = self.find_dataset(name).await?;
        if entry.dataset.is_snapshot() {
            return Err(Error::ReadOnly);
        }
        let object = entry.dataset.object;
        if let Some(open) = self.datasets.borrow().get(&object) {
            return Ok(open.objset.clone());
        }
        let objset = Rc::new(self.open_objset(&entry.dataset, None).await?);
        self.add_open_dataset(OpenDataset {
            objset: objset.clone(),
            dataset: object,
            dir: entry.dir.object,
        });
        Ok(objset)
    }

    /// Makes an empty file system below its parent and commits it.
    pub async fn create_filesystem(
        &self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let (parent, child) = name.rsplit_once('/').ok_or(Error::AlreadyExists)?;
        valid_name(child)?;
        let parent = self.find_dir(parent).await?;
        if Zap::open(self.mos(), parent.phys.child_dirs)
            .await?
            .lookup(child.as_bytes())
            .await?
            .is_some()
        {
            return Err(Error::AlreadyExists);
        }
        self.check_writable().await?;
        let txg = self.open_txg();
        let mut creation = Creation { txg, now, random };
        let dir = self
            .create_dir(Some((&parent, child)), &mut creation)
            .await?;
        let origin = self.origin_snapshot().await?;
        let head = self.create_head(&dir, &origin, &mut creation).await?;
        let objset = Rc::new(Objset::create(
            self.zio().clone(),
            head.object,
            ObjsetType::Filesystem,
        ));
        zpl::create(&objset, txg, now, creation.random).await?;
        self.add_open_dataset(OpenDataset {
            objset,
            dataset: head.object,
            dir: dir.object,
        });
        self.sync(now).await
    }

    /// Makes a snapshot `name@snapshot` and commits it.
    pub async fn snapshot(
        &self,
        name: &str,
        now: u64,
        random: &mut dyn FnMut() -> u64,
    ) -> Result<(), Error> {
        let (path, snapshot) = name.split_once('@').ok_or(Error::InvalidName)?;
        valid_name(snapshot)?;
        let entry = self.find_dataset(path).await?;
        let names = Zap::open(self.mos(), entry.dataset.phys.snapshot_names).await?;
        if names.lookup(snapshot.as_bytes()).await?.is_some() {
            return Err(Error::AlreadyExists);
        }
        self.check_writable().await?;
        let txg = self.open_txg();
        // The snapshot has what this group wrote, so that is written first.
        self.sync_datasets(txg).await?;
        let head = self.dsl_dataset(entry.dataset.object).await?;
        self.snapshot_head(&head, snapshot, &mut Creation { txg, now, random })
            .await?;
        self.sync(now).await
    }

    /// Writes the changes of all open data sets and counts them.
    pub(crate) async fn sync_datasets(&self, txg: u64) -> Result<(), Error> {
        let open: Vec<Rc<OpenDataset>> = self.datasets.borrow().values().cloned().collect();
        for dataset in open.iter().filter(|dataset| dataset.objset.is_dirty()) {
            let (pointer, ledger) = dataset
                .objset
                .sync(data_policy(self.sync_policy(txg, Rewrite::Never)))
                .await?;
            self.account(dataset, pointer, ledger).await?;
        }
        Ok(())
    }

    /// Puts a head's new pointer into the MOS, and what it wrote and no longer has into the sums.
    async fn account(
        &self,
        open: &OpenDataset,
        pointer: BlockPointer,
        ledger: Ledger,
    ) -> Result<(), Error> {
        let head = self.dsl_dataset(open.dataset).await?;
        let mut phys = head.phys.clone();
        let mut killed = BlockSums::default();
        let mut freed = BlockSums::default();
        let mut kept = Vec::new();
        for old in &ledger.killed {
            killed.add(self.zio(), old);
            if old.birth() > phys.previous_snapshot_txg {
                freed.add(self.zio(), old);
                self.zio().free(old)?;
            } else {
                kept.push(*old);
            }
        }
        let to_snapshots = self.keep_for_snapshots(&head, &kept).await?;
        phys.pointer = pointer;
        phys.referenced_bytes =
            (phys.referenced_bytes + ledger.born.used).saturating_sub(killed.used);
        phys.compressed_bytes =
            (phys.compressed_bytes + ledger.born.compressed).saturating_sub(killed.compressed);
        phys.uncompressed_bytes = (phys.uncompressed_bytes + ledger.born.uncompressed)
            .saturating_sub(killed.uncompressed);
        phys.unique_bytes = (phys.unique_bytes + ledger.born.used).saturating_sub(freed.used);
        self.mos().set_bonus(open.dataset, phys.encode()).await?;
        let change = SpaceChange {
            head: ledger.born.used as i64 - killed.used as i64,
            snapshots: to_snapshots as i64,
            compressed: ledger.born.compressed as i64 - freed.compressed as i64,
            uncompressed: ledger.born.uncompressed as i64 - freed.uncompressed as i64,
        };
        self.count_space(open.dir, change).await
    }

    /// Appends blocks that snapshots still have to the head's dead list; gives the bytes that move from head to snapshots.
    async fn keep_for_snapshots(
        &self,
        head: &DslDataset,
        kept: &[BlockPointer],
    ) -> Result<u64, Error> {
        if kept.is_empty() {
            return Ok(0);
        }
        let mut ranges: BTreeMap<u64, (u64, Vec<BlockPointer>)> = BTreeMap::new();
        for entry in entries_or_none(self.mos(), head.phys.deadlist).await? {
            let start = u64::from_str_radix(&entry.text(), 16)
                .map_err(|_| Error::Corrupt(Structure::BlockList))?;
            ranges.insert(start, (entry.value.u64().unwrap_or(0), Vec::new()));
        }
        let previous = self.dsl_dataset(head.phys.previous_snapshot).await?;
        let mut unique = 0;
        for pointer in kept {
            let range = ranges.range_mut(..pointer.birth()).next_back();
            range
                .ok_or(Error::Corrupt(Structure::BlockList))?
                .1
                .1
                .push(*pointer);
            if previous.phys.children == 1 && pointer.birth() > previous.phys.previous_snapshot_txg
            {
                unique += self.zio().deflated_size(pointer);
            }
        }
        let mut sums = BlockSums::default();
        for (list, pointers) in ranges
            .into_values()
            .filter(|(_, pointers)| !pointers.is_empty())
        {
            let added = bpobj::append(self.mos(), self.zio(), list, &pointers).await?;
            sums.used += added.used;
            sums.compressed += added.compressed;
            sums.uncompressed += added.uncompressed;
        }
        let mut bonus = self
            .mos()
            .dnode(head.phys.deadlist)
            .await?
            .phys
            .bonus
            .clone();
        for (index, added) in [sums.used, sums.compressed, sums.uncompressed]
            .into_iter()
            .enumerate()
        {
            let old = bonus
                .u64_at(8 * index)
                .ok_or(Error::Corrupt(Structure::BlockList))?;
            put_u64(&mut bonus, 8 * index, old + added);
        }
        self.mos().set_bonus(head.phys.deadlist, bonus).await?;
        if unique > 0 {
            let mut phys = previous.phys.clone();
            phys.unique_bytes += unique;
            self.mos().set_bonus(previous.object, phys.encode()).await?;
        }
        Ok(sums.used)
    }

    /// Counts a change in a directory and, as its children's, in those above.
    async fn count_space(&self, dir: u64, change: SpaceChange) -> Result<(), Error> {
        let total = change.head + change.snapshots;
        let mut object = dir;
        while object != 0 {
            let mut phys: DslDirPhys = self.dsl_dir(object).await?.phys;
            phys.used_bytes = phys.used_bytes.saturating_add_signed(total);
            phys.compressed_bytes = phys
                .compressed_bytes
                .saturating_add_signed(change.compressed);
            phys.uncompressed_bytes = phys
                .uncompressed_bytes
                .saturating_add_signed(change.uncompressed);
            if object == dir {
                phys.used.head = phys.used.head.saturating_add_signed(change.head);
                phys.used.snapshots = phys.used.snapshots.saturating_add_signed(change.snapshots);
            } else {
                phys.used.children = phys.used.children.saturating_add_signed(total);
            }
            self.mos().set_bonus(object, phys.encode()).await?;
            object = phys.parent;
        }
        Ok(())
    }
}

/// Data of files in one copy, their metadata in two.
fn data_policy(policy: SyncPolicy) -> SyncPolicy {
    SyncPolicy {
        data: StoragePolicy {
            copies: 1,
            ..policy.data
        },
        metadata: StoragePolicy {
            copies: 2,
            ..policy.metadata
        },
        ..policy
    }
}
